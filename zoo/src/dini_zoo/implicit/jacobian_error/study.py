"""The paper's experiment on the precision of Jacobians: ridge regression on the diabetes data, stopped early.

Gradient descent is stopped after 1, 2, … steps. The Jacobian of its point by the implicit function theorem is as far
from the true one as the theorem allows; that of the point by unrolling is further away at the same point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

import dini
from dini_zoo.kit.data import diabetes
from dini_zoo.kit.run import Run

from .path import Path, follow
from .ridge import Data, Exact


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment. Nothing in it is random."""

    strengths: tuple[float, float] = (0.01, 1.0)
    """Of the first and the last feature's regularization; those between are evenly spaced."""
    steps: int = 200
    """Of gradient descent, at most: after some 250 the errors are those of rounding."""
    shown: tuple[int, ...] = (1, 3, 10, 30, 100, 200)
    """The numbers of steps in the table."""
    pictured: int = 10
    """The number of steps whose Jacobians the picture shows."""

    def __post_init__(self) -> None:
        beyond = [n for n in (*self.shown, self.pictured) if not 1 <= n <= self.steps]
        if beyond:
            raise ValueError(f"shown and pictured must be from 1 to steps, {self.steps}: given {beyond}.")

    @classmethod
    def tiny(cls) -> Self:
        return cls(steps=12, shown=(1, 3, 10), pictured=3)


@dataclass(frozen=True)
class Result:
    """The exact solution, and gradient descent's path to it."""

    settings: Settings
    features: list[str]
    exact: Exact
    path: Path

    def slope(self, steps: Sequence[int]) -> float:
        """Of the implicit error over the error of the solution, both in logarithms, after these numbers of steps."""
        chosen = np.array(steps) - 1
        x, y = np.log(self.path.solution_error[chosen]), np.log(self.path.implicit_error[chosen])
        return float(np.polyfit(x, y, 1)[0])


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    Phi, y, features = diabetes()
    data = Data(Phi, y)
    theta = np.linspace(*settings.strengths, len(features))
    exact = Exact.at(theta, data)
    # a constant: a step size that followed theta would have a derivative of its own, which unrolling would add
    solver = dini.GradientDescent(step_size=exact.step_size)
    path = run.part("descent", lambda _: follow(theta, data, exact, solver, settings.steps))
    return Result(settings, features, exact, path)
