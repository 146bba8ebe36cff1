"""The paper's experiment on digits: hypergradients of a multiclass support vector machine, and tuning with them.

The small problem is set up as in the specification that this experiment reproduces, whose figures stand beside ours:
five classes, 150 training points. The large one, an option, has all ten classes and as many points a class, and ends
with one regularization a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from dini_zoo.kit.data import Split, digits
from dini_zoo.kit.run import Phase, Run

from ..support_vectors import PROJECTED, Loss, hypergradient, name_of, squared_error, squared_hinge
from .comparison import WAYS, Comparison, compare
from .solvers import ACCELERATED, BLOCKS, MIRROR, RESTARTED, contenders
from .tuning import SOLVER, Machine, Tuned, train, tune, value_of


@dataclass(frozen=True)
class Problem:
    """A sample of the digits, and how its comparison is made."""

    classes: int
    train: int
    validation: int
    solvers: tuple[str, ...]
    checkpoint: bool = False
    """Whether unrolling keeps checkpoints in place of all states."""
    ways: tuple[str, ...] = WAYS
    """What solutions are differentiated through."""


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    small: Problem = Problem(5, 150, 100, solvers=(MIRROR, ACCELERATED, RESTARTED, BLOCKS))
    large: Problem = Problem(10, 300, 200, solvers=(MIRROR, RESTARTED, BLOCKS), checkpoint=True)
    ten_classes: bool = False
    """Whether to do the large problem, too, and tune one regularization a class: that takes four times as long."""
    log_theta: float = 4.0
    """Where solvers and derivatives are compared."""
    mirror_steps: int = 5000
    accelerated_steps: int = 1000
    pairs: int = 20
    """Rounds of the accelerated method, whose unrolled and implicit times are set against each other."""
    grid: tuple[float, float, int] = (8.0, -2.0, 21)
    curve: int = 41
    """Points of the picture's curves, on the range of the grid."""
    start: float = 7.0
    """Where hypergradient descent starts."""
    steps: int = 20
    class_steps: int = 20
    """Steps of hypergradient descent with one regularization a class."""
    tangents: tuple[float, ...] = (4.0, 5.0, 6.0, 7.0)
    """Where the picture has the hypergradient as a tangent of the loss."""
    data_seed: int = 0
    """Of the division of the digits into samples."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            small=Problem(3, 20, 12, solvers=(ACCELERATED,), ways=WAYS[1:]),
            large=Problem(4, 24, 12, solvers=()),
            accelerated_steps=40,
            pairs=1,
            grid=(6.0, 1.0, 3),
            curve=4,
            steps=3,
            class_steps=2,
            tangents=(),
        )


@dataclass(frozen=True)
class Study:
    """What was found on one sample of the digits."""

    problem: Problem
    split: Split
    comparison: Comparison
    curve: list[Machine]
    landscape: dict[str, list[float]]
    """The validation losses along the curve, by name."""
    tuned: list[Tuned]

    def best(self, how: str, loss: str) -> Tuned:
        return next(tuned for tuned in self.tuned if (tuned.how, tuned.loss) == (how, loss))


@dataclass(frozen=True)
class Point:
    """The small problem's validation loss and its derivative at one regularization."""

    log_theta: float
    value: float
    derivative: float


@dataclass(frozen=True)
class Result:
    """The studies, and the hypergradient along the small one's loss."""

    settings: Settings
    small: Study
    large: Study | None
    """That of ten classes, if it was asked for."""
    points: list[Point]

    @property
    def studies(self) -> list[Study]:
        """Those that there are."""
        return [self.small] if self.large is None else [self.small, self.large]


def study(settings: Settings, problem: Problem, losses: list[Loss], advance: Callable[[str], None]) -> Study:
    """Compare, draw the curves and tune on one sample of the digits."""

    split = digits(problem.classes, problem.train, problem.validation, settings.data_seed)
    rivals = contenders(
        problem.solvers,
        split,
        mirror_steps=settings.mirror_steps,
        accelerated_steps=settings.accelerated_steps,
        pairs=settings.pairs,
    )
    about = {"checkpoint": problem.checkpoint, "advance": advance}
    comparison = compare(split, settings.log_theta, rivals, problem.ways, **about)
    curve = train(np.linspace(*settings.grid[:2], settings.curve), split, lambda: advance("curves"))
    grid = np.linspace(*settings.grid)
    landscape: dict[str, list[float]] = {}
    tuned: list[Tuned] = []
    for loss in losses:
        landscape[name_of(loss)] = [value_of(loss, machine, split) for machine in curve]
        class_steps = settings.class_steps if loss is squared_hinge else 0
        tuned += tune(split, loss, grid, settings.start, settings.steps, class_steps, advance)
    return Study(problem, split, comparison, curve, landscape, tuned)


def hypergradients(split: Split, log_thetas: Iterable[float]) -> list[Point]:
    """The paper's outer loss and its derivative, from precise solutions."""
    solver = replace(SOLVER, atol=1e-10)
    points = []
    for log_theta in log_thetas:
        (value, _), derivative = hypergradient(
            log_theta, split.train, split.validation, solver, differentiation=PROJECTED
        )
        points.append(Point(log_theta, float(value), float(derivative)))
    return points


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    problems = {"five classes": (settings.small, [squared_error])}
    if settings.ten_classes:
        problems["ten classes"] = (settings.large, [squared_error, squared_hinge])
    run.plan({"five classes": 28.0, "ten classes": 95.0, "hypergradients": 2.0} if settings.ten_classes else {})
    studies = []
    for name, (problem, losses) in problems.items():
        searches = len(losses) * (settings.grid[2] + settings.steps)
        class_steps = settings.class_steps if squared_hinge in losses else 0
        total = 1 + len(problem.solvers) + settings.curve + searches + class_steps

        def found(phase: Phase, problem: Problem = problem, losses: list[Loss] = losses) -> Study:
            return study(settings, problem, losses, lambda doing: phase.advance())

        studies.append(run.part(name, found, total))
    small = studies[0]
    points = run.part("hypergradients", lambda _: hypergradients(small.split, settings.tangents))
    return Result(settings, small, studies[1] if settings.ten_classes else None, points)
