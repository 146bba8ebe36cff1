"""The picture: noises, what is learned, and clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .learning import Learned
from .moving import FRAMES, SIDE
from .study import HURSTS, Result


def draw(result: Result) -> Figure:
    """Paths, errors of the approximation, indices in training, bounds, clips."""
    figure = pictures.canvas("Noise with memory, and its Hurst index", height=9 if result.videos else 5.5)
    above = figure
    if result.videos:
        above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
        clips(result, below)
    first, second, third, fourth = above.subplots(1, 4)
    for (name, path), color in zip(result.noises.items(), pictures.COLORS, strict=False):
        first.plot(np.linspace(0, 1, len(path) + 1), np.append(0.0, path), color=color, lw=1, label=f"H = {name}")
    first.set_title("exact paths, the same shocks")
    first.set_xlabel("time")
    first.legend()
    for one, color in zip(result.grids, pictures.COLORS, strict=False):
        label = f"{one.kind}, {one.count} to {one.fastest:g}"
        second.plot(HURSTS, np.maximum(one.errors, 1e-12), "o-", color=color, label=label)
    second.set_yscale("log")
    second.set_xlabel("H")
    second.set_title("relative error of the approximation")
    second.legend()
    courses(result.learned or [], third)
    bounds(result.learned or [], fourth)
    return figure


def courses(learned: list[Learned], axes: Any) -> None:
    """Indices in training."""
    for one, color in zip(learned, pictures.COLORS, strict=False):
        steps = np.linspace(0, 1, one.courses.shape[-1])
        pictures.band(axes, steps, one.courses, color=color, label=f"{one.case.hurst:g}, variational")
        axes.axhline(one.likelihood.hurst, color=color, ls="--", lw=1.2, label=f"{one.case.hurst:g}, exact likelihood")
        axes.axhline(one.case.hurst, color=pictures.INK, ls=":", lw=1.2)
    axes.set_xlabel("share of training (dotted: the truth)")
    axes.set_title("the Hurst index")
    if learned:
        axes.legend(fontsize=8)


def bounds(learned: list[Learned], axes: Any) -> None:
    """How far below the likelihood each bound is."""
    gaps: dict[str, Estimate] = {}
    colors: dict[str, str] = {}
    for one in learned:
        for name, values, color in (
            ("learned", one.bounds, pictures.METHOD),
            ("Brownian", one.half_bounds, pictures.QUIET),
        ):
            label = f"{one.case.hurst:g} {name}"
            gaps[label] = Estimate.of(one.likelihood.value - np.asarray(values))
            colors[label] = color
    pictures.bars(axes, gaps, form="{:.2f}", colors=colors)
    axes.set_title("exact log-likelihood less the bound (nats)")


def clips(result: Result, figure: Any) -> None:
    """Frames of the data, as the posteriors have them, and redrawn."""
    assert result.videos
    rows = {"a clip": result.clip}
    rows |= {f"{one.noise}: posterior": one.rebuilt for one in result.videos}
    rows |= {f"{one.noise}: new": one.drawn[0] for one in result.videos}
    axes = figure.subplots(len(rows), 1)
    for ax, (name, frames) in zip(axes, rows.items(), strict=True):
        ax.imshow(pictures.mosaic(frames.reshape(FRAMES, SIDE, SIDE), FRAMES, low=0, high=1))
        pictures.bare(ax)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
