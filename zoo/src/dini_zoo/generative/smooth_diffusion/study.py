"""The paper's claim on 8 × 8 digits: walks between noises that change evenly, and what that does to quality.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dini_zoo.diffusion.chains import Chain, scaled_linear_betas
from dini_zoo.kit.run import Phase, Run

from .judging import Data, Judged, judged
from .training import Budget, Trainings, Tuned


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    weight: float = 0.1
    """The penalty's, and below others that it is compared with; 0, the control, is always there."""
    others: tuple[float, ...] = (0.01, 1.0)
    training: int = 10_000
    """Steps of the base, and below of the adapters."""
    tuning: int = 4000
    batch: int = 128
    """Of the base, and below of the adapters."""
    tuning_batch: int = 96
    width: int = 256
    rank: int = 8
    """Of the adapters."""
    steps: int = 50
    """Of DDIM, and below of its inversion: divisors of 1000."""
    inversion_steps: int = 10
    pairs: int = 300
    """Walks between two noises."""
    samples: int = 2000
    inverted: int = 500
    """Images that were trained with, and below others whose noises are found by fixed points."""
    exact: int = 100

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            others=(),
            training=2,
            tuning=2,
            batch=16,
            tuning_batch=16,
            width=8,
            rank=2,
            steps=2,
            inversion_steps=2,
            pairs=8,
            samples=88,  # as many as there are on the walks, and below as many as are not trained with
            inverted=297,
            exact=0,
        )

    @property
    def weights(self) -> tuple[float, ...]:
        """The control's and all others, in order."""
        return tuple(sorted({0.0, self.weight, *self.others}))


@dataclass(frozen=True)
class Tuning:
    """One weight's figures, of one seed."""

    weight: float
    norm: float
    """The mean of variation norms at the end of the training, and below their relative spread."""
    spread: float
    judged: Judged


@dataclass(frozen=True)
class Result:
    """What was found, seed by seed."""

    settings: Settings
    base: list[Judged]
    tunings: list[list[Tuning]]
    """By seed, then by weight in the order of the settings."""
    data: list[Data]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"base": 25, "adapters": 60, "samples": 30})
    chain = Chain.of_betas(scaled_linear_betas(1000).astype("float32"))
    seeds, weights = settings.seeds, settings.weights
    trainings = Trainings(
        chain,
        settings.width,
        Budget(settings.training, settings.batch),
        Budget(settings.tuning, settings.tuning_batch),
        settings.rank,
    )
    bases = run.each(
        "base",
        seeds,
        lambda seed, phase: trainings.base(run.key("base", seed), phase.advance),
        settings.training,
        pairs=True,
    )

    def tune(which: tuple[int, float], phase: Phase) -> Tuned:
        i, weight = which
        return trainings.tuned(bases[i], weight, run.key("adapters", seeds[i]), phase.advance)

    both = [(i, weight) for i in range(len(seeds)) for weight in weights]
    tuned = run.each("adapters", both, tune, settings.tuning, pairs=True)

    def judge(i: int, _: Phase) -> tuple[list[Judged], Data]:
        own = tuned[len(weights) * i :][: len(weights)]
        return judged(
            [bases[i], *(one.network for one in own)],
            chain,
            run.key("samples", seeds[i]),
            seed=seeds[i],
            steps=settings.steps,
            pairs=settings.pairs,
            samples=settings.samples,
            inversion_steps=settings.inversion_steps,
            inverted=settings.inverted,
            exact=settings.exact,
        )

    found = run.each("samples", range(len(seeds)), judge)
    tunings = [
        [
            Tuning(weight, one.norm, one.spread, figures)
            for weight, one, figures in zip(weights, tuned[len(weights) * i :][: len(weights)], rest, strict=True)
        ]
        for i, ((_, *rest), _) in enumerate(found)
    ]
    return Result(settings, [first for (first, *_), _ in found], tunings, [data for _, data in found])
