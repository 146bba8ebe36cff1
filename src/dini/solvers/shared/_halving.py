"""Methods whose first trial is a whole step, which is halved until the value falls as it predicts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from ... import trees
from ...protocols import AnyProblem
from ...trees import Scalar, Tree
from ..judge._descent import Descent, Ruling, State, Trial, armijo


class Way(NamedTuple):
    """What is remembered: the direction, how much of it is tried next, and what made it."""

    direction: Any
    step_size: Scalar
    model: Any


class Halving(Descent):
    """Base of the methods whose steps are halved; they differ in the direction."""

    def way(self, direction: Tree, model: Any) -> Way:
        """Return a way of no length: the first trial is the start itself."""
        return Way(trees.zeros_like(direction), jnp.zeros((), trees.real_dtype(direction)), model)

    def trial(self, problem: AnyProblem, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the next trial point, and the move to it."""
        del problem
        move = trees.scale(state.memory.step_size, state.memory.direction)
        return trees.add(x, move), move

    def judge(self, memory: Way, trial: Trial) -> Ruling:
        """Return whether the value has fallen by a share of what the slope along the move predicts."""
        fits = armijo(trial, trees.vdot(trial.before.gradient, trial.move).astype(trial.value.dtype))
        return Ruling(fits, memory._replace(step_size=0.5 * memory.step_size))

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return the objective, its gradient, the direction and the next trial's share of it."""
        values = {"direction": state.memory.direction, "step_size": state.memory.step_size}
        return super().readings(x, state) | values
