"""BFGS with a dense inverse Hessian."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import linear, trees, xla
from ..checks.settings import require_choice
from ..linear._materialize import materialize
from ..protocols import Composed
from ..trees import Tree
from ..trees.products import dot, inner_products
from ._base import solver
from .shared._definite import inverse_positive
from .shared._line_method import Pair, State
from .shared._line_search import LineSearch, WeakWolfe
from .shared._quasi_newton import QuasiNewton


class Inverse(NamedTuple):
    """The approximate inverse Hessian of the unknown as one vector, and the number of pairs that made it.

    A true Hessian counts as a pair.
    """

    matrix: Any
    count: Any


@solver
class BFGS(QuasiNewton):
    r"""BFGS with a line search, for small unknowns: it keeps ``d**2`` numbers.

    The inverse Hessian starts as in (1), or as the true one, and takes rank-two updates with the steps ``s`` and the
    changes ``y`` of the gradient, at the cost of one product with ``H``:

    .. math::
        \begin{aligned}
        H &= \frac{s^\top y}{y^\top y} I, \qquad (1) \\
        H &\leftarrow (I - \rho s y^\top) H (I - \rho y s^\top) + \rho s s^\top, \quad \rho = 1/s^\top y, \qquad (2) \\
        p &= -H g . \qquad (3)
        \end{aligned}

    Steps are taken in the variables :math:`x_i / d_i`, in which each element has a curvature of about one: the scales
    :math:`d` are estimated once, when the solve starts, by ten products with the Hessian (where there are none, as of a
    call of the host or another solve, they are one, and the first step is short). With ``step_size`` they are
    one as well. Line search, error and stopping test are those of :class:`LBFGS`.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`: ``WeakWolfe()``, ``StrongWolfe()``, ``HagerZhang()``, ``Backtracking()``.
    start
        What is updated: ``"identity"``, scaled, or ``"hessian"``, the inverse of the Hessian at the starting point
        (where that is not positive definite, of the one with the absolute values of its eigenvalues). It costs as much
        as one step of :class:`Newton`, and saves most steps where the Hessian changes little, as those of regression
        problems do.
    step_size
        In place of a line search: the lengths of the steps, a constant or a function of the number of the step, used
        without any test.
    scaled
        Whether the identity is scaled as in (1).

    References
    ----------
    Nocedal and Wright, "Numerical optimization", 2006, chapter 6.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.BFGS(tol=1e-3), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    max_steps: int = field(default=2000, metadata={"static": True})
    line_search: LineSearch = field(default=WeakWolfe(), metadata={"static": True})
    start: Literal["identity", "hessian"] = field(default="identity", metadata={"static": True})
    step_size: Any = None
    scaled: bool = field(default=True, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_choice("BFGS's start", self.start, ("identity", "hessian"))

    def start_model(self, problem: Composed, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Inverse:
        """Return the identity or the inverse Hessian at the start, in scaled variables."""
        nothing = self.empty(x, trees.real_dtype(x))
        if self.start == "identity":
            return nothing
        hessian, _, _ = materialize(linear.Linearized(lambda u: problem.gradient(u, *args), x), x)
        d = ravel_pytree(scales)[0].astype(hessian.dtype)
        matrix = inverse_positive(hessian * d[:, None] * d[None, :])
        known = jnp.all(jnp.isfinite(matrix))
        return Inverse(jnp.where(known, matrix, nothing.matrix), known.astype(jnp.int32))

    def empty(self, x: Tree, dtype: Any) -> Inverse:
        """Return the identity."""
        return Inverse(jnp.eye(trees.size(x), dtype=dtype), jnp.zeros((), jnp.int32))

    def forget(self, model: Inverse, forget: Any) -> Inverse:
        """Return the identity where ``forget`` holds."""
        eye = jnp.eye(model.matrix.shape[0], dtype=model.matrix.dtype)
        return Inverse(jnp.where(forget, eye, model.matrix), jnp.where(forget, 0, model.count))

    def take_in(self, model: Inverse, pair: Pair, old: Tree, keep: Any, accept: Any) -> tuple[Inverse, Any, Any]:
        """Update the matrix and its product with ``g``.

        That with ``y`` is the difference of its products with ``g`` and with the last gradient, ``-old``.
        """
        del accept
        dtype, gram = model.matrix.dtype, pair.products
        flat_g, unravel = ravel_pytree(pair.gradient)
        s, y, flat, old = (ravel_pytree(v)[0].astype(dtype) for v in (pair.move, pair.change, pair.gradient, old))
        rho = jnp.where(keep, 1 / jnp.where(keep, gram.sy, 1), 0)
        # (1): H = scale I; the matrix of no pairs is the identity
        fresh = keep & (model.count == 0) & self.scaled
        scale = jnp.where(fresh, gram.sy / jnp.where(gram.yy > 0, gram.yy, 1), 1)
        hg = scale * dot(model.matrix, flat)
        hg, hy = xla.once((hg, hg + scale * old), "BFGS: products")
        with_g_and_y = lambda v: inner_products([flat, y], v)
        weight = rho * (1 + rho * with_g_and_y(hy)[1])
        cross = rho * (hy[:, None] * s[None, :])
        # (2), multiplied out; H - u s' - s u' with the vector u below would be shorter, but fused multiply-adds make it
        # unsymmetric: in single precision that costs many a solution
        matrix = scale * model.matrix - cross - cross.T + weight * (s[:, None] * s[None, :])
        # (3): p = -product, by (2) applied to the product with g
        u = rho * hy - weight / 2 * s
        product = hg - gram.sg * u - with_g_and_y(u)[0] * s
        direction = unravel(-product.astype(flat_g.dtype))
        return Inverse(matrix, model.count + keep.astype(jnp.int32)), direction, -with_g_and_y(product)[0]

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return what quasi-Newton methods tell, and ``inverse_hessian``, that of the unknown as one vector."""
        d = ravel_pytree(state.scaling)[0].astype(state.model.matrix.dtype)
        return super().readings(x, state) | {"inverse_hessian": state.model.matrix * d[:, None] * d[None, :]}
