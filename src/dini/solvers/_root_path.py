"""What the Newton-like methods for equations share: a bent path, and a region in which it is followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..loop import met
from ..status import Status
from ._base import infinity, running


class State(NamedTuple):
    """Carried from step to step.

    The accepted point's residual and merit, the Newton-like direction there, the next trial step with the decrease that
    the linear model predicts, the radius; the steepest-descent end of the path and its decrease, once they were needed;
    and what the method remembers of Jacobians.
    """

    error: Any
    merit: Any
    residual: Any
    direction: Any
    move: Any
    predicted: Any
    radius: Any
    cauchy: Any
    decrease: Any
    bent: Any
    memory: Any
    steps: Any
    status: Any


class Event(NamedTuple):
    """What has just happened, for the method's memory: all but ``x`` and ``residual`` concern the last step."""

    x: Any
    residual: Any
    first: Any
    accept: Any
    needed: Any
    move: Any
    change: Any
    slow: Any


def start(x: Any, memory: Any) -> State:
    """Return the state before the first step, which only evaluates the function."""
    inf = infinity(x)
    zero, nothing = trees.zeros_like(x), jnp.zeros_like(inf)
    no = jnp.zeros((), bool)
    steps = jnp.zeros((), jnp.int32)
    return State(inf, inf, zero, zero, zero, nothing, inf, zero, nothing, no, memory, steps, running())


def advance(
    solver: Any,
    problem: Any,
    x: Any,
    state: State,
    args: tuple[Any, ...],
    direct: Callable[[Event, Any, Any], tuple[Any, Any, Any]],
) -> tuple[Any, State]:
    r"""Try one step.

    The trial is the direction ``p`` where it is shorter than the radius. Otherwise it is the point at that distance on
    the path from zero over the minimum of :math:`\|F + J s\|` along :math:`-J^\top F` to ``p`` (Powell's dogleg). It is
    accepted if :math:`\tfrac12\|F\|^2` falls by a small part of what the linear model promises.
    ``direct(event, direction, memory)`` returns the direction at the current point, the memory, and whether that
    direction deserves a trial in full although the last one failed.
    """
    dtype = state.error.dtype
    trial = trees.add(x, state.move)
    residual = problem.residual(trial, *args)
    size = trees.norm(residual).astype(dtype)
    merit = 0.5 * size**2
    first = state.steps == 0
    finite = jnp.isfinite(merit)
    accept = first | (finite & (merit <= state.merit - 1e-4 * state.predicted))
    error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
    now = trees.where(accept, trial, x)
    here = trees.where(accept, residual, state.residual)
    needed = accept & ~met(solver, x, error)
    change = trees.sub(residual, state.residual)
    slow = size > 0.3 * state.error
    event = Event(now, here, first, accept, needed, state.move, change, slow)
    direction, memory, renewed = direct(event, state.direction, state.memory)

    length = trees.norm(state.move).astype(dtype)
    ratio = (state.merit - merit) / jnp.where(state.predicted > 0, state.predicted, 1)
    # the cut that the parabola through the merits and the slope asks for
    bend = merit - state.merit + 2 * state.predicted
    cut = jnp.where(finite, jnp.clip(state.predicted / jnp.where(bend > 0, bend, 1), 0.1, 0.5), 0.1)
    radius = jnp.where(accept, state.radius, cut * length)
    radius = jnp.where(accept & (ratio >= 0.5), jnp.maximum(radius, 2 * length), radius)
    radius = jnp.where(first | renewed, jnp.inf, jax.lax.stop_gradient(radius)).astype(dtype)

    usable = trees.all_finite(direction)
    far = trees.norm(direction).astype(dtype)
    whole = usable & (far <= radius)
    running_on = ~met(solver, x, error)
    wanted = ~whole & running_on & ~(state.bent & ~accept)

    def descend(_: Any) -> tuple[Any, Any]:
        function = lambda u: problem.residual(u, *args)
        _, push = jax.linearize(function, now)
        gradient = jax.linear_transpose(push, now)(here)[0]
        squared = trees.vdot(gradient, gradient)
        image = push(gradient)
        curve = trees.vdot(image, image)
        long = jnp.where(curve > 0, squared / jnp.where(curve > 0, curve, 1), 0)
        return trees.scale(-long, gradient), (long * squared).astype(dtype)

    cauchy, decrease = jax.lax.cond(wanted, descend, lambda _: (state.cauchy, state.decrease), None)
    merit = jnp.where(accept, merit, state.merit)
    bent_move, bent_predicted = _path(direction, cauchy, decrease, merit, radius, usable, far)
    move = trees.where(whole, direction, bent_move)
    predicted = jnp.where(whole, merit, bent_predicted).astype(dtype)
    # no direction, and none downhill either
    stuck = running_on & ~usable & ~(decrease > trees.eps(x) * 2 * merit)
    status = jnp.where(stuck, Status.SINGULAR, state.status)
    tiny = ~accept & (trees.norm(move) <= 1e-2 * trees.eps(x) * (1 + trees.norm(x)))
    status = jnp.where(tiny & ~stuck, Status.STALLED, status).astype(jnp.int32)
    bent = jnp.where(accept, wanted, state.bent | wanted)
    steps = state.steps + 1
    return now, State(
        error, merit, here, direction, move, predicted, radius, cauchy, decrease, bent, memory, steps, status
    )


def _path(
    direction: Any, cauchy: Any, decrease: Any, merit: Any, radius: Any, usable: Any, far: Any
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
