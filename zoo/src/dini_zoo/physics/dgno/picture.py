"""Media and pressures, decoded and inverted, with what the laws leave open."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .bayes import NUTS, VARIATIONAL
from .report import UNKNOWN, unknowns
from .study import CONSTANT, EXACT, Result
from .training import DIRECT, MULTI


def draw(result: Result) -> Figure:
    """Above two media and pressures from the model; below an inversion and all errors."""
    figure = pictures.canvas("One code for medium and pressure: decoded, and found from a few values", height=8.5)
    axes = figure.subplots(2, 3)
    given, seen, inverted = result.shown.given, result.shown.forward, result.shown.inverted
    n = given.a.shape[1]
    ends, middles = np.linspace(0, 1, n + 1), (np.arange(n) + 0.5) / n
    other = min(1, len(given.a) - 1)

    def medium(where: Any, values: np.ndarray, **how: Any) -> None:
        where.step(ends, np.append(values, values[-1]), where="post", **how)

    left, right = axes[0, 0], axes[0, 1]
    for i, shade in ((0, 1.0), (other, 0.45)):
        medium(left, given.a[i], color=pictures.PALE if i else pictures.QUIET, lw=4, label=None if i else "medium")
        left.plot(middles, seen.a[i], color=pictures.METHOD, alpha=shade, label=None if i else "decoded")
        right.plot(ends, given.u[i], color=pictures.PALE if i else pictures.QUIET, lw=4, label=None if i else "exact")
        right.plot(ends, seen.u[i], color=pictures.METHOD, alpha=shade, label=None if i else "decoded")
    left.set_title("two media that were not trained with, encoded")
    right.set_title("their pressures: none was seen in training")
    for one in (left, right):
        one.legend()
    errors = {kind: [seed[kind].u for seed in result.forwards] for kind in result.settings.kinds}
    errors["mean of solutions"] = [seed[MULTI].mean_field for seed in result.forwards]
    colors = {MULTI: pictures.METHOD, "mean of solutions": pictures.QUIET}
    bars(axes[0, 2], errors, colors)
    axes[0, 2].set_title("pressure from the medium: relative error")

    left, right = axes[1, 0], axes[1, 1]
    medium(left, given.a[0], color=pictures.QUIET, lw=4, label="medium")
    left.plot(middles, inverted[MULTI].a[0], color=pictures.METHOD, label=UNKNOWN[MULTI])
    left.plot(middles, inverted[EXACT].a[0], color=pictures.RIVAL, lw=1.2, label=UNKNOWN[EXACT])
    right.plot(ends, given.u[0], color=pictures.QUIET, lw=4, label="exact")
    right.plot(given.which[0] / n, given.observed[0], "o", color=pictures.INK, ms=4, label="observed")
    if result.bayes:
        bands = result.bayes[0].bands
        left.plot(middles, bands[NUTS][0], color=pictures.THIRD, ls="--", label="mean of NUTS")
        for name, color, alpha in ((VARIATIONAL, pictures.FOURTH, 0.3), (NUTS, pictures.THIRD, 0.25)):
            low, high = bands[name][1]
            right.fill_between(ends, low, high, color=color, alpha=alpha, lw=0, label=f"95 %, {name}")
    right.plot(ends, inverted[MULTI].u[0], color=pictures.METHOD, label="inverted")
    left.set_title("an inversion: the medium")
    right.set_title("and the pressure")
    for one in (left, right):
        one.legend(fontsize=8)
    errors = {text: [seed[name].a for seed in result.inversions] for name, text in unknowns(result).items()}
    colors = {UNKNOWN[MULTI]: pictures.METHOD, UNKNOWN[CONSTANT]: pictures.QUIET, UNKNOWN[DIRECT]: pictures.ALARM}
    bars(axes[1, 2], errors, colors)
    axes[1, 2].set_title("medium from the pressure: relative error")
    for one in (*axes[:, 0], *axes[:, 1]):
        one.set_xlabel("x")
    return figure


def bars(axes: Any, errors: dict[str, list[float]], colors: dict[str, str]) -> None:
    """A row for each name: the mean, and a dot for each seed."""
    names = list(errors)[::-1]
    for i, name in enumerate(names):
        values = errors[name]
        axes.barh(i, np.mean(values), color=colors.get(name, pictures.RIVAL), height=0.6)
        axes.plot(values, np.full(len(values), i), "o", color=pictures.INK, ms=4, alpha=0.6)
        axes.annotate(
            f" {np.mean(values):.3f}", (max(values), i), va="center", xytext=(4, 0), textcoords="offset points"
        )
    axes.set_yticks(range(len(names)), names)
    axes.grid(False, axis="y")
    axes.margins(x=0.15)
