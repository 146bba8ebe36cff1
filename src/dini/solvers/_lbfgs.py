"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..loop import tolerance
from ..settings import require_count
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._line_search import Bracket, search


class Pairs(NamedTuple):
    """The last differences of points (``s``) and gradients (``y``), scaled to unit ``s``, and their inner products."""

    s: Any
    y: Any
    sy: Any
    yy: Any
    count: Any


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the line search, and the stored pairs."""

    error: Any
    value: Any
    gradient: Any
    direction: Any
    bracket: Bracket
    pairs: Pairs
    steps: Any
    status: Any


@register_dataclass
@dataclass(frozen=True)
class LBFGS(Solver):
    r"""Limited-memory BFGS with a weak-Wolfe line search.

    The inverse Hessian is kept as :math:`\gamma I` corrected by the last ``history`` pairs, in compact form: a step
    costs four products with an ``history``-by-``d`` matrix. The line search brackets a step that satisfies sufficient
    decrease and the curvature condition (Lewis and Overton 2013), interpolates inside the bracket, and near the
    rounding error of the objective accepts by the gradient (the approximate Wolfe conditions of Hager and Zhang
    2005). Each trial is one step of the solver. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    history
        Number of pairs.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps, that is of function evaluations.

    References
    ----------
    Byrd, Nocedal, Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods", Math.
    Program. 1994.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.LBFGS(tol=1e-3), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    history: int = field(default=10, metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("LBFGS's history", self.history)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        store = jax.tree.map(lambda u: jnp.zeros((self.history, *u.shape), u.dtype), x)
        small = jnp.zeros((self.history, self.history), inf.dtype)
        pairs = Pairs(store, store, small, small, jnp.zeros((), jnp.int32))
        zero = trees.zeros_like(x)
        return State(inf, inf, zero, zero, Bracket.fresh(inf.dtype, 0.0), pairs, jnp.zeros((), jnp.int32), running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        dtype = state.error.dtype
        step_size = state.bracket.trial
        trial = trees.axpy(step_size, state.direction, x)
        value, gradient = problem.value_and_gradient(trial, *args)
        value = value.astype(dtype)
        first = state.steps == 0
        slope = trees.vdot(gradient, state.direction).astype(dtype)
        old_slope = trees.vdot(state.gradient, state.direction).astype(dtype)
        slack = relative_rounding(value, state.value)
        accept, bracket = search(state.bracket, state.value, old_slope, value, slope, slack)
        finite = jnp.isfinite(value) & trees.all_finite(gradient)
        accept = first | (accept & finite)
        size = trees.norm(gradient).astype(dtype)
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))

        def renew(_: Any) -> tuple[Any, Bracket, Pairs]:
            s = trees.scale(step_size, state.direction)
            pairs = _update(state.pairs, s, trees.sub(gradient, state.gradient), ~first)
            direction = _direction(pairs, gradient)
            new_slope = trees.vdot(direction, gradient)
            # a direction that does not descend means that the pairs are worn out: start again from the gradient
            good = jnp.isfinite(new_slope) & (new_slope < 0)
            pairs = pairs._replace(count=jnp.where(good, pairs.count, 0))
            direction = trees.where(good, direction, trees.neg(gradient))
            scaled = good & (pairs.count > 0)
            start = jnp.where(scaled, 1.0, 1 / jnp.maximum(size, 1)).astype(dtype)
            return direction, Bracket.fresh(dtype, start), pairs

        def retry(_: Any) -> tuple[Any, Bracket, Pairs]:
            # a search that fails along a quasi-Newton direction starts again along the gradient
            failed = bracket.exhausted & (state.pairs.count > 0)
            direction = trees.where(failed, trees.neg(state.gradient), state.direction)
            start = (1 / jnp.maximum(trees.norm(state.gradient), 1)).astype(dtype)
            again = jax.tree.map(lambda a, b: jnp.where(failed, a, b), Bracket.fresh(dtype, start), bracket)
            return direction, again, state.pairs._replace(count=jnp.where(failed, 0, state.pairs.count))

        needed = accept & ~(error <= tolerance(self, x))
        direction, bracket, pairs = jax.lax.cond(needed, renew, retry, None)
        stalled = ~accept & bracket.exhausted & (state.pairs.count == 0)
        status = jnp.where(stalled, Status.STALLED, state.status).astype(jnp.int32)
        kept = State(
            error,
            jnp.where(accept, value, state.value),
            trees.where(accept, gradient, state.gradient),
            direction,
            bracket,
            pairs,
            state.steps + 1,
            status,
        )
        return trees.where(accept, trial, x), kept


def _products(rows: Any, vector: Any, dtype: Any) -> jax.Array:
    """Return the inner products of stored vectors with one vector."""
    parts = [
        (r.reshape(r.shape[0], -1) @ v.reshape(-1)).astype(dtype)
        for r, v in zip(jax.tree.leaves(rows), jax.tree.leaves(vector), strict=True)
    ]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros(0, dtype)


def _combine(rows: Any, weights: jax.Array) -> Any:
    return jax.tree.map(lambda r: jnp.tensordot(weights.astype(r.dtype), r, 1), rows)


def _update(pairs: Pairs, s: Any, y: Any, active: Any) -> Pairs:
    """Store a pair in place of the oldest, unless its curvature is not positive."""
    dtype = pairs.sy.dtype
    length = trees.norm(s)
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    s, y = trees.scale(inverse, s), trees.scale(inverse, y)
    curvature, squared = trees.vdot(s, y), trees.vdot(y, y)
    keep = active & (curvature > trees.eps(s) * squared) & jnp.isfinite(squared) & (length > 0)
    slot = pairs.count % pairs.sy.shape[0]

    def put(store: Any, vector: Any) -> Any:
        return jax.tree.map(lambda r, v: r.at[slot].set(jnp.where(keep, v, r[slot])), store, vector)

    new_s, new_y = put(pairs.s, s), put(pairs.y, y)
    # the products of the new y with every s (a column of S'Y), of the new s with every y (a row), and of y with every y
    column, row, square = (
        _products(new_s, y, dtype),
        _products(new_y, s, dtype),
        _products(new_y, y, dtype),
    )
    sy = pairs.sy.at[:, slot].set(column).at[slot, :].set(row)
    yy = pairs.yy.at[:, slot].set(square).at[slot, :].set(square)
    return Pairs(
        new_s,
        new_y,
        jnp.where(keep, sy, pairs.sy),
        jnp.where(keep, yy, pairs.yy),
        pairs.count + keep.astype(jnp.int32),
    )


def _direction(pairs: Pairs, gradient: Any) -> Any:
    """Return minus the inverse Hessian's approximation times the gradient, in the compact form."""
    m = pairs.sy.shape[0]
    # the compact form wants the pairs from oldest to newest: only the small matrices are put in order
    newest = (pairs.count - 1) % m
    order = (newest + 1 + jnp.arange(m)) % m
    used = jnp.arange(m) >= m - jnp.minimum(pairs.count, m)
    both = used[:, None] & used
    sy = jnp.where(both, pairs.sy[order][:, order], 0)
    yy = jnp.where(both, pairs.yy[order][:, order], 0)
    last_sy, last_yy = sy[-1, -1], yy[-1, -1]
    gamma = jnp.where(used[-1], last_sy / jnp.where(last_yy > 0, last_yy, 1), 1.0)
    p = jnp.where(used, _products(pairs.s, gradient, sy.dtype)[order], 0)
    q = jnp.where(used, _products(pairs.y, gradient, sy.dtype)[order], 0)
    upper = jnp.triu(sy) + jnp.diag(jnp.where(used, 0, 1).astype(sy.dtype))
    u = jax.scipy.linalg.solve_triangular(upper, p)
    right = jnp.diagonal(sy) * u + gamma * (yy @ u - q)
    top = jax.scipy.linalg.solve_triangular(upper, right, trans="T")
    back = jnp.argsort(order)
    step = trees.add(_combine(pairs.s, top[back]), _combine(pairs.y, -gamma * u[back]))
    return trees.neg(trees.axpy(gamma, gradient, step))
