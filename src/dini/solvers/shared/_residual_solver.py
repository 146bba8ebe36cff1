"""The common step of the damped Gauss-Newton methods."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.settings import require_choice
from ...linear._small import SMALL, product
from ...loop import met, tolerances
from ...problems import FixedPoint, LeastSquares, Root
from ...protocols import AnyProblem, Residuals
from ...sets._boxes import has_bounds
from ...status import Status
from ...trees import Scalar, Tree
from ...trees.products import dot
from ...verification._residuals import NEARLY_NOTHING, PROMISE
from .._base import Solver, infinity, running
from ..judge import _newton_steps
from ..judge._margins import DECREASE, PATIENCE, SHORT, doubtful_difference, relative_rounding
from ..judge._units import Units
from ._residual_model import ALGEBRA, Model, Point, Space
from ._residual_units import diverging, doubted, failed_by_rounding, kept, known, promised_beyond, stalled_at_solution
from ._structured_secant import Secant

#: radius of the first trust region, in units of the scaled starting point
FIRST_RADIUS = 100.0
#: the factor on the old scale of a column at each accepted step
_KEPT = 0.95
#: scales within this factor of their mean are replaced by the mean
_LIKE = 10.0
#: the default for unknowns of up to this many numbers is a factorization
_DENSE = 2048


def default_algebra(name: str, size: int) -> Any:
    """Return the class for the linear algebra: by its name, or by the number of unknowns for ``"auto"``."""
    return ALGEBRA[("cholesky" if size <= _DENSE else "cg") if name == "auto" else name]


class State(NamedTuple):
    """The state: value and model of the accepted point, the control of the step lengths, the next trial."""

    error: Scalar
    value: Any
    gradient: Tree
    store: Any
    scale: Any
    control: Any
    move: Tree
    predicted: Any
    secant: Any
    idle: Scalar
    steps: Scalar
    extent: Any
    scales: Any
    status: Any


class Trial(NamedTuple):
    """An evaluated trial: its residuals, its error, whether all of it is finite, and the decrease of the value."""

    trial: Tree
    at: Point
    size: Scalar
    first: Any
    finite: Any
    actual: Any


class Verdict(NamedTuple):
    """The decision on a trial, and the point from which the method continues.

    ``ratio`` is that of actual to predicted decrease. ``step_scales`` are the scale and the rounding that the accepted
    step gives, ``old`` the estimates before, ``rest_error`` is that of :class:`Point`.
    """

    accept: Any
    ratio: Any
    u: Tree
    value: Any
    gradient: Tree
    error: Scalar
    extent: Any
    old: Units
    rest_error: Any
    step_scales: tuple[Any, Any]


class ResidualSolver(Solver):
    """Base of the damped Gauss-Newton methods: they differ in their control, a named tuple of scalars.

    One step evaluates the residuals at one trial point, accepts it or not by the ratio of actual to predicted decrease,
    and finds the next trial.
    """

    linear_solver: Any
    hessian: Literal["gauss-newton", "secant"] = "gauss-newton"

    solves = (LeastSquares, Root, FixedPoint)
    composite = True

    def check(self, problem: Residuals, x: Tree) -> None:
        """Raise unless the constraint, if there is one, consists of bounds."""
        super().check(problem, x)
        constraint = problem.constraint
        if constraint is not None and not has_bounds(constraint):
            raise TypeError(
                f"{self.name} supports bounds, such as dini.sets.Box: given the constraint {constraint.name}. "
                "Use ProximalGradient or ProjectedGradient."
            )

    def _check_settings(self, tol: Any = None) -> None:
        super()._check_settings(tol)
        require_choice(f"{self.name}'s linear_solver", self.linear_solver, ("auto", *ALGEBRA))

    def algebra(self, size: int) -> Any:
        """Return the class for the linear algebra with ``size`` unknowns."""
        return default_algebra(self.linear_solver, size)

    def _start(self, dtype: Any) -> Any:
        """Return the control before the first step."""
        raise NotImplementedError

    def _scale(self, scale: Any, norms: Any, accept: Any, first: Any) -> Any:
        """Return the scale of the unknowns after a trial, from the norms of the Jacobian's columns."""
        del first
        return _remembered(scale, norms, accept)

    def _judged(self, control: Any, accept: Any, ratio: Any, state: State) -> Any:
        """Return the control after a trial."""
        raise NotImplementedError

    def _propose(
        self, control: Any, model: Model, space: Space, u: Tree, first: Any, learned: Secant | None
    ) -> tuple[Any, Any, Any]:
        """Return the model's step, the move, which may have a correction of higher order, and the control."""
        raise NotImplementedError

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        space = self._space(problem, x, args)
        inf, zero = infinity(x), jnp.zeros_like(space.point)
        store = self.algebra(space.size).empty(space)
        control, nothing = self._start(space.dtype), jnp.zeros_like(inf)
        secant = Secant.empty(space.size, space.outputs, space.dtype) if self._secant(space) else None
        idle = jnp.stack([nothing, inf])
        steps, scales = jnp.zeros((), jnp.int32), Units.unknown(space.point)
        return State(inf, inf, zero, store, zero, control, zero, nothing, secant, idle, steps, zero, scales, running())

    def _secant(self, space: Space) -> bool:
        return self.hessian == "secant" and space.minimum and self.algebra(space.size) is ALGEBRA["cholesky"]

    def step(self, problem: Residuals, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the residuals at one trial point, and find the next."""
        space = self._space(problem, x, args)
        algebra = self.algebra(space.size)
        seen = look(space, state, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"])
        verdict = decided(space, state, seen)
        store, jacobian, solved = self._linearized(space, x, state, seen, verdict)
        u, gradient, first = verdict.u, verdict.gradient, seen.first
        # the largest norms of the last steps limit the steps where a column has become small
        norms = algebra.norms(store, gradient, space, u)
        scale = jax.lax.stop_gradient(self._scale(state.scale, norms, verdict.accept, first))
        control = jax.lax.stop_gradient(self._judged(state.control, verdict.accept, verdict.ratio, state))
        control = trees.where(first, state.control, control)
        model = algebra(store, gradient, _evened(scale), space.free(u, gradient), space, u)
        secant = None if state.secant is None else _secant(space, state, seen, verdict, store, jacobian)
        raw, step, move, control, curvature, secant = self._next(control, model, secant, space, u, first)
        # the decrease is predicted without the correction, which would increase the model
        predicted = -dot(gradient, step) - 0.5 * curvature
        learned = None if secant is None else (secant.used, scale)
        held, rest_error = model.masked(gradient), verdict.rest_error
        figures = held, raw, step, verdict.error, verdict.value, curvature
        now = known(space, u, verdict.extent, norms, *figures, verdict.old, rest_error, learned)
        # a step with more damping does not improve the estimates for the same point
        now = kept(now, verdict.accept, verdict.old)
        now = now._replace(
            scale=jnp.where(solved, verdict.step_scales[0], now.scale), rounding=jnp.where(solved, 0, now.rounding)
        )
        idle = _idle(state.idle, verdict.accept, seen.actual, verdict.error, verdict.value)
        status, stalled = ended(space, state, verdict, now, solved, raw, idle)
        status = jnp.where(jnp.isfinite(dot(move, move)), status, Status.SINGULAR).astype(jnp.int32)
        # a point with a larger predicted decrease is no solution, even if it meets the stopping test
        ends = status == Status.CONVERGED

        def beyond(_: Any) -> Any:
            free = space.yielding(u, gradient, norms)
            full = algebra(store, gradient, jnp.where(norms > 0, norms, 1), free, space, u)
            promised, columns = full.promised(norms)
            return promised_beyond(space, u, now.start, promised, columns, verdict.value, tolerances(self, x)[0])

        nothing = jnp.zeros((), space.dtype)
        left = jax.lax.cond(ends | met(self, x, verdict.error, now), beyond, lambda _: nothing, None)
        refused = jnp.where(stalled, Status.STALLED, state.status)
        status = jnp.where(ends & ~(left <= PROMISE), refused, status).astype(jnp.int32)
        return trees.where(verdict.accept, space.unravel(seen.trial), x), State(
            verdict.error, verdict.value, gradient, store, scale, control, move, predicted, secant, idle,
            state.steps + 1, verdict.extent, doubted(now, ~(left <= NEARLY_NOTHING)).packed(space.dtype), status,
        )  # fmt: skip

    def _linearized(self, space: Space, x: Tree, state: State, seen: Trial, verdict: Verdict) -> tuple[Any, Any, Any]:
        """Return the model's store at the accepted point, the Jacobian if it is stored, and whether neither is needed.

        They are not needed where the last step shows that the point is a solution.
        """
        algebra, at = self.algebra(space.size), seen.at
        keep = state.secant is not None

        def renew(_: Any) -> Any:
            jacobian = space.jacobian(seen.trial) if at.jacobian is None else at.jacobian
            return algebra.build(jacobian, at.residuals), jacobian if keep else None

        last = state.store, state.secant.jacobian if keep else None
        no = jnp.zeros((), bool)
        if at.jacobian is not None:
            return (*trees.where(verdict.accept, renew(None), last), no)
        if algebra is ALGEBRA["cg"]:
            return (*last, no)
        solved = met(self, x, verdict.error, verdict.step_scales)
        needed = verdict.accept & ~solved
        return (*jax.lax.cond(needed, renew, lambda _: last, None), solved)

    def _next(
        self, control: Any, model: Model, secant: Secant | None, space: Space, u: Tree, first: Any
    ) -> tuple[Any, Any, Any, Any, Any, Secant | None]:
        """Return the next step before and after it is clipped to the bounds, the move, the control and the rest.

        The rest is the curvature along the step, and the secant.
        """

        def finish(move: Tree) -> Any:
            return move if space.bounds is None else space.clip(u + move) - u

        def proposed(by: Model) -> Any:
            raw, move, after = self._propose(control, by, space, u, first, None if space.loss is not None else secant)
            return raw, finish(raw), finish(move), after

        plain = lambda _: proposed(model)
        if secant is None:
            raw, step, move, control = plain(None)
            return raw, step, move, control, model.curvature(step), None
        full = model.with_hessian(secant.matrix)
        raw, step, move, after = proposed(model.with_hessian(jnp.where(secant.used, secant.matrix, 0)))
        # where the estimate makes the matrix indefinite, the step is a Gauss-Newton step
        convex = jnp.isfinite(dot(move, move)) & (full.curvature(step) > 0) & (full.decrease(step) > 0)
        used = secant.used & convex
        last = raw, step, move, after
        raw, step, move, control = jax.lax.cond(secant.used & ~convex, plain, lambda _: last, None)
        curvatures = model.curvature(step), full.curvature(step)
        curvature = jnp.where(used, curvatures[1], curvatures[0])
        unused = -dot(model.gradient, step) - 0.5 * jnp.where(used, curvatures[0], curvatures[1])
        return raw, step, move, control, curvature, secant._replace(used=used, other=unused)

    def last_value(self, problem: AnyProblem, state: State) -> Any:
        """Return the objective at the last accepted point."""
        del problem
        return state.value

    def _space(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> Space:
        return Space(problem, x, args)


def look(space: Space, state: State, *, eager: bool) -> Trial:
    """Evaluate the residuals at the next trial point, ``eager`` their Jacobian as well."""
    trial = space.clip(space.point + state.move)
    at = space.evaluate(trial, eager=eager)
    finite = jnp.isfinite(at.value) & jnp.isfinite(dot(at.gradient, at.gradient))
    return Trial(trial, at, space.error(at, trial), state.steps == 0, finite, state.value - at.value)


def decided(space: Space, state: State, seen: Trial) -> Verdict:
    """Return the decision on a trial.

    It is accepted where the decrease is at least a small fraction of the predicted one. A step whose decrease is below
    rounding is accepted only if the optimality error decreases: to half where the value increases by more than
    rounding, which is possible where the value is a difference of large numbers.
    """
    at, size, actual, predicted = seen.at, seen.size, seen.actual, state.predicted
    eps = jnp.finfo(space.dtype).eps
    rounding, doubtful = relative_rounding(at.value), doubtful_difference(at.value)
    drowned, rises = actual <= rounding, actual < -rounding
    shrinks = (size < jnp.where(rises, 0.5, 1) * state.error) & (actual >= -doubtful)
    # a step without its predicted decrease, or a very long one, has ended where the function is nearly constant
    shrinks &= predicted <= doubtful
    shrinks &= ~_newton_steps.leaps(state.move, space.point, state.extent, eps)
    shrinks |= (size == 0) & (state.error == 0)  # at a solution, only the derivative changes
    ratio = jnp.where(predicted > 0, actual / jnp.where(predicted > 0, predicted, 1), 0)
    # the trust region shrinks after a trial that is rejected: where the actual decrease is a rounding error, whatever
    # its sign, and where the gradient is not finite
    ratio = jnp.where(drowned, jnp.where(shrinks, 1.0, jnp.minimum(ratio, 0.0)), ratio)
    ratio = jnp.where(seen.finite, ratio, -jnp.inf).astype(space.dtype)
    accept = seen.first | (seen.finite & jnp.where(drowned, shrinks, ratio > DECREASE))
    error = jnp.where(seen.first & ~seen.finite, jnp.nan, jnp.where(accept, size, state.error)).astype(space.dtype)
    u, old = jnp.where(accept, seen.trial, space.point), Units.of(state.scales)
    extent, rest_error = (
        _newton_steps.extended(state.extent, u, accept),
        jnp.where(accept, at.rest_error, old.rest_error),
    )
    # the last step may show that no further one is needed
    moved = old.stretch * _newton_steps.longest(state.move, _newton_steps.sizes(u, extent, eps))
    left = _newton_steps.left_after(moved, size / jnp.where(state.error > 0, state.error, 1))
    left = _newton_steps.relative_error(jnp.where(accept & ~seen.first, left, jnp.inf), rest_error, eps)
    step_scales = _newton_steps.scale_of(error, left, eps), jnp.zeros_like(error)
    value, gradient = jnp.where(accept, at.value, state.value), jnp.where(accept, at.gradient, state.gradient)
    return Verdict(accept, ratio, u, value, gradient, error, extent, old, rest_error, step_scales)


def ended(
    space: Space, state: State, verdict: Verdict, now: Units, solved: Any, raw: Any, idle: Any
) -> tuple[Any, Any]:
    """Return the status after a step, by the steps alone, and whether the method has stalled.

    ``raw`` is the next step before it is clipped to bounds.
    """
    accept, value, old = verdict.accept, verdict.value, verdict.old
    # the next step is below the rounding of the point
    short = now.length <= SHORT * jnp.finfo(space.dtype).eps
    stalled = (~accept & short) | (idle[0] >= PATIENCE)
    end = jnp.where(stalled_at_solution(now, space, value), Status.CONVERGED, Status.STALLED)
    status = jnp.where(stalled, end, state.status)
    status = jnp.where(~accept & failed_by_rounding(old, space, state.value), Status.CONVERGED, status)
    # damped steps are shorter than those to the minimum of the model
    ahead, last = (jnp.where(v == 0, 0, v * t) for v, t in ((raw, now.stretch), (state.move, old.stretch)))
    runs = accept & ~solved & diverging(now, verdict.error, verdict.u, verdict.extent, last, ahead)
    return jnp.where(runs, Status.DIVERGED, status), stalled


def _secant(space: Space, state: State, seen: Trial, verdict: Verdict, store: Any, jacobian: Any) -> Secant:
    """Return the secant estimate of the curvature of the residuals after a trial."""
    secant: Secant = state.secant
    gradient, first = verdict.gradient, seen.first
    change = gradient - state.gradient
    # the change of the gradient by the change of the Jacobian
    if space.loss is None:
        wanted = gradient - product(secant.jacobian, seen.at.residuals)
    else:
        wanted = change - product(store, state.move)
    updated = secant.updated(state.move, change, wanted)
    accept = verdict.accept & ~first
    matrix = jnp.where(accept, updated, secant.matrix)
    used = secant.chosen(seen.actual, state.predicted) & ~first
    last = {"jacobian": jacobian, "residuals": jnp.where(verdict.accept, seen.at.residuals, secant.residuals)}
    # the residuals at the other end of the step, and those and the Jacobian at the accepted point, give the bend
    other = jnp.where(verdict.accept, secant.residuals, seen.at.residuals)
    along = jnp.where(verdict.accept, 1, -1) * product(store, state.move)
    bend = 2 * (product(jacobian, other) - gradient + along)
    informative = ~first & seen.finite
    bend, moved = jnp.where(informative, bend, secant.bend), jnp.where(informative, state.move, secant.moved)
    return secant._replace(matrix=matrix, used=used, bend=bend, moved=moved, **last)


def gauss_newton_step(
    solver: ResidualSolver, problem: AnyProblem, x: Tree, state: State, args: tuple[Tree, ...]
) -> Any:
    """Return the point after one Gauss-Newton step, a differentiable function."""
    space = Space(problem, x, args)
    algebra = solver.algebra(space.size)
    at = space.evaluate(space.point, eager=True)
    scale = jnp.where(state.scale > 0, state.scale, 1)
    free = space.free(space.point, jax.lax.stop_gradient(at.gradient))
    model = algebra(algebra.build(at.jacobian, at.residuals), at.gradient, scale, free, space, space.point)
    move = model.factor(jnp.zeros((), space.dtype))(-model.slope) * model.inverse_scale
    return space.unravel(space.clip(space.point + move))


def _remembered(scale: Any, norms: Any, accept: Any) -> Any:
    """Return the largest norms of the columns, where those of earlier points are discounted.

    Without the discount, a column that was very large at one point, where an unknown was close to zero, would keep the
    steps of this unknown short. A column of zeros does not discount the last scale.
    """
    alive = norms > jnp.sqrt(jnp.finfo(norms.dtype).tiny)
    return jnp.maximum(jnp.where(accept & alive, _KEPT * scale, scale), norms)


def _evened(scale: Any) -> Any:
    """Return the scale of a model's unknowns: those within a factor of :data:`_LIKE` of the mean are equal to it.

    Unknowns in the same units need no scaling: the norms of the columns change along a curved valley, and a trust
    region that is scaled by them needs more steps. The mean is geometric; it is also the scale of a column of zeros.
    """
    seen = scale > 0
    logarithms = jnp.where(seen, jnp.log(jnp.where(seen, scale, 1)), 0)
    mean = jnp.exp(jnp.sum(logarithms) / jnp.maximum(jnp.sum(seen.astype(scale.dtype)), 1)).astype(scale.dtype)
    unlike = seen & ((scale > _LIKE * mean) | (mean > _LIKE * scale))
    return jnp.where(unlike, scale, mean)


class Region(NamedTuple):
    """A trust region: its radius, and the length of the last step; constants of differentiation."""

    radius: Scalar
    length: Any

    def accepted_by_bound(self, ratio: Any, state: State, whole: Any) -> tuple[Region, Any]:
        """Return the region after a trial, and the factor by which it has changed.

        ``whole`` says whether the step was a full Gauss-Newton step: then the region grows after any success.
        """
        # the minimum of the parabola through both values and the slope
        slope = jnp.sum(state.gradient * state.move)
        actual = ratio * state.predicted
        bend = 2 * (-actual - slope)
        cut = jnp.where(actual >= 0, 0.5, jnp.clip(-slope / jnp.where(bend > 0, bend, 1), 0.1, 0.5))
        cut = jnp.where(jnp.isfinite(ratio), cut, 0.1)
        bad = ~(ratio > 0.25)
        good = ~bad & ((ratio >= 0.75) | whole)
        radius = jnp.where(bad, cut * jnp.minimum(self.radius, 10 * self.length), self.radius)
        radius = jnp.where(good, jnp.maximum(radius, 2 * self.length), radius)
        return self._replace(radius=radius), jnp.where(bad, cut, jnp.where(good, 2.0, 1.0))

    def first(self, model: Model, u: Tree, first: Any) -> Region:
        """Return the region with its first radius, in units of the scaled starting point."""
        start = trees.norm(model.scale * jax.lax.stop_gradient(u))
        # at zero, the radius is in units of the residuals
        start = jnp.where(start > 0, start, trees.norm(jax.lax.stop_gradient(model.slope)))
        return self._replace(radius=jnp.where(first, FIRST_RADIUS * jnp.where(start > 0, start, 1), self.radius))

    def walked(self, step: Any, first: Any) -> Region:
        """Return the region after a step is chosen; the first radius is at most the length of that step."""
        length = trees.norm(jax.lax.stop_gradient(step))
        return Region(jnp.where(first, jnp.minimum(self.radius, length), self.radius), length)


def _idle(idle: Scalar, accept: Any, actual: Any, error: Scalar, value: Any) -> Any:
    """Return the number of steps without progress, and the error to be halved: progress is this or a decrease."""
    count, least = idle[0], idle[1]
    progress = accept & ((actual > 10 * relative_rounding(value)) | (error <= 0.5 * least))
    return jnp.stack([jnp.where(progress, 0, count + 1), jnp.where(progress, jnp.minimum(error, least), least)])
