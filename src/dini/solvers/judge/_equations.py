"""What the Newton-like methods for equations share: a bent path, and a region in which it is followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...loop import met
from ...status import Status
from ...trees import Scalar, Tree
from .._base import infinity, running
from . import _newton_steps
from ._margins import DECREASE, LONG, NOISE, ROUNDING, SHORT
from ._units import Units

#: the share of the curvatures of the last step that the one before leaves
_MEMORY = 0.3


class State(NamedTuple):
    """Carried from step to step.

    The accepted point's residual and merit, the Newton-like direction there, the next trial step with the decrease that
    the linear model predicts, the radius; the steepest-descent end of the path and its decrease, once they were needed;
    what the method remembers of Jacobians; and what is known of the units.
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
    """Return what is known with a curvature that is seen elsewhere."""
    stiff, error = jax.lax.stop_gradient((stiff, error))
    larger = stiff > known.stiff
    stiff = jnp.maximum(stiff, known.stiff)
    noise = _noise(error, stiff, trees.norm(units).astype(error.dtype), eps)
    quiet = (noise <= ROUNDING) & (known.measure <= LONG) & (known.moved <= LONG)
    noise, floor = (
        jnp.where(larger, a, b) for a, b in ((noise, known.noise), (jnp.where(quiet, error, 0), known.floor))
    )
    return known._replace(stiff=stiff, noise=noise, floor=floor)


def rounded(known: Units, error: Scalar, eps: Any) -> Any:
    """Return whether rounding alone can have made a step from a point fail.

    Where the Jacobian is singular at a root, ``F`` has become rounding of what it was long before steps are short.
    """
    quiet = (known.noise <= NOISE) | (error <= 100 * eps * known.steepest)
    return quiet & (known.measure <= eps**0.375)


def settled(known: Units, error: Scalar, eps: Any) -> Any:
    """Return whether a point from which no step succeeds is a root."""
    return rounded(known, error, eps) | ((known.noise <= NOISE) & (known.measure <= LONG))


class Event(NamedTuple):
    """What has just happened, for the method's memory: all but ``x`` and ``residual`` concern the last step.

    ``doubtful`` tells that the point would meet the stopping test if the last step had not been so long: only a
    Jacobian at this point shows whether it is a root or a place where ``F`` levels off.
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


class Seen(NamedTuple):
    """What a trial shows, and what was decided of it: the point from which the method goes on.

    ``brief`` is what the last step tells of the units, ``doubtful`` the scales as if it had not been so long, ``old``
    what was known before.
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
    brief: Units
    doubtful: Any


class Way(NamedTuple):
    """The next move and the decrease that it promises, the bent path's first end, and whether there is a direction."""

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
        _newton_steps.nowhere(x),
        Units.unknown(x),
        running(),
    )


def advance(
    solver: Any,
    problem: Any,
    x: Tree,
    state: State,
    args: tuple[Tree, ...],
    direct: Callable[[Event, Any, Any], tuple[Any, Any, Any, Any]],
    *,
    exact: bool = True,
) -> tuple[Any, State]:
    r"""Try one step.

    The trial is the direction ``p`` where it is shorter than the radius. Otherwise it is the point at that distance on
    the path from zero over the minimum of :math:`\|F + J s\|` along :math:`-J^\top F` to ``p`` (Powell's dogleg). It is
    accepted if :math:`\tfrac12\|F\|^2` falls by a small part of what the linear model promises.
    ``direct(event, direction, memory)`` returns the direction at the current point, the memory, whether that direction
    deserves a trial in full although the last one failed, and whether it solves the linear equations at this point.
    """
    trial = trees.add(x, state.move)
    seen = decided(state, x, trial, problem.residual(trial, *args), exact=exact)
    now, here, error, eps = seen.now, seen.here, seen.error, trees.eps(x)
    needed = seen.accept & ~met(solver, x, error, seen.brief)
    doubtful = needed & met(solver, x, error, seen.doubtful)
    slow = seen.size > 0.3 * state.error
    event = Event(now, here, seen.first, seen.accept, needed, state.move, seen.change, slow, doubtful)
    direction, memory, renewed, fresh = direct(event, state.direction, state.memory)
    known = before_step(seen.brief, fresh, direction, seen.units, error, eps, exact=exact)
    radius = jnp.where(seen.first | renewed, jnp.inf, seen.radius).astype(error.dtype)
    running_on = ~met(solver, x, error, known)
    way = _bent(problem, state, seen, direction, radius, running_on, args)
    # no direction, and none downhill either
    stuck = running_on & ~way.usable & ~(way.decrease > eps * 2 * seen.merit)
    status = _ended(state, seen, known, direction, way.move, stuck, eps)
    runs = (error <= eps * known.steepest) & _newton_steps.run_away(now, seen.extent, state.move, direction)
    status = jnp.where(seen.accept & runs & running_on, Status.DIVERGED, status).astype(jnp.int32)
    return now, State(
        error, seen.merit, here, direction, way.move, way.predicted, radius, way.cauchy, way.decrease, way.bent, memory,
        state.steps + 1, seen.extent, known.packed(error.dtype), status,
    )  # fmt: skip


def decided(state: State, x: Tree, trial: Tree, residual: Tree, *, exact: bool) -> Seen:
    r"""Return what becomes of a trial: it is taken if :math:`\tfrac12\|F\|^2` falls by a part of what was predicted."""
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
    brief, doubtful = after_step(old, accept, first, state.move, change, units, error, state.error, eps, each=exact)
    # the cut that the parabola through the merits and the slope asks for
    length = trees.norm(state.move).astype(error.dtype)
    ratio = (state.merit - merit) / jnp.where(state.predicted > 0, state.predicted, 1)
    bend = merit - state.merit + 2 * state.predicted
    cut = jnp.where(finite, jnp.clip(state.predicted / jnp.where(bend > 0, bend, 1), 0.1, 0.5), 0.1)
    radius = jnp.where(accept, state.radius, cut * length)
    radius = jax.lax.stop_gradient(jnp.where(accept & (ratio >= 0.5), jnp.maximum(radius, 2 * length), radius))
    merit = jnp.where(accept, merit, state.merit)
    return Seen(now, here, change, size, first, accept, error, merit, extent, units, radius, old, brief, doubtful)


def _bent(
    problem: Any, state: State, seen: Seen, direction: Tree, radius: Any, running_on: Any, args: tuple[Tree, ...]
) -> Way:
    """Return the direction where it is in the region, elsewhere where the bent path leaves that."""
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
    return Way(move, predicted, cauchy, decrease, jnp.where(seen.accept, wanted, state.bent | wanted), usable)


def _ended(state: State, seen: Seen, known: Units, direction: Tree, move: Tree, stuck: Any, eps: Any) -> Any:
    """Return the status after a step: where no step succeeds any more, the point is a root or the method stalled."""
    vanished = seen.error <= 100 * eps * known.steepest
    status = jnp.where(stuck, jnp.where(vanished, Status.CONVERGED, Status.SINGULAR), state.status)
    tiny = ~seen.accept & ~stuck & (_newton_steps.beside(move, seen.units, direction) <= SHORT * eps)
    root = settled(known, seen.error, eps)
    status = jnp.where(tiny, jnp.where(root, Status.CONVERGED, Status.STALLED), status)
    return jnp.where(~seen.accept & rounded(seen.old, seen.error, eps), Status.CONVERGED, status)


def _noise(error: Scalar, stiff: Any, size: Any, eps: Any) -> Any:
    """Return an error in units of its rounding, at a point of some size; infinity where no curvature is known."""
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
    """Return what a step that has been taken shows, and scales as they were if it had not been so long.

    ``units`` are the sizes of the unknown's elements, ``error`` and ``before`` the norms of ``F`` now and before the
    step, ``change`` what the step has done to ``F``, ``each`` whether the equations may have units of their own.
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
    # what the directions of little curvature say, however short the last step was
    apparent = jnp.where(soft > 0, soft * error / jnp.where(size > 0, size, 1), jnp.inf)
    left = jnp.where(taken, jnp.maximum(_newton_steps.left_after(moved, ratio, each=each), apparent), jnp.inf)
    noise = _noise(error, stiff, size, eps)
    quiet, long = noise <= ROUNDING, moved > LONG
    steepest = jnp.where(jnp.isfinite(error), jnp.maximum(old.steepest, error), old.steepest)
    floor = jnp.where(quiet, error, 0)
    scale = _newton_steps.scale_of(error, left, eps)
    new = old._replace(
        scale=scale, floor=jnp.where(long, 0, floor), soft=soft, stiff=stiff, measure=apparent, noise=noise,
        steepest=steepest, moved=moved,
    )  # fmt: skip
    known = trees.where(accept, new, old)
    # a root: what its error is beside, where the solver asks
    known = known._replace(scale=jnp.where(error > 0, known.scale, size * jnp.where(stiff > 0, stiff, 1)))
    return known, jnp.where(long, jnp.stack([_newton_steps.scale_of(error, apparent, eps), floor]), 0)


def before_step(
    known: Units, fresh: Any, direction: Tree, units: Any, error: Scalar, eps: Any, *, exact: bool = True
) -> Units:
    """Return what a step shows that is to be taken, where it is made of the Jacobian at this very point, ``fresh``.

    One that is not ``exact`` says the least that there is to do.
    """
    direction, error = jax.lax.stop_gradient((direction, error))
    size, length = (trees.norm(v).astype(error.dtype) for v in (units, direction))
    measure = _newton_steps.longest(direction, units).astype(error.dtype)
    if not exact:
        measure = jnp.maximum(measure, known.measure)
    # of the Jacobian's size the least that this step shows
    stiff = jnp.maximum(known.stiff, error / jnp.where(length > 0, length, 1))
    noise = _noise(error, stiff, size, eps)
    quiet = (noise <= ROUNDING) & (measure <= LONG)
    scale = jnp.where(error > 0, _newton_steps.scale_of(error, measure, eps), known.scale)
    new = known._replace(scale=scale, floor=jnp.where(quiet, error, 0), measure=measure, noise=noise)
    return trees.where(fresh, new, known)


def _path(
    direction: Tree, cauchy: Any, decrease: Any, merit: Scalar, radius: Scalar, usable: Any, far: Any
) -> tuple[Any, Any]:
    """Return the point of the path at a distance, and the decrease of half the squared norm that it promises."""
    near = trees.norm(cauchy).astype(radius.dtype)
    # on the first leg a share of the way to the minimum along the gradient
    outside = near > radius
    # an infinite radius must not meet a derivative
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
