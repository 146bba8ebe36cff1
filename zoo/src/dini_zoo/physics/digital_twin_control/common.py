"""What both halves of the experiment need: one program for every policy, and one for every training of a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..policies import Controller, Evaluation, Schedule, evaluate, evaluate_each

POPULATION, MEAN_FIELD, CUT = "through the population", "through the mean field", "no gradient through time"


class AnyPolicy(eqx.Module):
    """A schedule or a controller: one compiled program simulates both."""

    schedule: Schedule
    controller: Controller
    feedback: Bool[Array, ""]

    def __call__(self, x: Array, t: Any) -> Array:
        """The control of a step."""
        return jnp.where(self.feedback, self.controller(x, t), self.schedule(x, t))


class Weighted(eqx.Module):
    """A mean field times a number: the derivative through time of a corrected rollout, whose values stay, is too."""

    g: Any
    weight: Float[Array, ""]

    def __call__(self, x: Array, u: Array) -> Array:
        """The mean field's step, times the number."""
        return self.weight * self.g(x, u)


class Judge:
    """Simulates policies of one population with one compiled program."""

    def __init__(self, abm: Any, cost: Any, steps: int, blank: Controller):
        self.abm, self.cost, self.steps, self.blank = abm, cost, steps, blank
        self._controls = len(blank.most)

    def of_schedule(self, u: Any) -> AnyPolicy:
        """A policy of the controls of all steps, or of one control for all of them."""
        u = jnp.broadcast_to(jnp.asarray(u, jnp.float32), (self.steps, self._controls))
        return AnyPolicy(Schedule(u), self.blank, jnp.array(False))

    def of_controller(self, controller: Controller) -> AnyPolicy:
        """A feedback."""
        return AnyPolicy(Schedule(jnp.zeros((self.steps, self._controls))), controller, jnp.array(True))

    def __call__(self, policy: AnyPolicy, keys: Array, abm: Any = None) -> Evaluation:
        """Simulate a policy with each key, of another population of the same kind if it is given."""
        return evaluate(abm or self.abm, policy, self.cost, keys, self.steps)

    def each(self, policies: list[AnyPolicy], keys: Array) -> Evaluation:
        """Simulate several policies, one with each key."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *policies)
        return evaluate_each(self.abm, stacked, self.cost, keys, self.steps)


@dataclass(frozen=True)
class Score:
    """What a policy cost on held-out keys."""

    name: str
    seed: int | None
    """Of its training; of a policy without one there is none."""
    cost: float
    error: float
    """The standard error of the mean cost."""
    controls: tuple[float, ...]
    """Mean controls."""
    overflow: int
    """Births or arrivals for which there was no slot, in the worst simulation."""


def score(name: str, seed: int | None, found: Evaluation) -> Score:
    """A policy's figures."""
    cost = np.asarray(found.cost, np.float64)
    return Score(
        name,
        seed,
        float(cost.mean()),
        float(cost.std(ddof=1) / np.sqrt(len(cost))),
        tuple(float(u) for u in np.asarray(found.path.u, np.float64).mean(axis=(0, 1))),
        int(np.max(found.path.state.overflow)),
    )
