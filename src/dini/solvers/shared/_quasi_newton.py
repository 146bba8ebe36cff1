r"""What methods with a line search along a descent direction share: everything but their model of the Hessian.

With a model :math:`H_k` of the inverse Hessian, gradients :math:`g_k` and the line search's :math:`\alpha_k`,

.. math::
    \begin{aligned}
    p_k &= -H_k g_k, \qquad (1) \\
    x_{k+1} &= x_k + \alpha_k p_k, \qquad (2) \\
    s_k &= x_{k+1} - x_k, \quad y_k = g_{k+1} - g_k . \qquad (3)
    \end{aligned}

The model takes in a pair of (3) where :math:`y_k` is more than rounding of the gradients and the curvature is positive,

.. math:: s_k^\top y_k > \epsilon \|s_k\| \|y_k\| . \qquad (4)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees, xla
from ...checks.settings import require_positive
from ...functions import as_function
from ...loop import met, threshold
from ...status import Status
from ...trees import Scalar, Tree
from ...trees.products import inner_products
from .._base import Solver, infinity, running
from . import _scales
from ._acceptance import hidden_difference, kept_value, lost_patience, relative_rounding, shown_by_gradients
from ._lengths import cold_length, probe_length
from ._line_search import Given, LineSearch, exhausted, require_line_search, unbounded


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the line search, the model.

    ``search`` holds the smallest error so far, the number of steps since the last gain, that of all, the point's value
    itself (``value`` does not rise by rounding), and the search's bracket, as one vector: a loop that carries few
    arrays compiles and runs faster.
    """

    error: Scalar
    value: Any
    gradient: Tree
    direction: Tree
    search: Any
    model: Any
    scales: Any
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
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

    adaptive = True

    line_search: LineSearch
    #: lengths of the steps, for methods that take them
    step_size: Any = None

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the steps are tested."""
        return self.step_size is None

    def _check_settings(self, tol: Any = None) -> None:
        super()._check_settings(tol)
        require_line_search(self.name, self.line_search)
        require_positive(f"{self.name}'s step_size", self.step_size)
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "step_size"))

    def _search(self) -> LineSearch:
        return self.line_search if self.step_size is None else Given()

    def _trial(self, bracket: Any, steps: Any) -> Any:
        """Return the search with its next trial; that of the first step is the start itself."""
        if self.step_size is None:
            return bracket
        length = self.step_size(steps.astype(jnp.int32) - 1) if callable(self.step_size) else self.step_size
        return bracket._replace(trial=jnp.where(steps == 0, 0, jnp.asarray(length, steps.dtype)))

    def _empty(self, x: Tree, dtype: Any) -> Any:
        """Return the model that knows nothing."""
        raise NotImplementedError

    def _renew(
        self, model: Any, s: Any, y: Any, g: Any, old: Any, gram: Gram, keep: Any, accept: Any
    ) -> tuple[Any, Any, Any]:
        """Take in a pair where ``keep`` holds; return the model, minus its product with ``g``, and that one's slope.

        ``old`` is minus the given model's product with the last gradient. ``accept`` says that the point is new, also
        where its pair is not to be kept.
        """
        raise NotImplementedError

    def _forget(self, model: Any, forget: Any) -> Any:
        """Drop all pairs where ``forget`` holds."""
        raise NotImplementedError

    def _first_trial(self, old: Any, slope: Scalar) -> Any:
        """Return the first step size to try along a direction of the model, after a search that ended in ``old``."""
        del old
        return jnp.ones_like(slope)

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, zero = infinity(x), trees.zeros_like(x)
        fresh = self._search().begin(0.0, inf, 0.0)
        search = jnp.stack([inf, jnp.zeros_like(inf), jnp.zeros_like(inf), inf, *fresh])
        return State(inf, inf, zero, zero, search, self._empty(x, inf.dtype), _scales.unknown(x), running())

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        dtype = state.error.dtype
        best, idle, steps, exact, *old = state.search
        line_search = self._search()
        old = self._trial(line_search.bracket(*old), steps)
        # (2): alpha_k = old.trial, p_k = state.direction, x_{k+1} = trial
        s = trees.scale(old.trial, state.direction)
        trial = trees.add(x, s)
        value, gradient = xla.once(problem.value_and_gradient(trial, *args), "quasi-Newton: value")
        # (3): y_k = y, s_k = s; g_{k+1} = gradient
        value, y = value.astype(dtype), trees.sub(gradient, state.gradient)
        gram = _gram(s, y, gradient, dtype)
        size = trees.sqrt(gram.gg)  # whose derivative at zero is zero
        first, eps = jnp.isinf(state.value), trees.eps(x)
        extent = _scales.norm(trial).astype(dtype)
        slack = relative_rounding(state.value)
        # the first trial is the start itself
        slope = gram.sg / jnp.where(first, 1, old.trial)
        hidden = hidden_difference(state.value)
        fits, bracket = line_search.judge(old, state.value, value, slope, hidden)
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        # a trial that meets the stopping test need not satisfy the search, and neither does the one that only probes
        pair = gram.ss, jnp.where(first, 0, gram.yy)
        each = _scales.elements(trial, gradient, s, y)
        seen = _scales.learned(state.scales, finite, *pair, extent, size, eps, gram.sy, leaps=True, each=each)
        solved = ((size <= threshold(self, x, seen)) | (steps == 1)) & (value <= state.value + hidden)
        shown = ~first & shown_by_gradients(state.value, value, -old.trial * old.slope, state.error, size)
        shown &= slope >= 0.9 * old.slope
        # the first step, which is short, may show that the start is a solution
        home = (steps == 1) & met(self, x, state.error, seen)
        accept = (first | fits | solved | shown) & finite & ~home
        # a search that fails along a quasi-Newton direction starts again along the gradient
        failed = ~accept & exhausted(bracket)
        restart = failed & (state.model.count > 0)

        # a change of the gradient that drowns in its rounding says nothing
        told = gram.yy > _scales.drowning_share(eps) ** 2 * gram.gg
        # (4)
        curved = told & (gram.sy > eps * jnp.sqrt(gram.ss * gram.yy))
        keep = accept & ~first & curved
        # (1): the next p_k = direction, slope = g_k'p_k
        model, direction, slope = self._renew(state.model, s, y, gradient, state.direction, gram, keep, accept)
        # a direction that does not descend means that the pairs are worn out
        restart = restart | (accept & ~(slope < 0))
        gain = (value < state.value - slack) | (size < 0.99 * best)
        idle = jnp.where(accept, jnp.where(gain, 0, idle + 1), idle)
        best = jnp.where(accept, jnp.minimum(best, size), best)
        exact = jax.lax.stop_gradient(jnp.where(accept, value, exact))
        value = jnp.where(accept, kept_value(state.value, value, hidden), state.value)
        gradient = trees.where(accept, gradient, state.gradient)
        error = jnp.where(accept, size, state.error)
        direction = trees.where(restart, trees.neg(gradient), trees.where(accept, direction, state.direction))
        slope = jnp.where(restart, -(error**2), slope)
        cold = restart | (model.count == 0)
        point = trees.where(accept, trial, x)
        scales = jnp.where(accept | home, seen, state.scales)
        here = jnp.where(accept, extent, _scales.norm(x).astype(dtype))
        cold_start = cold_length(_scales.Scales(*scales), here, error)
        cold_start = jnp.where(first, probe_length(value, here, error, eps, each.slope), cold_start)
        start = jnp.where(cold, cold_start, self._first_trial(old, slope)).astype(dtype)
        fresh = line_search.begin(jax.lax.stop_gradient(start), value, slope)
        stalled = (failed & (state.model.count == 0)) | lost_patience(idle, steps)
        ends = {"status": state.status, "accept": accept, "stalled": stalled}
        status = _scales.ending(scales, (value, extent, error), eps, **ends)
        status = jnp.where(unbounded(bracket), Status.DIVERGED, status)
        kept = State(
            jnp.where(first & ~finite, jnp.nan, error),
            value,
            gradient,
            direction,
            jnp.stack([best, idle, steps + 1, exact, *map(partial(jnp.where, accept | restart), fresh, bracket)]),
            self._forget(model, restart),
            scales,
            status.astype(jnp.int32),
        )
        return point, kept

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return the objective, its gradient, the next direction and the next trial's step size."""
        return super().readings(x, state) | {"step_size": state.search[..., 4]}

    def last_value(self, problem: Any, state: State) -> Any:
        """Return the objective at the last accepted point."""
        del problem
        return state.search[3]


def _gram(s: Any, y: Any, g: Any, dtype: Any) -> Gram:
    parts = []
    for leaves in zip(*(jax.tree.leaves(tree) for tree in (s, y, g)), strict=True):
        ss, sy, sg = inner_products(leaves, leaves[0])
        _, yy, yg = inner_products(leaves, leaves[1])
        parts.append((ss, sy, sg, yy, yg, inner_products(leaves, leaves[2])[2]))
    return Gram(*(trees.total(list(part)).astype(dtype) for part in zip(*parts, strict=True)))
