"""Controllers of two stochastic populations, trained through these, beside what plans and trains on a mean field.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dini_zoo.kit.run import Run

from . import pathways, predators


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of the trainings."""
    side: int = 40
    """Cells along each side of the meadow."""
    sheep: int = 300
    """At the start, as are the wolves."""
    wolves: int = 30
    capacity: tuple[int, int] = (1536, 768)
    """Slots for sheep and for wolves."""
    steps: int = 120
    evaluated: int = 24
    """Held-out simulations of each policy of sheep and wolves."""
    training: int = 100
    """Steps of a controller's training."""
    runs: int = 4
    """Simulations in each of them."""
    hold: int = 5
    """Steps for which the controls of a plan stay, but where they are free in each. With 0 there are no plans."""
    sigmas: tuple[float, ...] = (0.1, 0.3, 0.6)
    """First standard deviations of CMA-ES."""
    generations: int = 25
    population: int = 16
    pathway_steps: int = 300
    pathway_training: int = 150
    pathway_evaluated: int = 256

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            side=10,
            sheep=60,
            wolves=30,
            capacity=(160, 96),
            steps=10,
            evaluated=4,
            training=1,
            runs=2,
            hold=0,
            sigmas=(0.3,),
            generations=1,
            population=4,
            pathway_steps=8,
            pathway_training=1,
            pathway_evaluated=2,
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    predators: predators.Predators
    pathways: pathways.Pathways


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan(
        {
            "mean field": 6,
            "plans": 15,
            "constants": 5,
            "controllers": 40,
            "evolution": 30,
            "predators judged": 8,
            "pathway constants": 10,
            "pathway plan": 5,
            "pathway controllers": 12,
            "pathways judged": 25,
        }
    )
    return Result(settings, predators.study(settings, run), pathways.study(settings, run))
