"""The paper's figure of run times: hypergradients of a support vector machine as the number of features grows.

The training data are the paper's, 700 points of five classes. Scaled to minutes on two cores: the paper has up to
10,000 features, 2,500 steps of mirror descent and of projected gradient, 500 epochs of block coordinate descent. Our
steps do not shrink as the paper's do, and projected gradient has momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from dini_zoo.kit.run import Phase, Run

from .data import synthetic
from .measurement import Size, measure
from .peers import peers
from .solvers import BLOCKS, MIRROR_DESCENT, PROJECTED_GRADIENT, SCALED, Limits, contenders


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    features: tuple[int, ...] = (100, 250, 600, 1500)
    solvers: tuple[str, ...] = (MIRROR_DESCENT, PROJECTED_GRADIENT, BLOCKS)
    classes: int = 5
    train: int = 700
    validation: int = 300
    log_theta: float = 2.0
    """Where a quarter to a third of the dual's elements are positive."""
    limits: Limits = SCALED
    rounds: int = 7
    """Turns in which the programs of one number of features are timed, at most."""
    patience: float = 6.0
    """Seconds for all turns of one number of features, but there are four at least."""
    memory_limit: float = 2e9
    """Bytes above which unrolling is timed with checkpoints."""
    peer_limit: int = 250
    """Features up to which JAXopt is measured; its linear solves take long beyond."""
    seed: int = 0
    """Of the data."""

    @classmethod
    def tiny(cls) -> Self:
        solvers = (PROJECTED_GRADIENT,)
        return cls((20,), solvers, 3, 20, 10, limits=Limits(60, 60, 20), rounds=2, peer_limit=0)


@dataclass(frozen=True)
class Result:
    """What was measured, by the number of features."""

    settings: Settings
    sizes: list[Size]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({f"{features} features": 10 + features / 20 for features in settings.features})

    def found(features: int, phase: Phase) -> Size:
        data = synthetic(features, settings.classes, settings.train, settings.validation, settings.seed)
        # one over the Lipschitz constant, and a constant: its own derivative in θ is nothing to unroll
        step_size = float(np.exp(settings.log_theta)) / data.curvature
        return measure(
            data,
            settings.log_theta,
            contenders(settings.solvers, step_size, settings.limits),
            peers(step_size, settings.limits) if features <= settings.peer_limit else {},
            rounds=settings.rounds,
            patience=settings.patience,
            memory_limit=settings.memory_limit,
            advance=lambda doing: phase.advance(),
        )

    sizes = [
        run.part(f"{features} features", lambda phase, features=features: found(features, phase))
        for features in settings.features
    ]
    return Result(settings, sizes)
