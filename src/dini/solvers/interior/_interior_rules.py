"""Which trial points an interior point method takes, and what it does next."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...status import Status
from ...trees import Scalar, Tree
from ...trees.products import dot
from ..judge._margins import relative_rounding
from . import _filter
from ._interior_state import (
    CORRECT,
    DESCEND,
    POLISH,
    RESTORE,
    Box,
    Direction,
    Measures,
    Mode,
    Point,
    active,
    barrier,
    barrier_error,
    corrected,
    descent,
    estimated,
    violated,
)
from ._kkt_system import Factor
from ._program_view import Derivatives, Units, View, first_units, start_length
from ._second_look import Pace, levels_off, lower_beside, once, pace

# The constants of Waechter and Biegler (2006), sections 2 to 4, where nothing else is said.
START_MU, PUSH = 0.1, 1e-2
_LESS_MU, _POWER_MU, _ENOUGH, _CLIP = 0.2, 1.5, 10.0, 1e10
_LESS_VIOLATION, _LESS_VALUE, _ARMIJO = 1e-5, 1e-5, 1e-8
_MAY_VIOLATE, _SWITCH_BELOW, _SWITCH_SLOPE, _SWITCH_VIOLATION = 10.0, 1e-4, 2.3, 1.1
_CORRECTIONS, _RESTORED = 1, 0.9
#: a step is given up below this share of it, where constraints are violated and where they hold
_SHORT, _SHORTEST = 2e-2, 1e-10
#: of the squared violation, what the barrier of a restoration weighs at its start, and how it falls
_BARRIER, _FALLS, _PROX = 0.1, 0.3, 1e-3
#: the relative error at which the equations of the active constraints are tried, and how much less it is next time
POLISH_AT, LATER = 1e-3, 1e-2
_UNBOUNDED = 1e20
#: what a move may take away of a violation that is stationary, as a share of its square
_TAKEN = 1e-3
#: how often a stationary point beside which it is lower is left
_LEAVES = 10
#: how much more curved than steep the objective may be at the start, in its own units
_CURVED = 1e4


class State(NamedTuple):
    """Carried from step to step, all in the units of the start."""

    error: Scalar
    #: the accepted point, what the functions are there, and its error
    point: Tree
    at: Any
    units: Any
    measured: Any
    mu: Any
    #: the next trial, the step that a correction replaces, and the share of it that is tried
    direction: Tree
    plain: Any
    share: Any
    factor: Any
    shift: Any
    residual: Tree
    corrections: Any
    #: what trials are compared with
    filter: Any
    first_violation: Any
    left_at: Any
    restoring_mu: Any
    polish_at: Any
    last_try: Any
    #: of the last system, whether its Hessian was positive definite on the constraints' tangent space
    definite: Any
    #: of the last two steps onto the active constraints, and how often a stationary point was left for a lower one
    pace: Any
    left: Any
    #: the point where it began
    start: Any
    mode: Any
    steps: Scalar
    status: Any


class Trial(NamedTuple):
    """A trial point, its values, the merits before and after, and what is thought of it."""

    point: Point
    values: Any
    before: tuple[Any, Any]
    after: tuple[Any, Any]
    accept: Any
    #: whether the filter grows by the point before
    grow: Any
    #: whether it ends a restoration
    restored: Any


def box_of(view: View, units: Units) -> Box:
    """Return the bounds in units of the start."""
    return Box(view.lower / units.length, view.upper / units.length)


def begun(view: View, units: Units, start: jax.Array, error: jax.Array, left: jax.Array) -> State:
    """Return the state before the first step from a start, which only evaluates the functions there."""
    dtype, n, m, inequalities = view.dtype, view.unknowns, view.rows, view.inequalities
    zero, one, no = jnp.zeros((), dtype), jnp.ones((), dtype), jnp.zeros((), bool)
    box = box_of(view, units)
    lean = lambda has: jnp.where(has, one, 0)
    point = Point(
        box.inside(start, one * PUSH),
        jnp.ones(inequalities, dtype),
        jnp.zeros(m, dtype),
        jnp.ones(inequalities, dtype),
        lean(box.low),
        lean(box.high),
    )
    still = Direction(jax.tree.map(jnp.zeros_like, point), zero, zero, zero)
    matrix = jnp.zeros((n + m, n + m), dtype)
    return State(
        error=error,
        point=point,
        at=Derivatives(jnp.zeros(1 + m, dtype), jnp.zeros((1 + m, n), dtype), jnp.zeros((n, n), dtype)),
        units=units,
        measured=jnp.full((), jnp.inf, dtype),
        mu=one * START_MU,
        direction=still,
        plain=still,
        share=zero,
        factor=Factor(matrix, matrix, jnp.zeros(n + m, jnp.int32), jnp.ones(n + m, dtype)),
        shift=zero,
        residual=jnp.zeros(m, dtype),
        corrections=jnp.zeros((), jnp.int32),
        filter=_filter.empty(dtype),
        first_violation=one,
        left_at=zero,
        restoring_mu=zero,
        polish_at=one * POLISH_AT,
        last_try=no,
        definite=~no,
        pace=Pace(no, no),
        left=left,
        start=start,
        mode=jnp.zeros((), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
        status=jnp.asarray(Status.RUNNING, jnp.int32),
    )


def looked_again(
    view: View, old: State, state: State, box: Box, done: jax.Array, lost: jax.Array, tol: jax.Array
) -> tuple[Any, State]:
    """Return whether a point that passes the test may be claimed, and the state, which goes on where it may not.

    A point that is none of rest is the end all the same: nothing is left by which a later one could be told from it.
    """
    last, new = old.direction.step.x, state.direction.step.x
    seen = pace(last, new, state.point.x)
    seen = jax.tree.map(lambda a, b: jnp.where(lost, a, (old.mode == POLISH) & b), old.pace, seen)
    # where forces have vanished with their curvature, there is no step any more
    seen = seen._replace(drifts=seen.drifts | (old.pace.drifts & ~state.definite))
    # of a batch, lanes that have ended go through the steps of the others
    ended = old.error <= tol
    odd = done & ~ended & ~seen.drifts & (~state.definite | seen.slow)
    keep, pins = active(view, state.point, box)

    x, units, at = state.point.x, state.units, state.at
    look = lambda: lower_beside(view, units, at, x, state.point.y, keep, pins, new)
    lower, start = once(odd, look, (jnp.zeros((), bool), x))
    level = levels_off(view, units, at, x, state.start, keep, odd)
    seen = seen._replace(drifts=seen.drifts | level)
    lower = lower & ~level
    status = jnp.where(done & seen.drifts, Status.DIVERGED, state.status)
    status = jnp.where(lower & (old.left >= _LEAVES), Status.STALLED, status).astype(jnp.int32)
    again = begun(view, state.units, start, state.error, old.left + 1)
    # the first step renews the matrices
    again = again._replace(status=status, at=state.at, factor=state.factor)
    state = state._replace(pace=seen, status=status, steps=old.steps + 1)
    return done & ~seen.drifts & ~lower, jax.tree.map(lambda a, b: jnp.where(lower, a, b), again, state)


def _merits(view: View, values: jax.Array, point: Point, box: Box, mu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the violation of the constraints and the barrier function."""
    left = jnp.sum(jnp.abs(violated(values[1:], point.slack, view)))
    # what rounding leaves is no violation
    size = jnp.maximum(1, jnp.max(jnp.abs(point.x), initial=0))
    level = 10 * view.rows * jnp.finfo(values.dtype).eps * size
    return jnp.maximum(left - level, 0), values[0] - mu * barrier(point, box)


def _squared(view: View, values: jax.Array, point: Point, box: Box, mu: jax.Array) -> jax.Array:
    """Return half the squared violation with its barrier."""
    left = violated(values[1:], point.slack, view)
    return 0.5 * dot(left, left) - mu * barrier(point, box)


def _clipped(z: jax.Array, gap: jax.Array, mu: jax.Array) -> jax.Array:
    return jnp.clip(z, mu / (_CLIP * gap), _CLIP * mu / gap)


def moved(state: State, box: Box) -> Point:
    """Return the trial point."""
    point, step, share, dual = state.point, state.direction.step, state.share, state.direction.dual
    polish, mu = state.mode == POLISH, state.mu
    x = point.x + share * step.x
    x = jnp.where(polish, jnp.clip(x, box.lower, box.upper), box.inside(x, jnp.zeros((), x.dtype)))
    slack = point.slack + share * step.slack
    low, high = box.gaps(x)
    z = _clipped(point.z + dual * step.z, slack, mu)
    # the multiplier of an inequality is that of its slack, and positive
    y = point.y + share * step.y
    y = jnp.where(polish, y, jnp.concatenate([y[: y.size - z.size], z]))
    return Point(
        x,
        slack,
        y,
        z,
        jnp.where(box.low, _clipped(point.lower + dual * step.lower, low, mu), point.lower),
        jnp.where(box.high, _clipped(point.upper + dual * step.upper, high, mu), point.upper),
    )


def tried(view: View, state: State, box: Box) -> Trial:
    """Return the trial point and whether it is accepted."""
    point, mu, share, slope = moved(state, box), state.mu, state.share, state.plain.slope
    values = view.values(point.x, state.units)
    finite = jnp.all(jnp.isfinite(values))
    # a slack that falls short of its constraint's is made as long: that violates nothing, and takes the barrier down
    held = (state.mode == POLISH) | (state.mode == RESTORE) | ~finite
    point = point._replace(slack=jnp.where(held, point.slack, jnp.maximum(point.slack, -values[1 + view.equalities :])))
    before = _merits(view, state.at.values, state.point, box, mu)
    after = _merits(view, values, point, box, mu)
    rounding = relative_rounding(before[1])
    falls = jnp.maximum(-slope, 0)
    steep = (slope < 0) & (share * falls**_SWITCH_SLOPE > before[0] ** _SWITCH_VIOLATION)
    first = jnp.maximum(1, state.first_violation)
    steep &= before[0] <= _SWITCH_BELOW * first
    armijo = after[1] <= before[1] + _ARMIJO * share * slope + rounding
    less = (after[0] <= (1 - _LESS_VIOLATION) * before[0]) | (
        after[1] <= before[1] - _LESS_VALUE * before[0] + rounding
    )
    passes = _filter.passes(state.filter, *after) & (after[0] <= _MAY_VIOLATE * first)
    ends = jnp.max(jnp.abs(share * state.direction.step.x), initial=0)
    eps = jnp.finfo(values.dtype).eps
    tiny = (ends <= 10 * eps * jnp.max(jnp.abs(state.point.x), initial=0)) & (after[0] <= before[0])
    accept = finite & jnp.isfinite(after[1]) & ((passes & jnp.where(steep, armijo, less)) | tiny)

    rmu = state.restoring_mu
    here, there = _squared(view, state.at.values, state.point, box, rmu), _squared(view, values, point, box, rmu)
    lower = finite & (there <= here + 1e-4 * share * slope + relative_rounding(here))
    restored = (after[0] <= _RESTORED * state.left_at) & passes
    accept = jnp.where(state.mode == RESTORE, lower, accept & (state.mode != POLISH)) | (state.steps == 0)
    return Trial(point, values, before, after, accept, accept & ~(steep & armijo) & (state.mode < RESTORE), restored)


def evaluated(view: View, state: State, trial: Trial, back: jax.Array) -> tuple[Point, Derivatives, Units]:
    """Return the trial point with its derivatives; the first one settles the units."""
    first, polish, point = state.steps == 0, state.mode == POLISH, trial.point
    old = state.units
    jacobian = view.jacobian(point.x, old)
    own = first_units(trial.values, jacobian / old.length, start_length(view).astype(point.x.dtype))
    # one that begins again keeps them
    units = jax.tree.map(lambda new, kept: jnp.where(first & (state.left == 0), new, kept), own, old)
    ratio, longer = units.weights() / old.weights(), units.length / old.length
    values, jacobian = trial.values * ratio, jacobian * ratio[:, None] * longer
    box = box_of(view, units)
    x = point.x / longer
    general = values[1 + view.equalities :]
    tight = lambda z, gap: z > gap
    low, high = box_of(view, old).gaps(state.point.x)
    force = jacobian[0] + dot(point.y, jacobian[1:])
    holds_low = jnp.where(polish, tight(state.point.lower, low) & box.low, box.fixed)
    holds_high = jnp.where(polish, tight(state.point.upper, high) & box.high, box.fixed)
    holds_low, holds_high = holds_low | box.fixed, holds_high | box.fixed
    settled = polish | box.fixed
    lower = jnp.where(settled, jnp.where(holds_low, jnp.maximum(force, 0), 0), point.lower)
    upper = jnp.where(settled, jnp.where(holds_high, jnp.maximum(-force, 0), 0), point.upper)
    slack = jnp.where(first, jnp.maximum(-general, PUSH), jnp.where(polish, jnp.maximum(-general, 0), point.slack))
    gaps = box.gaps(x)
    z = jnp.where(polish, jnp.maximum(point.y[view.equalities :], 0), point.z)
    z = jnp.where(first, jnp.minimum(state.mu / slack, 1), jnp.where(back, state.mu / slack, z))
    lower = jnp.where(back & box.low, state.mu / gaps[0], lower)
    upper = jnp.where(back & box.high, state.mu / gaps[1], upper)
    point = Point(x, slack, point.y, z, lower, upper)
    free = Derivatives(values, jnp.where(box.fixed[None, :], 0, jacobian), None)
    y = jnp.where(first | back, jnp.concatenate([estimated(view, free, point), z]), point.y)
    # of the squared violation, the residuals are the multipliers
    squares = (state.mode == RESTORE) & ~back
    left = violated(values[1:], slack, view)
    hessian = view.hessian(x, units, jnp.where(squares, 0, 1).astype(x.dtype), jnp.where(squares, left, y))
    # where the objective is flat at the start, its curvature tells its size
    top = jnp.max(jnp.abs(hessian), initial=0) / _CURVED
    less = jnp.where(first & (top > 1) & jnp.isfinite(top), 1 / top, 1)
    scaled = lambda rows: jnp.concatenate([less * rows[:1], rows[1:]])
    at = Derivatives(scaled(values), scaled(jacobian), less * hessian)
    return point._replace(y=less * y), at, units._replace(objective=less * units.objective)


def recentred(point: Point, box: Box, mu: jax.Array) -> Point:
    """Return a point that is off its bounds, as far as the barrier takes it there."""
    away = lambda z: 0.1 * mu / jnp.maximum(z, 1)
    low, high = box.gaps(point.x)
    x = jnp.where(box.low & (low < away(point.lower)), box.lower + away(point.lower), point.x)
    x = jnp.where(box.high & (high < away(point.upper)), box.upper - away(point.upper), x)
    x = box.inside(x, jnp.zeros((), x.dtype))
    slack = jnp.maximum(point.slack, away(point.z))
    low, high = box.gaps(x)
    up = lambda z, gap: jnp.maximum(z, 0.1 * mu / gap)
    return point._replace(
        x=x,
        slack=slack,
        z=up(point.z, slack),
        lower=jnp.where(box.low, up(point.lower, low), point.lower),
        upper=jnp.where(box.high, up(point.upper, high), point.upper),
    )


def next_barrier(
    view: View, old: State, state: State, box: Box, known: Measures, tol: jax.Array, trial: Trial, descends: jax.Array
) -> State:
    """Return the state with the barrier's weight for the next step, and with its filter."""
    eps = jnp.finfo(view.dtype).eps
    floor = jnp.maximum(0.1 * tol, eps) * known.work
    mu = state.mu
    for _ in range(3):
        near = descends & (barrier_error(view, state.at, state.point, box, mu) <= _ENOUGH * mu)
        mu = jnp.where(near, jnp.maximum(jnp.minimum(floor, mu), jnp.minimum(_LESS_MU * mu, mu**_POWER_MU)), mu)
    violation, value = trial.before
    pair = (1 - _LESS_VIOLATION) * violation, value - _LESS_VALUE * violation
    grown = jnp.where(trial.grow & (old.steps > 0), _filter.added(state.filter, *pair), state.filter)
    pairs = jnp.where(mu < state.mu, _filter.empty(view.dtype), grown)
    start = jnp.sum(jnp.abs(violated(state.at.constraints, state.point.slack, view)))
    first = jnp.where(old.steps == 0, start, state.first_violation)
    return state._replace(mu=mu, filter=pairs, first_violation=first)


class Rejected(NamedTuple):
    """What follows a trial that was not taken."""

    share: Any
    correct: Any
    given_up: Any


def rejected(view: View, old: State, trial: Trial, infeasible: jax.Array) -> Rejected:
    """Return whether to correct the step, how much of it to try, and whether to give it up."""
    no = ~trial.accept & (old.mode < RESTORE)
    whole = (old.mode == CORRECT) | (old.share >= old.plain.primal)
    worse = jnp.all(jnp.isfinite(trial.values)) & (trial.after[0] >= trial.before[0])
    correct = no & whole & worse & (old.corrections < _CORRECTIONS) & (view.rows > 0)
    share = 0.5 * jnp.where(old.mode == CORRECT, old.plain.primal, old.share)
    size = jnp.max(jnp.abs(old.point.x), initial=0)
    length = jnp.max(jnp.abs(old.plain.step.x), initial=0) * share
    least = jnp.where(infeasible, _SHORT, _SHORTEST) * old.plain.primal
    short = (share < least) | (length <= jnp.finfo(view.dtype).eps * size)
    return Rejected(share, correct, no & ~correct & short)


def next_mode(
    old: State, state: State, trial: Trial, no: Rejected, infeasible: jax.Array, back: jax.Array, better: jax.Array
) -> jax.Array:
    """Return what the next step is for."""
    near = trial.accept & (old.mode < RESTORE) & (state.measured <= state.polish_at) & (old.steps > 0)
    # what can be done no better is polished once, and found wanting or good
    polish = better | near | (no.given_up & ~infeasible)
    restore = ((old.mode == RESTORE) & ~back) | (no.given_up & infeasible)
    mode = jnp.where(polish, POLISH, jnp.where(restore, RESTORE, jnp.where(no.correct, CORRECT, DESCEND)))
    return mode.astype(jnp.int32)


def restoring(view: View, old: State, state: State, trial: Trial, entering: jax.Array) -> State:
    """Return the state with what a restoration has to know."""
    violation, value = trial.before
    left = violated(state.at.constraints, state.point.slack, view)
    mu = jnp.where((old.mode == RESTORE) & trial.accept, _FALLS * state.restoring_mu, state.restoring_mu)
    mu = jnp.where(entering, _BARRIER * dot(left, left), mu)
    pair = (1 - _LESS_VIOLATION) * violation, value - _LESS_VALUE * violation
    return state._replace(
        restoring_mu=jnp.maximum(mu, jnp.finfo(view.dtype).tiny),
        left_at=jnp.where(entering, violation, state.left_at),
        filter=jnp.where(entering, _filter.added(state.filter, *pair), state.filter),
    )


def renewed(view: View, old: State, state: State, box: Box, trial: Trial, no: Rejected, needed: jax.Array) -> State:
    """Return the state with the next trial's direction, and how much of it to go."""
    restore, polish = state.mode == RESTORE, state.mode == POLISH
    left = violated(state.at.constraints, state.point.slack, view)
    prox = _PROX * jnp.minimum(1, jnp.sqrt(dot(left, left)))
    exact = old.mode == RESTORE
    mode = Mode(restore, polish, jnp.where(restore, state.restoring_mu, state.mu), prox, exact)

    def renew() -> State:
        direction, factor, shift, ok = descent(view, state.at, state.point, box, mode, state.shift)
        failed = ~ok & ~polish
        return state._replace(
            direction=direction,
            plain=direction,
            share=direction.primal,
            factor=factor,
            definite=shift == 0,
            shift=jnp.where((shift > 0) & ~polish & ~restore, shift, state.shift),
            residual=left,
            corrections=jnp.zeros((), jnp.int32),
            status=jnp.where(failed, Status.SINGULAR, state.status).astype(jnp.int32),
        )

    def correct() -> State:
        ahead = violated(trial.values[1:], trial.point.slack, view)
        residual = old.share * old.residual + ahead
        direction = corrected(view, state.at, state.point, box, mode, old.factor, residual)
        count = old.corrections + 1
        return state._replace(direction=direction, share=direction.primal, residual=residual, corrections=count)

    def shorter() -> State:
        share = jnp.where(old.mode == RESTORE, 0.5 * old.share, no.share)
        return state._replace(direction=old.plain, share=share, corrections=jnp.asarray(_CORRECTIONS, jnp.int32))

    which = jnp.where(needed, 0, jnp.where(no.correct, 1, 2)).astype(jnp.int32)
    return jax.lax.switch(which, [renew, correct, shorter])


def stuck(view: View, state: State, box: Box) -> jax.Array:
    """Return whether the violation of the constraints is stationary within the bounds."""
    eps = jnp.finfo(view.dtype).eps
    values = state.at.constraints
    wrong = jnp.concatenate([values[: view.equalities], jnp.maximum(values[view.equalities :], 0)])
    slope = dot(wrong, state.at.slopes)
    size = jnp.maximum(jnp.max(jnp.abs(state.point.x), initial=0), eps**0.25)
    low, high = box.gaps(state.point.x)
    room = jnp.where(slope > 0, jnp.where(box.low, low, size), jnp.where(box.high, high, size))
    # of elements of unlike size, a move by their own takes none of the violation away
    own = jnp.where(box.fixed, 0, jnp.minimum(room, jnp.abs(state.point.x)))
    level = jnp.max(jnp.abs(slope) * own, initial=0) <= _TAKEN * dot(wrong, wrong)
    slope = jnp.where(box.fixed, 0, slope * jnp.minimum(room / size, 1))
    # gradients that vanish themselves count beside those at the start
    scale = jnp.max(dot(jnp.abs(wrong), jnp.maximum(jnp.abs(state.at.slopes), 1)), initial=0)
    return level & (jnp.max(jnp.abs(slope), initial=0) <= eps**0.375 * scale)


def ending(
    view: View, old: State, state: State, known: Measures, tol: jax.Array, box: Box, failed: jax.Array
) -> jax.Array:
    """Return the status after a step; ``failed`` says that a last try was in vain."""
    size = jnp.max(jnp.abs(state.point.x), initial=0)
    status = jnp.where(failed, Status.STALLED, state.status)
    restore = (old.mode == RESTORE) & (state.mode == RESTORE)
    ends = restore & (state.share < _SHORTEST)
    status = jnp.where(ends, Status.STALLED, status)
    nowhere = restore & (known.violation > tol) & stuck(view, state, box)
    status = jnp.where(nowhere, Status.LOCALLY_INFEASIBLE, status)
    falls = (state.at.values[0] < -_UNBOUNDED) | (size > 1 / jnp.finfo(view.dtype).eps)
    status = jnp.where(falls, Status.DIVERGED, status)
    return jnp.where(jnp.any(box.lower > box.upper), Status.LOCALLY_INFEASIBLE, status).astype(jnp.int32)
