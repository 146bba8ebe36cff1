"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .distill import class_means
from .report import PAPER
from .study import IMPLICIT, UNROLLED, Result

#: Bars of other ways than the two that are compared.
_COLORS = {"loss alone": pictures.PALE, IMPLICIT: pictures.METHOD, UNROLLED: pictures.RIVAL}


def draw(result: Result) -> Figure:
    """The images on their way; below, what they are worth and what their hypergradients cost."""
    rows = len(result.settings.shown) + 1
    figure = pictures.canvas(
        "Ten images to learn the digits from, distilled by implicit hypergradients", height=5.5 + 1.4 * rows
    )
    above, below = figure.subfigures(2, 1, height_ratios=(1.4 * rows, 5))
    _images(above.subplots(), result)
    left, middle, right = below.subplots(1, 3, width_ratios=(2, 1, 1))
    _course(left, result)
    ways = result.ways
    implicit, unrolled = ways[IMPLICIT], ways[UNROLLED]
    times = {"loss alone": result.forward.fastest} | {name: way.fastest for name, way in ways.items()}
    _bars(middle, {name: 1e3 * seconds for name, seconds in times.items()}, "{:.1f} ms")
    middle.set_title(
        f"time of a hypergradient: unrolled {unrolled.fastest / implicit.fastest:.1f} times\n"
        f"(paper, MNIST: {PAPER:.0f})"
    )
    _bars(right, {name: way.memory / 1e6 for name, way in ways.items()}, "{:.2f} MB")
    right.set_title(f"its memory: unrolled {unrolled.memory / implicit.memory:.0f} times")
    return figure


def _images(axes: Any, result: Result) -> None:
    """Rows of images: on the way, and the mean of each class. Each image has its own scale of color."""
    descent, settings = result.descents[IMPLICIT], result.settings
    rows = []
    for n in settings.shown:
        images = descent.theta[n].reshape(10, 8, 8)
        reach = np.abs(images).max(axis=(1, 2))
        rows.append(pictures.mosaic(images, 10, colors=pictures.SIGNED, low=-reach, high=reach))
    means = pictures.mosaic(class_means(result.split.train).reshape(10, 8, 8), 10, colors="Greys", low=0, high=1)
    axes.imshow(np.concatenate([*rows, means]), aspect="auto")
    pictures.bare(axes)
    height, width = means.shape[:2]
    names = [f"after {n} steps\n{descent.accuracy[n]:.1%}" for n in settings.shown]
    axes.set_yticks(height * np.arange(len(rows) + 1) + height / 2, [*names, f"mean images\n{result.means[1]:.1%}"])
    axes.set_xticks(width / 10 * (np.arange(10) + 0.5), [str(digit) for digit in range(10)], fontsize=12)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_title("test accuracy of what is learned from the row; red is ink, blue its opposite")


def _course(axes: Any, result: Result) -> None:
    """The test accuracy along the descent."""
    implicit, unrolled = result.descents[IMPLICIT], result.descents[UNROLLED]
    steps = np.arange(len(implicit.accuracy))
    axes.plot(steps, unrolled.accuracy, color=pictures.RIVAL, lw=5, alpha=0.6, label="distilled, unrolled")
    axes.plot(steps, implicit.accuracy, color=pictures.METHOD, label="distilled, implicit")
    pictures.level(axes, result.means[1], color=pictures.INK, label="mean images")
    pictures.level(axes, result.real[:, 1], color=pictures.THIRD, ls=":", label="real images, one a class")
    axes.set_xlabel("steps of descent on the images")
    axes.set_ylabel("test accuracy")
    axes.set_ylim(0, 1)
    axes.set_title(
        f"test accuracy at the end: {implicit.accuracy[-1]:.1%} implicit, {unrolled.accuracy[-1]:.1%} unrolled"
    )
    axes.legend(loc="lower right")


def _bars(axes: Any, values: dict[str, float], form: str) -> None:
    colors = {name: _COLORS.get(name, "#f0c796") for name in values}
    pictures.bars(axes, values, form=form, colors=colors)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
