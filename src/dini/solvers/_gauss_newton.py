"""The Gauss-Newton method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._small import SMALL
from ..loop import met
from ..problems import FixedPoint, LeastSquares, Root
from ..products import dot
from ..settings import require_choice, require_count
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._residual_model import ALGEBRA, Space
from ._residual_solver import default_algebra


class State(NamedTuple):
    """Carried from step to step: the accepted point's direction, the way to the next trial, and :class:`Progress`.

    ``progress`` is one vector: a loop that carries few arrays runs faster.
    """

    error: Any
    direction: Any
    offset: Any
    progress: Any
    status: Any


class FullSteps(NamedTuple):
    """Carried where all steps are full: the next trial."""

    error: Any
    trial: Any
    status: Any


class Progress(NamedTuple):
    """The accepted point's value and slope, the step size, and the full steps without a decrease since then.

    ``allowed`` is how many of these there may be. All are floats.
    """

    value: Any
    slope: Any
    step_size: Any
    astray: Any
    allowed: Any


@trees.register
@dataclass(frozen=True)
class GaussNewton(Solver):
    r"""Gauss-Newton with a watchdog, for least squares, roots and fixed points.

    Full steps :math:`x \leftarrow x - (J^\top J)^{-1} J^\top r` are taken as they come, also uphill, as long as one of
    the next ``patience`` of them is lower than the last accepted point; otherwise the method goes back to that point
    and shortens its step until the objective falls (Armijo). So it keeps the speed of the undamped method, which often
    goes over a ridge to a solution close by, and does not diverge. Each trial is one step. The error is :math:`\|J^\top
    r\|_2`; of a root :math:`\|F\|_2`. Where the Jacobian has not full rank or nearly so,
    :class:`dini.LevenbergMarquardt` does better.

    Parameters
    ----------
    patience
        Number of full steps that may follow a step uphill; zero for a monotone method; ``None`` for full steps only,
        the undamped method without any test of what they bring: the quickest where the solution is close, and one that
        may run away or in circles. At infinity, where residuals level off, the gradient vanishes as at a solution: a
        point is none as long as the next step would lead farther than :math:`\sqrt{1 + \|x\|^2}`. A Jacobian with a
        column of zeros is singular.
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
    [1. 1.] 3
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

    def init(self, problem: Any, x: Any, *args: Any) -> State | FullSteps:
        """Return the state before the first step, which only evaluates the function."""
        space = Space(problem, x, args)
        inf, nothing = infinity(x), jnp.zeros_like(space.point)
        if self.patience is None:
            return FullSteps(inf, space.point, running())
        zero = jnp.zeros_like(inf)
        progress = jnp.stack(Progress(inf, zero, zero + 1, zero, zero + self.patience))
        return State(inf, nothing, nothing, progress, running())

    def step(self, problem: Any, x: Any, state: Any, *args: Any) -> tuple[Any, Any]:
        """Try one step."""
        space = Space(problem, x, args)
        algebra = default_algebra(self.linear_solver, space.size)
        if self.patience is None:
            return self._full_step(space, algebra, state)
        old = Progress(*state.progress)
        trial = space.point + state.offset
        at = space.evaluate(trial, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"])
        first = jnp.isinf(old.value)
        size = space.error(at, trial).astype(space.dtype)
        finite = jnp.isfinite(at.value) & jnp.isfinite(dot(at.gradient, at.gradient))
        lower = at.value <= old.value + 1e-4 * old.step_size * old.slope
        # where the decrease drowns in rounding, the optimality measure decides
        drowned = (jnp.abs(at.value - old.value) <= relative_rounding(old.value)) & (size < state.error)
        accept = first | (finite & (lower | drowned))
        stray = ~accept & finite & (old.astray < old.allowed)
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))

        last = state.direction, old.slope
        if at.jacobian is not None:
            move, slope, _ = self._solved(space, algebra, at, trial)
        else:
            needed = (accept | stray) & ~met(self, x, error)
            solve = lambda _: self._solved(space, algebra, at, trial)[:2]
            move, slope = jax.lax.cond(needed, solve, lambda _: last, None)
        direction, slope = trees.where(accept, (move, slope), last)

        # back to the accepted point: half the step, then what a parabola through the values asks for
        t = old.step_size
        bend = at.value - old.value - t * old.slope
        factor = jnp.where(bend > 0, -0.5 * t * old.slope / jnp.where(bend > 0, bend, 1), 0.5)
        factor = jnp.where(finite & (old.astray == 0), jnp.clip(factor, 0.1, 0.5), 0.5)
        t = jax.lax.stop_gradient(jnp.where(accept | stray, 1.0, t * factor)).astype(space.dtype)
        offset = jnp.where(accept, move, jnp.where(stray, state.offset + move, t * direction))
        # who went astray in vain keeps to the descent until a full step is one
        full = jnp.where(old.step_size == 1, self.patience, old.allowed)
        allowed = jnp.where(accept, full, jnp.where(stray, old.allowed, 0))
        squared = dot(offset, offset)
        tiny = (1e-2 * trees.eps(x)) ** 2
        short = squared <= tiny * (1 + dot(space.point, space.point))
        status = jnp.where(~accept & ~stray & short, Status.STALLED, state.status)
        status = jnp.where(jnp.isfinite(squared), status, Status.SINGULAR).astype(jnp.int32)
        value, astray = jnp.where(accept, at.value, old.value), jnp.where(stray, old.astray + 1, 0)
        parts = Progress(value, slope, t, astray, allowed)
        progress = jnp.stack([part.astype(space.dtype) for part in parts])
        return trees.where(accept, space.unravel(trial), x), State(error, direction, offset, progress, status)

    def _solved(self, space: Space, algebra: Any, at: Any, trial: Any) -> tuple[Any, Any, Any]:
        """Return the Gauss-Newton step from a point, its slope, and the norms of the Jacobian's columns."""
        jacobian = space.jacobian(trial) if at.jacobian is None and algebra is not ALGEBRA["cg"] else at.jacobian
        store = algebra.build(jacobian, at.residuals)
        norms = algebra.norms(store, at.gradient, space, trial)
        model = algebra(store, at.gradient, jnp.where(norms > 0, norms, 1), None, space, trial)
        move = model.inverse_scale * model.step(jnp.zeros((), space.dtype))[0]
        return move, dot(at.gradient, move), norms

    def _full_step(self, space: Space, algebra: Any, state: FullSteps) -> tuple[Any, FullSteps]:
        """Go to the next point, and solve for the step from there."""
        trial = state.trial
        at = space.evaluate(trial, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"], apart=True)
        move, _, norms = self._solved(space, algebra, at, trial)
        move = jax.lax.optimization_barrier(move)
        error = space.error(at, trial).astype(space.dtype)
        # a column of zeros, of an exponential that has underflowed say, leaves its unknown undetermined
        determined = move if algebra is ALGEBRA["cg"] else jnp.where(norms > 0, move, jnp.inf)
        squared = dot(determined, determined)
        finite, largest = jnp.isfinite(squared), jnp.finfo(space.dtype).max
        # an error within the tolerance would be a success, whatever the status
        near = squared < 1 + dot(trial, trial)
        error = jnp.where(met(self, trial, error) & space.minimum & ~near, largest, error)
        status = jnp.where(finite, state.status, Status.SINGULAR).astype(jnp.int32)
        return space.unravel(trial), FullSteps(error, jnp.clip(trial + move, -largest, largest), status)
