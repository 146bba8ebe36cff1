"""The picture: eigenvalues and rates over the batch size, and what the learner makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .rates import max_learning_rate
from .report import expected, predicted
from .study import Result


def draw(result: Result) -> Figure:
    """Random matrices, Hessians, stable rates, and the learner."""
    figure = pictures.canvas(
        "Sharper batches, smaller steps: how curvature and learning rates follow the batch size", 15, 9
    )
    (matrices, hessians), (rates, learner) = figure.subplots(2, 2)
    _matrices(matrices, result)
    _hessians(hessians, result)
    _rates(rates, result)
    _learner(learner, result)
    return figure


def _matrices(axes: Any, result: Result) -> None:
    sizes = list(result.matrices)
    fine = np.geomspace(min(sizes), max(sizes), 200)
    setup = result.settings.matrices
    for i, (name, truth) in enumerate({"largest": setup.largest, "smallest": setup.smallest}.items()):
        color = (pictures.METHOD, pictures.RIVAL)[i]
        axes.plot(fine, [expected(result, b)[i] for b in fine], color=color, label=f"{name}: the formula")
        for b, draws in result.matrices.items():
            axes.plot([b] * len(draws), [draw[i] for draw in draws], "o", color=color, ms=4, alpha=0.6)
        axes.axhline(truth, color=color, lw=1, ls=":")
    axes.set(xscale="log", xlabel="batch size", ylabel="eigenvalue")
    axes.set_title("random matrices: dotted lines without noise")
    axes.legend()


def _hessians(axes: Any, result: Result) -> None:
    sizes = list(result.settings.hessian.batches)
    fine = np.geomspace(min(sizes), max(sizes), 100)
    lines = {
        "noise along the eigenvector": (pictures.METHOD, lambda one: one.directional),
        "noise in random directions": (pictures.RIVAL, lambda one: one.isotropic),
    }
    for name, (color, noise) in lines.items():
        curves = [[predicted(one, b, noise(one), result.data) - one.largest for b in fine] for one in result.curvatures]
        pictures.band(axes, fine, curves, color=color, label=f"formula, {name}")
    points = [[np.mean(one.tops[b]) - one.largest for b in sizes] for one in result.curvatures]
    for i, row in enumerate(points):
        axes.plot(sizes, row, "o", color=pictures.INK, ms=5, label=None if i else "measured")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="excess of the largest eigenvalue over all data's")
    axes.set_title("Hessians of a perceptron on digits")
    axes.legend()


def _rates(axes: Any, result: Result) -> None:
    for name, rates, color in (("SGD", result.sgd, pictures.METHOD), ("Adam", result.adam, pictures.RIVAL)):
        sizes, largest = list(rates.largest), list(rates.largest.values())
        slope = rates.slope(2, 32 if name == "SGD" else 128)
        fit = "" if slope is None else f", slope {slope:.2f}" + (" to 32" if name == "SGD" else "")
        axes.plot(sizes, largest, "o-", color=color, label=f"{name}{fit}")
    if result.sgd.largest and result.learned.curvature:
        largest, noise = np.mean(result.learned.curvature, axis=0)
        sizes = np.asarray(list(result.sgd.largest), float)
        axes.plot(
            sizes, max_learning_rate(largest, noise, sizes), color=pictures.INK, ls=":", label="formula, first weights"
        )
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="learning rate")
    axes.set_title("the largest stable rate")
    axes.legend()


def _learner(axes: Any, result: Result) -> None:
    found = result.learned
    colors = dict(zip(found.paths, pictures.COLORS, strict=False))
    for (b, safety), paths in found.paths.items():
        shown = np.asarray(paths, float)
        shown = np.where(np.isfinite(shown) & (shown < 1e3), shown, np.nan)
        for i, path in enumerate(shown):
            label = None if i else f"batch {b}, s = {safety:g}"
            axes.plot(range(len(path)), path, color=colors[b, safety], lw=1.3, label=label)
    last = len(next(iter(found.paths.values()))[0]) - 1
    for b in found.sgd:
        axes.plot(last + 0.4, found.best(b)[1], ">", color=pictures.INK, ms=6)
        axes.annotate(
            f"grid, {b}", (last + 0.4, found.best(b)[1]), xytext=(7, -3), textcoords="offset points", fontsize=8
        )
    axes.set(yscale="log", xlabel="passes through the data", ylabel="training loss", xlim=(0, 1.15 * last))
    axes.set_title("the learner, and the best of a grid of SGD")
    axes.legend(fontsize=9)
