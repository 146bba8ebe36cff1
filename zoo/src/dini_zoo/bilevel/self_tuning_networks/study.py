"""The paper's claims: a loop whose optimum is known, and dropout rates of a network that are tuned in one training.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Run

from ..data import noisy_digits
from . import networks, ridge
from .networks import Trained

#: The deviations at which the derivative through an affine response is compared with the exact one.
SIGMAS = (0.01, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of networks and of everything random in their training. The data are those of the specification."""
    ridge_cycles: int = 1833
    """Of three steps of the response and one of the hyperparameter."""
    ridge_warmup: int = 501
    ridge_starts: tuple[float, ...] = (1.0, -1.5)
    train: int = 300
    validation: int = 600
    share: float = 0.2
    """Of the training labels that are wrong."""
    units: int = 128
    batch: int = 128
    steps: int = 4000
    """Of each network's training."""
    warmup: int = 300
    """Steps before the first of the hyperparameters."""
    every: int = 50
    """Steps between two looks at the validation sample."""
    starts: tuple[float, ...] = (0.05, 0.5)
    """All three dropout rates at the start, and of a training with constant ones."""
    draws: int = 8
    """Constant rates that are drawn."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            ridge_cycles=30,
            ridge_warmup=5,
            ridge_starts=(1.0,),
            train=30,
            validation=20,
            units=4,
            batch=8,
            steps=20,
            warmup=4,
            every=4,
            starts=(0.05,),
            draws=1,
        )


@dataclass(frozen=True)
class Result:
    """What was found; of networks a list for each start or draw, with one for each seed."""

    settings: Settings
    ridge: ridge.Ridge
    tuned: list[list[Trained]]
    constant: list[list[Trained]]
    """With the rates at which the others start."""
    drawn: list[list[Trained]]
    again: list[list[Trained]]
    """With the constant rates that tuning from the first start ended at, those of the first seed."""

    def validation(self, trained: list[Trained]) -> list[float]:
        """The best validation losses, seed by seed."""
        return [one.best[0] for one in trained]

    @property
    def best_draws(self) -> list[float]:
        """The best of the drawn rates' validation losses, seed by seed."""
        return list(np.min([self.validation(one) for one in self.drawn], axis=0))

    @property
    def median_draws(self) -> list[float]:
        """Their median, seed by seed."""
        return list(np.median([self.validation(one) for one in self.drawn], axis=0))


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"ridge": 15, "self-tuning": 35, "constant rates": 110})

    def loops(_: object) -> ridge.Ridge:
        with jax.enable_x64(True):
            how: dict[str, Any] = {"cycles": settings.ridge_cycles, "warmup": settings.ridge_warmup}
            return ridge.study(run.key("ridge"), starts=settings.ridge_starts, sigmas=SIGMAS, **how)

    found = run.part("ridge", loops)
    recipe = networks.Recipe(
        noisy_digits(settings.train, settings.validation, settings.share),
        settings.units,
        settings.batch,
        settings.steps,
        settings.warmup,
        settings.every,
    )
    keys = jnp.stack([run.key("networks", seed) for seed in settings.seeds])
    tuned = run.part("self-tuning", lambda _: networks.self_tuning(recipe, settings.starts, keys))

    def rivals(_: object) -> list[list[Trained]]:
        drawn = np.random.default_rng(1).uniform(0.02, 0.88, (settings.draws, 3))
        ended = tuned[0][0].rates[-1:]
        rates = np.concatenate([np.repeat(np.array(settings.starts)[:, None], 3, axis=1), ended, drawn])
        return networks.fixed(recipe, rates, keys)

    constant = run.part("constant rates", rivals)
    n = len(settings.starts)
    return Result(settings, found, tuned, constant[:n], constant[n + 1 :], constant[n : n + 1])
