"""The Gauss-Newton method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..linear._small import SMALL
from ..loop import tolerance
from ..problems import FixedPoint, LeastSquares, Root
from ..settings import require_choice, require_count
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._residual_model import ALGEBRA, Space
from ._residual_solver import default_algebra


class State(NamedTuple):
    """Carried from step to step: the accepted point's value, direction and slope, and the next trial.

    ``offset`` leads from the accepted point to the trial; ``astray`` counts the full steps taken from it without a
    decrease, and ``allowed`` is how many there may be.
    """

    error: Any
    value: Any
    direction: Any
    slope: Any
    step_size: Any
    offset: Any
    astray: Any
    allowed: Any
    steps: Any
    status: Any


@register_dataclass
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
        Number of full steps that may follow a step uphill; zero for a monotone method.
    linear_solver
        ``"cholesky"`` of the normal equations, ``"qr"``, or ``"cg"``; see :class:`dini.LevenbergMarquardt`.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
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
    >>> print(solution.x.round(3), solution.stats.steps)
    [1. 1.] 3
    """

    patience: int = field(default=4, metadata={"static": True})
    linear_solver: Literal["auto", "cholesky", "qr", "cg"] = field(default="auto", metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=500, metadata={"static": True})

    solves = (LeastSquares, Root, FixedPoint)

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("GaussNewton's patience", self.patience, 0)
        require_choice("GaussNewton's linear_solver", self.linear_solver, ("auto", *ALGEBRA))

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        space = Space(problem, x, args)
        inf, nothing = infinity(x), jnp.zeros_like(space.point)
        zero, none = jnp.zeros_like(inf), jnp.zeros((), jnp.int32)
        return State(inf, inf, nothing, zero, zero + 1, nothing, none, none + self.patience, none, running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Try one step."""
        space = Space(problem, x, args)
        algebra = default_algebra(self.linear_solver, space.size)
        trial = space.point + state.offset
        at = space.evaluate(trial, eager=space.size <= SMALL and algebra is not ALGEBRA["cg"])
        first = state.steps == 0
        finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient))
        size = space.error(at, trial).astype(space.dtype)
        slack = relative_rounding(state.value)
        lower = at.value <= state.value + 1e-4 * state.step_size * state.slope
        # where the decrease drowns in rounding, the optimality measure decides
        drowned = (jnp.abs(at.value - state.value) <= slack) & (size < state.error)
        accept = first | (finite & (lower | drowned))
        stray = ~accept & finite & (state.astray < state.allowed)
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))

        def solve(_: Any) -> tuple[Any, Any]:
            jacobian = space.jacobian(trial) if at.jacobian is None and algebra is not ALGEBRA["cg"] else at.jacobian
            store = algebra.build(jacobian, at.residuals)
            norms = algebra.norms(store, at.gradient, space, trial)
            model = algebra(store, at.gradient, jnp.where(norms > 0, norms, 1), None, space, trial)
            move = model.inverse_scale * model.step(jnp.zeros((), space.dtype))[0]
            return move, jnp.sum(at.gradient * move)

        last = state.direction, state.slope
        if at.jacobian is not None:
            move, slope = solve(None)
        else:
            needed = (accept | stray) & ~(error <= tolerance(self, x))
            move, slope = jax.lax.cond(needed, solve, lambda _: last, None)
        direction, slope = trees.where(accept, (move, slope), last)

        # back to the accepted point: half the step, then what a parabola through the values asks for
        t = state.step_size
        bend = at.value - state.value - t * state.slope
        factor = jnp.where(bend > 0, -0.5 * t * state.slope / jnp.where(bend > 0, bend, 1), 0.5)
        factor = jnp.where(finite & (state.astray == 0), jnp.clip(factor, 0.1, 0.5), 0.5)
        t = jax.lax.stop_gradient(jnp.where(accept | stray, 1.0, t * factor)).astype(space.dtype)
        offset = jnp.where(accept, move, jnp.where(stray, state.offset + move, t * direction))
        astray = jnp.where(stray, state.astray + 1, 0)
        # who went astray in vain keeps to the descent until a full step is one
        allowed = jnp.where(accept & (state.step_size == 1), self.patience, jnp.where(stray, state.allowed, 0))
        allowed = jnp.where(accept & (state.step_size != 1), state.allowed, allowed)
        short = jnp.sqrt(jnp.sum(offset**2)) <= 1e-2 * trees.eps(x) * (1 + jnp.sqrt(jnp.sum(space.point**2)))
        status = jnp.where(~accept & ~stray & short, Status.STALLED, state.status)
        status = jnp.where(jnp.all(jnp.isfinite(offset)), status, Status.SINGULAR).astype(jnp.int32)
        value, steps = jnp.where(accept, at.value, state.value), state.steps + 1
        new = State(error, value, direction, slope, t, offset, astray, allowed, steps, status)
        return trees.where(accept, space.unravel(trial), x), new
