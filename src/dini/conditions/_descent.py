"""Conditions of minimization: stationarity and the fixed points of descent methods.

Each fixed-point map ``T`` appears as ``F = x - T(x)``. The derivative of a solution does not depend on the step size
inside ``T``; the conditioning of the linear system does, so a step size that is left open becomes one over an estimate
of the gradient's Lipschitz constant at the solution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..linear import Reduction
from ..linear import solve as linear_solve
from ..protocols import AnyProblem, Composed, Minimization
from ..trees import Tree
from ._base import Condition
from ._geometry import KL
from ._support import on_support, remainder


def curvature(gradient: Callable[[Any], Any], x: Tree, iterations: int = 10) -> jax.Array:
    """Estimate the largest curvature at ``x`` by power iteration; a constant of differentiation."""
    hessian = jax.linearize(gradient, x)[1]
    start = trees.varied(x)

    def body(_: Any, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        v, top = carry
        size = trees.norm(v)
        v = hessian(trees.scale(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), v))
        v = jax.lax.stop_gradient(v)
        return v, trees.norm(v).astype(top.dtype)

    top = jnp.zeros((), trees.real_dtype(x))
    return jax.lax.fori_loop(0, iterations, body, (start, top))[1]


def inverse_curvature(gradient: Callable[[Any], Any], x: Tree) -> jax.Array:
    """Return a step size, one over the largest curvature at ``x`` (one where there is none)."""
    top = curvature(gradient, x)
    return jnp.where(top > 0, 1 / jnp.where(top > 0, top, 1), 1.0)


def _elementwise(problem: AnyProblem) -> bool:
    """Return whether the problem's constraint or penalty treats each element on its own."""
    return any(part.elementwise for part in problem.parts)


def _step_size(given: Any, problem: Composed, x: Tree, args: tuple[Tree, ...]) -> Any:
    return inverse_curvature(lambda u: problem.gradient(u, *args), x) if given is None else given


@record
class Stationary(Condition):
    r"""Stationarity of a smooth objective: :math:`F = \nabla_1 f(x, \theta)`. Its derivative is the Hessian."""

    smooth: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, problem: Composed, x: Tree, *args: Tree) -> Tree:
        """Return the gradient of the smooth part."""
        return problem.gradient(x, *args)

    def forces(self, problem: Composed, x: Tree, *args: Tree) -> Any:
        """Return the gradient."""
        return problem.gradient(x, *args)

    def structure(self, problem: AnyProblem) -> Any:
        """Return that the Hessian is positive definite, where the problem's condition is this one."""
        return problem.structure or "symmetric"


@record
class ProximalGradient(Condition):
    r"""The fixed point of the proximal gradient method, :math:`F = x - \mathrm{prox}_{\eta g}(x - \eta \nabla_1 f)`.

    With a constraint, the proximal operator is the projection.

    **Derivative.** With :math:`H = \nabla_1^2 f` and :math:`P`, the Jacobian of the proximal operator at
    :math:`x - \eta\nabla_1 f`, the derivative of ``F`` is :math:`A = I - P(I - \eta H)`. It is not symmetric, but
    :math:`P` is, with eigenvalues in [0, 1] (the operator is the gradient of a convex function). Writing
    :math:`w = Pv + b` for the solution of :math:`Aw = b` and multiplying by :math:`P` gives the system

    .. math:: S v = P(I - \eta H) b, \qquad S = P - P^2 + \eta P H P,

    which is symmetric positive semidefinite for convex ``f`` and consistent, so conjugate gradients solve it, also
    where the inactive coordinates make :math:`P` singular. For the transposed system :math:`A^\top u = c`: :math:`S v
    = P c` and :math:`u = c + (I - \eta H) P v`.
    """

    step_size: Any = None

    def at(self, problem: Composed, x: Tree, *args: Tree) -> ProximalGradient:
        """Return the condition with a step size."""
        return dataclasses.replace(self, step_size=_step_size(self.step_size, problem, x, args))

    def settled_like(self, other: ProximalGradient) -> ProximalGradient:
        """Return this condition with the step size of ``other``."""
        return dataclasses.replace(self, step_size=other.step_size)

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return true."""
        del problem
        return True

    def prox(self, problem: Composed, y: Any) -> Any:
        """Return the proximal point, with the derivative that is wanted at kinks."""
        return problem.prox(y, self.step_size)

    def __call__(self, problem: Composed, x: Tree, *args: Tree) -> Tree:
        """Return the residual of the fixed point."""
        forward = trees.axpy(-jnp.asarray(self.step_size), problem.gradient(x, *args), x)
        return trees.sub(x, self.prox(problem, forward))

    def forces(self, problem: Composed, x: Tree, *args: Tree) -> Any:
        """Return the residual divided by the step size."""
        ready = self.at(problem, x, *args)
        return trees.scale(1 / ready.step_size, ready(problem, x, *args))

    def error(self, problem: Composed, x: Tree, *args: Tree) -> jax.Array:
        """Return the norm of the residual divided by the step size."""
        ready = self.at(problem, x, *args)
        return trees.sized_norm(ready(problem, x, *args)) / ready.step_size

    def linearize(self, problem: Minimization, x: Tree, *args: Tree) -> tuple[Callable[[Any], Any], Reduction | None]:
        """Return the derivative in ``x`` and its positive semidefinite reduction, if the problem is convex."""
        eta = self.step_size
        gradient, hessian = jax.linearize(lambda u: problem.gradient(u, *args), x)
        forward = trees.axpy(-jnp.asarray(eta), gradient, x)
        _, prox = jax.linearize(lambda y: self.prox(problem, y), forward)

        def step(w: Tree) -> Any:
            return trees.axpy(-jnp.asarray(eta), hessian(w), w)

        def scaled(w: Tree) -> Any:
            return trees.scale(jnp.asarray(eta), hessian(w))

        convex = all(part.convex for part in problem.parts)
        # (of complex numbers, P takes the real and the imaginary part together)
        diagonal = convex and _elementwise(problem) and not trees.has_complex(x)
        rest = remainder(problem.penalty, x, prox, eta) if diagonal else None

        def apart(w: Tree) -> Any:
            """Return the product with I - P."""
            return trees.sub(w, prox(w)) if rest is None else jax.tree.map(jnp.multiply, rest, w)

        # P is applied to the parts: w - eta H w would round away curvatures that are far below the largest
        def matvec(w: Tree) -> Any:
            return trees.add(apart(w), prox(scaled(w)))

        if not convex:
            return matvec, None

        def reduced(v: Tree) -> Any:
            return prox(trees.add(apart(v), scaled(prox(v))))

        direct, direct_transposed = None, None
        if rest is not None and hasattr(problem, "hessian_block"):
            block = lambda rows: problem.hessian_block(x, rows, *args)
            direct, direct_transposed = on_support(x, prox, rest, block, hessian, eta)
        return matvec, Reduction(
            direct=direct,
            direct_transposed=direct_transposed,
            matvec=reduced,
            restrict=lambda b: prox(step(b)),
            extend=lambda v, b: trees.add(prox(v), b),
            restrict_transposed=prox,
            extend_transposed=lambda v, c: trees.add(c, step(prox(v))),
        )


#: The paper's name for :class:`ProximalGradient` where the proximal operator is a projection.
ProjectedGradient = ProximalGradient


@record
class BlockProximalGradient(Condition):
    r"""The fixed point of block proximal gradient.

    :math:`T_j = \mathrm{prox}_{\eta_j g_j}(x_j - \eta_j [\nabla_1 f]_j)`.

    ``step_sizes`` is an array that broadcasts against ``x``, or a tree of such arrays like ``x``: one step size a
    block.
    """

    step_sizes: Any

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return true."""
        del problem
        return True

    def __call__(self, problem: Composed, x: Tree, *args: Tree) -> Tree:
        """Return the residual of the fixed point."""
        gradient = problem.gradient(x, *args)
        if jax.tree.structure(self.step_sizes) == jax.tree.structure(x):
            forward = jax.tree.map(lambda u, g, s: u - s * g, x, gradient, self.step_sizes)
        else:
            forward = jax.tree.map(lambda u, g: u - self.step_sizes * g, x, gradient)
        return trees.sub(x, problem.prox(forward, self.step_sizes))


@record
class MirrorDescent(Condition):
    r"""The fixed point of mirror descent.

    :math:`F = x - \mathrm{proj}^\varphi_C(\nabla\varphi(x) - \eta\nabla_1 f)`.
    """

    geometry: Any = field(default_factory=KL)
    step_size: Any = None

    def at(self, problem: Composed, x: Tree, *args: Tree) -> MirrorDescent:
        """Return the condition with a step size."""
        return dataclasses.replace(self, step_size=_step_size(self.step_size, problem, x, args))

    def settled_like(self, other: MirrorDescent) -> MirrorDescent:
        """Return this condition with the step size of ``other``."""
        return dataclasses.replace(self, step_size=other.step_size)

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return true."""
        del problem
        return True

    def __call__(self, problem: Composed, x: Tree, *args: Tree) -> Tree:
        """Return the residual of the fixed point."""
        return trees.sub(x, self.geometry.step(x, problem.gradient(x, *args), self.step_size, problem.constraint))


@record
class NewtonStep(Condition):
    r"""The fixed point of Newton's method.

    :math:`F = A^{-1} G` with :math:`G` the gradient of a minimum or the residual of a root.

    At a solution its derivative in ``x`` is the identity, so the outer system is as well conditioned as can be; the
    inverse has moved into the derivative in the parameters, one inner solve a tangent. The outer system is still
    solved with the true derivative of the step, since second derivatives need how it changes away from the solution.
    """

    linear_solver: Any = None

    def __call__(self, problem: AnyProblem, x: Tree, *args: Tree) -> Tree:
        """Return the Newton step."""
        own = problem.condition
        residual, matvec = jax.linearize(lambda u: own(problem, u, *args), x)
        return linear_solve(
            matvec, residual, structure=own.structure(problem), solver=self.linear_solver, name="the Newton step"
        )
