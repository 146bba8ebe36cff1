"""The loop that drives every solver of dini."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import trees
from .status import Status


class Outcome(NamedTuple):
    """What a loop leaves behind."""

    x: Any
    state: Any
    steps: Any
    status: Any
    error: Any
    history: Any = None


def tolerance(solver: Any, x: Any) -> Any:
    """Return the solver's tolerance; by default the square root of the unit roundoff of ``x``."""
    return trees.eps(x) ** 0.5 if solver.tol is None else solver.tol


def _status(old: Any, state: Any, steps: Any, tol: Any, max_steps: int) -> jax.Array:
    own = getattr(state, "status", None)
    status = jnp.where(steps >= max_steps, Status.MAX_STEPS, Status.RUNNING)
    if own is not None:
        status = jnp.where(own != Status.RUNNING, own, status)
    # infinity stands for an error that is not known yet, until one has been
    lost = jnp.isnan(state.error) | (jnp.isinf(state.error) & jnp.isfinite(old.error))
    status = jnp.where(lost, Status.NONFINITE, status)
    return jnp.where(state.error <= tol, Status.CONVERGED, status).astype(jnp.int32)


def _start(problem: Any, solver: Any, x: Any, args: tuple[Any, ...], monitor: Any) -> Outcome:
    state = solver.init(problem, x, *args)
    history = None if monitor is None else monitor.start(state)
    status = jnp.where(solver.max_steps > 0, Status.RUNNING, Status.MAX_STEPS).astype(jnp.int32)
    return Outcome(x, state, jnp.zeros((), jnp.int32), status, state.error, history)


def _advance(problem: Any, solver: Any, now: Outcome, args: tuple[Any, ...], monitor: Any, max_steps: int) -> Outcome:
    x, state = solver.step(problem, now.x, now.state, *args)
    steps = now.steps + 1
    status = _status(now.state, state, steps, tolerance(solver, x), max_steps)
    history = None if monitor is None else monitor.observe(now.history, steps, x, state)
    return Outcome(x, state, steps, status, state.error, history)


def iterate(problem: Any, solver: Any, x: Any, args: tuple[Any, ...], monitor: Any = None) -> Outcome:
    """Run the solver until its stopping test is met or it fails.

    A step that makes the optimality measure NaN or infinite is not taken: the last finite point is returned.
    """

    def body(now: Outcome) -> Outcome:
        new = _advance(problem, solver, now, args, monitor, solver.max_steps)
        return new._replace(x=trees.where(new.status == Status.NONFINITE, now.x, new.x))

    return jax.lax.while_loop(lambda now: now.status == Status.RUNNING, body, _start(problem, solver, x, args, monitor))


def iterate_differentiably(
    problem: Any,
    solver: Any,
    x: Any,
    args: tuple[Any, ...],
    monitor: Any = None,
    *,
    steps: int | None = None,
    checkpoint: bool = True,
) -> Outcome:
    """Run the solver in loops of fixed length, which reverse mode can differentiate.

    Without ``steps`` the stopping test applies and the steps after it are skipped. With ``steps`` exactly so many are
    taken. With ``checkpoint``, about ``2 * sqrt(n)`` states are kept instead of ``n``.
    """
    total = solver.max_steps if steps is None else steps

    def advance(now: Outcome) -> Outcome:
        return _advance(problem, solver, now, args, monitor, total)

    def running(one: Callable[[Outcome], Outcome]) -> Callable[[Outcome, Any], tuple[Outcome, None]]:
        """Skip what comes after the end; a fixed number of steps needs no test, whose branches reverse mode stores."""
        if steps is not None:
            return lambda now, _: (one(now), None)
        return lambda now, _: (jax.lax.cond(now.status == Status.RUNNING, one, lambda same: same, now), None)

    def repeat(one: Callable[[Outcome], Outcome], now: Outcome, times: int) -> Outcome:
        return jax.lax.scan(running(one), now, None, length=times)[0]

    start = _start(problem, solver, x, args, monitor)
    if not checkpoint:
        return repeat(advance, start, total)
    inner = max(1, math.isqrt(total))
    chunk = jax.checkpoint(lambda now: repeat(advance, now, inner))
    if steps is None:  # the last chunk may run over, by steps that are skipped
        return repeat(chunk, start, -(-total // inner))
    end = repeat(chunk, start, total // inner)
    return repeat(advance, end, total % inner) if total % inner else end
