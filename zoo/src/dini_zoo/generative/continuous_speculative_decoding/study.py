"""What is measured: the derivative of the validation loss, implicit and unrolled, beside its closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini_zoo.kit.modes import Way, compare
from dini_zoo.kit.run import Run

from .method import fit, validation_loss

IMPLICIT, UNROLLED = "implicit", "unrolled"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the data."""
    points: int = 60
    """To learn from, and as many to validate on."""
    features: int = 20
    steps: int = 300
    """Of gradient descent."""
    theta: float = 1.0
    """The logarithm of the strength at which the derivative is taken."""
    rounds: int = 10
    """Turns in which derivatives are timed."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(seeds=(0,), points=8, features=3, steps=20, rounds=1)


@dataclass(frozen=True)
class Result:
    """What was found: for each seed the derivative in each mode."""

    settings: Settings
    ways: list[dict[str, Way]]

    def errors(self, name: str) -> list[float]:
        """A mode's relative errors, seed by seed."""
        return [ways[name].error for ways in self.ways]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    modes = {IMPLICIT: dini.Implicit(), UNROLLED: dini.Unrolled(steps=settings.steps, checkpoint=False)}

    def one(seed: int, _: object) -> dict[str, Way]:
        random = run.random("data", seed)
        X = random.normal(size=(2, settings.points, settings.features))
        y = X[..., 0] + 0.5 * random.normal(size=X.shape[:2])

        def value(theta: jax.Array, mode: dini.Differentiation) -> jax.Array:
            w = fit(theta, X[0], y[0], steps=settings.steps, differentiation=mode)
            return validation_loss(w, X[1], y[1])

        truth = closed_form(settings.theta, X, y)
        return compare(value, modes, jnp.asarray(settings.theta), truth=truth, rounds=settings.rounds)

    return Result(settings, run.each("derivatives", settings.seeds, one))


def closed_form(theta: float, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The derivative of the validation loss from linear algebra alone."""
    strength = np.exp(theta)
    H = X[0].T @ X[0] + strength * np.eye(X.shape[-1])
    w = np.linalg.solve(H, X[0].T @ y[0])
    dw = -np.linalg.solve(H, strength * w)
    return np.asarray(2 * np.mean((X[1] @ w - y[1]) * (X[1] @ dw)))
