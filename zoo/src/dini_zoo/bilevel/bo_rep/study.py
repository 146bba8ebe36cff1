"""The paper's claims: steps of one length where gradients explode, and the cleaning of data by a recurrent network.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax

from dini_zoo.kit.run import Run

from ..data import noisy_digits
from . import cleaning, toy


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the oracles' noise, of networks and of their batches. The data are those of the specification."""
    toy_steps: int = 3000
    toy_etas: tuple[float, ...] = (0.01, 0.03)
    """Step lengths; parts are left out at the first."""
    toy_rates: tuple[float, ...] = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    """Of steps that are not normalized."""
    ablation: bool = True
    """Whether parts of the method are left out one by one, on the toy."""
    train: int = 1000
    validation: int = 300
    share: float = 0.4
    """Of the training labels that are wrong."""
    parts: int = 8
    """In which the network reads an image."""
    units: int = 32
    batch: int = 128
    steps: int = 3000
    """Of cleaning."""
    every: int = 100
    """Steps between two looks at the test sample."""
    etas: tuple[float, ...] = (0.1,)
    rates: tuple[float, ...] = (1.0, 10.0, 100.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            toy_steps=20,
            toy_etas=(0.03,),
            toy_rates=(),
            ablation=False,
            train=60,
            validation=20,
            parts=1,
            units=3,
            batch=8,
            steps=4,
            every=2,
            rates=(),
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    direction: float
    """The distance of the direction at the exact inner variables from that of dini's implicit hypergradient."""
    courses: list[toy.Course]
    cleaned: list[cleaning.Cleaned]

    def course(self, name: str, rate: float | None = None) -> toy.Course | None:
        """The toy's variant of this name, and of this rate if one is given."""
        found = (one for one in self.courses if one.variant.name == name and rate in (None, one.variant.rate))
        return next(found, None)

    def best(self, name: str) -> toy.Course | None:
        """Of a baseline's rates, the one that ends at the least slope."""
        return min((one for one in self.courses if one.variant.name == name), key=lambda one: one.final, default=None)

    @property
    def rivals(self) -> list[toy.Course]:
        """Both baselines at their best rates."""
        return [one for one in map(self.best, ("SOBA", "MA-SOBA")) if one is not None]

    def network(self, name: str, rate: float | None = None) -> cleaning.Cleaned | None:
        """What a method made of the digits; of several rates the most accurate, if none is given."""
        found = [one for one in self.cleaned if one.name == name and rate in (None, one.rate)]
        return max(found, key=lambda one: one.accuracy[:, -1].mean(), default=None)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"toy": 15, "cleaning": 100})
    keys = lambda name: jax.numpy.stack([run.key(name, seed) for seed in settings.seeds])
    variants = toy.variants(settings.toy_etas, settings.toy_rates, ablation=settings.ablation)
    courses = run.part("toy", lambda _: toy.solve(variants, keys("toy"), settings.toy_steps))

    def clean(_: object) -> list[cleaning.Cleaned]:
        digits = noisy_digits(settings.train, settings.validation, settings.share)
        task = cleaning.Task(digits, settings.parts, settings.units, settings.batch)
        how = {"steps": settings.steps, "every": settings.every}
        return cleaning.clean(task, keys("cleaning"), etas=settings.etas, rates=settings.rates, **how)

    return Result(settings, toy.direction_error(), courses, run.part("cleaning", clean))
