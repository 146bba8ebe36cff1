"""The common step of Newton-like methods for equations: a dogleg path in a trust region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...loop import met
from ...protocols import Equations, Tolerant
from ...status import Status
from ...trees import Scalar, Tree
from .._base import infinity, running
from . import _newton_steps
from ._margins import DECREASE, LONG, NOISE, ROUNDING, SHORT
from ._units import Units

#: the factor on the old estimates of the curvatures at each step
_MEMORY = 0.3


class State(NamedTuple):
    """The state of a Newton-like method for equations.

    ``residual`` and ``merit`` are those of the accepted point, ``direction`` is the Newton-like direction there,
    ``move`` the next trial step and ``predicted`` the decrease that the linear model predicts for it. ``cauchy`` is the
    steepest-descent step of the path and ``decrease`` its decrease, where they were needed (``bent``). ``memory`` is
    the method's own, ``scales`` the estimates of the scales.
    """

    error: Scalar
    merit: Scalar
    residual: Tree
    direction: Tree
    move: Tree
    predicted: Any
    radius: Scalar
    cauchy: Any
    decrease: Any
    bent: Any
    memory: Any
    steps: Scalar
    extent: Any
    scales: Any
    status: Any


def stiffer(known: Units, stiff: Any, units: Any, error: Scalar, eps: Any) -> Units:
    """Return the estimates with a curvature from another source."""
    stiff, error = jax.lax.stop_gradient((stiff, error))
    larger = stiff > known.stiff
    stiff = jnp.maximum(stiff, known.stiff)
    noise = _noise(error, stiff, trees.norm(units).astype(error.dtype), eps)
    quiet = (noise <= ROUNDING) & (known.measure <= LONG) & (known.moved <= LONG)
    noise, rounding = (
        jnp.where(larger, a, b) for a, b in ((noise, known.noise), (jnp.where(quiet, error, 0), known.rounding))
    )
    return known._replace(stiff=stiff, noise=noise, rounding=rounding)


def failed_by_rounding(known: Units, error: Scalar, eps: Any) -> Any:
    """Return whether rounding can explain that a step from a point was rejected.

    Where the Jacobian is singular at a root, ``F`` is below rounding relative to its largest value long before steps
    are short.
    """
    quiet = (known.noise <= NOISE) | (error <= 100 * eps * known.steepest)
    return quiet & (known.measure <= eps**0.375)


def stalled_at_root(known: Units, error: Scalar, eps: Any) -> Any:
    """Return whether a point at which all steps are rejected is a root."""
    return failed_by_rounding(known, error, eps) | ((known.noise <= NOISE) & (known.measure <= LONG))


class Event(NamedTuple):
    """The last step, for the method's memory; ``x`` and ``residual`` are those of the accepted point.

    ``doubtful`` says that the point would meet the stopping test if the last step had been short: only the Jacobian at
    this point shows whether it is a root or a point where ``F`` tends to a constant.
    """

    x: Tree
    residual: Tree
    first: Any
    accept: Any
    needed: Any
    move: Tree
    change: Any
    slow: Any
    doubtful: Any


class Decision(NamedTuple):
    """The decision on an evaluated trial, and the point from which the method continues.

    ``step_scales`` are the estimates of the scales from the last step, ``doubtful`` those of a short step with the same
    result, ``old`` the estimates before.
    """

    now: Tree
    here: Tree
    change: Tree
    size: Scalar
    first: Any
    accept: Any
    error: Scalar
    merit: Scalar
    extent: Any
    units: Any
    radius: Any
    old: Units
    step_scales: Units
    doubtful: Any


class NextStep(NamedTuple):
    """The next move and its predicted decrease, the steepest-descent step, and whether the direction is finite."""

    move: Tree
    predicted: Any
    cauchy: Any
    decrease: Any
    bent: Any
    usable: Any


def start(x: Tree, memory: Any) -> State:
    """Return the state before the first step, which only evaluates the function."""
    inf = infinity(x)
    zero, nothing = trees.zeros_like(x), jnp.zeros_like(inf)
    no = jnp.zeros((), bool)
    steps = jnp.zeros((), jnp.int32)
    return State(
        inf,
        inf,
        zero,
        zero,
        zero,
        nothing,
        inf,
        zero,
        nothing,
        no,
        memory,
        steps,
        _newton_steps.no_sizes(x),
        Units.unknown(x),
        running(),
    )


def advance(
    solver: Tolerant,
    problem: Equations,
    x: Tree,
    state: State,
    args: tuple[Tree, ...],
    direct: Callable[[Event, Any, Any], tuple[Any, Any, Any, Any]],
    *,
    exact: bool = True,
) -> tuple[Any, State]:
    r"""Evaluate one trial, and find the next one.

    The trial is the direction ``p`` where it is shorter than the radius. Otherwise it is the point at that distance on
    the path from zero over the minimum of :math:`\|F + J s\|` along :math:`-J^\top F` to ``p`` (Powell's dogleg). It is
    accepted if :math:`\tfrac12\|F\|^2` decreases by a small fraction of the decrease that the linear model predicts.
    ``direct(event, direction, memory)`` returns the direction at the current point, the memory, whether the full
    direction is tried although the last trial was rejected, and whether it solves the linear equations at this point.
    """
    trial = trees.add(x, state.move)
    seen = decided(state, x, trial, problem.residual(trial, *args), exact=exact)
    now, here, error, eps = seen.now, seen.here, seen.error, trees.eps(x)
    needed = seen.accept & ~met(solver, x, error, seen.step_scales)
    doubtful = needed & met(solver, x, error, seen.doubtful)
    slow = seen.size > 0.3 * state.error
    event = Event(now, here, seen.first, seen.accept, needed, state.move, seen.change, slow, doubtful)
    direction, memory, renewed, fresh = direct(event, state.direction, state.memory)
    known = before_step(seen.step_scales, fresh, direction, seen.units, error, eps, exact=exact)
    radius = jnp.where(seen.first | renewed, jnp.inf, seen.radius).astype(error.dtype)
    running_on = ~met(solver, x, error, known)
    way = _bent(problem, state, seen, direction, radius, running_on, args)
    # neither a direction nor a descent direction
    stuck = running_on & ~way.usable & ~(way.decrease > eps * 2 * seen.merit)
    status = _ended(state, seen, known, direction, way.move, stuck, eps)
    runs = (error <= eps * known.steepest) & _newton_steps.diverging(now, seen.extent, state.move, direction)
    status = jnp.where(seen.accept & runs & running_on, Status.DIVERGED, status).astype(jnp.int32)
    return now, State(
        error, seen.merit, here, direction, way.move, way.predicted, radius, way.cauchy, way.decrease, way.bent, memory,
        state.steps + 1, seen.extent, known.packed(error.dtype), status,
    )  # fmt: skip


def decided(state: State, x: Tree, trial: Tree, residual: Tree, *, exact: bool) -> Decision:
    r"""Return the decision: a trial is accepted if :math:`\tfrac12\|F\|^2` has a part of the predicted decrease."""
    size = trees.norm(residual).astype(state.error.dtype)
    merit, first, eps = 0.5 * size**2, state.steps == 0, trees.eps(x)
    finite = jnp.isfinite(merit)
    accept = first | (finite & (merit <= state.merit - DECREASE * state.predicted))
    error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
    now, here = trees.where(accept, trial, x), trees.where(accept, residual, state.residual)
    change = trees.sub(residual, state.residual)
    extent = _newton_steps.extended(state.extent, now, accept)
    units = _newton_steps.sizes(now, extent, eps)
    old = Units.of(state.scales)
    figures = old, accept, first, state.move, change, units, error, state.error, eps
    step_scales, doubtful = after_step(*figures, each=exact)
    # the minimum of the parabola through both merits and the slope
    length = trees.norm(state.move).astype(error.dtype)
    ratio = (state.merit - merit) / jnp.where(state.predicted > 0, state.predicted, 1)
    bend = merit - state.merit + 2 * state.predicted
    cut = jnp.where(finite, jnp.clip(state.predicted / jnp.where(bend > 0, bend, 1), 0.1, 0.5), 0.1)
    radius = jnp.where(accept, state.radius, cut * length)
    radius = jax.lax.stop_gradient(jnp.where(accept & (ratio >= 0.5), jnp.maximum(radius, 2 * length), radius))
    merit = jnp.where(accept, merit, state.merit)
    return Decision(
        now, here, change, size, first, accept, error, merit, extent, units, radius, old, step_scales, doubtful
    )


def _bent(
    problem: Equations,
    state: State,
    seen: Decision,
    direction: Tree,
    radius: Any,
    running_on: Any,
    args: tuple[Tree, ...],
) -> NextStep:
    """Return the direction where it is in the trust region, else the point where the dogleg path leaves the region."""
    dtype, now = radius.dtype, seen.now
    usable, far = trees.all_finite(direction), trees.norm(direction).astype(dtype)
    whole = usable & (far <= radius)
    wanted = ~whole & running_on & ~(state.bent & ~seen.accept)

    def descend(_: Any) -> tuple[Any, Any]:
        _, push = jax.linearize(lambda u: problem.residual(u, *args), now)
        gradient = jax.linear_transpose(push, now)(seen.here)[0]
        squared, image = trees.vdot(gradient, gradient), push(gradient)
        curve = trees.vdot(image, image)
        long = jnp.where(curve > 0, squared / jnp.where(curve > 0, curve, 1), 0)
        return trees.scale(-long, gradient), (long * squared).astype(dtype)

    cauchy, decrease = jax.lax.cond(wanted, descend, lambda _: (state.cauchy, state.decrease), None)
    move, predicted = _path(direction, cauchy, decrease, seen.merit, radius, usable, far)
    move, predicted = trees.where(whole, direction, move), jnp.where(whole, seen.merit, predicted).astype(dtype)
    return NextStep(move, predicted, cauchy, decrease, jnp.where(seen.accept, wanted, state.bent | wanted), usable)


def _ended(state: State, seen: Decision, known: Units, direction: Tree, move: Tree, stuck: Any, eps: Any) -> Any:
    """Return the status after a step: where steps are too short, the point is a root or the method has stalled."""
    vanished = seen.error <= 100 * eps * known.steepest
    status = jnp.where(stuck, jnp.where(vanished, Status.CONVERGED, Status.SINGULAR), state.status)
    tiny = ~seen.accept & ~stuck & (_newton_steps.relative_length(move, seen.units, direction) <= SHORT * eps)
    root = stalled_at_root(known, seen.error, eps)
    status = jnp.where(tiny, jnp.where(root, Status.CONVERGED, Status.STALLED), status)
    return jnp.where(~seen.accept & failed_by_rounding(seen.old, seen.error, eps), Status.CONVERGED, status)


def _noise(error: Scalar, stiff: Any, size: Any, eps: Any) -> Any:
    """Return an error in units of its rounding, at a point of a size; infinity where no curvature is known."""
    made_of = eps * stiff * size
    return jnp.where(made_of > 0, error / jnp.where(made_of > 0, made_of, 1), jnp.inf)


def after_step(
    old: Units,
    accept: Any,
    first: Any,
    move: Tree,
    change: Any,
    units: Any,
    error: Scalar,
    before: Any,
    eps: Any,
    *,
    each: bool = True,
) -> tuple[Units, Any]:
    """Return the estimates after a step, and the scale and the rounding of a short step with the same result.

    ``units`` are the sizes of the unknown's elements, ``error`` and ``before`` the norms of ``F`` now and before the
    step, ``change`` the change of ``F``. ``each`` says whether the equations may be in different units.
    """
    move, change, error, before = jax.lax.stop_gradient((move, change, error, before))
    size, length, rise = (trees.norm(v).astype(error.dtype) for v in (units, move, change))
    taken = accept & ~first
    pair = taken & (length > 0) & (rise > 0) & jnp.isfinite(rise)
    inverse = jnp.where(pair, length, 1) / jnp.where(pair, rise, 1)
    soft = jnp.where(pair, jnp.maximum(inverse, _MEMORY * old.soft), old.soft)
    stiff = jnp.where(pair, jnp.maximum(1 / inverse, _MEMORY * old.stiff), old.stiff)
    moved = _newton_steps.longest(move, units).astype(error.dtype)
    ratio = error / jnp.where(before > 0, before, 1)
    # the estimate by the smallest curvature, which does not depend on the length of the last step
    apparent = jnp.where(soft > 0, soft * error / jnp.where(size > 0, size, 1), jnp.inf)
    left = jnp.where(taken, jnp.maximum(_newton_steps.left_after(moved, ratio, each=each), apparent), jnp.inf)
    noise = _noise(error, stiff, size, eps)
    quiet, long = noise <= ROUNDING, moved > LONG
    steepest = jnp.where(jnp.isfinite(error), jnp.maximum(old.steepest, error), old.steepest)
    rounding = jnp.where(quiet, error, 0)
    scale = _newton_steps.scale_of(error, left, eps)
    new = old._replace(
        scale=scale, rounding=jnp.where(long, 0, rounding), soft=soft, stiff=stiff, measure=apparent, noise=noise,
        steepest=steepest, moved=moved,
    )  # fmt: skip
    known = trees.where(accept, new, old)
    # at an exact root, the scale is that of the size of the unknown
    known = known._replace(scale=jnp.where(error > 0, known.scale, size * jnp.where(stiff > 0, stiff, 1)))
    return known, jnp.where(long, jnp.stack([_newton_steps.scale_of(error, apparent, eps), rounding]), 0)


def before_step(
    known: Units, fresh: Any, direction: Tree, units: Any, error: Scalar, eps: Any, *, exact: bool = True
) -> Units:
    """Return the estimates with the next step, where it is from the Jacobian at this point, ``fresh``.

    A step that is not ``exact`` is a lower bound of the error.
    """
    direction, error = jax.lax.stop_gradient((direction, error))
    size, length = (trees.norm(v).astype(error.dtype) for v in (units, direction))
    measure = _newton_steps.longest(direction, units).astype(error.dtype)
    if not exact:
        measure = jnp.maximum(measure, known.measure)
    # this step gives a lower bound of the Jacobian's norm
    stiff = jnp.maximum(known.stiff, error / jnp.where(length > 0, length, 1))
    noise = _noise(error, stiff, size, eps)
    quiet = (noise <= ROUNDING) & (measure <= LONG)
    scale = jnp.where(error > 0, _newton_steps.scale_of(error, measure, eps), known.scale)
    new = known._replace(scale=scale, rounding=jnp.where(quiet, error, 0), measure=measure, noise=noise)
    return trees.where(fresh, new, known)


def _path(
    direction: Tree, cauchy: Any, decrease: Any, merit: Scalar, radius: Scalar, usable: Any, far: Any
) -> tuple[Any, Any]:
    """Return the point of the dogleg path at a distance, and the predicted decrease of half the squared norm."""
    near = trees.norm(cauchy).astype(radius.dtype)
    # on the first leg, a fraction of the steepest-descent step
    outside = near > radius
    # an infinite radius would give a derivative of NaN
    share = jnp.where(outside, radius, 1) / jnp.where(outside, near, 1)
    limit = jnp.where(jnp.isfinite(radius), radius, 0)
    leg = trees.scale(share, cauchy)
    leg_decrease = decrease * share * (1 - 0.5 * share)
    along = trees.sub(trees.where(usable, direction, cauchy), cauchy)
    a, b = trees.vdot(along, along).astype(radius.dtype), trees.vdot(cauchy, along).astype(radius.dtype)
    room = jnp.maximum(limit**2 - near**2, 0)
    root = jnp.sqrt(jnp.where(b**2 + a * room > 0, b**2 + a * room, 1))
    t = jnp.where(b > 0, room / jnp.where(b > 0, b + root, 1), (root - b) / jnp.where(a > 0, a, 1))
    t = jax.lax.stop_gradient(jnp.where(a > 0, jnp.clip(t, 0, 1), 0))
    second = usable & (near < radius) & (far > radius)
    left = jnp.maximum(merit - 0.5 * decrease, 0)
    move = trees.where(second, trees.axpy(t, along, cauchy), leg)
    return move, jnp.where(second, merit - (1 - t) ** 2 * left, leg_decrease)
