"""The paper's claims at a size for two cores: normal data of which all is known, and digits.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dini_zoo.kit.run import Run

from . import closed, digits
from .sampling import Adjoint


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    parts: tuple[str, ...] = ("normal data", "inversion", "attack", "costs")
    """What is done: the last three with digits."""
    spreads: tuple[float, ...] = (0.02, 0.1, 0.5)
    """Standard deviations of normal data."""
    counts: tuple[int, ...] = (20, 50)
    """Steps there."""
    training: int = 3000
    """Steps of the generator's, and below of the classifier's."""
    classifier_training: int = 1500
    width: int = 256
    blocks: int = 2
    steps: int = 15
    """Of the sampler."""
    adjoint: Adjoint = "backsolve"
    """By which the embedding is sought and noises are attacked."""
    iterations: int = 60
    """Of Adam, for the embedding."""
    rate: float = 0.05
    batch: int = 32
    fresh: int = 500
    """Noises that judge the embedding."""
    attack_steps: int = 30
    attack_rate: float = 0.05
    radius: float = 0.3
    samples: int = 100
    """That are attacked."""
    grids: tuple[int, ...] = (10, 15, 30, 60)
    """Steps of the sampler for which a gradient's cost is measured."""
    cost_batch: int = 64
    rounds: int = 5

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            parts=("inversion",),
            spreads=(0.1,),
            counts=(4,),
            training=2,
            classifier_training=2,
            width=8,
            blocks=1,
            steps=2,
            iterations=1,
            batch=2,
            fresh=12,
            attack_steps=1,
            samples=12,
            grids=(2,),
            cost_batch=2,
            rounds=1,
        )


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    closed: closed.Closed | None
    accuracy: float
    """Of the classifier."""
    judge_accuracy: float
    inversion: digits.Inversion | None
    attack: digits.Attack | None
    costs: list[digits.Cost] | None


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"normal data": 15, "training": 40, "inversion": 20, "attack": 25, "costs": 60})
    exact = None
    if "normal data" in settings.parts:
        exact = run.part("normal data", lambda _: closed.measure(settings.spreads, settings.counts))
    models = run.part(
        "training",
        lambda phase: digits.train(
            run.key("training"),
            width=settings.width,
            blocks=settings.blocks,
            steps=settings.training,
            classifier_steps=settings.classifier_training,
            advance=phase.advance,
        ),
        settings.training + settings.classifier_training,
    )
    return Result(
        settings,
        exact,
        models.accuracy,
        models.judge_accuracy,
        inversion(settings, run, models) if "inversion" in settings.parts else None,
        attack(settings, run, models) if "attack" in settings.parts else None,
        costs(settings, run, models) if "costs" in settings.parts else None,
    )


def inversion(settings: Settings, run: Run, models: digits.Models) -> digits.Inversion:
    """An embedding is sought."""
    return run.part(
        "inversion",
        lambda _: digits.invert(
            models,
            run.key("inversion"),
            steps=settings.steps,
            iterations=settings.iterations,
            rate=settings.rate,
            batch=settings.batch,
            fresh=settings.fresh,
            adjoint=settings.adjoint,
        ),
    )


def attack(settings: Settings, run: Run, models: digits.Models) -> digits.Attack:
    """Noises mislead the classifier."""
    return run.part(
        "attack",
        lambda _: digits.attack(
            models,
            run.key("attack"),
            steps=settings.steps,
            iterations=settings.attack_steps,
            rate=settings.attack_rate,
            radius=settings.radius,
            samples=settings.samples,
            adjoint=settings.adjoint,
        ),
    )


def costs(settings: Settings, run: Run, models: digits.Models) -> list[digits.Cost]:
    """What a gradient costs."""
    return run.part(
        "costs",
        lambda phase: digits.costs(
            models,
            run.key("costs"),
            settings.grids,
            batch=settings.cost_batch,
            rounds=settings.rounds,
            advance=phase.advance,
        ),
        len(settings.grids),
    )
