"""The picture: the jelly as it is, as learned, and as a wrong modulus has it; errors over time; the trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .report import errors_of
from .study import FIFTH, FREE, HALF, INVARIANT, PLAIN, YOUNG, Laws, Result

LINES = {
    INVARIANT: (pictures.METHOD, "-"),
    PLAIN: (pictures.RIVAL, "-"),
    FIFTH: (pictures.THIRD, "--"),
    HALF: (pictures.ALARM, "--"),
    FREE: (pictures.QUIET, "--"),
}


def draw(result: Result) -> Figure:
    """Strips of the jelly above, curves below."""
    figure = pictures.canvas("Constitutive laws learned from one motion, on one that was not seen", height=9.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    if result.laws is not None:
        strips(top, result.laws)
    axes = bottom.subplots(1, 3)
    over_time(axes[0], result)
    training(axes[1], result)
    moduli(axes[2], result)
    return figure


def strips(figure: Any, laws: Laws) -> None:
    """Particles at some steps, a row for each law: the truth's color by where a particle was at the start."""
    names = list(laws.shown)
    axes = figure.subplots(len(names), len(laws.shown_steps), squeeze=False)
    first = laws.shown["reference"][0]
    height = np.argsort(np.argsort(first[:, 1]))
    for row, name in zip(axes, names, strict=True):
        for axis, step, x, truth in zip(row, laws.shown_steps, laws.shown[name], laws.shown["reference"], strict=True):
            order = np.argsort(x[:, 2])
            axis.scatter(*x[order, :2].T, c=height[order], s=12, cmap=pictures.UNSIGNED, lw=0)
            if name != "reference":
                off = np.sqrt(np.mean((x - truth) ** 2))
                axis.set_xlabel(f"off by {off:.3f}", fontsize=9)
            axis.set_xlim(-0.1, 1.1)
            axis.set_ylim(0.1, 0.95)
            axis.set_aspect("equal")
            axis.grid(False)
            axis.set_xticks([])
            axis.set_yticks([])
            if name == names[0]:
                axis.set_title(f"step {step}")
        row[0].set_ylabel(name.replace(" network", "\nnetwork"))


def over_time(axis: Any, result: Result) -> None:
    """The error of positions, step by step."""
    axis.set_title("first unseen motion: error of positions")
    axis.set_xlabel("step")
    axis.set_ylabel("root mean square")
    if result.laws is None:
        return
    axis.axvline(result.settings.steps, color=pictures.PALE, lw=1)
    for name, (color, ls) in LINES.items():
        runs = np.sqrt([one.over_time for one in errors_of(result.laws, name)])
        if not len(runs):
            continue
        pictures.band(axis, np.arange(1, runs.shape[1] + 1), runs, color=color, label=name, ls=ls)
    axis.set_yscale("log")
    axis.set_ylim(bottom=1e-5)
    axis.legend(fontsize=8)


def training(axis: Any, result: Result) -> None:
    """Losses, epoch by epoch."""
    axis.set_title("training, in segments that grow")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss")
    curves = [] if result.laws is None else [(name, *LINES[name], one) for name, one in result.laws.losses.items()]
    if result.plasticine is not None:
        curves.append(("plasticine", pictures.FOURTH, "-", result.plasticine.losses))
    for name, color, ls, losses in curves:
        pictures.band(axis, np.arange(losses.shape[1]), losses, color=color, label=name, ls=ls)
    for epoch in np.cumsum(result.settings.epochs)[:-1]:
        axis.axvline(epoch, color=pictures.PALE, lw=1)
    axis.set_yscale("log")
    axis.legend(fontsize=8)


def moduli(axis: Any, result: Result) -> None:
    """Errors of Young's modulus over simulations."""
    axis.set_title("Young's modulus from one motion")
    axis.set_xlabel("simulations")
    axis.set_ylabel("relative error")
    axis.set_xscale("log")
    axis.set_yscale("log")
    if result.identified is None:
        return
    colors = {"dini": pictures.METHOD, "Adam": pictures.RIVAL, "CMA-": pictures.QUIET}
    labelled = set()
    for one in result.identified.found:
        label = one.name if one.name not in labelled else None
        labelled.add(one.name)
        marker = "s" if one.name == "Adam, E" else "o"
        error = max(abs(one.E / YOUNG - 1), 1e-16)
        axis.plot(one.simulations, error, marker, color=colors[one.name[:4]], label=label)
    axis.legend(fontsize=8)
