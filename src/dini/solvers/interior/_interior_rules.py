"""Which trial points an interior point method takes, and what it does next."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...status import Status
from ...trees.products import dot
from . import _filter
from ._interior_modes import PUSH, Barrier, by_mode
from ._interior_state import (
    CORRECT,
    DESCEND,
    POLISH,
    RESTORE,
    Box,
    Direction,
    Measures,
    Point,
    State,
    Trial,
    Weights,
    barrier_error,
    estimated,
    tight,
    violated,
)
from ._kkt_system import Factor, assembled, correction, factorized, pinned
from ._margins import LESS_VALUE, LESS_VIOLATION
from ._program_view import Derivatives, Units, View, first_units, start_length
from ._second_look import Pace, levels_off, lower_beside, once, pace

# The constants of Waechter and Biegler (2006), sections 2 to 4, unless noted otherwise.
START_MU = 0.1
_LESS_MU, _POWER_MU, _ENOUGH = 0.2, 1.5, 10.0
_CORRECTIONS = 1
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
    """Return whether a point that passes the test may be returned as converged, and the state, which continues if not.

    A point that is not stationary ends the solve as well: later points could not be distinguished from it.
    """
    last, new = old.direction.step.x, state.direction.step.x
    seen = pace(last, new, state.point.x)
    seen = jax.tree.map(lambda a, b: jnp.where(lost, a, (old.mode == POLISH) & b), old.pace, seen)
    # where forces have vanished with their curvature, there is no step any more
    seen = seen._replace(drifts=seen.drifts | (old.pace.drifts & ~state.definite))
    # of a batch, lanes that have ended go through the steps of the others
    ended = old.error <= tol
    odd = done & ~ended & ~seen.drifts & (~state.definite | seen.slow)
    keep, pins = tight(view, state.point, box)

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


def tried(view: View, state: State, box: Box) -> Trial:
    """Return the trial point and whether it is accepted."""
    point = by_mode(state.mode, "trial", view, state, box)
    return by_mode(state.mode, "judge", view, state, box, point, view.values(point.x, state.units))


def evaluated(view: View, state: State, trial: Trial, back: jax.Array) -> tuple[Point, Derivatives, Units]:
    """Return the trial point with its derivatives; the first one fixes the units."""
    first, point, old = state.steps == 0, trial.point, state.units
    jacobian = view.jacobian(point.x, old)
    own = first_units(trial.values, jacobian / old.length, start_length(view).astype(point.x.dtype))
    # one that begins again keeps them
    units = jax.tree.map(lambda new, kept: jnp.where(first & (state.left == 0), new, kept), own, old)
    ratio, longer = units.weights() / old.weights(), units.length / old.length
    values, jacobian = trial.values * ratio, jacobian * ratio[:, None] * longer
    box = box_of(view, units)
    trial = trial._replace(point=point._replace(x=point.x / longer))
    point = by_mode(state.mode, "renew", view, state, box, trial, values, jacobian)
    point = _begun_multipliers(view, state, box, point, values, jacobian, first, back)
    # of the squared violation, the residuals are the multipliers
    squares = (state.mode == RESTORE) & ~back
    left = violated(values[1:], point.slack, view)
    weight = jnp.where(squares, 0, 1).astype(point.x.dtype)
    hessian = view.hessian(point.x, units, weight, jnp.where(squares, left, point.y))
    # where the objective is flat at the start, its curvature tells its size
    top = jnp.max(jnp.abs(hessian), initial=0) / _CURVED
    less = jnp.where(first & (top > 1) & jnp.isfinite(top), 1 / top, 1)
    scaled = lambda rows: jnp.concatenate([less * rows[:1], rows[1:]])
    at = Derivatives(scaled(values), scaled(jacobian), less * hessian)
    return point._replace(y=less * point.y), at, units._replace(objective=less * units.objective)


def _begun_multipliers(
    view: View, state: State, box: Box, point: Point, values: jax.Array, jacobian: jax.Array, first: Any, back: Any
) -> Point:
    """Return the point with the slacks and multipliers of a start, or those that fit where a restoration ends."""
    slack = jnp.where(first, jnp.maximum(-values[1 + view.equalities :], PUSH), point.slack)
    z = jnp.where(first, jnp.minimum(state.mu / slack, 1), point.z)
    point = point._replace(slack=slack, z=z)
    free = Derivatives(values, jnp.where(box.fixed[None, :], 0, jacobian), None)
    y = jnp.concatenate([estimated(view, free, point), z])
    return point._replace(y=jnp.where(first | back, y, point.y))


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
    pair = (1 - LESS_VIOLATION) * violation, value - LESS_VALUE * violation
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
    pair = (1 - LESS_VIOLATION) * violation, value - LESS_VALUE * violation
    return state._replace(
        restoring_mu=jnp.maximum(mu, jnp.finfo(view.dtype).tiny),
        left_at=jnp.where(entering, violation, state.left_at),
        filter=jnp.where(entering, _filter.added(state.filter, *pair), state.filter),
    )


def descent(view: View, state: State, box: Box, by: Weights) -> tuple[Direction, Factor, jax.Array, jax.Array]:
    """Return a direction, the factor that made it, the Hessian's correction, and whether all went well."""
    at, point = state.at, state.point
    given = at, point, box, by
    rows = by_mode(state.mode, "system", view, *given, violated(at.constraints, point.slack, view))
    slopes = jnp.where(rows.keep[:, None], at.slopes, 0)
    held, kept, moved = pinned(rows.hessian, slopes, rows.pins, rows.moves)
    shift, found = correction(held, kept, jnp.where(rows.keep, rows.give, 1), state.shift)
    # at a solution nothing is to be corrected
    added = jnp.where(state.mode == POLISH, 0, shift)
    held = held + added * jnp.diag(jnp.where(rows.pins, 0, 1).astype(held.dtype))
    factor = factorized(assembled(held, kept, rows.give))
    w = factor.solve(-jnp.concatenate(moved(rows.gradient, rows.residual)))
    direction = by_mode(state.mode, "completed", view, *given, rows.stiff, w[: view.unknowns], w[view.unknowns :])
    return direction, factor, shift, found & jnp.all(jnp.isfinite(w))


def corrected(view: View, state: State, box: Box, by: Weights, factor: Factor, residual: jax.Array) -> Direction:
    """Return a direction of descent by the factor of the last one, with other residuals of the constraints."""
    given = view, state.at, state.point, box, by
    rows = Barrier.system(*given, residual)
    w = factor.solve(-jnp.concatenate([jnp.where(rows.pins, 0, rows.gradient), rows.residual]))
    return Barrier.completed(*given, rows.stiff, w[: view.unknowns], w[view.unknowns :])


def renewed(view: View, old: State, state: State, box: Box, trial: Trial, no: Rejected, needed: jax.Array) -> State:
    """Return the state with the next trial's direction, and how much of it to go."""
    restore, polish = state.mode == RESTORE, state.mode == POLISH
    left = violated(state.at.constraints, state.point.slack, view)
    prox = _PROX * jnp.minimum(1, jnp.sqrt(dot(left, left)))
    by = Weights(jnp.where(restore, state.restoring_mu, state.mu), prox, old.mode == RESTORE)

    def renew() -> State:
        direction, factor, shift, ok = descent(view, state, box, by)
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
        direction = corrected(view, state, box, by, old.factor, residual)
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
    # gradients that vanish themselves are relative to those at the start
    scale = jnp.max(dot(jnp.abs(wrong), jnp.maximum(jnp.abs(state.at.slopes), 1)), initial=0)
    return level & (jnp.max(jnp.abs(slope), initial=0) <= eps**0.375 * scale)


def ending(
    view: View, old: State, state: State, known: Measures, tol: jax.Array, box: Box, failed: jax.Array
) -> jax.Array:
    """Return the status after a step; ``failed`` says that a last try failed."""
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
