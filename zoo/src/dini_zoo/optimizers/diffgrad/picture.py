"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .functions import FUNCTIONS
from .study import ADAM, DIFFGRAD, FROZEN, MEAN, Result

_COLORS = {DIFFGRAD: pictures.METHOD, ADAM: pictures.RIVAL, FROZEN: pictures.THIRD}
#: Of diffGrad with several multiples of the loss.
SCALE_COLORS = (pictures.METHOD, pictures.FOURTH, pictures.INK)


def draw(result: Result) -> Figure:
    """The paper's descents above; below, the friction along a training and what it is worth."""
    figure = pictures.canvas("diffGrad: Adam with a friction from the change of the gradient", height=9.5)
    above, below = figure.subfigures(2, 1)
    for axes, name in zip(above.subplots(1, 3), ("F1", "F2", "F3"), strict=True):
        _descents(axes, result, name)
    left, middle, right = below.subplots(1, 3)
    colors = dict(zip(result.settings.scales, SCALE_COLORS * len(result.settings.scales), strict=False))
    _friction(left, result, colors)
    _losses(middle, result, colors)
    _valley(right, result, colors)
    return figure


def _descents(axes: Any, result: Result, name: str) -> None:
    """The points over the updates, and the function's value as a shade."""
    column = list(FUNCTIONS).index(name)
    low = min(points[:, column].min() for points in result.points.values()) - 0.05
    high = max(points[:, column].max() for points in result.points.values()) + 0.15
    x = np.linspace(low, high, 400)
    with jax.enable_x64(True):
        values = np.asarray(FUNCTIONS[name][0](x))
    steps = result.settings.updates
    axes.imshow(
        np.minimum(values, np.quantile(values, 0.8))[:, None],
        extent=(0, steps, low, high),
        origin="lower",
        aspect="auto",
        cmap="Greys",
        alpha=0.45,
    )
    for optimizer, points in result.points.items():
        ls = "--" if optimizer == FROZEN else "-"
        axes.plot(points[:, column], color=_COLORS[optimizer], ls=ls, label=optimizer)
    axes.set_xlabel("update")
    axes.set_ylabel("x")
    axes.grid(False)
    axes.set_title(f"{name}: the darker, the higher")
    axes.legend(loc="lower right")


def _friction(axes: Any, result: Result, colors: dict[float, str]) -> None:
    """The mean friction along the network's training."""
    for look in result.looks:
        if look.optimizer != DIFFGRAD:
            continue
        friction = look.chosen.friction
        width = max(friction.shape[1] // 60, 1)
        count = friction.shape[1] // width
        means = friction[:, : count * width].reshape(len(friction), count, width).mean(axis=-1)
        steps = width * (np.arange(count) + 0.5)
        pictures.band(axes, steps, means, color=colors[look.scale], label=f"loss × {look.scale:g}")
    axes.set_ylim(0.48, 1.02)
    axes.set_xlabel("step")
    axes.set_ylabel("mean friction of all coordinates")
    axes.set_title("convolutional network: diffGrad's friction")
    axes.legend()


def _losses(axes: Any, result: Result, colors: dict[float, str]) -> None:
    """The validation loss of the network over the learning rate."""
    for look in result.looks:
        means = [float(np.mean(one.validation)) for one in look.trained]
        if look.optimizer == DIFFGRAD:
            axes.plot(look.rates, means, "o-", color=colors[look.scale], label=f"diffGrad, loss × {look.scale:g}")
        elif look.optimizer == MEAN:
            # its learning rate changes as diffGrad's does, alike for all coordinates
            label = MEAN if look.scale == result.settings.scales[0] else None
            axes.plot(look.rates, means, ":", color=colors[look.scale], label=label)
        elif look.optimizer == ADAM:
            axes.plot(look.rates, means, "s-", color=pictures.RIVAL, label=ADAM)
            twice = [2 * rate for rate in look.rates]
            axes.plot(twice, means, "--", color=pictures.RIVAL, lw=1, label="Adam, moved to twice the rate")
        else:
            axes.plot(look.rates, means, "-", color=pictures.QUIET, lw=1, label=look.optimizer)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("learning rate (SGD's is ten times it)")
    axes.set_yscale("log")
    axes.set_ylabel("mean validation loss")
    axes.set_title("convolutional network: what each rate gives")
    axes.legend(fontsize=8)


def _valley(axes: Any, result: Result, colors: dict[float, str]) -> None:
    """The updates to the valley's end over the learning rate."""
    rates = 2 ** np.linspace(*result.settings.valley_rates)
    for (name, scale), needed in result.valley.items():
        shown = np.where(needed > result.settings.valley_updates, np.nan, needed)
        if name == DIFFGRAD:
            axes.plot(rates, shown, color=colors[scale], label=f"diffGrad, loss × {scale:g}")
        else:
            axes.plot(rates, shown, ls="-" if name == ADAM else "--", color=_COLORS[name], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("updates to the end")
    axes.set_title(f"a valley with curvatures from 1 to {result.condition:.0f}")
    axes.legend(fontsize=9)
