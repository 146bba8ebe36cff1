"""The picture: errors in two clocks, how near the adjoint is, memory, digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .digits import Cost
from .report import NAMES
from .study import Result

COLORS = {
    "backsolve": pictures.METHOD,
    "checkpoint": pictures.RIVAL,
    "stored": pictures.THIRD,
    "direct": pictures.QUIET,
}


def draw(result: Result) -> Figure:
    """Errors, cosines, memory, images."""
    figure = pictures.canvas("Gradients through a diffusion sampler", height=9)
    above, below = figure.subfigures(2, 1)
    errors, angles, memory = above.subplots(1, 3)
    clocks(result, errors)
    costs(result.costs or [], angles, memory)
    rows: dict[str, Any] = {}
    if result.inversion:
        rows |= {"embedding of 3": result.inversion.images["start"], "sought for 8": result.inversion.images["found"]}
    if result.attack:
        rows |= {"noise as drawn": result.attack.images["none"], "attacked": result.attack.images["attacked"]}
    if not rows:
        return figure
    for axes, (name, x) in zip(np.atleast_1d(below.subplots(len(rows), 1)), rows.items(), strict=True):
        axes.imshow(pictures.mosaic(x.reshape(-1, 8, 8), 12, low=-1, high=1))
        pictures.bare(axes)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def clocks(result: Result, axes: Any) -> None:
    """The gradient's error by the spread of normal data."""
    if result.closed is None:
        return
    count = result.closed.fixed[0].steps
    chosen = [one for one in result.closed.fixed if one.steps == count]
    spreads = [one.spread for one in chosen]
    for i, (name, color) in enumerate((("clock ρ", pictures.METHOD), ("time t", pictures.RIVAL))):
        axes.loglog(spreads, [one.gradient[i] for one in chosen], "o-", color=color, label=f"{name}: gradient")
        axes.loglog(spreads, [one.sample[i] for one in chosen], "s--", color=color, label=f"{name}: sample")
    axes.set_xticks(spreads, [f"{spread:g}" for spread in spreads])
    axes.minorticks_off()
    axes.set_xlabel("standard deviation of the data")
    axes.set_title(f"error of {count} steps, normal data")
    axes.legend(fontsize=9)


def costs(found: list[Cost], angles: Any, memory: Any) -> None:
    """How far the adjoint is from the exact gradient, and what each takes."""
    steps = [one.steps for one in found]
    for name, color in zip(found[0].cosines if found else (), pictures.COLORS, strict=False):
        gap = [max(1 - one.cosines[name], 1e-9) for one in found]
        angles.loglog(steps, gap, "o-", color=color, label=name)
    angles.set_xticks(steps, [str(count) for count in steps])
    angles.minorticks_off()
    angles.set_xlabel("steps")
    angles.set_title("1 - cosine of the adjoint's gradient to the exact one")
    for name, color in COLORS.items():
        pairs = [(one.steps, one.memory[name] / 1e6) for one in found if name in one.memory]
        if pairs:
            memory.semilogy(*zip(*pairs, strict=True), "o-", color=color, label=NAMES[name])
    memory.set_xlabel("steps")
    memory.set_title("memory of a gradient (MB)")
    if found:
        angles.legend()
        memory.legend()
