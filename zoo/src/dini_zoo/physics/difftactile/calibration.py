"""Parameters of a sensor from what it measured, and motions to a goal: by gradients, and by an evolution strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cma
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, same_shape

from .sensor import Parameters, Rollout, TactileSim


def relative_error(ours: Array, truth: Array) -> Float[Array, ""]:
    """The squared distance of two arrays of one shape over the squared norm of the second.

    Examples
    --------
    >>> print(relative_error(jnp.array([1.0, 1.0]), jnp.array([1.0, 2.0])))
    0.2
    """
    same_shape("ours", ours, "truth", jnp.shape(truth))
    return jnp.sum((ours - truth) ** 2) / jnp.sum(truth**2)


def mismatch(ours: Rollout, truth: Rollout) -> Float[Array, ""]:
    """What calibration minimizes: the relative errors of the forces and of the markers, each over all control steps."""
    return relative_error(ours.force, truth.force) + relative_error(ours.markers, truth.markers)


def calibration_loss(
    sim: TactileSim, controls: Float[Array, "steps 3"], observed: Rollout, parameters: Parameters
) -> Callable[[Float[Array, " 3"]], Float[Array, ""]]:
    """The mismatch as a function of the logarithms of ``E``, ``kn`` and ``mu_f``; other parameters are given.

    Raises ``ValueError`` where the observations are known and show no contact: there is nothing to learn from them.
    """
    for name in ("force", "markers"):
        seen = getattr(observed, name)
        if known(seen) and not np.any(np.asarray(seen)):
            raise ValueError(f"observed must show a contact: given {name} of zero throughout. Press deeper.")

    def loss(logarithms: Float[Array, " 3"]) -> Float[Array, ""]:
        E, kn, mu_f = jnp.exp(logarithms)
        return mismatch(sim.rollout(parameters._replace(E=E, kn=kn, mu_f=mu_f), controls), observed)

    return loss


class Goal(NamedTuple):
    """What a motion should end with: an upward force, and a displacement of the frame along x."""

    force: float = 800.0
    travel: float = 0.5

    def __call__(self, rollout: Rollout) -> Float[Array, ""]:
        """The squared relative distances from both."""
        force, travel = self.errors(rollout)
        return force**2 + travel**2

    def errors(self, rollout: Rollout) -> tuple[Array, Array]:
        """The relative distances of the last control step's force and displacement."""
        return (rollout.force[-1, 2] - self.force) / self.force, (rollout.frame[-1, 0] - self.travel) / self.travel


class Evolved(NamedTuple):
    """How far an evolution strategy came."""

    x: np.ndarray
    """The best point that it tried."""
    best: np.ndarray
    """The best value after each generation."""
    population: int
    """Evaluations in a generation."""


def evolve(
    objective: Callable[[Float[Array, "population n"]], Any],
    start: Any,
    sigma: float,
    generations: int,
    population: int,
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> Evolved:
    """CMA-ES, by the package ``cma``, of an objective that evaluates a generation at a time.

    Values that are not finite count as infinite. ``advance`` is called after each generation.
    """
    start = np.asarray(start, float)
    # no tolerances: its budget is the number of evaluations
    options = {"popsize": population, "seed": seed + 1, "verbose": -9, "tolfun": 0, "tolfunhist": 0, "tolx": 0}
    strategy = cma.CMAEvolutionStrategy(start.ravel(), sigma, options)
    best, found, course = np.inf, start.ravel(), []
    for _ in range(generations):
        tried = strategy.ask()
        values = np.asarray(objective(jnp.asarray(np.stack(tried).reshape(population, *start.shape))), float)
        values = np.where(np.isfinite(values), values, np.inf)
        strategy.tell(tried, [float(min(value, 1e12)) for value in values])
        if values.min() < best:
            best, found = float(values.min()), tried[int(values.argmin())]
        course.append(best)
        advance(1)
    return Evolved(found.reshape(start.shape), np.array(course), population)
