"""The paper's experiment on molecular dynamics: the sensitivity of a packing's positions to a diameter.

Disks thrown into a periodic square are relaxed by FIRE. The derivative of their positions by the implicit function
theorem is the same, whatever path they took; that of the path, by unrolling FIRE, often has nothing to do with it. The
few starts are those of the specification that this experiment reproduces; the many have the paper's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from dini_zoo.kit.run import Run

from .fire import FIRE
from .packing import box_side, random_start
from .sensitivity import Start, examine, implicit, size


@dataclass(frozen=True)
class Study:
    """How many disks are packed, and from how many starts."""

    disks: int
    starts: int


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    few: Study = Study(64, 8)
    many: Study = Study(128, 40)
    theta: float = 0.6
    """Diameter of half of the disks; that of the others is one."""
    fraction: float = 0.9
    """Of the square's area that the disks would fill without overlaps."""
    dense: float = 1.0
    """The fraction of one more packing of the few disks, which has a reference figure of its own."""
    steps: int = 4000
    """Of FIRE: the limit, and the number that is unrolled."""
    width: float = 1e-6
    """Of the central differences."""
    pictured: int = 4
    """Which of the few starts the picture shows."""
    seed: int = 0
    """Of all starts."""

    def __post_init__(self) -> None:
        if not 0 <= self.pictured < self.few.starts:
            raise ValueError(f"pictured must be from 0 to {self.few.starts - 1}: given {self.pictured}.")

    @classmethod
    def tiny(cls) -> Self:
        return cls(few=Study(10, 2), many=Study(10, 3), steps=1500, pictured=0)


@dataclass(frozen=True)
class Result:
    """What was found from every start."""

    settings: Settings
    side: float
    """Of the square with the few disks."""
    few: list[Start]
    many: list[Start]
    dense: float
    """The size of the derivative (sum of absolute values) of the denser packing."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    theta, solver = settings.theta, FIRE(max_steps=settings.steps)
    run.plan({"densest packing": 6, "few starts": 30, "many starts": 100})
    key = jax.random.PRNGKey(settings.seed)

    def found(name: str, study: Study) -> list[Start]:
        side = box_side(study.disks, theta, settings.fraction)

        def one(key: jax.Array, _: Any) -> Start:
            start = np.asarray(random_start(key, study.disks, side))
            return examine(start, theta, side, solver, settings.steps, settings.width)

        return run.each(name, jax.random.split(key, study.starts), one)

    def densest(_: Any) -> float:
        side = box_side(settings.few.disks, theta, settings.dense)
        _, dx = implicit(random_start(key, settings.few.disks, side), theta, side, solver)
        return size(np.asarray(dx))

    dense = run.part("densest packing", densest)
    few, many = found("few starts", settings.few), found("many starts", settings.many)
    return Result(settings, box_side(settings.few.disks, theta, settings.fraction), few, many, dense)
