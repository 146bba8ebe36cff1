"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .sensitivity import size
from .study import Result

_SMALL, _LARGE, _LOOSE = "#bfe0dc", "#dfe5ec", "#ffffff"


def draw(result: Result) -> Figure:
    """A packing with the arrows of both derivatives; below, the sizes of both along the steps and over the starts."""
    figure = pictures.canvas("Soft disks, packed: the sensitivity of their positions to a diameter", height=14)
    above, below = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    start = result.few[result.settings.pictured]
    left, right = above.subplots(1, 2)
    loose = int(start.rattlers.sum())
    rattlers = f"; {loose} rattlers (white) stay" if loose else ""
    _packing(left, result, start.implicit, pictures.METHOD)
    left.set_title(f"implicit: where the disks go when the green ones grow{rattlers}")
    _packing(right, result, start.unrolled.dx, pictures.RIVAL)
    right.set_title(f"unrolled, {result.settings.steps} steps of FIRE: {_off(start.unrolled_error)}")
    left, right = below.subplots(1, 2, width_ratios=(1, 1))
    _along(left, result)
    _over(right, result)
    return figure


def _off(error: float) -> str:
    return f"{error:.0e} off, relative" if error < 0.1 else f"{error:.3g} times its size off"


def _packing(axes: Any, result: Result, dx: np.ndarray, color: str) -> None:
    start, side, settings = result.few[result.settings.pictured], result.side, result.settings
    count = settings.few.disks
    sigma = np.where(np.arange(count) < count // 2, settings.theta, 1.0)
    fill = np.where(np.arange(count) < count // 2, _SMALL, _LARGE)
    fill = np.where(start.rattlers, _LOOSE, fill)
    x = start.x % side
    # the median disk's arrow is a fixed part of a diameter; of both derivatives in the same scale
    scale = 0.3 / np.median(np.linalg.norm(start.implicit[~start.rattlers], axis=1))
    shifts = side * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    images = (x[None] + shifts[:, None]).reshape(-1, 2)
    copies = len(shifts)
    shown = np.all((images > -0.6) & (images < side + 0.6), axis=1)
    tile = lambda values: np.tile(values, (copies,) + (1,) * (np.ndim(values) - 1))[shown]
    widths = tile(sigma)
    axes.add_collection(
        EllipseCollection(
            widths,
            widths,
            0 * widths,
            units="xy",
            offsets=images[shown],
            offset_transform=axes.transData,
            facecolors=tile(fill),
            edgecolors=pictures.QUIET,
            linewidths=0.7,
        )
    )
    apart = x[:, None] - x[None, :]
    apart = apart - side * np.round(apart / side)
    press = 1 - np.linalg.norm(apart, axis=-1) / (0.5 * (sigma[:, None] + sigma[None, :]))
    i, j = np.nonzero((press > 0) & ~np.eye(count, dtype=bool))
    lines = np.stack([x[i], x[i] - apart[i, j]], axis=1)
    axes.add_collection(LineCollection(lines, linewidths=18 * press[i, j], colors=pictures.QUIET, alpha=0.55))
    arrows = tile(scale * dx)
    axes.quiver(*images[shown].T, *arrows.T, color=color, angles="xy", scale_units="xy", scale=1, width=0.005, zorder=3)
    axes.set_xlim(0, side)
    axes.set_ylim(0, side)
    axes.set_aspect("equal")
    pictures.bare(axes)
    axes.spines[:].set_visible(True)


def _along(axes: Any, result: Result) -> None:
    """The size of the unrolled derivative relative to the implicit one, over the steps of FIRE."""
    for kind, (color, label) in enumerate(((pictures.METHOD, "no rattler"), (pictures.RIVAL, "with rattlers"))):
        of_kind = [start for start in result.many if start.rattlers.any() == bool(kind)]
        for i, start in enumerate(of_kind):
            relative = start.unrolled.sizes / size(start.implicit)
            name = f"{label}: {len(of_kind)} starts" if i == 0 else None
            axes.plot(relative, color=color, lw=0.9, alpha=0.75, label=name)
    axes.axhline(1, color=pictures.INK, lw=1.2, ls="--", label="the implicit derivative")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-2)
    axes.set_xlabel("steps of FIRE")
    axes.set_ylabel("size of the unrolled derivative / implicit")
    many, steps = result.many, int(np.median([start.steps for start in result.many]))
    apart = np.median([start.unrolled_error for start in many])
    axes.set_title(
        f"unrolling, {result.settings.many.disks} disks: forces vanish after {steps} steps, "
        f"the derivative is {apart:.2g} of its size off (medians)"
    )
    axes.legend()


def _over(axes: Any, result: Result) -> None:
    """The sizes of both derivatives at all of the starts, in the order of the unrolled one's error."""
    order = sorted(result.many, key=lambda start: start.unrolled_error)
    places = np.arange(len(order))
    implicit = np.array([size(start.implicit) for start in order])
    unrolled = np.array([size(start.unrolled.dx) for start in order])
    axes.vlines(places, implicit, unrolled, color=pictures.PALE, lw=2)
    axes.plot(places, unrolled, "o", color=pictures.RIVAL, ms=7, label="unrolled")
    axes.plot(places, implicit, "o", color=pictures.METHOD, ms=5, label="implicit")
    loose = np.array([start.rattlers.any() for start in order])
    floor = 0.4 * min(implicit.min(), unrolled.min())
    axes.plot(places[loose], np.full(loose.sum(), floor), "|", color=pictures.INK, ms=8, label="has rattlers")
    axes.set_yscale("log")
    axes.set_xticks([])
    axes.set_xlabel("starts, in the order of the unrolled derivative's error")
    axes.set_ylabel("sum of the absolute values of the derivative")
    wrong = sum(start.unrolled_error > 0.01 for start in order)
    axes.set_title(f"unrolled more than 1% off at {wrong} of {len(order)} starts")
    axes.legend(loc="upper left")
