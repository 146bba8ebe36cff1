"""What the experiment prints and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, duration, size

from .study import IMPLICIT, UNROLLED, Result


def tables(result: Result) -> Sequence[Table]:
    """Each mode's derivative, the first seed's costs beside it."""
    rows = [
        [name, f"{Estimate.of(result.errors(name)):.1e}", duration(way.fastest), size(way.memory)]
        for name, way in result.ways[0].items()
    ]
    caption = f"Error: relative distance from the closed form, {len(result.ways)} seeds."
    return [Table("One derivative of the validation loss", ("mode", "error", "time", "memory"), rows, caption)]


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield Check("error, implicit", max(result.errors(IMPLICIT)), at_most(1e-6), reference="1e-9", form=".1e")
    ways = result.ways[0]
    yield Check("memory, unrolled / implicit", ways[UNROLLED].memory / ways[IMPLICIT].memory, at_least(2), form=".1f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    ways = result.ways[0]
    return f"unrolling takes {ways[UNROLLED].memory / ways[IMPLICIT].memory:.0f} times the memory of implicit"


def draw(result: Result) -> Figure:
    """Error and memory of each mode."""
    figure = pictures.canvas("The derivative of a validation loss", width=9, height=4)
    left, right = figure.subplots(1, 2)
    names = list(result.ways[0])
    colors = dict(zip(names, pictures.COLORS, strict=False))
    pictures.bars(left, {name: Estimate.of(result.errors(name)) for name in names}, form="{:.0e}", colors=colors)
    left.set_title("relative error")
    pictures.bars(right, {name: way.memory / 1e3 for name, way in result.ways[0].items()}, colors=colors)
    right.set_title("memory (kB)")
    return figure
