"""Completed digits, and a codebook before and after it was re-built."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .stage_one import BEFORE, CONTROL, REBUILT, REFIT
from .stage_two import DIFFUSION, MASKS, RASTER
from .study import Result
from .tokenizer import GRID, SIDE


def draw(result: Result) -> Figure:
    """Completions of the first test images; accuracy by what is known; usage of the codebook."""
    figure = pictures.canvas("Completing digits from half of their codes", height=8)
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    images(result, left)
    accuracy, usage = right.subplots(2, 1)
    values: dict[str, float | Estimate] = {}
    colors = {}
    for place in MASKS:
        for name, short, color in ((DIFFUSION, "diffusion", pictures.METHOD), (RASTER, "raster order", pictures.RIVAL)):
            label = f"{place.split()[0]}: {short}"
            values[label] = Estimate.of(one.completions[place][name].accuracy for one in result.completed)
            colors[label] = color
    pictures.bars(accuracy, values, form="{:.2f}", colors=colors)
    accuracy.tick_params(axis="x", labelsize=8)
    accuracy.set_title("judge's accuracy on completed digits, by the half known")
    shades = dict(
        zip(
            (BEFORE, REBUILT, REFIT, CONTROL),
            (pictures.RIVAL, pictures.THIRD, pictures.METHOD, pictures.QUIET),
            strict=True,
        )
    )
    shares: dict[str, float | Estimate] = {
        name: Estimate.of(one.states[name].usage for one in result.small) for name in shades
    }
    pictures.bars(usage, shares, form="{:.2f}", colors=shades)
    usage.set_title(f"share of {result.settings.codes} codes used ten times or more")
    return figure


def images(result: Result, figure: Figure) -> None:
    """A row for each image and one column for each way to complete it."""
    first = result.completed[0].completions
    axes = figure.subplots(1, 1 + len(MASKS))
    show = lambda axes, rows, columns: axes.imshow(
        pictures.mosaic(np.stack(rows, axis=1).reshape(-1, SIDE, SIDE), columns, low=0, high=1)
    )
    show(axes[0], [result.originals, result.reconstructions], 2)
    axes[0].set_title("test image,\nfrom all codes", fontsize=10)
    block = SIDE // GRID
    for one, (place, mask) in zip(axes[1:], MASKS.items(), strict=True):
        known = np.kron(mask.reshape(GRID, GRID), np.ones((block, block))).reshape(-1) > 0
        # unknown pixels are grey
        shown = np.where(known, result.originals, 0.35)
        show(one, [shown, first[place][DIFFUSION].shown, first[place][RASTER].shown], 3)
        one.set_title(f"{place} known:\nknown, diffusion, raster order", fontsize=10)
    for one in axes:
        pictures.bare(one)
