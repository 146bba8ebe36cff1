"""What is measured: evaluations, accuracy, error and time of flows and noisy flows of digits, with penalties or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import optax
from jaxtyping import Int

from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Course

from ..digit_flows import (
    FlowClassifier,
    Tested,
    Training,
    evaluations,
    plain,
    prediction_times,
    recorded,
    test,
)
from ..estimates import exponential_schedule
from .noisy import Noisy, NoisyTraining
from .noisy import study as study_noisy

VANILLA, ERROR, STIFFNESS = "vanilla", "ERNODE", "SRNODE"
STRONG, STEER, LOOSE = "ERNODE, strong", "STEER", "trained loosely"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of the first weights and of the batches."""
    steps: int = 400
    batch: int = 128
    rate: float = 3e-3
    """Of Adam."""
    hidden: int = 64
    """Units of the vector field."""
    tolerance: float = 1e-7
    """Of the solves, relative and absolute."""
    methods: tuple[str, ...] = (VANILLA, ERROR, STIFFNESS)
    """That are trained for every seed."""
    error_weights: tuple[float, float] = (3.0, 0.3)
    """Of the error estimates, at the first step and the last."""
    strong_weights: tuple[float, float] = (100.0, 10.0)
    """For one model of the first seed that shows too much of it."""
    stiffness_weight: float = 1.0
    spread: float = 0.5
    """Of STEER's random end, to each side."""
    loose: float = 1e-3
    """The tolerance of a model that trains with a looser one."""
    others: bool = True
    """Whether models with strong weights, a random end, a loose tolerance are trained, of the first seed."""
    tolerances: tuple[float, ...] = (1e-1, 1e-3, 1e-5, 1e-7)
    """Of the tests."""
    rounds: int = 10
    """Turns in which predictions are timed."""
    noise_seeds: tuple[int, ...] = (0, 1)
    """Of the SDE."""
    noise_weights: tuple[float, ...] = (0.0, 3.0, 10.0)
    """Of its error estimates."""
    noise_steps: int = 300
    noise_tolerances: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Of its tests; it trains with the first one."""
    draws: int = 5
    """Of the noise, in its tests."""
    seed: int = 0
    """Of all that is random."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            steps=2,
            batch=16,
            hidden=4,
            tolerance=1e-3,
            methods=(VANILLA, ERROR),
            others=False,
            tolerances=(1e-1, 1e-3),
            rounds=1,
            noise_seeds=(),
        )


@dataclass(frozen=True)
class Fitted:
    """One trained model."""

    tests: list[Tested]
    """By tolerance."""
    course: Int[np.ndarray, " steps"]
    """Evaluations of a solve, at each step of training."""
    seconds: float
    """Of the processor for training, without compilation."""
    times: float
    """Of a prediction of all test images at the tolerance of training, in seconds."""

    @property
    def own(self) -> Tested:
        """With the tightest tolerance."""
        return min(self.tests, key=lambda test: test.tolerance)


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    flows: dict[str, list[Fitted]]
    """By method, seed by seed; some have the first seed alone."""
    noisy: list[list[Noisy]]
    """Seed by seed: every weight with every tolerance."""

    def noise(self, weight: float, tolerance: float) -> list[Noisy]:
        """The SDE of one weight with one tolerance, seed by seed."""
        return [one for row in self.noisy for one in row if (one.weight, one.tolerance) == (weight, tolerance)]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"flows": 90, "other flows": 25, "noisy flows": 60})
    training = Training(settings.steps, settings.batch, settings.rate, settings.hidden, settings.tolerance)
    key = run.key("training")
    free, by_error, by_stiffness = (
        training.trainer(solve, key)
        for solve in (plain(training), recorded(training, "error"), recorded(training, "stiffness"))
    )

    def fitted(courses: dict[str, Course[FlowClassifier]]) -> dict[str, Fitted]:
        times = prediction_times([course.model for course in courses.values()], settings.tolerance, settings.rounds)
        return {
            name: Fitted(test(course.model, settings.tolerances), evaluations(course.aux), course.seconds, time)
            for (name, course), time in zip(courses.items(), times, strict=True)
        }

    def main(seed: int, phase: Phase) -> dict[str, Fitted]:
        advance_by = phase.advance
        weights = exponential_schedule(*settings.error_weights, settings.steps)
        constant = optax.constant_schedule(settings.stiffness_weight)
        ways = {
            VANILLA: lambda: training.train(free, key, seed, advance=advance_by),
            ERROR: lambda: training.train(by_error, key, seed, weights=weights, advance=advance_by),
            STIFFNESS: lambda: training.train(by_stiffness, key, seed, weights=constant, advance=advance_by),
        }
        return fitted({name: ways[name]() for name in settings.methods})

    def others(phase: Phase) -> dict[str, Fitted]:
        seed, advance_by = settings.seeds[0], phase.advance
        weights = exponential_schedule(*settings.strong_weights, settings.steps)
        return fitted(
            {
                STRONG: training.train(by_error, key, seed, weights=weights, advance=advance_by),
                STEER: training.train(free, key, seed, spread=settings.spread, advance=advance_by),
                LOOSE: training.train(free, key, seed, tolerance=settings.loose, advance=advance_by),
            }
        )

    by_seed = run.each("flows", settings.seeds, main, len(settings.methods) * settings.steps)
    flows = {name: [one[name] for one in by_seed] for name in settings.methods}
    if settings.others:
        flows |= {name: [one] for name, one in run.part("other flows", others, 3 * settings.steps).items()}
    noisy: list[list[Noisy]] = []
    if settings.noise_seeds:
        noisy = run.part(
            "noisy flows",
            lambda phase: study_noisy(
                NoisyTraining(settings.noise_steps, settings.batch, settings.rate, 32, settings.noise_tolerances[0]),
                run.key("noise"),
                settings.noise_seeds,
                settings.noise_weights,
                settings.noise_tolerances,
                settings.draws,
                phase.advance,
            ),
            len(settings.noise_seeds) * len(settings.noise_weights) * settings.noise_steps,
        )
    return Result(settings, flows, noisy)
