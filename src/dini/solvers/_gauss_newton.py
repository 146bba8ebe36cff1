"""The Gauss-Newton method."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_choice, require_count
from ..linear._small import SMALL
from ..loop import met, tolerances
from ..problems import FixedPoint, LeastSquares, Root
from ..protocols import AnyProblem
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot
from ..verification._residuals import NEARLY_NOTHING, PROMISE
from ._base import Solver, infinity, running, solver
from .judge import _newton_steps
from .judge._margins import DECREASE, SHORT, doubtful_difference, relative_rounding
from .judge._units import Units
from .shared._residual_model import ALGEBRA, Space
from .shared._residual_solver import default_algebra
from .shared._residual_units import diverging, doubted, failed_by_rounding, known, promised_beyond, stalled_at_solution


class State(NamedTuple):
    """Carried from step to step: the accepted point's direction, the way to the next trial, and :class:`Progress`.

    ``progress`` is one vector: a loop that carries few arrays runs faster.
    """

    error: Scalar
    direction: Tree
    offset: Any
    progress: Any
    extent: Any
    scales: Any
    status: Any


class FullSteps(NamedTuple):
    """Carried where all steps are full: the start, the next trial, and the step that leads there."""

    error: Scalar
    start: Any
    trial: Tree
    extent: Any
    last: Any
    scales: Any
    status: Any


class Progress(NamedTuple):
    """The accepted point's value and slope, the step size, and the number of ``relaxed`` steps since then.

    A relaxed step is a full one without a sufficient decrease. ``allowed`` is the largest number of these, ``left`` the
    decrease that the next step predicts (:func:`promised_beyond`). All are floats.
    """

    value: Any
    slope: Scalar
    step_size: Scalar
    relaxed: Any
    allowed: Any
    left: Any


@solver
class GaussNewton(Solver):
    r"""Gauss-Newton with a watchdog, for least squares, roots and fixed points.

    .. math::
        \begin{aligned}
        x &\leftarrow x + t p, \qquad J^\top J\,p = -J^\top r, \qquad (1) \\
        f(x^+) &\le f(x) + 10^{-4}\, t\, \nabla f(x)^\top p \qquad (2)
        \end{aligned}

    Full steps, :math:`t = 1`, are taken as they come, also uphill, as long as one of the next ``patience`` points
    :math:`x^+` meets Armijo's condition (2) with the last accepted point ``x``; otherwise the method goes back to ``x``
    and shortens ``t`` until (2) holds. So it keeps the speed of the undamped method, which often goes over a ridge to a
    solution close by, and does not diverge. Each trial is one step. The error is :math:`\|J^\top r\|_2`; of a root
    :math:`\|F\|_2`. Where the Jacobian has not full rank or nearly so, :class:`dini.LevenbergMarquardt` does better.

    Parameters
    ----------
    patience
        Number of full steps that may follow a step uphill; zero for a monotone method; ``None`` for full steps only,
        the undamped method without any test of what they bring: the quickest where the solution is close, and one that
        may diverge or cycle. At infinity, where residuals level off, the gradient vanishes as at a solution: a
        point is none as long as the next step would lead farther than the point's own size. A Jacobian with a column of
        zeros is singular.
    linear_solver
        ``"cholesky"`` of the normal equations, ``"qr"``, or ``"cg"``; see :class:`dini.LevenbergMarquardt`.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Chamberlain, Powell, Lemarechal, Pedersen, "The watchdog technique for forcing convergence in algorithms for
    constrained optimization", Math. Programming Study 16, 1982. Björck, "Numerical Methods for Least Squares
    Problems", chapter 9, 1996.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.LeastSquares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> solution = dini.solve(problem, dini.GaussNewton(), jnp.array([-1.2, 1.0]))
    >>> print(solution.x.round(2), solution.stats.steps)
    [1. 1.] 4
    """

    # with 30, more of Moré, Garbow and Hillstrom's problems are solved than with 4 to 20
    patience: int | None = field(default=30, metadata={"static": True})
    linear_solver: Literal["auto", "cholesky", "qr", "cg"] = field(default="auto", metadata={"static": True})
    max_steps: int = field(default=500, metadata={"static": True})

    solves = (LeastSquares, Root, FixedPoint)

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        if self.patience is not None:
            require_count("GaussNewton's patience", self.patience, 0)
        require_choice("GaussNewton's linear_solver", self.linear_solver, ("auto", *ALGEBRA))

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State | FullSteps:
        """Return the state before the first step, which only evaluates the function."""
        space = Space(problem, x, args)
        inf, nothing = infinity(x), jnp.zeros_like(space.point)
        scales = Units.unknown(space.point)
        if self.patience is None:
            return FullSteps(inf, space.point, space.point, nothing, nothing, scales, running())
        zero = jnp.zeros_like(inf)
        progress = jnp.stack(Progress(inf, zero, zero + 1, zero, zero + self.patience, inf))
        return State(inf, nothing, nothing, progress, nothing, scales, running())

    def step(self, problem: AnyProblem, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Try one step."""
        space = Space(problem, x, args)
        algebra = default_algebra(self.linear_solver, space.size)
        if self.patience is None:
            return self._full_step(space, algebra, state)
        old = Progress(*state.progress)
        trial = space.point + state.offset
        at = space.evaluate(trial, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"])
        size, first, eps = space.error(at, trial).astype(space.dtype), jnp.isinf(old.value), trees.eps(x)
        finite = jnp.isfinite(at.value) & jnp.isfinite(dot(at.gradient, at.gradient))
        accept = first | (finite & self._lower(space, state, old, at, size, eps))
        relax = ~accept & finite & (old.relaxed < old.allowed)
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
        u, value = jnp.where(accept, trial, space.point), jnp.where(accept, at.value, old.value)
        extent, seen = _newton_steps.extended(state.extent, u, accept), Units.of(state.scales)

        def renew(_: Any) -> tuple[Any, Any, Any, Any]:
            move, slope, norms, promise = self._solved(space, algebra, at, trial)
            units, left = self._judged(space, at, trial, extent, norms, move, error, value, seen, promise)
            return move, slope, left, units.packed(space.dtype)

        last = state.direction, old.slope, old.left, state.scales
        new = renew(None) if at.jacobian is not None else jax.lax.cond(accept | relax, renew, lambda _: last, None)
        direction, slope, left, scales = trees.where(accept, new, last)
        t = self._shortened(old, at.value, accept | relax, finite).astype(space.dtype)
        # (1): offset = t p; one step uphill is added to those before it
        offset = jnp.where(accept, new[0], jnp.where(relax, state.offset + new[0], t * direction))
        # after uphill steps without success, steps must descend until a full step does
        full = jnp.where(old.step_size == 1, self.patience, old.allowed)
        allowed = jnp.where(accept, full, jnp.where(relax, old.allowed, 0))
        units = Units.of(scales)
        short = t * units.length <= SHORT * eps
        end = jnp.where(stalled_at_solution(units, space, value) & (left <= PROMISE), Status.CONVERGED, Status.STALLED)
        status = jnp.where(~accept & ~relax & short, end, state.status)
        lost = ~accept & (old.relaxed == 0) & failed_by_rounding(seen, space, old.value) & (left <= PROMISE)
        status = jnp.where(lost, Status.CONVERGED, status)
        runs = accept & diverging(units, error, u, extent, state.offset, direction)
        status = jnp.where(runs, Status.DIVERGED, status)
        status = jnp.where(jnp.isfinite(dot(offset, offset)), status, Status.SINGULAR).astype(jnp.int32)
        parts = Progress(value, slope, t, jnp.where(relax, old.relaxed + 1, 0), allowed, left)
        progress = jnp.stack([part.astype(space.dtype) for part in parts])
        return trees.where(accept, space.unravel(trial), x), State(
            error, direction, offset, progress, extent, scales, status
        )

    @staticmethod
    def _lower(space: Space, state: State, old: Progress, at: Any, size: Any, eps: Any) -> Any:
        """Return whether Armijo's condition (2) holds; where the decrease drowns, the optimality measure decides."""
        # (2): t = step_size; slope is that of f along p
        lower = at.value <= old.value + DECREASE * old.step_size * old.slope
        drowned = jnp.abs(at.value - old.value) <= relative_rounding(old.value)
        # a step without its predicted decrease, or a very long one, has ended where the function is nearly constant
        leapt = drowned & _newton_steps.leaps(state.offset, space.point, state.extent, eps)
        drowned &= (size < state.error) & (-old.step_size * old.slope <= doubtful_difference(old.value))
        return (lower | drowned) & ~leapt

    @staticmethod
    def _shortened(old: Progress, value: Any, full: Any, finite: Any) -> Any:
        """Return the next step size, a constant of differentiation.

        Back at the accepted point it is half the step, then what a parabola through the values asks for.
        """
        t = old.step_size
        bend = value - old.value - t * old.slope
        factor = jnp.where(bend > 0, -0.5 * t * old.slope / jnp.where(bend > 0, bend, 1), 0.5)
        factor = jnp.where(finite & (old.relaxed == 0), jnp.clip(factor, 0.1, 0.5), 0.5)
        return jax.lax.stop_gradient(jnp.where(full, 1.0, t * factor))

    def _judged(
        self,
        space: Space,
        at: Any,
        u: Tree,
        extent: Any,
        norms: Any,
        move: Tree,
        error: Scalar,
        value: Any,
        seen: Units,
        promise: Any,
    ) -> tuple[Units, Any]:
        # that of a full step is its slope
        curvature = -dot(at.gradient, move)
        units = known(space, u, extent, norms, at.gradient, move, move, error, value, curvature, seen, 0.0)
        promised, columns = promise
        left = promised_beyond(space, u, units.start, promised, columns, at.value, tolerances(self, u)[0])
        return doubted(units, ~(left <= NEARLY_NOTHING)), left

    def _solved(self, space: Space, algebra: Any, at: Any, trial: Tree) -> tuple[Any, Any, Any, Any]:
        """Return the Gauss-Newton step from a point, its slope, the columns' norms, and its predicted decrease."""
        jacobian = space.jacobian(trial) if at.jacobian is None and algebra is not ALGEBRA["cg"] else at.jacobian
        store = algebra.build(jacobian, at.residuals)
        norms = algebra.norms(store, at.gradient, space, trial)
        model = algebra(store, at.gradient, jnp.where(norms > 0, norms, 1), None, space, trial)
        # (1): p = move
        step = model.step(jnp.zeros((), space.dtype))[0]
        move = model.inverse_scale * step
        return move, dot(at.gradient, move), norms, model.promised(norms, step)

    def _full_step(self, space: Space, algebra: Any, state: FullSteps) -> tuple[Any, FullSteps]:
        """Go to the next point, and solve for the step from there."""
        trial = state.trial
        at = space.evaluate(trial, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"])
        move, _, norms, promise = self._solved(space, algebra, at, trial)
        error = space.error(at, trial).astype(space.dtype)
        # a column of zeros, of an exponential that has underflowed say, leaves its unknown undetermined
        determined = move if algebra is ALGEBRA["cg"] else jnp.where(norms > 0, move, jnp.inf)
        finite, largest = jnp.isfinite(dot(determined, determined)), jnp.finfo(space.dtype).max
        extent = _newton_steps.extended(state.extent, trial, jnp.isfinite(error))
        seen = Units.of(state.scales)
        units, _ = self._judged(space, at, trial, extent, norms, move, error, at.value, seen, promise)
        scales = units.packed(space.dtype)
        # an error within the tolerance would be a success, whatever the status
        far = ~(finite & (units.length < 1))
        # where residuals have levelled off, an unknown that moves by its own size changes them by no more than rounding
        # does, which is that of their terms: then its step is rounding as well, and may be short; conjugate gradients
        # lose it beside the others long before
        sway = self._sway(space, algebra, state.start, trial, extent, norms)
        level = trees.eps(trial) ** (0.5 if algebra is ALGEBRA["cg"] else 0.75)
        far |= (at.value > 0) & (sway <= level * jnp.sqrt(2 * at.value))
        far &= space.minimum & met(self, trial, error, scales)
        runs = diverging(units, error, trial, extent, state.last, move)
        status = jnp.where(runs, Status.DIVERGED, state.status)
        status = jnp.where(finite, status, Status.SINGULAR).astype(jnp.int32)
        error = jnp.where(far, largest, error)
        move = jnp.clip(move, -largest, largest)
        # (1) with t = 1
        trial_after = jnp.clip(trial + move, -largest, largest)
        return space.unravel(trial), FullSteps(error, state.start, trial_after, extent, move, scales, status)

    def _sway(self, space: Space, algebra: Any, start: Any, u: Tree, extent: Any, norms: Any) -> Any:
        """Return by how much the residuals change, to first order, where an unknown moves by its own size.

        Of all unknowns the least; without a matrix, that of those together which have become many times larger than
        they were, or than the start where they were zero.
        """
        u, start, extent, norms = jax.lax.stop_gradient((u, start, extent, norms))
        eps = trees.eps(u)
        if algebra is not ALGEBRA["cg"]:
            return jnp.min(norms * _newton_steps.sizes(u, extent, eps), initial=jnp.inf)
        before = jnp.where(start != 0, jnp.abs(start), trees.max_abs(start))
        ran = (before > 0) & (jnp.abs(u) > eps**-0.25 * before)
        pushed = trees.norm(jax.lax.stop_gradient(space.products(u)[0](jnp.where(ran, u, 0))))
        return jnp.where(jnp.any(ran), pushed, jnp.inf)
