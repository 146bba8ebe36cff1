"""What is measured: forward errors without a labelled pair, inversions, laws of the latent, and a noise that is tuned.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Phase, Run

from ..layered import solve_layered
from . import bayes
from .bayes import Bayes, Budget
from .measures import Cases, Forward, Found, Inverted, cases, decoded, descended, forward, judged
from .training import DEEP, KINDS, MULTI, SOURCE, Data, Sizes, Trainers, media

EXACT, CONSTANT = "exact solver", "constant"
#: Whose unknown is a latent; of the others it is a logit in each cell.
LATENT = (MULTI, DEEP)


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of data, weights and noise."""
    kinds: tuple[str, ...] = KINDS
    """Networks: `MultiONet` and what it is compared with."""
    cells: int = 64
    train: int = 400
    """Media to train with, and below to test with."""
    test: int = 64
    latent: int = 16
    width: int = 48
    depth: int = 4
    """Layers of trunks and branches."""
    products: int = 3
    """Of MultiONet."""
    training: int = 1000
    """Steps."""
    batch: int = 16
    centers: int = 32
    cases: int = 8
    """Inverse problems."""
    observations: int = 24
    snr: float = 25.0
    """Of the noise, in decibels."""
    descent: int = 300
    """Steps of Adam of an inversion."""
    laws: int = 2
    """Cases of which laws of the latent are found; with none there are none, and no noise is tuned."""
    variational: int = 500
    """Steps of variational inference."""
    warmup: int = 100
    """Draws of NUTS that are thrown away, and below those that are kept, of each chain."""
    draws: int = 150
    chains: int = 2
    tuned: int = 2
    """Cases whose noise is tuned."""
    tuning: int = 8
    """Steps of HOAG on it."""
    weights: tuple[float, ...] = (0.1, 10.0)
    """Of the residuals, times that of the training."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            kinds=(MULTI,),
            cells=8,
            train=12,
            test=4,
            latent=3,
            width=6,
            depth=3,
            products=2,
            training=2,
            batch=4,
            centers=4,
            cases=2,
            observations=4,
            descent=2,
            laws=0,
        )

    @property
    def sizes(self) -> Sizes:
        """Of data and networks."""
        return Sizes(
            cells=self.cells,
            train=self.train,
            test=self.test,
            latent=self.latent,
            width=self.width,
            depth=self.depth,
            products=self.products,
            steps=self.training,
            batch=self.batch,
            centers=self.centers,
        )


@dataclass(frozen=True)
class Shown:
    """For a picture: the first cases of the first seed."""

    given: Cases
    forward: Found
    """The logit's phase probability as a medium, and the pressure, from the medium itself."""
    inverted: dict[str, Found]


@dataclass(frozen=True)
class Result:
    """What was found, seed by seed."""

    settings: Settings
    forwards: list[dict[str, Forward]]
    inversions: list[dict[str, Inverted]]
    bayes: list[Bayes]
    shown: Shown


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"training": 70, "inversions": 40, "laws": 70})
    trainers, seeds = Trainers(settings.sizes), settings.seeds
    flow = trainers.flow
    data = {seed: media(run.key("media", seed), settings.sizes, flow) for seed in seeds}
    kinds = settings.kinds
    if MULTI not in kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds must be of {KINDS}, and {MULTI} among them: given {kinds}.")
    wanted = [(seed, kind) for seed in seeds for kind in kinds]

    def train(which: tuple[int, str], phase: Phase) -> Any:
        seed, kind = which
        return trainers.train(kind, data[seed], run.key("model", seed), phase.advance).model

    trained = dict(zip(wanted, run.each("training", wanted, train, settings.training, pairs=True), strict=True))
    tasks = {seed: inverse_problems(data[seed], settings, run.random("noise", seed)) for seed in seeds}

    def invert(seed: int, phase: Phase) -> dict[str, Found]:
        found = {}
        for name in (*kinds, EXACT):
            size = settings.latent if name in LATENT else settings.cells
            model = None if name == EXACT else trained[seed, name]
            key = run.key("centers", seed)
            found[name] = descended(model, flow, tasks[seed], key, size, settings.descent)
            phase.advance()
        return found

    inverted = run.each("inversions", seeds, invert, len(kinds) + 1)
    middle = np.full_like(tasks[seeds[0]].a, (flow.low + flow.high) / 2)
    budget = Budget(
        settings.laws,
        settings.variational,
        settings.warmup,
        settings.draws,
        settings.chains,
        settings.tuned,
        settings.tuning,
    )

    def laws(seed: int, phase: Phase) -> Bayes:
        return bayes.study(
            trained[seed, MULTI],
            flow,
            tasks[seed],
            run.key("laws", seed),
            size=settings.latent,
            budget=budget,
            weights=settings.weights,
            advance=phase.advance,
        )

    found = run.each("laws", seeds, laws, 5) if settings.laws else []
    first = seeds[0]
    constant = Found(middle, np.asarray(solve_layered(jnp.asarray(middle), SOURCE).u))
    return Result(
        settings,
        [{kind: forward(trained[seed, kind], data[seed], flow) for kind in kinds} for seed in seeds],
        [
            {name: judged(one, tasks[seed], flow) for name, one in {**inverted[i], CONSTANT: constant}.items()}
            for i, seed in enumerate(seeds)
        ],
        found,
        Shown(tasks[first], decoded(trained[first, MULTI], data[first], flow), inverted[0]),
    )


def inverse_problems(data: Data, settings: Settings, random: np.random.Generator) -> Cases:
    """Of one seed."""
    return cases(data, settings.cases, settings.observations, settings.snr, random)
