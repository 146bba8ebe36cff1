"""The paper's experiment on dataset distillation, with the digits of scikit-learn: implicit against unrolled.

Learning from ten images takes a fixed number of steps of gradient descent. Its hypergradient by the implicit function
theorem is that of unrolling, in a fraction of time and memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import numpy as np

import dini
from dini_zoo.kit.data import Split, digits
from dini_zoo.kit.measure import Program, Timed, compile_program, take_turns
from dini_zoo.kit.modes import distance
from dini_zoo.kit.run import Run

from .distill import Descent, Images, accuracy, class_means, distill, real_images
from .learning import hypergradient, outer_loss

IMPLICIT, UNROLLED, CHECKPOINTED = "implicit", "unrolled", "unrolled, checkpoints"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    train: int = 1200
    """Images to distill; the rest of the 1797 is for testing."""
    strength: float = 0.01
    """Of the regularization."""
    step_size: float = 1.0
    steps: int = 500
    """Of gradient descent, for learning."""
    rtol: float = 1e-6
    """Of conjugate gradients, for the implicit derivative."""
    outer_step_size: float = 0.3
    momentum: float = 0.9
    outer_steps: int = 300
    rounds: int = 40
    """Turns in which the hypergradients are timed."""
    checkpoints: bool = True
    """Whether to time unrolling with checkpoints, too."""
    draws: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """A seed for each draw of real images to compare with."""
    seed: int = 0
    """Of the first images."""
    data_seed: int = 0
    """Of the order in which the digits are divided."""
    shown: tuple[int, ...] = (0, 10, 40, 100, 300)
    """The numbers of outer steps whose images are in the picture."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(train=100, steps=40, outer_steps=6, rounds=2, checkpoints=False, draws=(0, 1), shown=(0, 2, 6))

    @property
    def solver(self) -> dini.Solver:
        """Plain gradient descent that takes all of its steps."""
        return dini.GradientDescent(step_size=self.step_size, tol=0.0, max_steps=self.steps)

    @property
    def modes(self) -> dict[str, dini.Differentiation]:
        """The ways to differentiate, by name."""
        ways: dict[str, dini.Differentiation] = {
            IMPLICIT: dini.Implicit(linear_solver=dini.linear.CG(rtol=self.rtol)),
            UNROLLED: dini.Unrolled(steps=self.steps, checkpoint=False),
        }
        return ways | ({CHECKPOINTED: dini.Unrolled(steps=self.steps)} if self.checkpoints else {})


@dataclass(frozen=True)
class Way(Timed):
    """One way to differentiate: how exact it is, and what it costs."""

    errors: tuple[float, float]
    """Relative distance of the hypergradient from that of an exact solution, at the first and at the last images."""
    memory: int
    """Bytes for intermediate results."""
    times: list[float]
    """Of one hypergradient, in seconds, with those of the other ways in turns."""


@dataclass(frozen=True)
class Forward(Timed):
    """What a loss costs without its derivative."""

    times: list[float]


@dataclass(frozen=True)
class Result:
    """What the hypergradients cost, and what was distilled with them."""

    settings: Settings
    split: Split
    ways: dict[str, Way]
    forward: Forward
    """The outer loss without a derivative."""
    agreement: tuple[float, float]
    """Relative distance between the implicit and the unrolled hypergradient, at the first and at the last images."""
    residuals: tuple[float, float]
    """Norm of the gradient after learning from the first and from the last images."""
    sizes: tuple[float, float]
    """Norm of the exact hypergradient, at the first and at the last images."""
    descents: dict[str, Descent]
    """By implicit and by unrolled hypergradients."""
    means: tuple[float, float]
    """Training loss and test accuracy of what is learned from the mean images."""
    real: np.ndarray
    """The same from real images, a row for each draw."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"compiling": 2, "timing": 1, "distilling, implicit": 1, "distilling, unrolled": 2, "comparing": 2})
    split = digits(10, settings.train, 0, settings.data_seed)
    first = 0.1 * np.random.RandomState(settings.seed).randn(10, split.train.X.shape[1])
    with run.phase("compiling"):
        forward, programs, exact = _programs(settings, first, split)
    times = run.part("timing", lambda _: take_turns([forward, *programs.values()], settings.rounds))
    descents = {
        name: run.part(
            f"distilling, {name}",
            lambda phase, name=name: distill(
                first,
                programs[name].at,
                split.test,
                step_size=settings.outer_step_size,
                momentum=settings.momentum,
                steps=settings.outer_steps,
                advance=phase.advance,
            ),
            total=settings.outer_steps,
        )
        for name in (IMPLICIT, UNROLLED)
    }

    def worth(theta: Images) -> tuple[float, float]:
        loss, solution = forward.at(theta)
        return float(loss), accuracy(np.asarray(solution.x), split.test)

    with run.phase("comparing"):
        points = (first, descents[IMPLICIT].theta[-1])
        truths = [np.asarray(exact.at(theta)[1]) for theta in points]
        found = {name: [np.asarray(program.at(theta)[1]) for theta in points] for name, program in programs.items()}
        residuals = [float(forward.at(theta)[1].stats.error) for theta in points]
        real = np.array([worth(real_images(split.train, seed)) for seed in settings.draws])
        means = worth(class_means(split.train))

    ways = {
        name: Way(_distances(found[name], truths), programs[name].memory, own)
        for name, own in zip(programs, times[1:], strict=True)
    }
    return Result(
        settings=settings,
        split=split,
        ways=ways,
        forward=Forward(times[0]),
        agreement=_distances(found[IMPLICIT], found[UNROLLED]),
        residuals=(residuals[0], residuals[1]),
        sizes=(float(np.linalg.norm(truths[0])), float(np.linalg.norm(truths[1]))),
        descents=descents,
        means=means,
        real=real,
    )


def _programs(settings: Settings, theta: Images, split: Split) -> tuple[Program, dict[str, Program], Program]:
    """The outer loss, its hypergradient in each way, and that at a precise solution: functions of the images."""
    sample, strength = jax.device_put((split.train, settings.strength))

    def gradient(solver: dini.Solver, mode: dini.Differentiation, on_failure: str) -> Program:
        return compile_program(
            lambda theta: hypergradient(theta, sample, strength, solver, mode, on_failure=on_failure), theta
        )

    # so many steps and no more: a stop before the solution is not a failure here
    forward = compile_program(
        lambda theta: outer_loss(theta, sample, strength, settings.solver, on_failure="ignore"), theta
    )
    programs = {name: gradient(settings.solver, mode, "ignore") for name, mode in settings.modes.items()}
    precise = dini.GradientDescent(step_size=settings.step_size, tol=1e-11, max_steps=20_000)
    return forward, programs, gradient(precise, dini.Implicit(linear_solver=dini.linear.CG(rtol=1e-12)), "raise")


def _distances(some: list[np.ndarray], others: list[np.ndarray]) -> tuple[float, float]:
    """Relative distances of two hypergradients from two others."""
    one, other = (distance(a, b) for a, b in zip(some, others, strict=True))
    return one, other
