"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .functions import FUNCTIONS
from .report import rival
from .study import ADAM, DIFFGRAD, FROZEN, Result

_COLORS = {DIFFGRAD: pictures.METHOD, ADAM: pictures.RIVAL, FROZEN: pictures.THIRD}


def draw(result: Result) -> Figure:
    """The paper's descents above; below, the friction along a training and what it is worth."""
    figure = pictures.canvas("diffGrad: Adam with a friction from the change of the gradient", height=9)
    above, below = figure.subfigures(2, 1)
    for axes, name in zip(above.subplots(1, 3), ("F1", "F2", "F3"), strict=True):
        _descents(axes, result, name)
    left, right = below.subplots(1, 2, width_ratios=(1, 1.4))
    _friction(left, result)
    _losses(right, result)
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


def _friction(axes: Any, result: Result) -> None:
    """The mean friction along the network's training."""
    looks = [look for look in result.looks if look.optimizer == DIFFGRAD]
    for color, look in zip(pictures.COLORS * len(looks), looks, strict=False):
        friction = look.chosen.friction
        width = max(friction.shape[1] // 60, 1)
        count = friction.shape[1] // width
        means = friction[:, : count * width].reshape(len(friction), count, width).mean(axis=-1)
        pictures.band(axes, width * (np.arange(count) + 0.5), means, color=color, label=f"loss × {look.scale:g}")
    axes.set_ylim(0.48, 1.02)
    axes.set_xlabel("step")
    axes.set_ylabel("mean friction of all coordinates")
    axes.set_title("convolutional network: diffGrad's friction depends on the loss's units")
    axes.legend()


def _losses(axes: Any, result: Result) -> None:
    """The validation loss of the network over the learning rate."""
    adam = rival(result)
    scales = [look.scale for look in result.looks if look.optimizer == DIFFGRAD]
    for look in result.looks:
        means = [float(np.mean(one.validation)) for one in look.trained]
        if look.optimizer == DIFFGRAD:
            color = (pictures.COLORS * len(scales))[scales.index(look.scale)]
            axes.plot(look.rates, means, "o-", color=color, label=f"diffGrad, loss × {look.scale:g}")
        elif look.optimizer not in (ADAM, DIFFGRAD):
            ls = ":" if look.scale in scales and len(scales) > 1 else "--"
            color = (
                pictures.QUIET
                if look.scale not in scales[1:]
                else (pictures.COLORS * len(scales))[scales.index(look.scale)]
            )
            axes.plot(look.rates, means, ls=ls, color=color, label=f"{look.optimizer}, loss × {look.scale:g}")
    if adam is not None:
        means = [float(np.mean(one.validation)) for one in adam.trained]
        axes.plot(adam.rates, means, "s-", color=pictures.INK, label="Adam")
        half = [rate * 2 for rate in adam.rates]
        axes.plot(half, means, "--", color=pictures.INK, lw=1, label="Adam, moved to twice the rate")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss")
    axes.set_title("convolutional network: between Adam and Adam with half the learning rate")
    axes.legend(fontsize=8, ncols=2)
