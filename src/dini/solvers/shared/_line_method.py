"""Methods that search along a direction: its trials, and what the search says of them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...protocols import Composed
from ...trees import Tree
from ..judge._descent import Descent, Ruling, State, Trial, Verdict, shown_by_gradients
from ..judge._lengths import cold_length, is_rounding, probe_length
from ..judge._margins import CURVATURE
from ..judge._units import Units
from ._line_search import LineSearch, WeakWolfe, exhausted, unbounded


class Line(NamedTuple):
    """What a method along lines remembers: the direction, the search's bracket as one vector, and its model."""

    direction: Tree
    search: Any
    model: Any


class LineMethod(Descent):
    """Base of the methods along lines: what is left to a method is ``remember`` and ``propose``, the direction.

    A setting ``line_search`` (a static field) lets the user choose the search; without one it is ``WeakWolfe()``.
    """

    adaptive = True
    first_order = True
    line_search: LineSearch = WeakWolfe()

    def search(self) -> LineSearch:
        """Return the search that tests trials."""
        return self.line_search

    def line(self, x: Tree, model: Any) -> Line:
        """Return what is remembered before the first step: a line of no length, so that the first trial is the start.

        ``model`` is the method's own memory, any pytree; the direction is zero.
        """
        inf = jnp.full((), jnp.inf, trees.real_dtype(x))
        return Line(trees.zeros_like(x), jnp.stack(self.search().begin(0.0, inf, 0.0)), model)

    def bracket(self, memory: Line) -> Any:
        """Return the search's bracket with its fields by name."""
        return self.search().bracket(*memory.search)

    def rests(self, trial: Trial) -> Any:
        """Return whether a fixed number of steps continues from a point at rest: the last one shows no curvature."""
        return is_rounding(trial.products.ss, trial.extent, trees.eps(trial.x)) & ~trial.first & (not self.stops)

    def trial(self, problem: Composed, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the next trial point on the line, and the move to it."""
        del problem
        move = trees.scale(self.bracket(state.memory).trial, state.memory.direction)
        return trees.add(x, move), move

    def judge(self, memory: Line, trial: Trial, slope: Any = None, longest: Any = None) -> Ruling:
        """Return what the search says, by value and slope; no step is longer than ``longest``."""
        last = self.bracket(memory)
        slope = trial.products.sg / jnp.where(trial.first, 1, last.trial) if slope is None else slope
        figures = trial.before.value, trial.value, slope, trial.slack
        fits, bracket = self.search().judge(last, *figures, longest)
        # a trial that has met the curvature condition, and of which values say nothing
        shown = shown_by_gradients(trial, -last.trial * last.slope) & (slope >= CURVATURE * last.slope)
        return Ruling(fits | shown, memory._replace(search=jnp.stack(bracket)), exhausted(bracket), unbounded(bracket))

    def along(self, memory: Line, verdict: Verdict, direction: Tree, slope: Any, start: Any, fresh: Any) -> Line:
        """Return a new search along a direction where it is ``fresh``, elsewhere the old one with its next trial.

        ``slope`` is the inner product of the direction and the gradient, which is negative; ``start`` the first
        multiple of the direction to try. A new search is due from an accepted point, and where the method starts again.
        """
        begun = self.search().begin(jax.lax.stop_gradient(start).astype(slope.dtype), verdict.value, slope)
        search = jnp.stack([*map(partial(jnp.where, fresh), begun, memory.search)])
        return memory._replace(direction=trees.where(fresh, direction, memory.direction), search=search)

    def cold_start(self, trial: Trial, verdict: Verdict) -> Any:
        """Return the first step size along minus the gradient, where no model of the curvature is left.

        At the start it only probes the curvature.
        """
        point, eps = (verdict.extent, verdict.error), trees.eps(trial.x)
        probe = probe_length(trial.value, *point, eps, trial.each.slope)
        return jnp.where(trial.first, probe, cold_length(Units.of(verdict.scales), *point))

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return the objective, its gradient, the next direction and the next trial's step size."""
        memory = state.memory
        return super().readings(x, state) | {"step_size": memory.search[..., 0], "direction": memory.direction}
