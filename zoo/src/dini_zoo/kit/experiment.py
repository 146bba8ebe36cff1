"""An experiment as one object, and how it is performed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import jax

from .results import Record, differing, plain, versions
from .run import Run
from .tables import Check, Table, judged

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Settings(Protocol):
    """The settings of an experiment: a frozen dataclass. Its fields are options of the command line.

    A docstring below a field is the option's help. The defaults show the claim in at most three minutes on two cores.
    What is random has a seed among the fields: `seed`, or `seeds` where there are several.
    """

    @classmethod
    def tiny(cls) -> Self:
        """Settings with which the experiment runs in seconds. It need not show the claim."""
        ...


@dataclass(frozen=True)
class Experiment[S: Settings, R]:
    """An experiment: its settings, its run, and how its results are shown.

    The parts are functions of the result, which is plain data: a dataclass that has the settings in its field
    `settings`, and else numbers, strings, arrays, and containers and dataclasses of them.
    """

    settings: type[S]
    """A frozen dataclass with a class method `tiny`."""
    run: Callable[[S, Run], R]
    """Do it. What takes long is a phase or a part of the `Run`."""
    tables: Callable[[R], Sequence[Table]]
    """The figures, as tables."""
    checks: Callable[[R], Iterable[Check]]
    """The figures that have a reference or a bar. It is called for any settings: what a run does not measure is
    `None`."""
    figure: Callable[[R], Figure]
    """The picture of the claim."""
    headline: Callable[[R], str]
    """The one figure that matters, in a sentence of at most 120 characters, with what it is compared with."""
    precision: Literal["single", "double"] = "double"
    """In which all of it runs."""

    def precise(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which all of it runs."""
        return jax.enable_x64(self.precision == "double")

    def draw(self, result: R) -> Figure:
        """The picture, in the zoo's style."""
        from .pictures import style

        with style(), self.precise():
            return self.figure(result)


@dataclass(frozen=True)
class Performed:
    """A run that has ended."""

    result: Any
    record: Record


def perform(name: str, experiment: Experiment[Any, Any], settings: Any, run: Run) -> Performed:
    """Run an experiment, and make its tables and judge its checks."""
    start = time.perf_counter()
    with experiment.precise():
        result = experiment.run(settings, run)
        tables = tuple(experiment.tables(result))
        verdict = judged(experiment.checks(result), differing(settings))
        headline = experiment.headline(result)
    record = Record(
        name=name,
        headline=headline,
        settings=plain(settings),
        verdict=verdict,
        tables=tables,
        phases=run.phases,
        seconds=time.perf_counter() - start + sum(run.remembered.values()),
        remembered=run.remembered,
        versions=versions(),
    )
    return Performed(result, record)
