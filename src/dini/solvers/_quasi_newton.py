"""What quasi-Newton methods share: everything but their model of the inverse Hessian."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._line_search import Bracket, search


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the line search, the model."""

    error: Any
    value: Any
    gradient: Any
    direction: Any
    bracket: Bracket
    model: Any
    steps: Any
    status: Any


class QuasiNewton(Solver):
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a weak-Wolfe line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

    def _empty(self, x: Any, dtype: Any) -> Any:
        """Return the model that knows nothing."""
        raise NotImplementedError

    def _update(self, model: Any, s: Any, y: Any, active: Any) -> Any:
        """Take in a pair of differences of points and gradients, where ``active`` and its curvature is positive."""
        raise NotImplementedError

    def _forget(self, model: Any, forget: Any) -> Any:
        """Drop all pairs where ``forget`` holds."""
        raise NotImplementedError

    def _direction(self, model: Any, gradient: Any) -> Any:
        """Return minus the model times the gradient."""
        raise NotImplementedError

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        zero = trees.zeros_like(x)
        bracket = Bracket.fresh(0.0, inf, 0.0)
        return State(inf, inf, zero, zero, bracket, self._empty(x, inf.dtype), jnp.zeros((), jnp.int32), running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        dtype = state.error.dtype
        trial = trees.axpy(state.bracket.trial, state.direction, x)
        value, gradient = problem.value_and_gradient(trial, *args)
        value, size = value.astype(dtype), trees.norm(gradient).astype(dtype)
        slope = trees.vdot(gradient, state.direction).astype(dtype)
        first = state.steps == 0
        fits, bracket = search(state.bracket, state.value, value, slope, relative_rounding(state.value))
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        accept = first | (fits & finite)
        # a search that fails along a quasi-Newton direction starts again along the gradient
        failed = ~accept & bracket.exhausted
        restart = failed & (state.model.count > 0)
        stalled = failed & (state.model.count == 0)

        s = trees.scale(state.bracket.trial, state.direction)
        model = self._update(state.model, s, trees.sub(gradient, state.gradient), accept & ~first)
        x = trees.where(accept, trial, x)
        value = jnp.where(accept, value, state.value)
        gradient = trees.where(accept, gradient, state.gradient)
        error = jnp.where(accept, size, state.error)

        direction = self._direction(model, gradient)
        slope = trees.vdot(direction, gradient).astype(dtype)
        # a direction that does not descend means that the pairs are worn out: start again along the gradient
        restart = restart | ~(slope < 0)
        model = self._forget(model, restart)
        direction = trees.where(restart, trees.neg(gradient), direction)
        slope = jnp.where(restart, -(error**2), slope)
        start = jnp.where(model.count > 0, 1.0, 1 / jnp.maximum(error, 1))
        fresh = Bracket.fresh(start, value, slope)
        renew = accept | restart
        bracket = jax.tree.map(lambda new, old: jnp.where(renew, new, old), fresh, bracket)
        kept = State(
            jnp.where(first & ~finite, jnp.nan, error),
            value,
            gradient,
            trees.where(renew, direction, state.direction),
            bracket,
            model,
            state.steps + 1,
            jnp.where(stalled, Status.STALLED, state.status).astype(jnp.int32),
        )
        return x, kept
