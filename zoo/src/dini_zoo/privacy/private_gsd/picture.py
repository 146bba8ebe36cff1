"""The experiment's picture: errors by budget, by class of queries and by round, and the people themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .parts import Conditions
from .report import at, averages, largest, of_kind
from .study import Result

#: Field, name and color of what answers conditions.
ANSWERS = (
    ("table", "genetic search", pictures.METHOD),
    ("relaxed", "RAP++", pictures.RIVAL),
    ("projected", "RAP++, by dini", pictures.FOURTH),
    ("noisy", "noisy answers", pictures.QUIET),
)


def draw(result: Result) -> Figure:
    """A panel for each part that was run, and two maps."""
    figure = pictures.canvas("A synthetic table from noisy answers", height=8.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    panels = {
        "marginals": budgets,
        "conditions": classes,
        "adaptive": rounds,
    }
    wanted = [panel for part, panel in panels.items() if getattr(result, part)]
    for axes, panel in zip(np.atleast_1d(top.subplots(1, max(len(wanted), 1))), wanted, strict=False):
        panel(axes, result)
    maps(bottom, result)
    return figure


def budgets(axes: Any, result: Result) -> None:
    """Utility against budget."""
    x = sorted(result.settings.epsilons)
    for name, label, color in (ANSWERS[0], ANSWERS[3]):
        for of, what, ls in ((averages, "average", "-"), (largest, "largest", ":")):
            runs = np.transpose([of(getattr(one, name) for one in at(result, epsilon)) for epsilon in x])
            pictures.band(axes, x, runs, color=color, label=f"{label}, {what}", ls=ls)
    rows = [one.sampled for one in result.references]
    for of, ls in ((averages, "-"), (largest, ":")):
        axes.axhline(np.mean(of(rows)), color=pictures.INK, lw=1, ls=ls)
    axes.annotate("rows of the data", (min(x), np.mean(largest(rows))), va="bottom", color=pictures.INK, fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{one:g}" for one in x])
    axes.minorticks_off()
    axes.set_xlabel("ε")
    axes.set_title("pairs of columns: error of answers")
    axes.legend(fontsize=9)


def classes(axes: Any, result: Result) -> None:
    """Largest errors by class and budget, a dot for each seed."""
    groups = list(dict.fromkeys((one.kind, one.epsilon) for one in result.conditions))
    for i, (name, label, color) in enumerate(ANSWERS):
        place = np.arange(len(groups)) + (i - 1.5) * 0.2
        values = [largest(_field(of_kind(result, *group), name)) for group in groups]
        axes.bar(place, [np.mean(one) for one in values], 0.18, color=color, label=label)
        for x, one in zip(place, values, strict=True):
            axes.plot(np.full(len(one), x), one, "o", color=pictures.INK, ms=3, alpha=0.6)
    axes.set_yscale("log")
    axes.set_xticks(range(len(groups)), [f"{kind}\nε = {epsilon:g}" for kind, epsilon in groups])
    axes.grid(False, axis="x")
    axes.set_title("conditions on real values: largest error")
    axes.margins(y=0.3)
    axes.legend(fontsize=9, ncols=2)


def _field(found: list[Conditions], name: str) -> list[Any]:
    return [getattr(one, name) for one in found]


def rounds(axes: Any, result: Result) -> None:
    """Errors over all half-spaces on the way."""
    runs = [one.rounds for one in result.adaptive]
    x = range(len(runs[0]))
    for of, what, ls in ((averages, "average", "-"), (largest, "largest", ":")):
        pictures.band(axes, x, [of(one) for one in runs], color=pictures.METHOD, label=f"adaptive, {what}", ls=ls)
        for name, label, color in (
            ("random", "as many at random", pictures.RIVAL),
            ("everything", "all at once", pictures.QUIET),
        ):
            values = of(getattr(one, name) for one in result.adaptive)
            axes.axhline(np.mean(values), color=color, ls=ls, lw=1.2, label=f"{label}, {what}")
    axes.set_yscale("log")
    axes.set_xlabel("round")
    axes.set_title(f"{result.settings.pool} half-spaces, ε = 1: error")
    axes.legend(fontsize=9)


def maps(figure: Any, result: Result) -> None:
    """Shares of people by age and earnings."""
    real, table = result.shown.real, result.shown.table
    people = f"{result.settings.records} people"
    titles = (people, f"{result.settings.rows} synthetic rows, ε = 1", "the difference")
    high, apart = max(real.max(), table.max()), np.abs(table - real).max()
    for axes, values, title in zip(figure.subplots(1, 3), (real, table, table - real), titles, strict=True):
        signed = title == titles[2]
        image = axes.imshow(
            np.abs(values).T ** 0.5 if not signed else values.T,
            origin="lower",
            aspect="auto",
            extent=(16, 56, 0, 26),
            cmap=pictures.SIGNED if signed else pictures.UNSIGNED,
            vmin=-apart if signed else 0,
            vmax=apart if signed else high**0.5,
        )
        axes.grid(False)
        axes.set_xlabel("age")
        axes.set_ylabel("earnings of 1978, 1000 $")
        axes.set_title(title)
        bar = figure.colorbar(image, ax=axes)
        bar.set_label("share" if signed else "root of the share")
