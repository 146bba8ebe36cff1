"""The paper's experiment on molecular dynamics: the sensitivity of a packing's positions to a diameter.

Disks thrown into a periodic square are relaxed by FIRE. The derivative of their positions by the implicit function
theorem is the same, whatever path they took; that of the path, by unrolling FIRE, often has nothing to do with it. The
few starts are those of the specification that this experiment reproduces; the many have the paper's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import report
from .fire import FIRE
from .packing import box_side, random_start
from .sensitivity import Start, examine, implicit, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


@dataclass(frozen=True)
class Study:
    """How many disks are packed, and from how many starts."""

    disks: int
    starts: int


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

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

    def tables(self) -> list[Table]:
        return report.tables(self)

    def figure(self) -> Figure:
        from .picture import draw

        return draw(self)


def run(settings: Settings, console: Console) -> Result:
    """Run the experiment in double precision."""
    theta, solver = settings.theta, FIRE(max_steps=settings.steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with jax.enable_x64(True), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=settings.few.starts + settings.many.starts)

        def found(study: Study) -> list[Start]:
            side, starts = box_side(study.disks, theta, settings.fraction), []
            progress.update(task, description=f"{study.disks} disks")
            for key in jax.random.split(jax.random.PRNGKey(0), study.starts):
                start = np.asarray(random_start(key, study.disks, side))
                starts.append(examine(start, theta, side, solver, settings.steps, settings.width))
                progress.advance(task)
            return starts

        side = box_side(settings.few.disks, theta, settings.dense)
        _, dx = implicit(random_start(jax.random.PRNGKey(0), settings.few.disks, side), theta, side, solver)
        few, many = found(settings.few), found(settings.many)
    return Result(settings, box_side(settings.few.disks, theta, settings.fraction), few, many, size(np.asarray(dx)))
