"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .study import IMPLICIT, Result

#: Colors of the modes in their order; modes with the same gradient share theirs.
_COLORS = (
    pictures.METHOD,
    pictures.METHOD,
    pictures.THIRD,
    pictures.RIVAL,
    pictures.RIVAL,
    pictures.THIRD,
    pictures.ALARM,
    pictures.INK,
    pictures.INK,
)


def draw(result: Result) -> Figure:
    """The courses of training; below, errors over costs and the errors of the series."""
    figure = pictures.canvas("An equilibrium classifier of the digits, differentiated in each mode", height=11)
    (loss, accuracy), (cost, series) = figure.subplots(2, 2)
    settings = result.settings
    colors = dict(zip(settings.modes | settings.checkpointed, _COLORS, strict=True))
    _courses(loss, accuracy, result, colors)
    _costs(cost, result, colors)
    _series(series, result)
    return figure


def _courses(loss: Any, accuracy: Any, result: Result, colors: dict[str, str]) -> None:
    """One curve for modes that learn the same."""
    shown: dict[str, list[str]] = {}
    for name, course in result.courses.items():
        same = [one for one in shown if np.allclose(result.courses[one].loss, course.loss, rtol=1e-2)]
        shown.setdefault(same[0] if same else name, []).append(name)
    for i, (one, names) in enumerate(shown.items()):
        course = result.courses[one]
        style = {"color": colors[one], "lw": 4 if i == 0 else 1.8, "alpha": 0.5 if i == 0 else 1.0}
        epochs = np.arange(len(course.loss))
        loss.plot(epochs, course.loss, label=";  ".join(names), **style)
        accuracy.plot(epochs, 1 - course.accuracy, **style)
    loss.set_title(f"training loss: {len(result.courses)} modes, {len(shown)} different courses")
    loss.legend()
    last = result.settings.epochs
    for name, found in result.seeds.items():
        error = Estimate.of(1 - one for one in found)
        accuracy.errorbar(last * 1.03, error.mean, error.width, fmt="o", color=colors[name], ms=5, capsize=3)
    accuracy.set_title(f"test error; the bars are the intervals of {len(result.settings.seeds)} seeds")
    for axes, name in ((loss, "training loss"), (accuracy, "test error")):
        axes.set_yscale("log")
        axes.set_xlabel("epochs")
        axes.set_ylabel(name)


def _costs(axes: Any, result: Result, colors: dict[str, str]) -> None:
    """The error of one gradient after training over its time; the area of a point is its memory."""
    ways, (few, long) = result.ways, result.settings.unrolls
    for name, way in ways.items():
        axes.scatter(
            1e3 * way.fastest, way.errors[-1], s=30 * way.memory / 1e6, color=colors[name], alpha=0.45, lw=0, zorder=3
        )
        axes.plot(1e3 * way.fastest, way.errors[-1], "o", color=colors[name], ms=4, zorder=4)
    # names of points that lie close together are put under one another
    groups: list[list[str]] = []
    for name, way in ways.items():
        near = [g for g in groups if _close(ways[g[0]], way)]
        if near:
            near[0].append(name)
        else:
            groups.append([name])
    for names in groups:
        way = ways[names[0]]
        text = "\n".join(f"{name} ({ways[name].memory / 1e6:.1f} MB)" for name in names)
        # the points of the unrolls have others beside them
        offset = {few: (0, -24), long: (0, -36)}.get(names[0], (0, 24) if names[0].startswith(long) else (16, 0))
        axes.annotate(
            text,
            (1e3 * max(ways[name].fastest for name in names), way.errors[-1]),
            textcoords="offset points",
            xytext=offset,
            ha="left" if offset[0] else "center",
            va="center",
            fontsize=9.5,
            color=pictures.INK,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = (1e3 * edge(way.fastest for way in ways.values()) for edge in (min, max))
    axes.set_xlim(low / 2.2, high * 2.5)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200) if low / 2.2 < tick < high * 2.5]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("time of a gradient, ms (area of a point: memory)")
    axes.set_ylabel("relative error of the gradient")
    axes.set_title("the gradient after training: error against cost")


def _close(one: Any, other: Any) -> bool:
    apart = abs(np.log10(one.errors[-1] / other.errors[-1])), abs(np.log10(one.fastest / other.fastest))
    return apart[0] < 0.35 and apart[1] < 0.12


def _series(axes: Any, result: Result) -> None:
    """Errors of the Neumann series, with the powers of the spectral radius."""
    terms = np.array(result.settings.series)
    fine = np.geomspace(terms[0], terms[-1], 100)
    names = ("before training", f"after {result.settings.early} epochs", "after training")
    colors, floors = (pictures.THIRD, pictures.METHOD, pictures.ALARM), result.ways[IMPLICIT].errors
    rows = zip(names, colors, result.series, result.radii, floors, strict=True)
    for name, color, errors, radius, floor in rows:
        axes.plot(terms, errors, "o-", color=color, label=f"{name}: radius {radius:.2f}")
        axes.plot(fine, radius**fine, color=color, lw=1.2, ls="--")
        axes.axhline(floor, color=color, lw=1, ls=":")
    axes.plot([], [], color=pictures.INK, lw=1.2, ls="--", label="powers of the radius")
    axes.axhline(np.nan, color=pictures.INK, lw=1, ls=":", label="implicit, at the solver's tolerance")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(min(result.series.min(), *result.ways[IMPLICIT].errors) / 5, 3)
    axes.set_xticks(terms, [str(k) for k in terms])
    axes.set_xlabel("terms of the Neumann series (one: Jacobian-free)")
    axes.set_ylabel("relative error of the gradient")
    end = "no longer contracts, and the series diverges" if result.radii[-1] > 1 else "contracts less and less"
    axes.set_title(f"on the way of training the layer {end}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.22))
