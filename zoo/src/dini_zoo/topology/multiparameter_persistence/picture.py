"""The picture: clouds before and after, their signed measures on their landscapes, sizes on the way, and graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .clouds import LEVEL, ONE, TWO, Shown
from .report import by_parameters
from .study import Result

COLORS = {TWO: pictures.METHOD, ONE: pictures.RIVAL}


def draw(result: Result) -> Figure:
    """Clouds and their measures above, sizes and graphs below."""
    figure = pictures.canvas("Losses on persistent homology by two parameters", height=9)
    axes = figure.subplots(2, 3)
    points(axes[0, 0], result)
    top = max((float(one.landscape.max()) for one in result.shown), default=0)
    whens = ("before", f"after {result.settings.steps} steps")
    for axis, one, when in zip(axes[0, 1:], result.shown, whens, strict=False):
        image = measure(axis, one, top)
        axis.set_title(f"signed measure and landscape λ₁, {when}")
        if axis is axes[0, 2]:
            figure.colorbar(image, ax=axis, label="λ₁, in half scales and whole levels")
    sides(axes[1, 0], result)
    births(axes[1, 1], result)
    starts(axes[1, 2], result)
    return figure


def points(axis: Any, result: Result) -> None:
    """One cloud before, and after by each loss."""
    if not result.clouds[TWO]:
        return
    first = result.clouds[TWO][0].first
    axis.plot(*first.T, "o", color=pictures.QUIET, ms=4, label="before")
    for kind in (ONE, TWO):
        axis.plot(*result.clouds[kind][0].last.T, "o", color=COLORS[kind], ms=4, label=f"after, {kind}")
    axis.set_aspect("equal")
    axis.set_title(f"a cloud (seed {result.settings.seeds[0]})")
    axis.legend(fontsize=8)


def measure(axis: Any, one: Shown, top: float) -> Any:
    """Weights as disks of two colors on the landscape."""
    image = axis.pcolormesh(
        *one.grid, one.landscape.T, cmap="Greys", vmin=0, vmax=max(top, 1e-9), shading="gouraud", rasterized=True
    )
    for sign, color, label in ((1, pictures.ALARM, "positive"), (-1, pictures.FOURTH, "negative")):
        mine = np.sign(one.weights) == sign
        axis.scatter(
            *one.points[mine].T, s=35 * np.abs(one.weights[mine]), c=color, label=label, lw=0.5, ec="white", zorder=3
        )
    axis.axhline(LEVEL, color=pictures.INK, lw=0.8, ls=":")
    axis.set_xlim(one.grid[0][0], one.grid[0][-1])
    axis.set_ylim(one.grid[1][0], one.grid[1][-1] + 0.02)
    axis.set_xlabel("scale")
    axis.set_ylabel("function")
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(False)
    return image


def sides(axis: Any, result: Result) -> None:
    """The bounding box on the way, all seeds."""
    axis.set_title("longest side of the bounding box")
    axis.set_xlabel("step")
    for kind, clouds in result.clouds.items():
        if not clouds:
            return
        runs = np.array([one.sides for one in clouds])
        pictures.band(axis, np.arange(runs.shape[1]), runs, color=COLORS[kind], label=kind)
    axis.legend(fontsize=8)


def births(axis: Any, result: Result) -> None:
    """Where planted cycles enter in the learned functions, by class."""
    axis.set_title("learned functions: where planted cycles enter")
    two = by_parameters(result, 2)
    if not two:
        return
    one = two[0]
    for label, color, name in ((1, pictures.METHOD, "one kind of node"), (0, pictures.ALARM, "two kinds")):
        axis.plot(*one.births[one.labels == label].T, "o", color=color, ms=3, alpha=0.6, label=name)
    axis.set_xlabel("first function")
    axis.set_ylabel("second function")
    axis.legend(fontsize=8)


def starts(axis: Any, result: Result) -> None:
    """Every start's training loss and test accuracy."""
    axis.set_title("graphs: every start")
    axis.set_xlabel("training loss")
    axis.set_ylabel("accuracy on test graphs")
    if not result.graphs:
        return
    for parameters, color, name in ((2, pictures.METHOD, TWO), (1, pictures.RIVAL, ONE)):
        runs = by_parameters(result, parameters)
        if not runs:
            continue
        training = np.concatenate([one.training for one in runs])
        axis.plot(
            training, np.concatenate([one.accuracy for one in runs]), "o", color=color, ms=5, alpha=0.7, label=name
        )
    axis.set_xscale("log")
    axis.legend(fontsize=8)
