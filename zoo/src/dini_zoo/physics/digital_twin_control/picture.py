"""The picture: populations under control, what each policy costs, the pathway's end product."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from . import pathways, predators
from .common import CUT, MEAN_FIELD, POPULATION
from .study import Result

COLORS = {
    predators.NONE: pictures.QUIET,
    predators.CONSTANT: pictures.THIRD,
    predators.PLAN: pictures.FOURTH,
    POPULATION: pictures.METHOD,
    MEAN_FIELD: pictures.RIVAL,
    CUT: pictures.ALARM,
}


def draw(result: Result) -> Figure:
    """Counts under several policies, two meadows, costs; the end product under feedback and by plan."""
    figure = pictures.canvas("Controllers that are trained through the agents", height=9)
    top, bottom = figure.subfigures(2, 1)
    counts, meadows = top.subfigures(1, 2, width_ratios=(1.5, 1))
    left, right = counts.subplots(1, 2)
    for axes, species, name in ((left, 0, "sheep"), (right, 1, "wolves")):
        populations(axes, result, species)
        axes.set_title(f"{name}: mean, 10 to 90 percent of simulations")
    left.legend(fontsize=8, loc="upper right")
    for axes, name in zip(meadows.subplots(1, 2), (predators.NONE, POPULATION), strict=True):
        meadow(axes, *result.predators.meadows[name])
        axes.set_title(f"after {result.settings.steps} steps,\n{name}")
    one, two, three = bottom.subplots(1, 3, width_ratios=(1.2, 1, 1))
    bars(one, result)
    for axes, case, value in ((two, "nominal", pathways.NOMINAL), (three, "changed", pathways.CHANGED)):
        product(axes, result, case)
        axes.set_title(f"pathway, k₄ = {value}: end product")
    two.legend(fontsize=8, loc="lower right")
    return figure


def populations(axes: Any, result: Result, species: int) -> None:
    """Counts of a species over the steps."""
    target = predators.TARGET[species]
    for name in (predators.NONE, MEAN_FIELD, POPULATION):
        x = result.predators.paths[name][:, :, species]
        low, high = np.quantile(x, (0.1, 0.9), axis=0)
        axes.fill_between(range(x.shape[1]), low, high, color=COLORS[name], alpha=0.15, lw=0)
        axes.plot(x.mean(axis=0), color=COLORS[name], label=name)
    axes.axhline(target, color=pictures.INK, ls="--", lw=1.2, label="target")
    axes.set_ylim(0, None)
    axes.set_xlabel("steps")


def meadow(axes: Any, grown: np.ndarray, sheep: np.ndarray, wolves: np.ndarray) -> None:
    """Grass, sheep and wolves."""
    colors = np.where(grown[..., None], (0.80, 0.90, 0.76), (0.96, 0.94, 0.88))
    axes.imshow(colors)
    for where, color, size in ((sheep, pictures.INK, 5), (wolves, pictures.ALARM, 12)):
        axes.scatter(where[:, 1], where[:, 0], s=size, color=color, lw=0)
    pictures.bare(axes)
    axes.set_xlabel(f"{len(sheep)} sheep (dark), {len(wolves)} wolves (red)")


def bars(axes: Any, result: Result) -> None:
    """Costs of all policies."""
    names = {
        predators.NONE: "no control",
        predators.CONSTANT: "best constant",
        predators.PLAN: "plan",
        MEAN_FIELD: "through mean field",
        **{f"{predators.EVOLUTION}, σ = {sigma}": f"CMA-ES σ={sigma}" for sigma in result.settings.sigmas},
        POPULATION: "through agents",
    }
    values, colors = {}, {}
    for name, short in names.items():
        found = [one.cost for one in result.predators.scores if one.name == name]
        if not found:
            continue
        values[short] = float(np.mean(found))
        colors[short] = COLORS.get(name, pictures.PALE)
    pictures.bars(axes, values, colors=colors, log=True, form="{:.3g}")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title("sheep and wolves: cost, mean over seeds")


def product(axes: Any, result: Result, case: str) -> None:
    """The end product over the steps, under feedback and by plan."""
    found = result.pathways
    for name, color in ((pathways.OPEN, pictures.RIVAL), (POPULATION, pictures.METHOD)):
        low, high, mean = found.paths[f"{name}, {case}"]
        axes.fill_between(range(len(mean)), low, high, color=color, alpha=0.15, lw=0)
        axes.plot(mean, color=color, label="feedback, " + name if name == POPULATION else name)
    axes.plot(found.reference, color=pictures.INK, ls="--", lw=1.2, label="reference")
    axes.set_xlabel("steps")
