"""The experiment's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .checks import PAPER
from .distill import class_means

if TYPE_CHECKING:
    from .experiment import Result

_IMPLICIT, _UNROLLED, _INK, _REAL = "#1f8a8c", "#e08a2c", "#26374a", "#7b5ea7"


def draw(result: Result) -> Figure:
    """The images on their way; below, what they are worth and what their hypergradients cost."""
    rows = len(result.settings.shown) + 1
    figure = Figure(figsize=(15, 5.5 + 1.4 * rows), dpi=110, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.4 * rows, 5))
    _images(above.subplots(), result)
    left, middle, right = below.subplots(1, 3, width_ratios=(2, 1, 1))
    _course(left, result)
    ways = result.ways
    implicit, unrolled = ways["implicit"], ways["unrolled"]
    times = {"loss alone": min(result.forward)} | {name: way.fastest for name, way in ways.items()}
    _bars(middle, {name: 1e3 * seconds for name, seconds in times.items()}, "{:.1f} ms")
    middle.set_title(
        f"time of a hypergradient: {unrolled.fastest / implicit.fastest:.1f} times less\n"
        f"(paper, MNIST: {PAPER:.0f} times)",
        fontsize=11,
    )
    _bars(right, {name: way.memory / 1e6 for name, way in ways.items()}, "{:.2f} MB")
    right.set_title(f"its memory: {unrolled.memory / implicit.memory:.0f} times less", fontsize=11)
    figure.suptitle("Ten images to learn the digits from, distilled by implicit hypergradients", fontsize=16)
    return figure


def _images(axes: Any, result: Result) -> None:
    """Rows of images: on the way, and the mean of each class. Each image has its own scale of color."""
    descent, settings = result.descents["implicit"], result.settings
    rows = [descent.theta[n] for n in settings.shown]
    signed = [_mosaic(0.5 + 0.5 * images / np.abs(images).max(axis=1, keepdims=True), "RdBu_r") for images in rows]
    axes.imshow(np.concatenate([*signed, _mosaic(class_means(result.split.train), "Greys")]), aspect="auto")
    names = [f"after {n} steps\n{descent.accuracy[n]:.1%}" for n in settings.shown]
    axes.set_yticks(_PITCH * np.arange(len(rows) + 1) + _PITCH / 2, [*names, f"mean images\n{result.means[1]:.1%}"])
    axes.set_xticks(_PITCH * np.arange(10) + _PITCH / 2, [str(digit) for digit in range(10)], fontsize=12)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title("test accuracy of what is learned from the row; red is ink, blue its opposite", fontsize=11)


#: Pixels from one image to the next: each of the eight is drawn as 10×10, so that margins can be thin.
_PITCH = 88


def _mosaic(images: np.ndarray, colors: str) -> np.ndarray:
    """Images of numbers in [0, 1] side by side, on white."""
    tiles = np.ones((len(images), _PITCH, _PITCH, 3))
    large = images.reshape(-1, 8, 8).repeat(10, axis=1).repeat(10, axis=2)
    tiles[:, 4:-4, 4:-4] = matplotlib.colormaps[colors](large)[..., :3]
    return np.concatenate(tiles, axis=1)


def _course(axes: Any, result: Result) -> None:
    """The test accuracy along the descent."""
    implicit, unrolled = result.descents["implicit"], result.descents["unrolled"]
    steps = np.arange(len(implicit.accuracy))
    axes.plot(steps, unrolled.accuracy, color=_UNROLLED, lw=5, alpha=0.6, label="distilled, unrolled")
    axes.plot(steps, implicit.accuracy, color=_IMPLICIT, lw=2, label="distilled, implicit")
    axes.axhline(result.means[1], color=_INK, lw=1.2, ls="--", label="mean images")
    mean, spread = result.real[:, 1].mean(), result.real[:, 1].std()
    axes.axhspan(mean - spread, mean + spread, color=_REAL, alpha=0.15, lw=0)
    axes.axhline(mean, color=_REAL, lw=1.2, ls=":", label="real images, one a class")
    axes.set_xlabel("steps of descent on the images")
    axes.set_ylabel("test accuracy")
    axes.set_ylim(0, 1)
    axes.set_title(
        f"test accuracy {implicit.accuracy[-1]:.1%}, training loss {implicit.loss[-1]:.3f}, by either hypergradient",
        fontsize=11,
    )
    axes.legend(frameon=False, fontsize=10, loc="lower right")
    _plain(axes)


def _bars(axes: Any, values: dict[str, float], form: str) -> None:
    colors = {"loss alone": "#c9d1da", "implicit": _IMPLICIT, "unrolled": _UNROLLED}
    axes.bar(range(len(values)), values.values(), color=[colors.get(name, "#f0c796") for name in values], width=0.65)
    for i, value in enumerate(values.values()):
        axes.annotate(form.format(value), (i, value), ha="center", va="bottom", fontsize=10)
    axes.set_xticks(range(len(values)), [name.replace(" ", "\n") for name in values], fontsize=10)
    axes.set_yticks([])
    _plain(axes)
    axes.spines["left"].set_visible(False)


def _plain(axes: Any) -> None:
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
