"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .study import OPTIMISTIC, PLAIN, TWO_LAYERS, UNIFORM, Result


def draw(result: Result) -> Figure:
    """Static regret by noise, a game's duality gap, and dynamic regret by environment."""
    figure = pictures.canvas("The last gradient as a guess of the next one", width=15, height=9)
    (left, right), (low, last) = figure.subplots(2, 2)
    _static(left, result)
    _moving(right, result)
    _game(low, result, "mean")
    _game(last, result, "last")
    return figure


def _rounds(count: int) -> np.ndarray:
    """Rounds that are evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(1, count, 300).astype(int))


def _static(axes: Any, result: Result) -> None:
    at = _rounds(result.settings.rounds)
    still = [one for one in result.static if not one.drift]
    for one, color in zip(still, pictures.COLORS, strict=False):
        label = f"noise {one.noise:g}"
        pictures.band(axes, at, one.regret[OPTIMISTIC][:, at - 1], color=color, label=label)
        pictures.band(axes, at, one.regret[PLAIN][:, at - 1], color=color, label=f"{label}, {PLAIN}", ls=":")
    axes.plot(at, result.strong[:, at - 1].mean(axis=0), color=pictures.INK, label="noise 1, strongly convex")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.1)
    axes.set_xlabel("rounds")
    axes.set_ylabel("regret")
    axes.set_title("static regret without drift, optimistic unless said")
    axes.legend()


def _game(axes: Any, result: Result, what: str) -> None:
    at = _rounds(result.settings.rounds)
    for name, color in ((OPTIMISTIC, pictures.METHOD), (PLAIN, pictures.RIVAL)):
        gap = getattr(result.games[name], what)
        pictures.band(axes, at, gap[:, at - 1], color=color, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rounds")
    axes.set_ylabel("duality gap")
    axes.set_title(f"bilinear game: gap of the {what} point, {len(result.settings.game_starts)} starts")
    axes.legend()


def _moving(axes: Any, result: Result) -> None:
    names = [f"{one.name}\n{one.noise:g}" for one in result.moving]
    places = np.arange(len(names))
    series = {
        "worst member": ([one.worst for one in result.moving], pictures.PALE),
        UNIFORM: ([one.regret[UNIFORM].mean() for one in result.moving], pictures.QUIET),
        TWO_LAYERS: ([one.regret[TWO_LAYERS].mean() for one in result.moving], pictures.METHOD),
        "best member": ([one.best for one in result.moving], pictures.FOURTH),
        "static learner": ([one.regret[OPTIMISTIC].mean() for one in result.moving], pictures.THIRD),
        PLAIN: ([one.regret[PLAIN].mean() for one in result.moving], pictures.RIVAL),
    }
    width = 0.8 / len(series)
    for i, (name, (values, color)) in enumerate(series.items()):
        axes.bar(places + (i - (len(series) - 1) / 2) * width, values, width, color=color, label=name)
    axes.set_yscale("log")
    axes.set_xticks(places, names)
    axes.grid(False, axis="x")
    axes.set_ylim(top=10 * axes.get_ylim()[1])
    axes.set_ylabel("dynamic regret")
    axes.set_title("points that move: environment, and noise below")
    axes.legend(ncols=2, fontsize=8)
