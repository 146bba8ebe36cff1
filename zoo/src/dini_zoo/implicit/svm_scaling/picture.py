"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .measurement import Reading, speedup
from .solvers import IMPLICIT, OTHER, PEER, UNROLLED
from .study import Result

_COLORS = {
    IMPLICIT: pictures.METHOD,
    OTHER: pictures.THIRD,
    UNROLLED: pictures.RIVAL,
    PEER: pictures.QUIET,
}
_MARKERS = {IMPLICIT: "o", OTHER: "D", UNROLLED: "s", PEER: "^"}


def draw(result: Result) -> Figure:
    """A column a solver: time, memory and error over the number of features."""
    rows = result.sizes[0].rows
    figure = pictures.canvas(
        "Hypergradients of a support vector machine as its features grow in number",
        width=5 * max(len(rows), 2),
        height=13,
    )
    panels = figure.subplots(3, len(rows), sharex=True, sharey="row", squeeze=False, height_ratios=(1.5, 1, 1))
    for column, row in zip(panels.T, rows, strict=True):
        time, memory, error = column
        _lines(time, result, row.solver, lambda reading: reading.fastest)
        _shade(time, result, row.solver)
        _lines(memory, result, row.solver, lambda reading: reading.memory / 1e6)
        _lines(error, result, row.solver, lambda reading: max(reading.error, 1e-13))
        ratios = [speedup(size.row(row.solver), IMPLICIT) for size in result.sizes]
        time.set_title(
            f"{row.solver}, {row.steps} steps\nunrolling takes {min(ratios):.1f} to {max(ratios):.1f} times as long",
            fontsize=12,
        )
        error.set_xlabel("number of features")
        if not any(size.converged(size.row(row.solver).readings[IMPLICIT]) for size in result.sizes):
            error.set_title("not converged: the residual is above the tie margin", color=pictures.ALARM)
    names = ("time of a hypergradient (s)", "memory for it (MB)", "its relative error")
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=11)
    _legend(figure, panels[0])
    return figure


def _lines(axes: Any, result: Result, solver: str, of: Any) -> None:
    """One line a way to differentiate; a hollow mark where unrolling was timed with checkpoints."""
    rows = [size.row(solver) for size in result.sizes]
    for way, color in _COLORS.items():
        found = [(size.features, row.readings[way]) for size, row in zip(result.sizes, rows, strict=True)
                 if way in row.readings]  # fmt: skip
        if not found:
            continue
        x, readings = zip(*found, strict=True)
        y = [of(reading) for reading in readings]
        axes.plot(x, y, "-", marker=_MARKERS[way], color=color, ms=7, label=_label(way, readings))
        hollow = [i for i, reading in enumerate(readings) if reading.checkpoint]
        axes.plot([x[i] for i in hollow], [y[i] for i in hollow], "s", mfc="white", mec=color, mew=2, ms=7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [size.features for size in result.sizes]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def _legend(figure: Figure, panels: Any) -> None:
    """One legend for all panels. A way's longest label says all there is to say of it."""
    found: dict[str, tuple[str, Any]] = {}
    for axes in panels:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            color = line.get_color()
            found[color] = max(found.get(color, ("", line)), (label, line), key=lambda one: len(one[0]))
    labels, lines = zip(*(found[color] for color in _COLORS.values() if color in found), strict=True)
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels))


def _label(way: str, readings: tuple[Reading, ...]) -> str:
    if way == OTHER:
        return "implicit, through projected gradient"
    return f"{way} (hollow: timed with checkpoints)" if any(reading.checkpoint for reading in readings) else way


def _shade(axes: Any, result: Result, solver: str) -> None:
    """What implicit differentiation saves, and by which factor."""
    x = np.array([size.features for size in result.sizes])
    rows = [size.row(solver) for size in result.sizes]
    low, high = (np.array([row.readings[way].fastest for row in rows]) for way in (IMPLICIT, UNROLLED))
    axes.fill_between(x, low, high, color=_COLORS[IMPLICIT], alpha=0.12, lw=0)
    for at, below, above, row in zip(x, low, high, rows, strict=True):
        axes.annotate(
            f"×{speedup(row, IMPLICIT):.1f}",
            (at, max(below, above)),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            color=pictures.INK,
            fontsize=10,
        )
