"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .study import BACKSOLVE, BIASED, GLOBAL, UNBIASED, VANILLA, Result

COLORS = {
    VANILLA: pictures.RIVAL,
    UNBIASED: pictures.METHOD,
    BACKSOLVE: pictures.FOURTH,
    BIASED: pictures.THIRD,
    GLOBAL: pictures.QUIET,
}


def draw(result: Result) -> Figure:
    """Training on the left, every method's calls in the middle, what is left of the error on the right."""
    figure = pictures.canvas("The error of one step at a random time, as a penalty")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    _course(left, result)
    _calls(middle, result)
    _errors(right, result)
    return figure


def _course(axes: Any, result: Result) -> None:
    """Network calls during training."""
    for name in result.settings.methods:
        runs = np.stack([one.course for one in result.flows[name]])
        pictures.band(axes, np.arange(1, runs.shape[1] + 1), runs, color=COLORS[name], label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step of training")
    axes.set_ylabel("network calls in a solve")
    axes.set_title(f"training, tolerance {result.settings.tolerance:g}")
    axes.legend()


def _calls(axes: Any, result: Result) -> None:
    """Network calls and accuracy of every method."""
    names = list(result.flows)
    for i, name in enumerate(names):
        color = COLORS.get(name, pictures.ALARM)
        for model in result.flows[name]:
            axes.plot(model.own.evaluations, -i, "o", color=color, ms=8)
        accuracy = np.mean([one.own.accuracy for one in result.flows[name]])
        most = max(one.own.evaluations for one in result.flows[name])
        axes.annotate(f"{accuracy:.1%}", (most, -i), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks([-i for i in range(len(names))], names)
    axes.set_xlim(left=0)
    axes.margins(x=0.2)
    axes.set_xlabel("network calls in a solve of the test images")
    axes.set_title("a dot a seed, accuracy beside it")


def _errors(axes: Any, result: Result) -> None:
    """Error over network calls, model by model."""
    for name in result.settings.methods:
        for i, model in enumerate(result.flows[name]):
            calls = [one.evaluations for one in model.tests]
            label = "" if i else name
            axes.plot(calls, [one.error for one in model.tests], "o-", color=COLORS[name], ms=5, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("network calls in a solve")
    axes.set_ylabel("relative error of the flow's end")
    axes.set_title("tested with tolerances " + ", ".join(f"{one:g}" for one in result.settings.tolerances))
