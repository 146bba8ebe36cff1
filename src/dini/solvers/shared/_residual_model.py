"""What the Gauss-Newton methods share: residuals as a function of a vector, their model, its linear algebra."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import linear, trees
from ...linear._materialize import images
from ...linear._small import positive_definite_solver, product
from ...linear._solve import solve_known
from ...problems import LeastSquares
from ...trees import Scalar, Tree
from ...trees.products import dot
from ...verification._residuals import FEW
from ._box import box_of, projected_gradient


def as_vector(tree: Tree) -> jax.Array:
    """Return a tree of residuals as one real vector."""
    flat = ravel_pytree(tree)[0]
    return jnp.concatenate([flat.real, flat.imag]) if jnp.iscomplexobj(flat) else flat


class Point(NamedTuple):
    """The residuals at a point, weighted so that :math:`J^T J` and :math:`J^T r` are those of the robust loss.

    ``jacobian`` is transposed, one row for each unknown; where it is expensive it is ``None`` until it is needed.
    ``rest`` is the squared norm of the gradient in unknowns that are eliminated from the steps, ``rest_error`` that
    gradient relative to its terms.
    """

    value: Any
    gradient: Tree
    residuals: Any
    jacobian: Any
    rest: Any = 0.0
    rest_error: Any = 0.0


class Space:
    """A problem's residuals as a function of one real vector, and the bounds on it."""

    def __init__(self, problem: Any, x: Tree, args: tuple[Tree, ...]):
        flat, unravel = ravel_pytree(x)
        self.dtype = trees.real_dtype(x)
        self.point = flat.astype(self.dtype)
        self.size: int = flat.size
        self.unravel: Callable[[Any], Any] = lambda u: unravel(u.astype(flat.dtype))
        self.minimum = isinstance(problem, LeastSquares)
        function = problem.residuals if self.minimum else problem.residual
        self.residuals: Callable[[Any], Any] = lambda u: as_vector(function(self.unravel(u), *args)).astype(self.dtype)
        self.loss = problem.loss if self.minimum else None
        self.bounds: tuple[Any, Any] | None = None
        if problem.constraint is not None:
            box = box_of(problem, x)
            self.bounds = box.lower, box.upper

    @property
    def outputs(self) -> int:
        """The number of residuals."""
        return jax.eval_shape(self.residuals, self.point).shape[0]

    def clip(self, u: Tree) -> Any:
        """Return the nearest point within the bounds."""
        return u if self.bounds is None else jnp.minimum(jnp.maximum(u, self.bounds[0]), self.bounds[1])

    def free(self, u: Tree, gradient: Tree) -> Any:
        """Return where no bound stops a step downhill (``None`` where there are no bounds)."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return ~(((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0)))

    def yielding(self, u: Tree, gradient: Tree, norms: Any) -> Any:
        """Return where bounds leave at least half of the step that an unknown makes by itself."""
        if self.bounds is None:
            return None
        step = -gradient / jnp.where(norms > 0, norms, 1) ** 2
        return jnp.abs(self.clip(u + step) - u) >= 0.5 * jnp.abs(step)

    def error(self, at: Point, u: Tree) -> Any:
        """Return the optimality measure: the norm of the (projected) gradient, or of a root's residual."""
        if not self.minimum:
            return trees.sqrt(2 * at.value)
        step = at.gradient
        if self.bounds is not None:
            curvature = jnp.inf if at.jacobian is None else jnp.sum(at.jacobian**2, axis=1)
            step = projected_gradient(u, at.gradient, *self.bounds, curvature)
        return trees.sqrt(jnp.sum(step * step) + at.rest)

    def weights(self, r: Any) -> tuple[Any, Any]:
        r"""Return what residuals and rows of the Jacobian are multiplied by for the loss (Triggs et al. 1999).

        With :math:`w = \rho' + 2 \rho'' r^2`, the curvature of :math:`\tfrac12\rho(r^2)`, they are :math:`\rho' /
        \sqrt w` and :math:`\sqrt w`. Where that curvature is not positive, a trace of it is kept.
        """
        squared = r * r
        ones = jnp.ones_like(r)
        loss: Any = self.loss

        def slope(s: Any) -> Any:
            return jax.jvp(loss, (s,), (ones,))[1]

        first, second = jax.jvp(slope, (squared,), (ones,))
        curvature = jnp.maximum(first + 2 * second * squared, jnp.finfo(r.dtype).eps ** 0.5 * first)
        root = jnp.sqrt(jnp.where(curvature > 0, curvature, 1))
        root = jnp.where(curvature > 0, root, 0)
        return jnp.where(curvature > 0, first / jnp.where(root > 0, root, 1), 0), root

    def evaluate(self, u: Tree, *, eager: bool) -> Point:
        """Evaluate the residuals and the gradient, ``eager`` the Jacobian as well."""
        if eager:
            r, push = jax.linearize(self.residuals, u)
            jacobian = images(push, u)
            value = self.value(r)
            if self.loss is not None:
                factor, root = self.weights(r)
                r, jacobian = r * factor, jacobian * root[None, :]
            return Point(value, product(jacobian, r), r, jacobian)
        r, pull = jax.vjp(self.residuals, u)
        value = self.value(r)
        cotangent = r
        if self.loss is not None:
            factor, root = self.weights(r)
            r, cotangent = r * factor, r * factor * root
        return Point(value, pull(cotangent)[0], r, None)

    def value(self, r: Any) -> Any:
        """Return half the sum of the losses of the squared residuals."""
        return 0.5 * jnp.sum(r * r if self.loss is None else self.loss(r * r))

    def jacobian(self, u: Tree) -> Any:
        """Return the weighted Jacobian, transposed, by the mode that takes fewer passes."""
        outputs = self.outputs
        if outputs < self.size:
            r, pull = jax.vjp(self.residuals, u)
            jacobian = images(lambda v: pull(v)[0], r).T
        else:
            r, push = jax.linearize(self.residuals, u)
            jacobian = images(push, u)
        return jacobian if self.loss is None else jacobian * self.weights(r)[1]

    def products(self, u: Tree) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """Return the products with the weighted Jacobian and with its transpose."""
        r, push = jax.linearize(self.residuals, u)
        pull = jax.linear_transpose(push, u)
        if self.loss is None:
            return push, lambda w: pull(w)[0]
        root = self.weights(r)[1]
        return lambda v: root * push(v), lambda w: pull(root * w)[0]

    def bend(self, u: Tree, v: Tree) -> Any:
        """Return the second derivative of the weighted residuals along ``v``, times the transposed Jacobian."""
        r, pull = jax.vjp(self.residuals, u)
        twice = jax.jvp(lambda s: jax.jvp(self.residuals, (s,), (v,))[1], (u,), (v,))[1]
        if self.loss is not None:
            factor, root = self.weights(r)
            twice = factor * root * twice
        return pull(twice)[0]


class Model:
    """The quadratic model around a point, in the variables :math:`D p` of a scaling ``D``.

    ``free`` masks the unknowns that may move (``None`` for all).
    """

    def __init__(self, gradient: Tree, scale: Any, free: Any):
        self.gradient = gradient
        self.inverse_scale = 1 / scale
        self.scale = scale
        self.free = free
        self.slope = self.masked(gradient) * self.inverse_scale

    def masked(self, v: Tree) -> Any:
        """Return a vector with zeros where unknowns are held."""
        return v if self.free is None else jnp.where(self.free, v, 0)

    def factor(self, damping: Scalar) -> Callable[[Any], Any]:
        r"""Return the solver of :math:`(D^{-1} J^\top J D^{-1} + \mu I) q = b`."""
        raise NotImplementedError

    def decrease(self, p: Any) -> Any:
        """Return the decrease that the model predicts for a step."""
        return -jnp.sum(self.gradient * p) - 0.5 * self.curvature(p)

    def with_hessian(self, more: Any) -> Model:
        """Return the model with a matrix added to that of Gauss and Newton."""
        raise NotImplementedError

    def step(self, damping: Scalar) -> tuple[Any, Callable[[Any], Any]]:
        r"""Return the damped step :math:`q = D p`, and the solver that gave it."""
        solve = self.factor(damping)
        return solve(-self.slope), solve

    def promised(self, norms: Any, step: Any = None) -> tuple[Any, Any]:
        r"""Return the decrease :math:`\tfrac12 g^\top (J^\top J)^{-1} g` that an undamped step predicts, and the norms.

        ``norms`` are those of the Jacobian's columns, zero for a column of zeros, as far as they are known.
        ``step`` is that step in the scaled variables, where it is known; else it is damped by the unit roundoff, which
        leaves directions of which the Jacobian knows nothing where they are.
        """
        damping = jnp.asarray(jnp.finfo(self.slope.dtype).eps, self.slope.dtype)
        step = self.factor(damping)(-self.slope) if step is None else step
        return -0.5 * dot(self.slope, step), norms

    def curvature(self, p: Any) -> Any:
        r"""Return :math:`\|J p\|^2` for a step in the unknowns."""
        raise NotImplementedError


class NormalEquations(Model):
    """Cholesky of :math:`J^T J`, the fastest; the store is that matrix."""

    def __init__(self, store: Any, gradient: Tree, scale: Any, free: Any, space: Space | None = None, u: Tree = None):
        super().__init__(gradient, scale, free)
        del space, u
        self.gram = store

    def with_hessian(self, more: Any) -> NormalEquations:
        """Return the model with a matrix added to that of Gauss and Newton."""
        other = copy.copy(self)
        other.gram = self.gram + more
        return other

    @staticmethod
    def build(jacobian: Any, r: Any) -> Any:
        """Return the store for a Jacobian."""
        del r
        return product(jacobian, jacobian.T)

    @staticmethod
    def empty(space: Space) -> Any:
        """Return a store before the first evaluation."""
        return jnp.zeros((space.size, space.size), space.dtype)

    @staticmethod
    def norms(store: Any, gradient: Tree, space: Space, u: Tree) -> Any:
        """Return the norms of the Jacobian's columns."""
        del gradient, space, u
        return jnp.sqrt(jnp.maximum(jnp.diagonal(store), 0))

    def factor(self, damping: Scalar) -> Callable[[Any], Any]:
        """Return the solver of the damped normal equations."""
        matrix = self.gram * self.inverse_scale[None, :] * self.inverse_scale[:, None]
        shift = damping + jnp.finfo(matrix.dtype).eps * matrix.shape[0]
        if self.free is None:
            diagonal = jnp.broadcast_to(shift, matrix.shape[:1])
        else:
            matrix = jnp.where(self.free[:, None] & self.free[None, :], matrix, 0)
            diagonal = jnp.where(self.free, shift, 1)
        return positive_definite_solver(matrix + jnp.diag(diagonal.astype(matrix.dtype)))

    def curvature(self, p: Any) -> Any:
        """Return the quadratic form."""
        return dot(p, product(self.gram, p))


class Orthogonal(Model):
    """QR of the damped Jacobian, which does not square its condition number; the store is ``(J^T, r)``."""

    def __init__(self, store: Any, gradient: Tree, scale: Any, free: Any, space: Space, u: Tree):
        super().__init__(gradient, scale, free)
        del space, u
        self.jacobian, self.residuals = store
        self.triangle: Any = None

    @staticmethod
    def build(jacobian: Any, r: Any) -> Any:
        """Return the store for a Jacobian."""
        return jacobian, r

    @staticmethod
    def empty(space: Space) -> Any:
        """Return a store before the first evaluation."""
        m = space.outputs
        return jnp.zeros((space.size, m), space.dtype), jnp.zeros(m, space.dtype)

    @staticmethod
    def norms(store: Any, gradient: Tree, space: Space, u: Tree) -> Any:
        """Return the norms of the Jacobian's columns."""
        del gradient, space, u
        return jnp.sqrt(jnp.sum(store[0] ** 2, -1))

    def _factorize(self, damping: Scalar) -> tuple[Any, Any]:
        n = self.slope.size
        columns = self.jacobian * self.inverse_scale[:, None]
        root = jnp.sqrt(damping + (n * jnp.finfo(columns.dtype).eps) ** 2)
        diagonal = jnp.broadcast_to(root, (n,))
        if self.free is not None:
            columns = jnp.where(self.free[:, None], columns, 0)
            diagonal = jnp.where(self.free, diagonal, 1)
        stacked = jnp.concatenate([columns.T, jnp.diag(diagonal.astype(columns.dtype))])
        return jnp.linalg.qr(stacked)

    def factor(self, damping: Scalar) -> Callable[[Any], Any]:
        """Return the solver by the triangle alone."""
        triangle = self._factorize(damping)[1]
        return lambda b: jax.scipy.linalg.cho_solve((triangle, False), b, check_finite=False)

    def step(self, damping: Scalar) -> tuple[Any, Callable[[Any], Any]]:
        """Return the step by the orthogonal factor, as a least-squares solution."""
        q, triangle = self._factorize(damping)
        right = dot(q[: self.residuals.size].T, self.residuals)
        step = -jax.scipy.linalg.solve_triangular(triangle, right, check_finite=False)
        return step, lambda b: jax.scipy.linalg.cho_solve((triangle, False), b, check_finite=False)

    def curvature(self, p: Any) -> Any:
        """Return the squared norm of the product."""
        return jnp.sum(dot(p, self.jacobian) ** 2)


class MatrixFree(Model):
    """Conjugate gradients with products alone; nothing is stored, and all unknowns have one scale."""

    def __init__(self, store: Any, gradient: Tree, scale: Any, free: Any, space: Space, u: Tree):
        super().__init__(gradient, scale, free)
        del store
        self.push, self.pull = space.products(u)

    @staticmethod
    def build(jacobian: Any, r: Any) -> Any:
        """Return the store, which is empty."""
        del jacobian, r
        return ()

    @staticmethod
    def empty(space: Space) -> Any:
        """Return the store, which is empty."""
        del space
        return ()

    @staticmethod
    def norms(store: Any, gradient: Tree, space: Space, u: Tree) -> Any:
        """Return one size for all columns, which are not known: the Jacobian's along the gradient."""
        del store
        size = trees.norm(gradient)
        # of a unit vector, the product does not overflow
        top = trees.norm(space.products(u)[0](gradient / jnp.where(size > 0, size, 1)))
        return jnp.broadcast_to(jnp.where(size > 0, top, 0), gradient.shape)

    def factor(self, damping: Scalar) -> Callable[[Any], Any]:
        """Return the solver by conjugate gradients."""
        s = self.inverse_scale

        def product(q: Any) -> Any:
            q = self.masked(q)
            return self.masked(s * self.pull(self.push(s * q))) + damping * q

        def solve(b: Any) -> Any:
            return solve_known(
                product, b, structure="positive definite", solver=linear.CG(rtol=1e-6), on_failure="ignore"
            )

        return solve

    def promised(self, norms: Any, step: Any = None) -> tuple[Any, Any]:
        """Return the decrease that an undamped step predicts; of many unknowns no more than the products show."""
        if self.slope.size > FEW:
            return super().promised(norms, step)
        jacobian = images(self.push, self.gradient)
        norms = jnp.sqrt(jnp.sum(jacobian**2, -1))
        few = NormalEquations(product(jacobian, jacobian.T), self.gradient, jnp.where(norms > 0, norms, 1), self.free)
        return few.promised(norms)

    def curvature(self, p: Any) -> Any:
        """Return the squared norm of the product."""
        return jnp.sum(self.push(p) ** 2)


ALGEBRA: dict[str, Any] = {"cholesky": NormalEquations, "qr": Orthogonal, "cg": MatrixFree}
