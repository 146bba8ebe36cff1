"""The paper's experiment on digits: hypergradients of a multiclass support vector machine, and tuning with them.

The small problem is set up as in the specification that this experiment reproduces, whose figures stand beside ours:
five classes, 150 training points. The large one has all ten classes and as many points a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .comparison import (
    Comparison,
    Contender,
    accelerated,
    block_coordinate_descent,
    compare,
    mirror_descent,
    restarted,
)
from .data import Split, digits
from .hypergradient import Loss, hypergradient, squared_error, squared_hinge
from .modes import PROJECTED
from .tuning import SOLVER, Machine, Search, grid_search, hypergradient_descent, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


@dataclass(frozen=True)
class Problem:
    """A sample of the digits, and how long the comparison works on it."""

    classes: int
    train: int
    validation: int
    checkpoint: bool
    """Whether unrolling keeps checkpoints in place of all states."""
    rounds: int
    """How often each program of the comparison is timed."""


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    small: Problem = Problem(classes=5, train=150, validation=100, checkpoint=False, rounds=5)
    large: Problem = Problem(classes=10, train=300, validation=200, checkpoint=True, rounds=2)
    log_theta: float = 4.0
    """Where solvers and derivatives are compared."""
    mirror_steps: int = 5000
    accelerated_steps: int = 1000
    pairs: int = 20
    """Rounds of the accelerated method, whose unrolled and implicit times are set against each other."""
    epochs: int = 2000
    grid: tuple[float, float, int] = (8.0, -2.0, 21)
    start: float = 7.0
    """Where hypergradient descent starts."""
    steps: int = 20
    class_steps: int = 30
    """Steps of hypergradient descent with one regularization a class."""

    @classmethod
    def tiny(cls) -> Self:
        few = Problem(classes=3, train=20, validation=12, checkpoint=False, rounds=1)
        return cls(
            small=few,
            large=replace(few, classes=4, train=24),
            mirror_steps=50,
            accelerated_steps=40,
            pairs=1,
            epochs=200,
            grid=(6.0, 0.0, 4),
            steps=3,
            class_steps=2,
        )
