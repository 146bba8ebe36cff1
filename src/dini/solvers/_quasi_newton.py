"""What quasi-Newton methods share: everything but their model of the inverse Hessian."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from .. import trees
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running
from ._line_search import Bracket, search


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the line search, the model.

    ``bracket`` is a :class:`Bracket` as one vector: a loop that carries few arrays compiles and runs faster.
    """

    error: Any
    value: Any
    gradient: Any
    direction: Any
    bracket: Any
    model: Any
    status: Any


class Gram(NamedTuple):
    """The inner products of the last step ``s``, the change of the gradient ``y`` and the gradient ``g``."""

    ss: Any
    sy: Any
    sg: Any
    yy: Any
    yg: Any
    gg: Any


class QuasiNewton(Solver):
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a weak-Wolfe line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

    def _empty(self, x: Any, dtype: Any) -> Any:
        """Return the model that knows nothing."""
        raise NotImplementedError

    def _renew(self, model: Any, s: Any, y: Any, g: Any, gram: Gram, keep: Any) -> tuple[Any, Any, Any]:
        """Take in a pair where ``keep`` holds; return the model, minus its product with ``g``, and that one's slope."""
        raise NotImplementedError

    def _forget(self, model: Any, forget: Any) -> Any:
        """Drop all pairs where ``forget`` holds."""
        raise NotImplementedError

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, zero = infinity(x), trees.zeros_like(x)
        bracket = jnp.stack(Bracket.fresh(0.0, inf, 0.0))
        return State(inf, inf, zero, zero, bracket, self._empty(x, inf.dtype), running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        dtype = state.error.dtype
        old = Bracket(*state.bracket)
        s = trees.scale(old.trial, state.direction)
        trial = trees.add(x, s)
        value, gradient = problem.value_and_gradient(trial, *args)
        value, y = value.astype(dtype), trees.sub(gradient, state.gradient)
        gram = _gram(s, y, gradient, dtype)
        size = jnp.sqrt(gram.gg)
        first = jnp.isinf(state.value)
        # the first trial is the start itself
        slope = gram.sg / jnp.where(first, 1, old.trial)
        fits, bracket = search(old, state.value, value, slope, relative_rounding(state.value))
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        accept = (first | fits) & finite
        # a search that fails along a quasi-Newton direction starts again along the gradient
        failed = ~accept & bracket.exhausted
        restart = failed & (state.model.count > 0)
        stalled = failed & (state.model.count == 0)

        curved = gram.sy > trees.eps(x) * jnp.sqrt(gram.ss * gram.yy)
        model, direction, slope = self._renew(state.model, s, y, gradient, gram, accept & ~first & curved)
        # a direction that does not descend means that the pairs are worn out
        restart = restart | (accept & ~(slope < 0))
        renew = accept | restart
        value = jnp.where(accept, value, state.value)
        gradient = trees.where(accept, gradient, state.gradient)
        error = jnp.where(accept, size, state.error)
        direction = trees.where(restart, trees.neg(gradient), trees.where(accept, direction, state.direction))
        slope = jnp.where(restart, -(error**2), slope)
        start = jnp.where(restart | (model.count == 0), 1 / jnp.maximum(error, 1), 1.0)
        fresh = jnp.stack(Bracket.fresh(start, value, slope))
        kept = State(
            jnp.where(first & ~finite, jnp.nan, error),
            value,
            gradient,
            direction,
            jnp.where(renew, fresh, jnp.stack(bracket)),
            self._forget(model, restart),
            jnp.where(stalled, Status.STALLED, state.status).astype(jnp.int32),
        )
        return trees.where(accept, trial, x), kept


def _gram(s: Any, y: Any, g: Any, dtype: Any) -> Gram:
    # one product at a time: XLA compiles inner products faster than the product of a thin matrix with itself
    pairs = ((s, s), (s, y), (s, g), (y, y), (y, g), (g, g))
    return Gram(*(trees.vdot(a, b).astype(dtype) for a, b in pairs))
