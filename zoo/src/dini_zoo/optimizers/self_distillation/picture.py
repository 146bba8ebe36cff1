"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .data import TOY_X, TOY_X_NEW, TOY_Y, TOY_Y_NEW
from .study import GRID, HYPERGRADIENT, Result


def draw(result: Result) -> Figure:
    """The toy and its filters above; real data, tuning and networks below."""
    figure = pictures.canvas(
        "Self-distillation: a model fitted again to a mixture of truth and its own answers", height=10
    )
    above, below = figure.subfigures(2, 1)
    _toy(above.subplots(1, 3), result)
    left, middle, right = below.subplots(1, 3)
    _real(left, result)
    _tuning(middle, result)
    _networks(right, result)
    return figure


def _toy(panels: Any, result: Result) -> None:
    curves, filters, losses = panels
    ends = [result.toy[0]] if len(result.toy) == 1 else [result.toy[0], result.toy[-1]]
    curves.plot(TOY_X_NEW[:, 0], TOY_Y_NEW, color=pictures.PALE, lw=4, label="sine")
    curves.plot(TOY_X[:, 0], TOY_Y, "o", color=pictures.INK, ms=5, label="data")
    curves.plot(TOY_X_NEW[:, 0], ends[0].curves[0], color=pictures.INK, lw=1.2, ls=":", label="first fit")
    for one, color in zip(reversed(ends), (pictures.METHOD, pictures.RIVAL), strict=False):
        curves.plot(TOY_X_NEW[:, 0], one.curves[2], color=color, label=f"limit, α = {one.share:g}")
    curves.set_title("toy: without ground truth (α = 0)\nthe fits shrink to zero" if ends[0].share == 0 else "toy")
    curves.legend(fontsize=9)

    for one, color in zip(result.toy, _shades(len(result.toy)), strict=True):
        steps = np.arange(1, len(one.losses) + 1)
        losses.plot(steps, one.losses, "o-", color=color, ms=4, label=f"α = {one.share:g}, limit {one.limit:.3f}")
    losses.set_xlabel("steps")
    losses.set_title("toy: squared error of each step")
    losses.legend(fontsize=9)

    first = next(iter(result.filters.values()))[0]
    filters.plot(np.arange(1, len(first) + 1), first, color=pictures.INK, lw=1.2, ls=":", label="first fit")
    for one, color in zip(reversed(ends), (pictures.METHOD, pictures.RIVAL), strict=False):
        last = result.filters[one.share][-1]
        filters.plot(np.arange(1, len(last) + 1), last, "o-", color=color, ms=4, label=f"step 6, α = {one.share:g}")
    filters.set_yscale("log")
    filters.set_ylim(bottom=max(1e-6, filters.get_ylim()[0]))
    filters.set_xlabel("eigenvalue of the kernel")
    filters.set_title("toy: what is left of each spectral direction")
    filters.legend(fontsize=9)


def _shades(count: int) -> list[str]:
    return (
        [pictures.RIVAL, pictures.THIRD, pictures.METHOD, *pictures.COLORS][-count:]
        if count == 1
        else [
            pictures.RIVAL,
            *([pictures.THIRD, pictures.FOURTH, pictures.QUIET] * count)[: count - 2],
            pictures.METHOD,
        ]
    )


def _real(axes: Any, result: Result) -> None:
    """Test error of each step, relative to the first one's."""
    changed = [one for one in result.distillations if np.any(one.alphas < 1)]
    for one, color in zip(changed, pictures.COLORS, strict=False):
        label = f"{one.data}, λ = {one.ridge:g}: {-one.gain:+.0%}"
        axes.plot(np.arange(1, len(one.test) + 1), one.test / one.test[0], "o-", color=color, ms=4, label=label)
    axes.axhline(1, color=pictures.QUIET, lw=1)
    axes.set_xlabel("steps")
    axes.set_title("real data: test error, relative to the first fit\nwith the best α of each step")
    if changed:
        axes.legend(fontsize=9)


def _tuning(axes: Any, result: Result) -> None:
    """The validation error over ridge and kernel, and the paths of descents."""
    settings = result.settings
    ridges, gammas = (np.linspace(*ends) for ends in (settings.ridges, settings.gammas))
    log10 = np.log(10)
    model, landscape = list(result.landscapes.items())[-1]
    shown = axes.contourf(ridges / log10, gammas / log10, np.minimum(landscape, 1.0), levels=20, cmap=pictures.UNSIGNED)
    axes.figure.colorbar(shown, ax=axes, label=f"validation error, {model}")
    for name, color in zip(result.landscapes, (pictures.RIVAL, pictures.ALARM), strict=False):
        search = result.searches[name][HYPERGRADIENT]
        tried = search.tried / log10
        axes.plot(tried[:, 0], tried[:, 1], "-o", color=color, ms=4, lw=1.5, label=f"hypergradient, {name}")
        axes.plot(*search.best[:2] / log10, "*", color=color, mec="white", ms=14)
    best = result.searches[model][GRID].best / log10
    axes.plot(*best, "D", mfc="none", mec="white", ms=9, label="best of the grid")
    axes.set_xlim(ridges[0] / log10, ridges[-1] / log10)
    axes.set_ylim(gammas[0] / log10, gammas[-1] / log10)
    axes.set_xlabel("log₁₀ λ")
    axes.set_ylabel("log₁₀ γ")
    axes.set_title("diabetes: ridge and kernel\ntuned by hypergradients")
    axes.legend(fontsize=8, labelcolor="white", loc="upper left")
    axes.grid(False)


def _networks(axes: Any, result: Result) -> None:
    """Accuracies over the share, and with the estimated one."""
    shares = result.settings.shares
    runs = np.array([one.grid for one in result.networks])
    if len(shares) > 1:
        pictures.band(axes, shares, runs, color=pictures.QUIET, label="a share for all seeds", ends=False)
    estimated = Estimate.of([one.estimated for one in result.networks])
    alphas = [one.alpha for one in result.networks]
    pictures.level(axes, np.mean([one.teacher for one in result.networks]), color=pictures.INK, label="teacher")
    pictures.level(axes, estimated.mean, color=pictures.METHOD, label=f"estimated α: {estimated.mean:.1%}")
    clipped = np.clip(alphas, 0, 1)
    axes.plot(clipped, estimated.values, "o", color=pictures.METHOD, ms=6, label="estimated, each seed")
    axes.set_xlabel("α, the share of the ground truth")
    axes.set_ylabel("test accuracy")
    axes.set_title(f"networks, {result.settings.label_noise:.0%} of the labels redrawn")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom - 0.45 * (top - bottom), top)  # room for the legend
    axes.legend(fontsize=9, loc="lower left")
