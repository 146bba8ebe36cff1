"""What is measured: flows of digits that are trained with the estimate of one step at a random time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import diffrax
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Course, Trainer

from ..digit_flows import (
    SOLVER,
    TERM,
    FlowClassifier,
    Flowed,
    Given,
    Solve,
    Tested,
    Training,
    controller,
    evaluations,
    plain,
    recorded,
    test,
)
from ..estimates import exponential_schedule
from ..fields import NeuralField
from .method import locally_regularised_solve

VANILLA, UNBIASED, BACKSOLVE, BIASED, GLOBAL = "vanilla", "unbiased", "unbiased, backsolve", "biased", "global"
#: Methods whose trainings are timed.
TIMED = (VANILLA, UNBIASED)
INITIAL, STRONG, STIFFNESS = "initial step", "unbiased, strong", "stiffness"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22)
    """Of the first weights, the batches, and the random times."""
    steps: int = 400
    batch: int = 128
    rate: float = 3e-3
    """Of Adam."""
    hidden: int = 64
    """Units of the vector field."""
    tolerance: float = 1e-7
    """Of the solves, relative and absolute."""
    methods: tuple[str, ...] = (VANILLA, UNBIASED, BACKSOLVE, BIASED, GLOBAL)
    """That are trained for every seed."""
    others: tuple[str, ...] = (INITIAL, STRONG, STIFFNESS)
    """That are trained for the first seed."""
    weights: tuple[float, float] = (0.5, 0.1)
    """Of the local error, at the first step and the last."""
    strong_weights: tuple[float, float] = (2.5, 1.0)
    """The paper's, for the steps that are as careful as in its code, and for the others."""
    global_weights: tuple[float, float] = (3.0, 0.3)
    """Of the mean error over all steps."""
    stiffness_weight: float = 1.0
    tolerances: tuple[float, ...] = (1e-1, 1e-3, 1e-5, 1e-7)
    """Of the tests."""
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
            methods=(VANILLA, UNBIASED),
            others=(),
            tolerances=(1e-1, 1e-3),
        )


@dataclass(frozen=True)
class Fitted:
    """One trained model."""

    tests: list[Tested]
    """By tolerance."""
    course: Int[np.ndarray, " steps"]
    """Evaluations of a solve, at each step of training."""
    loss: Float[np.ndarray, " steps"]
    seconds: float | None
    """Of the processor for training, without compilation; `None` where another training ran beside it."""

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


def local(training: Training, adjoint: diffrax.AbstractAdjoint, **options: Any) -> Solve:
    """The penalty of one step."""

    def solve(field: NeuralField, X: Array, given: Given, key: Array) -> Flowed:
        found = locally_regularised_solve(
            key,
            TERM,
            SOLVER,
            0.0,
            1.0,
            None,
            X,
            field,
            rtol=given.tolerance,
            atol=given.tolerance,
            stepsize_controller=controller(given.tolerance),
            adjoint=adjoint,
            max_steps=training.max_steps,
            **options,
        )
        assert found.solution.ys is not None
        return Flowed(found.solution.ys[0], found.penalty, found.solution.stats["num_steps"])

    return solve


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"flows": 50, "other flows": 60})
    training = Training(settings.steps, settings.batch, settings.rate, settings.hidden, settings.tolerance)
    key = run.key("training")
    falling = lambda ends: exponential_schedule(*ends, settings.steps)
    weak, strong = falling(settings.weights), falling(settings.strong_weights)
    through = training.adjoint
    ways: dict[str, tuple[Solve, optax.Schedule]] = {
        VANILLA: (plain(training), lambda step: 0.0),
        UNBIASED: (local(training, through), weak),
        BACKSOLVE: (local(training, diffrax.BacksolveAdjoint()), weak),
        BIASED: (local(training, through, mode="biased"), weak),
        GLOBAL: (recorded(training, "error"), falling(settings.global_weights)),
        INITIAL: (local(training, through, step="initial"), strong),
        STRONG: (local(training, through), strong),
        STIFFNESS: (local(training, through, kind="stiffness"), optax.constant_schedule(settings.stiffness_weight)),
    }
    trainers: dict[str, Trainer[FlowClassifier]] = {
        name: training.trainer(solve, key) for name, (solve, _) in ways.items()
    }
    # one program for the same penalty with another weight
    trainers[STRONG] = trainers[UNBIASED]

    def fitted(lane: tuple[str, int], phase: Phase) -> Fitted:
        name, seed = lane
        course: Course[FlowClassifier] = training.train(
            trainers[name], key, seed, weights=ways[name][1], advance=phase.advance
        )
        tests = test(course.model, settings.tolerances)
        return Fitted(tests, evaluations(course.aux), course.loss, course.seconds if name in TIMED else None)

    lanes = [(name, seed) for name in settings.methods for seed in settings.seeds]
    lanes += [(name, settings.seeds[0]) for name in settings.others]
    # the processor's time is that of a training alone; the others go two at a time, for each leaves a core idle
    alone, beside = ([lane for lane in lanes if (lane[0] in TIMED) == timed] for timed in (True, False))
    found = dict(zip(alone, run.each("flows", alone, fitted, settings.steps), strict=True))
    if beside:
        found |= zip(beside, run.each("other flows", beside, fitted, settings.steps, pairs=True), strict=True)
    flows: dict[str, list[Fitted]] = {}
    for lane in lanes:
        flows.setdefault(lane[0], []).append(found[lane])
    return Result(settings, flows)
