"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .study import Found, Result

#: Colors of the models on the path, in their order.
_COLORS = (pictures.METHOD, pictures.RIVAL, pictures.ALARM, pictures.THIRD)


def draw(result: Result) -> Figure:
    """Above, the path: courses of training, one path, errors. Below, decision processes: course and predictions."""
    rows = 1 if result.decisions is None else 2
    name = "Convergent graph solvers: rewards on a path"
    name += "" if result.decisions is None else " (above), decision processes (below)"
    figure = pictures.canvas(name, width=17, height=5.25 * rows)
    panels = figure.subplots(rows, 3, squeeze=False)
    colors = dict(zip(result.settings.models, _COLORS, strict=False))
    for part, axes in zip((_courses, _one_path, _errors), panels[0], strict=True):
        part(axes, result, colors)
    if result.decisions is None:
        return figure
    learning, inside, outside = panels[1]
    _decisions(learning, result.decisions, result.settings.decisions.chunk)
    settings, task = result.settings, result.settings.decisions
    for axes, place, states, actions in (
        (inside, 0, task.sizes, settings.actions),
        (outside, 1, task.larger, settings.more_actions),
    ):
        name = "sizes of training" if place == 0 else "other sizes"
        title = f"{name}: {_range(states)} states, {_range(actions)} actions"
        _scatter(axes, result.decisions, place, result.naive[place], title)
    return figure


def _range(ends: tuple[int, int]) -> str:
    return f"{ends[0]}–{ends[1]}"


def _smooth(loss: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """The root of the loss's mean over each chunk of steps, and the chunks' ends."""
    means = np.sqrt(loss.reshape(-1, chunk).mean(axis=1))
    return chunk * np.arange(1, len(means) + 1), means


def _log_scale(axes: Any) -> None:
    """A logarithmic axis of what has been drawn, with plain numbers at a few places."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    places = [digit * 10.0**power for power in range(-6, 3) for digit in (1, 1.5, 2, 3, 5, 7)]
    shown = [place for place in places if low <= place <= high]
    if len(shown) < 4:  # a narrow range
        shown = [float(f"{place:.2g}") for place in np.geomspace(low, high, 6)[1:-1]]
    axes.set_yticks(shown, [f"{place:g}" for place in shown])
    axes.set_yticks([], minor=True)


def _courses(axes: Any, result: Result, colors: dict[str, str]) -> None:
    for name, found in result.path.items():
        for i, one in enumerate(found.courses):
            steps, error = _smooth(one.loss, min(25, result.settings.path.chunk))
            axes.plot(steps, error, color=colors[name], lw=1.8, alpha=0.8, label=name if i == 0 else None)
    _log_scale(axes)
    axes.set_xlabel("steps of Adam")
    axes.set_ylabel("RMSE on the batches of training")
    axes.set_title("paths: a curve for each seed")
    axes.legend()


def _one_path(axes: Any, result: Result, colors: dict[str, str]) -> None:
    """The longest path of the test, node by node."""
    index = int(np.argmax(result.test_sizes))
    start, size = int(np.sum(result.test_sizes[:index])), int(result.test_sizes[index])
    nodes = np.arange(1, size + 1)
    for i, (name, found) in enumerate(result.path.items()):
        predicted, truth = (values[start : start + size] for values in found.predicted[0])
        if i == 0:
            axes.plot(nodes, truth, "o", color=pictures.INK, ms=5, label="true", zorder=3)
        axes.plot(nodes, predicted, color=colors[name], label=name)
    axes.axhline(0, color=pictures.QUIET, lw=1)
    axes.set_xlabel("node of the path")
    axes.set_ylabel("value")
    axes.set_title(f"one path of {size} nodes")
    axes.legend()


def _errors(axes: Any, result: Result, colors: dict[str, str]) -> None:
    """A point for each seed, at the sizes of training and at larger ones; lines join the medians."""
    task = result.settings.path
    for i, (name, found) in enumerate(result.path.items()):
        shift = 0.05 * (i - (len(result.path) - 1) / 2)
        places = np.array([0, 1]) + shift
        axes.plot(places, found.medians, color=colors[name], label=name)
        for place, own in zip(places, (found.test, found.transfer), strict=True):
            axes.plot(np.full(len(own), place), own, "o", color=colors[name], ms=6, alpha=0.7)
    axes.plot([0, 1], result.spread, "_", color=pictures.INK, ms=40, mew=2)
    axes.annotate(
        "root mean square of the values",
        (0, result.spread[0]),
        xytext=(30, 0),
        textcoords="offset points",
        fontsize=10,
        color=pictures.INK,
        va="center",
    )
    _log_scale(axes)
    axes.set_xlim(-0.4, 1.4)
    axes.set_xticks([0, 1], [f"{_range(task.sizes)} nodes,\nas in training", f"{_range(task.larger)} nodes"])
    axes.set_ylabel("RMSE")
    axes.set_title("paths: error at sizes seen and not seen")


def _decisions(axes: Any, found: Found, chunk: int) -> None:
    steps, error = _smooth(found.courses[0].loss, min(15, chunk))
    axes.plot(steps, error, color=_COLORS[0])
    _log_scale(axes)
    axes.set_xlabel("steps of Adam")
    axes.set_ylabel("RMSE on the batches of training")
    axes.set_title("decision processes")


def _scatter(axes: Any, found: Found, place: int, naive: float, title: str) -> None:
    """Predicted over true values of some states."""
    predicted, truth = found.predicted[place]
    shown = np.random.default_rng(0).permutation(len(truth))[:3000]
    low, high = truth.min(), truth.max()
    axes.plot(truth[shown], predicted[shown], "o", color=_COLORS[0], ms=2.5, alpha=0.35)
    axes.plot([low, high], [low, high], color=pictures.INK, lw=1.2)
    error = (found.test, found.transfer)[place][0]
    text = f"relative error {100 * error:.1f} %\nthe mean of training: {100 * naive:.1f} %"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", color=pictures.INK)
    axes.set_xlabel("true value of a state")
    axes.set_ylabel("predicted value")
    axes.set_title(title)
