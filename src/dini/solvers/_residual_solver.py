"""The common step of the damped Gauss-Newton methods."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._small import SMALL
from ..loop import tolerance
from ..problems import FixedPoint, LeastSquares, Root
from ..settings import require_choice
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._residual_model import ALGEBRA, Model, Space

#: unknowns of up to this many numbers are solved for with a matrix by default
_DENSE = 2048


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and model, the control of the steps, the next trial."""

    error: Any
    value: Any
    gradient: Any
    store: Any
    scale: Any
    control: Any
    move: Any
    predicted: Any
    steps: Any
    status: Any


class ResidualSolver(Solver):
    """Base of the solvers that damp Gauss-Newton steps: they differ in their control, a named tuple of scalars.

    One step evaluates the residuals at one trial point, judges it by the ratio of actual to predicted decrease, and
    finds the next trial.
    """

    linear_solver: Any

    solves = (LeastSquares, Root, FixedPoint)
    composite = True

    def check(self, problem: Any, x: Any) -> None:
        """Raise unless the constraint, if there is one, consists of bounds."""
        super().check(problem, x)
        constraint = getattr(problem, "constraint", None)
        if constraint is not None and not getattr(constraint, "elementwise", False):
            raise TypeError(
                f"{self.name} keeps bounds, such as dini.sets.Box: given the constraint {constraint.name}. "
                "Use ProximalGradient or ProjectedGradient."
            )

    def _check_settings(self) -> None:
        super()._check_settings()
        require_choice(f"{self.name}'s linear_solver", self.linear_solver, ("auto", *ALGEBRA))

    def _algebra(self, size: int) -> Any:
        if self.linear_solver != "auto":
            return ALGEBRA[self.linear_solver]
        return ALGEBRA["cholesky" if size <= _DENSE else "cg"]

    def _start(self, dtype: Any) -> Any:
        """Return the control before the first step."""
        raise NotImplementedError

    def _judged(self, control: Any, accept: Any, ratio: Any, state: State) -> Any:
        """Return the control after a trial."""
        raise NotImplementedError

    def _propose(self, control: Any, model: Model, space: Space, u: Any, first: Any) -> tuple[Any, Any]:
        """Return the next move and the control with what it took."""
        raise NotImplementedError

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        space = Space(problem, x, args)
        inf, zero = infinity(x), jnp.zeros_like(space.point)
        store = self._algebra(space.size).empty(space)
        control, nothing = self._start(space.dtype), jnp.zeros_like(inf)
        return State(inf, inf, zero, store, zero, control, zero, nothing, jnp.zeros((), jnp.int32), running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Try one step."""
        space = Space(problem, x, args)
        algebra = self._algebra(space.size)
        eager = space.size <= SMALL and algebra is not ALGEBRA["cg"]
        trial = space.clip(space.point + state.move)
        at = space.evaluate(trial, eager=eager)
        first = state.steps == 0
        finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient))
        size = space.error(at, trial)
        actual = state.value - at.value
        drowned = actual <= relative_rounding(at.value)
        # a step whose decrease drowns in rounding is taken only if the optimality measure shrinks
        shrinks = (size < state.error) & (actual >= -relative_rounding(at.value))
        predicted = state.predicted
        ratio = jnp.where(predicted > 0, actual / jnp.where(predicted > 0, predicted, 1), 0)
        ratio = jnp.where(drowned & shrinks, 1.0, ratio).astype(space.dtype)
        accept = first | (finite & jnp.where(drowned, shrinks, ratio > 1e-4))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error)).astype(space.dtype)
        gradient = jnp.where(accept, at.gradient, state.gradient)
        u = jnp.where(accept, trial, space.point)

        def renew(_: Any) -> Any:
            return algebra.build(space.jacobian(trial) if at.jacobian is None else at.jacobian, at.residuals)

        if eager:  # the Jacobian is there
            store = trees.where(accept, renew(None), state.store)
        elif algebra is ALGEBRA["cg"]:
            store = state.store
        else:
            needed = accept & ~(error <= tolerance(self, x))
            store = jax.lax.cond(needed, renew, lambda _: state.store, None)
        # the largest norms so far keep the steps from growing where a column has become small
        norms = algebra.norms(store, gradient, space, u)
        scale = jax.lax.stop_gradient(jnp.maximum(state.scale, norms))
        control = jax.lax.stop_gradient(self._judged(state.control, accept, ratio, state))
        control = trees.where(first, state.control, control)
        model = algebra(store, gradient, jnp.where(scale > 0, scale, 1), space.free(u, gradient), space, u)
        move, control = self._propose(control, model, space, u, first)
        if space.bounds is not None:
            move = space.clip(u + move) - u
        predicted = -jnp.sum(gradient * move) - 0.5 * model.image(move)
        short = jnp.sqrt(jnp.sum(move**2)) <= 1e-2 * trees.eps(x) * (1 + jnp.sqrt(jnp.sum(u**2)))
        # no step of the next size can be told from none
        status = jnp.where(~accept & short, Status.STALLED, state.status)
        status = jnp.where(jnp.all(jnp.isfinite(move)), status, Status.SINGULAR).astype(jnp.int32)
        value = jnp.where(accept, at.value, state.value)
        new = State(error, value, gradient, store, scale, control, move, predicted, state.steps + 1, status)
        return trees.where(accept, space.unravel(trial), x), new

    def differentiable_step(self, problem: Any, x: Any, state: State, *args: Any) -> Any:
        """Return one Gauss-Newton step with the last matrix."""
        space = Space(problem, x, args)
        algebra = self._algebra(space.size)
        at = space.evaluate(space.point, eager=False)
        scale = jnp.where(state.scale > 0, state.scale, 1)
        free = space.free(space.point, jax.lax.stop_gradient(at.gradient))
        model = algebra(state.store, at.gradient, scale, free, space, space.point)
        move = model.factor(jnp.zeros((), space.dtype))(-model.slope) * model.inverse_scale
        return space.unravel(space.clip(space.point + move))
