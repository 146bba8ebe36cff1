"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .study import ERROR, STIFFNESS, VANILLA, Result

COLORS = {VANILLA: pictures.RIVAL, ERROR: pictures.METHOD, STIFFNESS: pictures.THIRD}


def draw(result: Result) -> Figure:
    """Training on the left, what is left of the error in the middle, noise on the right."""
    figure = pictures.canvas("Penalties on a solver's own estimates make neural differential equations cheap")
    parts = (_course, _errors, _noise) if result.noisy else (_course, _errors)
    for part, axes in zip(parts, figure.subplots(1, len(parts)), strict=True):
        part(axes, result)
    return figure


def _course(axes: Any, result: Result) -> None:
    """Network calls during training."""
    for name in result.settings.methods:
        color = COLORS[name]
        runs = np.stack([one.course for one in result.flows[name]])
        pictures.band(axes, np.arange(1, runs.shape[1] + 1), runs, color=color, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step of training")
    axes.set_ylabel("network calls in a solve")
    axes.set_title(f"training, tolerance {result.settings.tolerance:g}")
    axes.legend()


def _errors(axes: Any, result: Result) -> None:
    """Error over network calls, model by model."""
    for name in result.settings.methods:
        color = COLORS[name]
        for i, model in enumerate(result.flows[name]):
            calls = [one.evaluations for one in model.tests]
            axes.plot(calls, [one.error for one in model.tests], "o-", color=color, ms=5, label="" if i else name)
    axes.set_yscale("log")
    axes.set_xlabel("network calls in a solve")
    axes.set_ylabel("relative error of the flow's end")
    axes.set_title("tested with tolerances " + ", ".join(f"{one:g}" for one in result.settings.tolerances))
    axes.legend()


def _noise(axes: Any, result: Result) -> None:
    """Accuracy over accepted steps."""
    settings = result.settings
    tolerance = settings.noise_tolerances[0]
    cycle = (pictures.RIVAL, pictures.METHOD, pictures.THIRD, pictures.FOURTH)
    for i, weight in enumerate(settings.noise_weights):
        found = result.noise(weight, tolerance)
        steps, accuracy = [one.steps for one in found], [100 * one.accuracy for one in found]
        axes.plot(steps, accuracy, "o", color=cycle[i % len(cycle)], ms=8, label=f"weight {weight:g}")
    axes.set_xlim(left=0)
    axes.set_xlabel("accepted steps")
    axes.set_ylabel("accuracy, percent")
    axes.set_title(f"with noise, tolerance {tolerance:g}: a dot a seed")
    axes.legend()
