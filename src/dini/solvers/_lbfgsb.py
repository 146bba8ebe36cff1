"""Limited-memory BFGS with bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..loop import tolerance
from ..products import dot
from ..settings import require_count
from ..status import Status
from ._base import (
    PATIENCE,
    first_length,
    hidden_difference,
    infinity,
    kept_value,
    relative_rounding,
    running,
    shown_by_gradients,
)
from ._box import Box, BoxSolver, box_of, flatten, secant_curvature, value_and_gradient
from ._line_search import LineSearch, WeakWolfe, exhausted, require_line_search, unbounded


class Pairs(NamedTuple):
    """The last differences of points and gradients, scaled to unit steps, and their inner products.

    The Hessian is modelled by ``theta`` times the identity, corrected by the pairs.
    """

    s: Any
    y: Any
    ss: Any
    sy: Any
    theta: Any
    count: Any


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the line search, the model.

    ``search`` holds the smallest error so far, the number of steps since the last gain, the longest step and the
    search's bracket, as one vector.
    """

    error: Any
    value: Any
    gradient: Any
    direction: Any
    search: Any
    model: Pairs
    status: Any


@trees.register
@dataclass(frozen=True)
class LBFGSB(BoxSolver):
    r"""L-BFGS-B: limited-memory BFGS for smooth functions with bounds :math:`l \le x \le u`.

    With the compact model :math:`B = \theta I - W M W^\top` of the Hessian, an iteration follows the projected
    gradient path :math:`P(x - t g)` to the first local minimum of the model (the generalized Cauchy point; the path
    bends at a breakpoint for each bound that it meets), then minimizes the model over the variables that are free
    there, projects the result onto the bounds, and searches along the line to it. All breakpoints are judged at once,
    from cumulative sums in their order, so that no loop hides in a step; a trial of the line search is one step. The
    error is :math:`\|P(x - \nabla f) - x\|_2`, where the room to a bound counts in units of the gradient: times the
    curvature, if that is more than one.

    Without a constraint this is L-BFGS with a denser algebra.

    Parameters
    ----------
    history
        Number of pairs.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`: ``WeakWolfe()``, ``StrongWolfe()``, ``HagerZhang()``, ``Backtracking()``.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J. Sci. Comput. 1995;
    the projection of the minimizer: Morales and Nocedal, "Remark on Algorithm 778", ACM Trans. Math. Softw. 2011.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> problem = dini.Minimize(rosenbrock, constraint=dini.sets.Box(-2.0, jnp.array([0.5, 2.0])))
    >>> print(dini.solve(problem, dini.LBFGSB(), jnp.zeros(2)).x.round(2))
    [0.5  0.25]
    """

    history: int = field(default=10, metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})
    line_search: LineSearch = field(default=WeakWolfe(), metadata={"static": True})

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("LBFGSB's history", self.history)
        require_line_search(self.name, self.line_search)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, flat = infinity(x), flatten(x)
        zero = jnp.zeros_like(flat)
        store = jnp.zeros((self.history, flat.size), flat.dtype)
        small = jnp.zeros((self.history, self.history), flat.dtype)
        model = Pairs(store, store, small, small, jnp.ones_like(inf), jnp.zeros((), jnp.int32))
        search = jnp.stack([inf, jnp.zeros_like(inf), inf, *self.line_search.begin(0.0, inf, 0.0)])
        return State(inf, inf, zero, zero, search, model, running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        box, flat = box_of(problem, x), flatten(x)
        best, idle, longest, *old = state.search
        old = self.line_search.bracket(*old)
        trial = box.project(flat + old.trial * state.direction)
        value, gradient = value_and_gradient(problem, box, trial, args)
        curvature = secant_curvature(trial - flat, gradient - state.gradient)
        size = trees.norm(box.projected_gradient(trial, gradient, curvature))
        first = jnp.isinf(state.value)
        slack, hidden = relative_rounding(state.value), hidden_difference(state.value)
        fits, bracket = self.line_search.judge(old, state.value, value, dot(gradient, state.direction), hidden, longest)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        shown = ~first & shown_by_gradients(state.value, value, -old.trial * old.slope, state.error, size)
        shown &= dot(gradient, state.direction) >= 0.9 * old.slope
        # a trial that meets the stopping test need not satisfy the search
        solved = (size <= tolerance(self, x)) & (value <= state.value + hidden)
        accept = (first | fits | solved | shown) & finite
        # a search that fails starts again without pairs
        failed = ~accept & exhausted(bracket)
        known = state.model.count > 0
        model = _take_in(state.model, trial - flat, gradient - state.gradient, accept & ~first)
        model = _forget(model, failed & known)

        point = jnp.where(accept, trial, flat)
        gain = (value < state.value - slack) | (size < 0.99 * best)
        idle = jnp.where(accept, jnp.where(gain, 0, idle + 1), idle)
        best = jnp.where(accept, jnp.minimum(best, size), best)
        value = jnp.where(accept, kept_value(state.value, value, hidden), state.value)
        gradient = jnp.where(accept, gradient, state.gradient)
        error = jnp.where(accept, size, state.error)

        renew = accept | (failed & known)
        direction, worn = jax.lax.cond(
            renew,
            lambda: _direction(model, box, point, gradient),
            lambda: (state.direction, jnp.zeros((), bool)),
        )
        model = _forget(model, worn)
        slope = dot(gradient, direction)
        limit = jnp.where(renew, jnp.maximum(box.longest(point, direction), 1), longest)
        start = jnp.where(model.count == 0, first_length(point, direction), 1.0)
        fresh = self.line_search.begin(jax.lax.stop_gradient(start), value, slope)
        status = jnp.where((failed & ~known) | (idle >= PATIENCE), Status.STALLED, state.status)
        status = jnp.where(unbounded(bracket) | (value < -(trees.eps(x) ** -2)), Status.DIVERGED, status)
        search = [jnp.where(renew, a, b) for a, b in zip(fresh, bracket, strict=True)]
        kept = State(
            jnp.where(first & ~finite, jnp.nan, error),
            value,
            gradient,
            direction,
            jnp.stack([best, idle, jax.lax.stop_gradient(limit), *search]),
            model,
            status.astype(jnp.int32),
        )
        return trees.where(accept, box.unravel(trial), x), kept


def _forget(model: Pairs, forget: Any) -> Pairs:
    # what is left of the pairs themselves is never read
    return model._replace(count=jnp.where(forget, 0, model.count), theta=jnp.where(forget, 1, model.theta))


def _take_in(model: Pairs, s: Any, y: Any, accept: Any) -> Pairs:
    """Store a pair of positive curvature in place of the oldest one."""
    ss, sy, yy = dot(s, s), dot(s, y), dot(y, y)
    keep = accept & (sy > jnp.finfo(s.dtype).eps * jnp.sqrt(ss * yy))
    shrink = jax.lax.rsqrt(jnp.where(keep, ss, 1))
    here = jnp.arange(model.ss.shape[0]) == model.count % model.ss.shape[0]
    put = keep & here
    store_s = jnp.where(put[:, None], shrink * s, model.s)
    store_y = jnp.where(put[:, None], shrink * y, model.y)
    row, column = put[:, None], put[None, :]
    with_s, with_y = dot(store_s, shrink * s), dot(store_s, shrink * y)
    scaled = jnp.where(column, with_y[:, None], jnp.where(row, dot(store_y, shrink * s)[None, :], model.sy))
    squared = jnp.where(column, with_s[:, None], jnp.where(row, with_s[None, :], model.ss))
    theta = jnp.where(keep, yy / jnp.where(keep, sy, 1), model.theta)
    return Pairs(store_s, store_y, squared, scaled, theta, model.count + keep.astype(jnp.int32))


def _compact(model: Pairs) -> tuple[jax.Array, jax.Array]:
    r"""Return ``W`` and ``M`` of the model :math:`\theta I - W M W^\top` of the Hessian.

    :math:`W = [Y, \theta S]` and :math:`M^{-1} = \begin{pmatrix} -D & L^\top \\ L & \theta S^\top S \end{pmatrix}`,
    where :math:`L_{ij} = s_i^\top y_j` for ``i`` newer than ``j``. Empty slots have zero columns in ``W``.
    """
    m = model.ss.shape[0]
    slots = jnp.arange(m)
    age = (model.count - 1 - slots) % m
    full = slots < model.count
    both = full[:, None] & full[None, :]
    lower = jnp.where(both & (age[:, None] < age[None, :]), model.sy, 0)
    diagonal = jnp.where(full, jnp.diagonal(model.sy), 1)
    squared = jnp.where(both, model.theta * model.ss, jnp.eye(m, dtype=model.ss.dtype))
    inverse = jnp.block([[-jnp.diag(diagonal), lower.T], [lower, squared]])
    w = jnp.where(full[:, None], model.y, 0), jnp.where(full[:, None], model.theta * model.s, 0)
    return jnp.concatenate(w).T, jnp.linalg.inv(inverse)


def _direction(model: Pairs, box: Box, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the direction to the minimizer of the model, and whether the model had to be given up for it."""
    w, m = _compact(model)
    cauchy = _cauchy_point(box, x, gradient, model.theta, w, m)
    free = (cauchy > box.lower) & (cauchy < box.upper)
    move = cauchy - x
    reduced = jnp.where(free, gradient + model.theta * move - dot(w, dot(m, dot(w.T, move))), 0)
    # the inverse of the model on the free variables, by the Sherman-Morrison-Woodbury formula
    inner = jnp.where(free[:, None], w, 0)
    system = jnp.eye(m.shape[0], dtype=m.dtype) - dot(m, dot(inner.T, inner)) / model.theta
    weights = jnp.linalg.solve(system, dot(m, dot(inner.T, reduced)))
    step = -jnp.where(free, reduced / model.theta + dot(inner, weights) / model.theta**2, 0)
    projected = box.project(cauchy + step) - x
    truncated = move + jax.lax.stop_gradient(jnp.minimum(box.longest(cauchy, step), 1)) * step
    descends = lambda d: jnp.all(jnp.isfinite(d)) & (dot(gradient, d) < 0)
    plain = box.project(x - gradient) - x
    good, fair = descends(projected), descends(truncated)
    return jnp.where(good, projected, jnp.where(fair, truncated, plain)), ~(good | fair)


def _cauchy_point(
    box: Box, x: jax.Array, gradient: jax.Array, theta: jax.Array, w: jax.Array, m: jax.Array
) -> jax.Array:
    r"""Return the first local minimizer of the model along the projected gradient path.

    Let :math:`t_1 \le t_2 \le \dots` be the breakpoints and :math:`d_j` the direction beyond the ``j``-th one, minus
    the gradient without the coordinates that have met a bound. With :math:`D_j = d_j^\top d_j`, :math:`p_j = W^\top
    d_j` and :math:`c_j = W^\top z_j`, where :math:`z_j` is the way up to it, the model's slope and curvature there are

    .. math:: f'_j = (\theta t_j - 1) D_j - p_j^\top M c_j, \qquad f''_j = \theta D_j - p_j^\top M p_j.
    """
    bound = jnp.where(gradient < 0, box.upper, box.lower)
    meets = (gradient != 0) & jnp.isfinite(bound)
    breaks = jnp.where(meets, (x - jnp.where(meets, bound, 0)) / jnp.where(meets, gradient, 1), jnp.inf)
    steps = jnp.where(breaks > 0, -gradient, 0)
    order = jnp.argsort(breaks)
    ends = breaks[order]
    finite = jnp.isfinite(ends)
    ordered = steps[order]
    along = w[order] * ordered[:, None]

    def remaining(parts: jax.Array) -> jax.Array:
        """Sum over the coordinates that still move beyond each breakpoint, the start included."""
        zero = jnp.zeros((1, *parts.shape[1:]), parts.dtype)
        return jnp.concatenate([jnp.cumsum(parts[::-1], 0)[::-1], zero])

    start = jnp.concatenate([jnp.zeros((1,), ends.dtype), jnp.where(finite, ends, 0)])
    known = jnp.concatenate([jnp.ones((1,), bool), finite])
    squared, p = remaining(ordered**2), remaining(along)
    done = jnp.cumsum(along * jnp.where(finite, ends, 0)[:, None], 0)
    c = jnp.concatenate([jnp.zeros((1, m.shape[0]), done.dtype), done]) + start[:, None] * p
    pm = dot(p, m)
    slope = (theta * start - 1) * squared - jnp.sum(pm * c, 1)
    bend = theta * squared - jnp.sum(pm * p, 1)
    # the model is convex: what rounding makes of its curvature must not turn it around
    bend = jnp.maximum(bend, jnp.finfo(x.dtype).eps * theta * squared)
    ahead = jnp.where(slope < 0, -slope / jnp.where(bend > 0, bend, 1), 0)
    next_end = jnp.concatenate([ends, jnp.full((1,), jnp.inf, ends.dtype)])
    stop = known & ((slope >= 0) | (start + ahead <= next_end))
    j = jnp.argmax(stop)
    t = start[j] + ahead[j]
    return jnp.where(breaks <= t, jnp.where(steps != 0, bound, x), box.project(x + t * steps))
