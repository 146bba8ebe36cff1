"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from ..digits import LEVELS
from .plane import Plane, mixture
from .study import Long, Result
from .words import Words

COLORS = {"exact": pictures.METHOD, "mean": pictures.RIVAL, "posterior mean": pictures.THIRD}


def draw(result: Result) -> Figure:
    """Samples in the plane; words by candidates; rewards against diversity; digits."""
    figure = pictures.canvas("A frozen diffusion steered to a reward without a gradient", height=9.5)
    above, below = figure.subfigures(2, 1)
    panels = above.subplots(1, 4)
    words, diversity, *images = below.subplots(1, 4, width_ratios=(1, 1, 0.8, 0.8))
    if result.plane:
        draw_plane(panels, result.plane)
    if result.words:
        draw_words(words, result.words)
    if result.long:
        draw_diversity(diversity, result.long, result.settings.batch)
    if result.images:
        for axes, one in zip(images, (result.images[0], result.images[-1]), strict=True):
            axes.imshow(pictures.mosaic(one.shown.reshape(-1, 8, 8), 4, low=0, high=LEVELS - 1))
            axes.set_title(f"digits, {one.method}:\n{np.median(one.rewards):.0f} bytes saved by zlib")
    for axes in (*panels, words, diversity, *images):
        if not axes.get_title() or axes in images:
            pictures.bare(axes)
    return figure


def draw_plane(panels: Any, plane: Plane) -> None:
    """No guidance, the method, the exact law, greedy choice."""
    first, most = (f"{plane.counts[i]}" for i in (0, -1))
    shown = {
        f"candidates: {first}": (first, pictures.QUIET),
        f"candidates: {most}": (most, pictures.METHOD),
        "the tilted law itself": ("exact", pictures.INK),
        f"candidates: {most}, greedy": ("greedy", pictures.ALARM),
    }
    grid = np.stack(np.meshgrid(np.linspace(-4, 3, 120), np.linspace(-3, 4, 120)), axis=-1)
    density = np.exp(np.asarray(mixture().log_prob(grid.astype(np.float32))))
    for axes, (title, (name, color)) in zip(panels, shown.items(), strict=True):
        axes.contour(grid[..., 0], grid[..., 1], density, levels=5, colors=pictures.PALE, linewidths=1)
        axes.plot(*plane.points[name].T, ".", color=color, ms=3, alpha=0.6)
        axes.set_title(title)
        axes.set_aspect("equal")
        axes.set_xlim(-4, 3)
        axes.set_ylim(-3, 4)


def draw_words(axes: Any, words: Words) -> None:
    """Distances by candidates."""
    for name, distances in words.distances.items():
        axes.plot(words.counts, distances, "o-", color=COLORS[name], label=f"{name} value" if name == "exact" else name)
    axes.axhline(words.floor, color=pictures.QUIET, ls="--", lw=1.2, label="samples of the law")
    axes.set_xscale("log")
    axes.set_xlabel("candidates")
    axes.set_title("short words: total variation\nfrom the tilted law")
    axes.legend(fontsize=9)


def draw_diversity(axes: Any, long: Long, batch: int) -> None:
    """Median rewards against the number of distinct words."""
    colors = {"SVDD": pictures.METHOD, "SVDD-R": pictures.THIRD, "SMC": pictures.RIVAL}
    labelled: set[str] = set()
    for one in long.outcomes:
        color = colors.get(one.method, pictures.QUIET)
        label = one.method if one.method not in labelled else None
        labelled.add(one.method)
        marker = {"PM": "o", "MC": "^"}.get(one.value, "s")
        axes.plot(np.mean(one.distinct), np.mean(one.medians), marker, color=color, ms=7, label=label, alpha=0.8)
    axes.set_xlabel(f"distinct words of {batch}")
    axes.set_ylabel("median reward")
    axes.set_title("long words (circles: prediction,\ntriangles: fitted value)")
    axes.legend(fontsize=8)
