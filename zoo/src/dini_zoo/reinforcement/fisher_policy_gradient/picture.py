"""The experiment's picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .report import best_first
from .study import (
    HARPG,
    IGT,
    MOMENTUM,
    NEGATED,
    NHARPG,
    NPG,
    PG,
    SCORELESS,
    STILL,
    STORM,
    Result,
    Searched,
)

COLORS = {
    IGT: pictures.METHOD,
    NHARPG: pictures.THIRD,
    NPG: pictures.RIVAL,
    MOMENTUM: pictures.FOURTH,
    STORM: pictures.INK,
    PG: pictures.QUIET,
    HARPG: pictures.ALARM,
    STILL: pictures.FOURTH,
    NEGATED: pictures.ALARM,
    SCORELESS: pictures.INK,
}


def draw(result: Result) -> Figure:
    """Error against trajectories, by method and by what is left out of N-HARPG; gaps; the bilevel problem."""
    figure = pictures.canvas("How well the gradient is known while the policy moves", width=15, height=9)
    (left, right), (low, last) = figure.subplots(2, 2)
    count = result.settings.seeds
    reference = lambda *names: [one for name in names if (one := result.at_reference(name)) is not None]
    _errors(left, reference(NPG, PG, MOMENTUM, NHARPG, IGT, STORM), result, count)
    left.set_title(f"error of the estimate, reference steps, {count} seeds")
    _errors(right, reference(NEGATED, SCORELESS, STILL, NHARPG), result, count)
    right.set_title("what N-HARPG needs: its correction, with the score term and its sign")
    _gaps(low, result)
    if result.bilevel:
        _errors(last, result.bilevel, result, count)
        last.set_title("a stochastic bilevel problem: error of the hypergradient")
        last.set_xlabel("samples, each with an inner solve")
    else:
        last.set_axis_off()
    return figure


def _errors(axes: Any, searched: Sequence[Searched], result: Result, count: int) -> None:
    """Medians over seeds of running means, and their middle half as a band."""
    for one in searched:
        errors = one.errors[:count]
        width = max(1, errors.shape[1] // 50)
        sums = np.cumsum(np.pad(errors, ((0, 0), (1, 0))), axis=1)
        smooth = (sums[:, width:] - sums[:, :-width]) / width
        at = np.unique(np.geomspace(1, smooth.shape[1], 120).astype(int)) - 1
        x = (at + width / 2 + 0.5) * result.settings.trajectories
        low, middle, high = (np.percentile(smooth[:, at], q, axis=0, method="nearest") for q in (25, 50, 75))
        color = COLORS[one.method]
        axes.fill_between(x, low, high, color=color, alpha=0.13, lw=0)
        axes.plot(x, middle, color=color, label=one.method)
    axes.set(xscale="log", yscale="log", xlabel="trajectories", ylabel="squared error")
    if searched:
        axes.legend(fontsize=9, ncols=2)


def _gaps(axes: Any, result: Result) -> None:
    """Each method's gaps at its best step, a dot for each seed."""
    found = best_first(result)
    for i, one in enumerate(found):
        gaps = one.gaps[: result.settings.seeds]
        shown = gaps[np.isfinite(gaps)]
        axes.plot(i + np.linspace(-0.2, 0.2, len(shown)), shown, "o", color=COLORS[one.method], ms=4, alpha=0.7)
        axes.plot([i - 0.3, i + 0.3], [np.median(gaps)] * 2, color=pictures.INK, lw=1.5)
    axes.set_xticks(range(len(found)), [f"{one.method}\n{one.step:g}" for one in found], fontsize=9)
    axes.set(yscale="log", ylabel="J* - J", title="gaps, each method at its own best step: reported, no claim")
    axes.grid(False, axis="x")
