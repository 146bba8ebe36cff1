"""The loop that drives every solver of dini."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import trees
from .problems import FixedPoint, Minimize, Root
from .protocols import AnyProblem, AnySolver, Tolerant
from .status import Status
from .trees import Tree
from .verification import _equations, _residuals
from .verification._minimum import Finding, examiner

#: a solver for which only rounding errors are left may be so many times above its tolerance and the estimated rounding
#: error level: a point further above is not a solution
ROUNDED = 1e3
#: steps before a run that has not ended is looked at; the next time it is after twice as many
CHECK = 50
#: a refusal makes the tolerance at most so many times smaller
MOST = 100.0
#: where a minimizer begins again from a lower point, the tolerance is so many times smaller
AGAIN = 10.0
#: a result that has been refused so often is none
REFUSALS = 5
#: how steps that were asked for may end
_NO_FAILURE = (Status.RUNNING, Status.MAX_STEPS, Status.STALLED, Status.STEP_TOO_SMALL)


class Outcome(NamedTuple):
    """What a loop leaves behind.

    ``best`` is the point of the smallest error so far and that error, where the solver's steps may make it worse.
    ``tol`` is what the error was compared with: infinity where so many steps were asked for. ``value`` is the problem's
    objective at ``x``, where the steps have left it behind.
    """

    x: Tree
    state: Any
    steps: Any
    status: Any
    error: Any
    history: Any = None
    best: Any = None
    tol: Any = None
    value: Any = None


def tolerances(solver: Tolerant, x: Tree) -> tuple[Any, Any]:
    """Return the solver's relative and absolute tolerance.

    Where neither is given the relative one is the square root of the unit roundoff of ``x``; an absolute one alone is
    all that counts. A solver of the user's may have a field ``tol``, which is absolute.
    """
    rtol, atol = solver.rtol, solver.atol
    atol = getattr(solver, "tol", None) if rtol is None and atol is None else atol
    if rtol is None:
        rtol = trees.eps(x) ** 0.5 if atol is None else 0.0
    return rtol, 0.0 if atol is None else atol


def accuracy(solver: Tolerant, x: Tree) -> Any:
    """Return the relative accuracy that is asked of a solver; an absolute tolerance alone stands for one."""
    rtol, atol = tolerances(solver, x)
    return jnp.where(jnp.asarray(rtol) > 0, rtol, atol)


def threshold(solver: Tolerant, x: Tree, scales: Any = None) -> Any:
    """Return what the error is compared with.

    ``scales`` is what the state knows of the problem's units (see ``solvers/judge/_units.py``): the scale that
    ``rtol`` multiplies and the rounding error level, below which an error cannot be reduced. Without it
    the error is taken for a relative one.
    """
    rtol, atol = tolerances(solver, x)
    if scales is None:
        return jnp.asarray(rtol) + atol
    scale, rounding = scales[0], scales[1]
    return jnp.where(jnp.asarray(rtol) > 0, jnp.maximum(rtol * scale + atol, rounding), atol)


def met(solver: Tolerant, x: Tree, error: Any, scales: Any = None) -> Any:
    """Return whether a solver may keep its point, since that meets the stopping test, if there is one."""
    return (error <= threshold(solver, x, scales)) & solver.stops


def asked(solver: Tolerant, x: Tree) -> Any:
    """Return whether there is a stopping test: with tolerances of zero, nothing has converged."""
    rtol, atol = tolerances(solver, x)
    return (jnp.asarray(rtol) > 0) | (jnp.asarray(atol) > 0)


def allowed(solver: Tolerant, x: Tree, state: Any) -> Any:
    """Return what the error of a state is compared with."""
    return threshold(solver, x, getattr(state, "scales", None))


def _status(
    solver: Tolerant, x: Tree, old: Any, state: Any, steps: Any, max_steps: int, share: Any = None
) -> jax.Array:
    own, tol = getattr(state, "status", None), allowed(solver, x, state)
    if share is not None:  # of the tolerance, after a verification has shown that the error was underestimated
        tol = share * tol
    status = jnp.where(steps >= max_steps, Status.MAX_STEPS, Status.RUNNING)
    if own is not None:
        # a solver sees when nothing is left but rounding: an end, and a solution if there is a test that is nearly met
        scales = getattr(state, "scales", None)
        rounding = 0 if scales is None else scales[1]
        near = asked(solver, x) & (state.error <= ROUNDED * jnp.maximum(tol, rounding))
        own = jnp.where((own == Status.CONVERGED) & ~near, Status.STALLED, own)
        status = jnp.where(own != Status.RUNNING, own, status)
    # infinity stands for an error that is not known yet, until one has been; beside an infinite scale it is one
    lost = jnp.isnan(state.error) | (jnp.isinf(state.error) & (jnp.isfinite(old.error) | ~jnp.isfinite(tol)))
    status = jnp.where(lost, Status.NONFINITE, status)
    done = (state.error <= tol) & jnp.isfinite(state.error)
    return jnp.where(done, Status.CONVERGED, status).astype(jnp.int32)


def _asked_for(end: Outcome) -> Outcome:
    """Return the outcome of steps that were asked for: a success, unless one of them failed.

    That the test is met before the last one, or that nothing moves any more, is no failure of these.
    """
    done = functools.reduce(jnp.logical_or, (end.status == status for status in _NO_FAILURE))
    status = jnp.where(done, Status.CONVERGED, end.status).astype(jnp.int32)
    return end._replace(status=status, tol=jnp.full((), jnp.inf, end.error.dtype))


def _judge(solver: AnySolver, now: Outcome, new: Outcome) -> Outcome:
    """Keep the best point beside a new one; an error that has grown by one over the unit roundoff has diverged."""
    lags = solver.error_before_step
    best, error = now.best
    better = new.error < error
    point = trees.where(better, now.x if lags else new.x, best)
    error = jnp.where(better, new.error, error)
    diverged = (new.status == Status.RUNNING) & (new.error > error / trees.eps(new.x))
    status = jnp.where(diverged, Status.DIVERGED, new.status).astype(jnp.int32)
    return new._replace(status=status, best=(point, error))


def _settle(outcome: Outcome) -> Outcome:
    """Return the best point where the solver failed after worse ones."""
    best, error = outcome.best
    worse = (outcome.status != Status.CONVERGED) & ~(outcome.error <= error)
    x = trees.where(worse, best, outcome.x)
    return outcome._replace(x=x, error=jnp.where(worse & jnp.isfinite(error), error, outcome.error), best=None)


def _start(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any) -> Outcome:
    state = solver.init(problem, x, *args)
    history = None if monitor is None else monitor.start(state)
    status = jnp.where(solver.max_steps > 0, Status.RUNNING, Status.MAX_STEPS).astype(jnp.int32)
    # the state of an earlier solve may have met the test
    status = jnp.where(state.error <= allowed(solver, x, state), Status.CONVERGED, status).astype(jnp.int32)
    return Outcome(x, state, jnp.zeros((), jnp.int32), status, state.error, history)


def _advance(
    problem: AnyProblem,
    solver: AnySolver,
    now: Outcome,
    args: tuple[Tree, ...],
    monitor: Any,
    max_steps: int,
    going: Any = None,
    share: Any = None,
) -> Outcome:
    """Take one step; ``going`` says whether it counts, where that is not what the status says."""
    x, state = solver.step(problem, now.x, now.state, *args)
    steps = now.steps + 1
    status = _status(solver, x, now.state, state, steps, max_steps, share)
    history = now.history
    if monitor is not None:
        # of a batch, lanes that are done take steps until all are: these are not observed
        seen = now.status == Status.RUNNING if going is None else going
        history = monitor.observe(history, jnp.where(seen, steps, 0), x, state)
        if monitor.stops:  # where the solve has not come to another end
            tested = (status == Status.RUNNING) | (status == Status.MAX_STEPS)
            may = tested if going is None else status != Status.NONFINITE
            status = jnp.where(may & monitor.stopped(history), Status.STOPPED, status).astype(jnp.int32)
    return Outcome(x, state, steps, status, state.error, history)


def begin(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any = None) -> Outcome:
    """Return where the loop of :func:`iterate` starts."""
    start = _start(problem, solver, x, args, monitor)
    return start if solver.monotone else start._replace(best=(x, start.error))


def proceed(
    problem: AnyProblem,
    solver: AnySolver,
    now: Outcome,
    args: tuple[Tree, ...],
    monitor: Any = None,
    share: Any = None,
) -> Outcome:
    """Return the loop of :func:`iterate` after one step more, to a ``share`` of the tolerance."""
    new = _advance(problem, solver, now, args, monitor, solver.max_steps, share=share)
    keep = new.status == Status.NONFINITE
    if solver.error_before_step and not problem.composite:
        # the error is that of the point before the step: the next one is better where errors have been seen to fall
        keep |= (new.status == Status.CONVERGED) & (~(new.error < now.error) | jnp.isinf(now.error))
    new = new._replace(x=trees.where(keep, now.x, new.x))
    return new if solver.monotone else _judge(solver, now, new)


def conclude(problem: AnyProblem, solver: AnySolver, x: Tree, end: Outcome, args: tuple[Tree, ...]) -> Outcome:
    """Return what the loop of :func:`iterate` leaves behind, which has started at ``x``."""
    monotone = solver.monotone
    end = end._replace(value=_left_behind(problem, solver, end)) if monotone else _settle(end)
    end = _believed(problem, solver, end, args)
    rtol = tolerances(solver, end.x)[0]
    return end._replace(status=_residuals.status(problem, solver, rtol, x, end.x, end.status, args))


class Round(NamedTuple):
    """What is carried from one verification to the next.

    ``fresh``: the state has not been made yet. ``done``: the outcome is verified. ``limit``: the number of steps
    before the next verification. ``refused``: how many results have been. ``share``: that of the tolerance which the
    solver has to meet.
    """

    now: Outcome
    fresh: Any
    done: Any
    limit: Any
    refused: Any
    share: Any


def first_round(start: Outcome, *, fresh: bool = False) -> Round:
    """Return where the rounds begin."""
    flag = lambda value: jnp.full(start.status.shape, value)
    none = jnp.zeros_like(start.steps)
    return Round(start, flag(fresh), flag(False), none + CHECK, none, jnp.ones_like(start.error))


def skipped(now: Round, skip: Any) -> Round:
    """Return the rounds where nothing is to be done where ``skip`` holds."""
    status = jnp.where(skip, Status.CONVERGED, now.now.status).astype(jnp.int32)
    return now._replace(now=now.now._replace(status=status), done=now.done | skip)


def verified(
    problem: AnyProblem, solver: AnySolver, examine: Callable[..., Finding] | None, now: Round, args: tuple[Tree, ...]
) -> Round:
    """Return what is left of an outcome after its verification: its status, or what the solver continues with.

    A result is refused where a lower point is shown, or an element that is wrong relative to its own size. Where a
    Newton step shows the lower point, a solver in scaled variables has underestimated its error, and continues to as
    much smaller a tolerance, :data:`MOST` times at most; elsewhere it begins again from the point that was found. The
    :data:`REFUSALS`-th time, and where no step is left, the outcome is ``NO_MINIMUM``, of equations ``STALLED``. A run
    that has not ended is looked at after :data:`CHECK` steps, then after twice as many: where the objective decreases
    without bound, it has ``DIVERGED``.
    """
    if examine is None:
        return now._replace(done=now.now.status != Status.RUNNING)
    end = now.now
    finite = trees.all_finite(end.x)
    claimed = (end.status == Status.CONVERGED) & ~now.done & finite
    late = (end.status == Status.RUNNING) & (end.steps > 0) & ~now.fresh
    largest = getattr(end.state, "extent", None) if solver.scales_unknowns else None
    seen = examine(end.x, claimed, late & finite, now.fresh, largest)
    lower = claimed & seen.lower
    again = lower & (now.refused + 1 < REFUSALS) & (end.steps < solver.max_steps)
    equations = isinstance(problem, FixedPoint | Root)
    refusal = Status.STALLED if equations else Status.NO_MINIMUM
    status = jnp.where(lower, jnp.where(again, Status.RUNNING, refusal), end.status)
    looked = claimed | (late & finite)
    status = jnp.where(looked & seen.unbounded & ~lower, Status.DIVERGED, status).astype(jnp.int32)
    share, begins = now.share, again | now.fresh
    if solver.scales_unknowns:
        goes_on = again & (seen.missed > 0)
        # a solver that begins again knows no curvature: near a saddle point its first step underestimates the error
        smaller = jnp.where(goes_on, jnp.clip(seen.missed, 1, MOST), 1 if equations else AGAIN).astype(share.dtype)
        share = jnp.where(again, share / smaller, share)
        begins &= ~goes_on
    x = trees.where(begins & again, seen.point, end.x)
    state = jax.lax.cond(begins, lambda: solver.begin(problem, x, seen.scales, args), lambda: end.state)
    error = jnp.where(begins, state.error, end.error)
    best = None if end.best is None else trees.where(begins, (x, error), end.best)
    end = end._replace(x=x, state=state, status=status, error=error, best=best)
    limit = jnp.where(late, 2 * now.limit, now.limit)
    fresh = jnp.zeros_like(now.fresh)
    refused = now.refused + lower.astype(now.refused.dtype)
    return Round(end, fresh, status != Status.RUNNING, limit, refused, share)


def verifier(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...]) -> Callable[..., Finding] | None:
    """Return what examines the points of a solve that starts at ``x``, or ``None`` where nothing can be seen."""
    if isinstance(problem, FixedPoint | Root):
        return None if solver.tests_elements else _equations.examiner(problem, tolerances(solver, x), x, args)
    return examiner(problem, tolerances(solver, x)[0], x, args) if Minimize in solver.solves else None


def _left_behind(problem: AnyProblem, solver: AnySolver, end: Outcome) -> Any:
    """Return the objective at the last point of a solver whose state belongs to it, or ``None``."""
    evaluated = not isinstance(solver.max_steps, int) or solver.max_steps > 0
    return solver.last_value(problem, end.state) if evaluated else None


def _believed(problem: Any, solver: AnySolver, end: Outcome, args: tuple[Tree, ...]) -> Outcome:
    """Return the outcome with the status of a failure where the point itself shows that the test meant nothing.

    A gradient can vanish where an element of the point is infinite. A fixed point's residual is the difference of two
    points: where these are so large that their rounding errors exceed a thousand times the tolerance, it vanishes for
    any map.
    And an objective that is NaN may have a gradient: solvers that use only the gradient are corrected here.
    """
    finite = trees.all_finite(end.x)
    if solver.gradient_only:
        finite &= jnp.isfinite(problem.value(end.x, *args))
    status = jnp.where(finite, end.status, Status.NONFINITE)
    if isinstance(problem, FixedPoint):
        tol, eps = allowed(solver, end.x, end.state), trees.eps(end.x)
        size = trees.max_abs(end.x)
        # without a scale, a residual of zero is one of a map that moves the point by less than its rounding, which
        # zero does not have
        lost = asked(solver, end.x) & (end.error <= 0) & (size > 0)
        rounded = jnp.where(tol > 0, eps * size > 1e3 * tol, lost)
        if hasattr(end.state, "sizes"):  # elements have their own sizes, and the norm of all is not informative
            rounded &= trees.max_abs(end.state.sizes) == 0
        status = jnp.where(rounded, Status.DIVERGED, status)
    status = jnp.where((end.status == Status.CONVERGED) | ~trees.all_finite(end.x), status, end.status)
    status = status.astype(jnp.int32)
    return end._replace(status=status, tol=allowed(solver, end.x, end.state) if end.tol is None else end.tol)


def iterate(
    problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any = None, skip: Any = None
) -> Outcome:
    """Run the solver until its stopping test is met and the result is verified, or it fails.

    A step that makes the optimality measure NaN or infinite is not taken: the last finite point is returned. A solver
    whose steps may make the point worse returns the best one when it fails. A solver for a fixed number of steps
    (:class:`dini.solvers.shared._resumed.Counted`) takes these. Where ``skip`` holds nothing is done.
    """
    if solver.steps_to_take is not None:
        return _take(problem, solver, x, args, monitor)
    examine = verifier(problem, solver, x, args)
    # scales come from the first examination, so that products with the Hessian are compiled once
    scaled = solver.scales_unknowns and examine is not None
    start = _blank(problem, solver, x, args, monitor) if scaled else begin(problem, solver, x, args, monitor)

    def body(now: Round) -> Round:
        now = verified(problem, solver, examine, now, args)
        share = now.share if solver.scales_unknowns else None
        going = lambda end: (end.status == Status.RUNNING) & (end.steps < now.limit)
        if examine is None:
            going = lambda end: end.status == Status.RUNNING
        end = jax.lax.while_loop(going, lambda end: proceed(problem, solver, end, args, monitor, share), now.now)
        failed = (end.status != Status.RUNNING) & (end.status != Status.CONVERGED)
        return now._replace(now=end, done=now.done | failed)

    rounds = first_round(start, fresh=scaled)
    rounds = rounds if skip is None else skipped(rounds, skip)
    # where nothing can be examined, one round is all
    end = body(rounds) if examine is None else jax.lax.while_loop(lambda now: ~now.done, body, rounds)
    return conclude(problem, solver, x, end.now, args)


def _blank(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any) -> Outcome:
    """Return the outcome before the first step, whose state the first examination makes."""
    scales = jax.tree.map(jnp.ones_like, x)
    shapes = jax.eval_shape(lambda: solver.begin(problem, x, scales, args))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    history = None if monitor is None else monitor.start(state)
    status = jnp.where(solver.max_steps > 0, Status.RUNNING, Status.MAX_STEPS).astype(jnp.int32)
    start = Outcome(x, state, jnp.zeros((), jnp.int32), status, jnp.full_like(state.error, jnp.inf), history)
    return start if solver.monotone else start._replace(best=(x, start.error))


def _going(now: Outcome) -> jax.Array:
    """Return whether the next one of a fixed number of steps is taken."""
    return (now.status != Status.NONFINITE) & (now.status != Status.STOPPED)


def _take(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any) -> Outcome:
    """Take so many steps, whatever a test says; one that is not finite is not taken, and the last."""
    total: Any = solver.steps_to_take

    def body(now: Outcome) -> Outcome:
        going = _going(now) & (now.steps < total)
        new = _advance(problem, solver, now, args, monitor, total, going)
        return new._replace(x=trees.where(new.status == Status.NONFINITE, now.x, new.x))

    start = _start(problem, solver, x, args, monitor)
    end = jax.lax.while_loop(lambda now: _going(now) & (now.steps < total), body, start)
    return _believed(problem, solver, _asked_for(end), args)


def _differentiable(
    problem: AnyProblem, solver: AnySolver, args: tuple[Tree, ...], monitor: Any, steps: int | None
) -> tuple[int, Callable[[Outcome], Outcome]]:
    """Return the limit on the number of steps, and one step whose derivative may be taken."""
    total = solver.max_steps if steps is None else steps
    taken = solver if steps is None else solver.fixed_steps()

    def advance(now: Outcome) -> Outcome:
        new = _advance(problem, taken, now, args, monitor, total, None if steps is None else jnp.asarray(True))
        # nothing depends on how near the points are; reverse mode would divide by it
        return new._replace(state=new.state._replace(error=jax.lax.stop_gradient(new.error)))

    return total, advance


def replay(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], *, steps: int | None = None) -> Any:
    """Return the point of :func:`iterate_differentiably`, from one loop, which forward mode alone can differentiate."""
    total, advance = _differentiable(problem, solver, args, None, steps)
    start = _start(problem, solver, x, args, None)
    if steps is None:
        return jax.lax.while_loop(lambda now: now.status == Status.RUNNING, advance, start).x
    return jax.lax.fori_loop(0, total, lambda _, now: advance(now), start).x


def iterate_differentiably(
    problem: AnyProblem,
    solver: AnySolver,
    x: Tree,
    args: tuple[Tree, ...],
    monitor: Any = None,
    *,
    steps: int | None = None,
    checkpoint: bool = True,
) -> Outcome:
    """Run the solver in loops of fixed length, which reverse mode can differentiate.

    Without ``steps`` the stopping test applies and the steps after it are skipped. With ``steps`` exactly so many are
    taken. With ``checkpoint``, about ``2 * sqrt(n)`` states are kept instead of ``n``.
    """
    total, advance = _differentiable(problem, solver, args, monitor, steps)

    def running(one: Callable[[Outcome], Outcome]) -> Callable[[Outcome, Any], tuple[Outcome, None]]:
        """Skip what comes after the end; a fixed number of steps needs no test, whose branches reverse mode stores."""
        if steps is not None and (monitor is None or not monitor.stops):
            return lambda now, _: (one(now), None)
        going = (lambda now: now.status == Status.RUNNING) if steps is None else _going
        return lambda now, _: (jax.lax.cond(going(now), one, lambda same: same, now), None)

    def ended(end: Outcome) -> Outcome:
        end = end if steps is None else _asked_for(end)
        checked = _believed(problem, solver, end._replace(x=jax.lax.stop_gradient(end.x)), jax.lax.stop_gradient(args))
        return end._replace(status=checked.status, tol=checked.tol)

    def repeat(one: Callable[[Outcome], Outcome], now: Outcome, times: int) -> Outcome:
        return jax.lax.scan(running(one), now, None, length=times)[0]

    start = _start(problem, solver, x, args, monitor)
    if not checkpoint:
        return ended(repeat(advance, start, total))
    inner = max(1, math.isqrt(total))
    chunk = jax.checkpoint(lambda now: repeat(advance, now, inner))
    if steps is None:  # the last chunk may run over, by steps that are skipped
        return ended(repeat(chunk, start, -(-total // inner)))
    end = repeat(chunk, start, total // inner)
    return ended(repeat(advance, end, total % inner) if total % inner else end)
