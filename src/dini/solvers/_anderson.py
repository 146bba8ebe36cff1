"""Anderson acceleration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..problems import FixedPoint
from ..settings import require_count, require_positive
from ._base import Solver, infinity


class State(NamedTuple):
    """Carried from step to step: the last differences of points and residuals."""

    error: Any
    points: Any
    residuals: Any
    point: Any
    residual: Any
    steps: Any


@register_dataclass
@dataclass(frozen=True)
class Anderson(Solver):
    r"""Anderson acceleration (type II) of :math:`x = T(x)`.

    With residuals :math:`r_k = T(x_k) - x_k` and the differences :math:`\Delta R, \Delta X` of the last ``history``
    steps, the next point is :math:`x_k + \beta r_k - (\Delta X + \beta \Delta R)\gamma` with :math:`\gamma = \arg\min
    \|r_k - \Delta R\gamma\|`. The differences are scaled to unit length and directions that are dependent to working
    precision are left out of the small least-squares problem, so that no ridge blurs it. The error is :math:`\|T(x) -
    x\|_2` at the point before the step.

    Parameters
    ----------
    history
        Number of differences that are kept.
    mixing
        :math:`\beta > 0`.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Walker and Ni, "Anderson acceleration for fixed-point iterations", SIAM J. Numer. Anal. 2011.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.FixedPoint(lambda x: jnp.cos(x))
    >>> round(float(dini.solve(problem, dini.Anderson(), 1.0).x), 3)
    0.739
    """

    history: int = field(default=5, metadata={"static": True})
    mixing: Any = 1.0
    tol: Any = None
    max_steps: int = field(default=1000, metadata={"static": True})

    solves = (FixedPoint,)
    lags = True

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("Anderson's history", self.history)
        require_positive("Anderson's mixing", self.mixing)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step."""
        del problem, args
        store = jax.tree.map(lambda u: jnp.zeros((self.history, *u.shape), u.dtype), x)
        return State(infinity(x), store, store, x, trees.zeros_like(x), jnp.zeros((), jnp.int32))

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Apply the map once and mix."""
        residual = trees.sub(problem.map(x, *args), x)
        slot = (state.steps - 1) % self.history
        started = state.steps > 0

        def put(store: Any, difference: Any) -> Any:
            return jax.tree.map(lambda s, d: s.at[slot].set(jnp.where(started, d, s[slot])), store, difference)

        points = put(state.points, trees.sub(x, state.point))
        residuals = put(state.residuals, trees.sub(residual, state.residual))

        dtype = state.error.dtype
        rows = [r.reshape(self.history, -1) for r in jax.tree.leaves(residuals)]
        gram = trees.total([r @ r.T for r in rows]).astype(dtype)
        flat = [r.reshape(-1) for r in jax.tree.leaves(residual)]
        right = trees.total([r @ f for r, f in zip(rows, flat, strict=True)]).astype(dtype)
        diagonal = jnp.diagonal(gram)
        scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
        gamma = scale * _least_norm(gram * scale[None, :] * scale[:, None], right * scale)

        def combine(store: Any) -> Any:
            return jax.tree.map(lambda s: jnp.tensordot(gamma.astype(s.dtype), s, 1), store)

        beta = jnp.asarray(self.mixing, dtype)
        mixed = trees.sub(trees.axpy(beta, residual, x), trees.axpy(beta, combine(residuals), combine(points)))
        error = trees.norm(residual).astype(dtype)
        return mixed, State(error, points, residuals, x, residual, state.steps + 1)

    def differentiable_step(self, problem: Any, x: Any, state: State, *args: Any) -> Any:
        """Return the map's value."""
        del state
        return problem.map(x, *args)


def _least_norm(gram: jax.Array, right: jax.Array) -> jax.Array:
    """Solve a small positive semidefinite system with unit diagonal; dependent directions get nothing.

    Cholesky with a shift of the size of rounding: where a column depends on those before it, its pivot is of
    the size of the shift and the solution stays bounded. Its derivative exists at repeated and zero eigenvalues too,
    which that of an eigenvalue decomposition does not.
    """
    shift = 100 * jnp.finfo(gram.dtype).eps
    used = jnp.diagonal(gram) > 0
    regular = gram + jnp.diag(jnp.where(used, shift, 1.0)).astype(gram.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(regular), jnp.where(used, right, 0))
