"""The bars, with the paper's claim beside our figures.

The claim is the only thing here that is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check

from .measurement import Row, Size, speedup, thrift
from .solvers import IMPLICIT, OTHER, PEER, UNROLLED

if TYPE_CHECKING:
    from .experiment import Result


def implicit_ways(row: Row) -> list[str]:
    """dini's implicit ways to differentiate a solver."""
    return [way for way in row.readings if way not in (UNROLLED, PEER)]


def spread(size: Size) -> float:
    """The largest relative error of an implicit derivative at a point that has converged."""
    errors = [
        row.readings[way].error for row in size.rows for way in implicit_ways(row) if size.converged(row.readings[way])
    ]
    return max(errors, default=float("nan"))


def _range(values: list[float]) -> str:
    return " to ".join(f"{value:.0f}" if value >= 10 else f"{value:.2f}" for value in (min(values), max(values)))


def checks(result: Result) -> Iterator[Check]:
    """Every bar: of each solver at all numbers of features."""
    for name in [row.solver for row in result.sizes[0].rows]:
        rows = [size.row(name) for size in result.sizes]
        for way in implicit_ways(rows[0]):
            through = "" if way == IMPLICIT else f", {OTHER.split()[-1]}"
            faster = [speedup(row, way) for row in rows]
            yield Check(f"{name}{through}: time", _range(faster), "> 1", "> 1", min(faster) > 1)
            smaller = [thrift(row, way) for row in rows]
            yield Check(f"{name}{through}: memory", _range(smaller), "", "≥ 20", min(smaller) >= 20)
    worst = max(map(spread, result.sizes))
    yield Check("error, implicit, converged", f"{worst:.0e}", "", "≤ 1e-5", worst <= 1e-5)
    off = max(abs(size.derivative - size.difference) / abs(size.difference) for size in result.sizes)
    yield Check("reference to difference", f"{off:.0e}", "", "≤ 1e-6", off <= 1e-6)
