"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from dini_zoo.kit import pictures

from .comparison import MIRROR_CONDITION, PROJECTED_CONDITION, UNROLLED
from .study import Result, Study
from .tuning import BY_CLASS, DESCENT, GRID, UNTUNED, Machine

_COLORS = {
    MIRROR_CONDITION: pictures.THIRD,
    PROJECTED_CONDITION: pictures.METHOD,
    UNROLLED: pictures.RIVAL,
}
_LOSS, _PATH, _GRID, _TEST = pictures.INK, pictures.ALARM, pictures.QUIET, pictures.FOURTH


def draw(result: Result) -> Figure:
    """Losses and paths above, the comparison in the middle, a machine below."""
    figure = pictures.canvas(
        "A support vector machine, tuned by hypergradients: any solver, differentiated through any fixed point",
        height=13,
    )
    above, middle, below = figure.subfigures(3, 1, height_ratios=(1.15, 0.95, 0.9))
    left, *right = np.atleast_1d(above.subplots(1, len(result.studies)))
    _landscape(left, result.small, "squared error")
    _tangents(left, result)
    if result.large is not None:
        _landscape(right[0], result.large, "squared hinge")
    for axes in (left, *right):
        axes.legend(loc="center left", fontsize=9)
    _bars(middle, result.small)
    if result.large is None:
        _machine(below, result.small, result.small.best(DESCENT, "squared error").machine)
    else:
        _machine(below, result.large, result.large.best(BY_CLASS, "squared hinge").machine)
    return figure


def _landscape(axes: Any, study: Study, loss: str) -> None:
    """The validation loss over λ with what the searches tried, and the test accuracy behind it."""
    log_thetas = [float(machine.log_theta) for machine in study.curve]
    behind = axes.twinx()
    behind.plot(log_thetas, [machine.test for machine in study.curve], color=_TEST, lw=1.5, alpha=0.8)
    behind.set_ylabel("test accuracy", color=_TEST)
    behind.tick_params(axis="y", colors=_TEST)
    behind.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    behind.spines["right"].set_visible(True)
    behind.grid(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)

    axes.plot(log_thetas, study.landscape[loss], color=_LOSS, lw=2)
    grid, descent = study.best(GRID, loss), study.best(DESCENT, loss)
    axes.plot(grid.search.tried, grid.search.losses, "o", mfc="white", mec=_GRID, ms=6, label="grid")
    tried, losses = descent.search.tried, descent.search.losses
    axes.plot(tried, losses, "-", color=_PATH, lw=0.8, alpha=0.6)
    axes.scatter(tried, losses, c=np.arange(len(tried)), cmap="YlOrRd", edgecolor=_PATH, s=42, zorder=4, label=DESCENT)
    for one in study.tuned:
        if one.how == UNTUNED and one.loss == loss:
            axes.plot(0.0, one.value, "D", color="black", ms=7, label="untuned (λ = 0)")
    axes.set_xlabel("λ, the logarithm of the regularization")
    axes.set_ylabel(f"validation loss ({loss})")
    title = f"{study.problem.classes} digits: descent ends at λ = {descent.machine.log_theta:.2f}"
    if any(one.how == BY_CLASS for one in study.tuned):
        by_class = study.best(BY_CLASS, loss)
        axes.axhline(by_class.value, color=_PATH, ls=":", lw=1.5, label=f"{BY_CLASS}: {by_class.value:.3f}")
        title += f", test accuracy {descent.machine.test:.1%}; one λ a class {by_class.machine.test:.1%}"
    else:
        title += f", test accuracy {descent.machine.test:.1%}"
    axes.set_title(title)


def _tangents(axes: Any, result: Result) -> None:
    """The hypergradients as tangents of the loss."""
    color = _COLORS[PROJECTED_CONDITION]
    reach = np.array([-0.5, 0.5])
    for i, point in enumerate(result.points):
        line = point.value + point.derivative * reach
        label = "hypergradient" if i == 0 else None
        axes.plot(point.log_theta + reach, line, color=color, lw=2, zorder=3, label=label)
        axes.annotate(
            f"{point.derivative:+.2f}",
            (point.log_theta, point.value),
            textcoords="offset points",
            xytext=(-44, -10) if point.derivative < 0 else (10, -14),
            color=color,
            fontsize=9,
        )


def _bars(figure: Any, study: Study) -> None:
    """Error, time and memory of every solver with every way to differentiate."""
    rows = study.comparison.rows
    figure.suptitle(f"{study.problem.classes} digits, λ = {study.comparison.log_theta:g}", fontsize=11)
    readings = {
        "relative error of the derivative": lambda cell: cell.error,
        "time (ms)": lambda cell: 1e3 * cell.seconds,
        "temporary memory (MB)": lambda cell: cell.memory / 1e6,
    }
    panels = figure.subplots(1, 3)
    for axes, (name, reading) in zip(panels, readings.items(), strict=True):
        for i, row in enumerate(rows):
            for j, cell in enumerate(row.cells):
                hatch = None if row.converged else "///"
                color = _COLORS[cell.through]
                axes.bar(i + 0.27 * (j - 1), reading(cell), 0.25, color=color, hatch=hatch, edgecolor="white", lw=0)
        axes.set_yscale("log")
        axes.set_title(name)
        axes.set_xticks(range(len(rows)), [row.solver.replace(" ", "\n") for row in rows], fontsize=9)
        axes.grid(False, axis="x")
        places, heights = np.arange(len(rows)), [1e3 * row.seconds for row in rows]
    panels[1].hlines(heights, places - 0.42, places + 0.42, color="black", lw=1.5, label="the solve alone")
    panels[1].legend(fontsize=9)
    handles = [Patch(color=color, label=through.removesuffix("'s fixed point")) for through, color in _COLORS.items()]
    handles.append(Patch(facecolor="#bbbbbb", edgecolor="white", hatch="///", label="not converged"))
    panels[0].legend(handles=handles, title="through", loc="upper right", fontsize=9)


def _machine(figure: Any, study: Study, machine: Machine) -> None:
    """A machine: its weights, its dual, and the points that hold the boundaries in place."""
    weights, dual, points = figure.subfigures(1, 3, width_ratios=(1.1, 0.9, 1.1))
    _weights(weights, machine)
    labels = study.split.train.Y.argmax(axis=1)
    inside = 1 - machine.x[np.arange(len(labels)), labels]
    _dual(dual, machine.x, labels, inside)
    _points(points, study, machine.x, labels, inside)


def _weights(figure: Any, machine: Machine) -> None:
    classes = machine.W.shape[1]
    log_thetas = np.broadcast_to(machine.log_theta, classes)
    reach = np.abs(machine.W).max()
    for c, axes in enumerate(figure.subplots(2, -(-classes // 2)).flat):
        axes.axis("off")
        if c < classes:
            axes.imshow(machine.W[:, c].reshape(8, 8), cmap=pictures.SIGNED, vmin=-reach, vmax=reach)
            axes.set_title(f"{c}: λ = {log_thetas[c]:.1f}", fontsize=9)
    figure.suptitle(f"weights, {classes} digits", fontsize=11)


def _dual(figure: Any, x: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> None:
    axes = figure.subplots()
    axes.grid(False)
    order = np.lexsort((inside, labels))
    shown = axes.imshow(
        np.maximum(x[order], 1e-4),
        aspect="auto",
        cmap=pictures.UNSIGNED,
        norm=LogNorm(1e-4, 1),
        interpolation="nearest",
    )
    figure.colorbar(shown, ax=axes, label="dual variable")
    axes.set_xticks(range(x.shape[1]))
    axes.set_xlabel("class")
    axes.set_ylabel("training point, by class")
    support = np.mean(inside > 1e-6)
    figure.suptitle(f"dual variables: {support:.0%} of the points are off their vertex", fontsize=11)


def _points(figure: Any, study: Study, x: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> None:
    hardest = np.argsort(-inside)[:10]
    for axes, i in zip(figure.subplots(2, 5).flat, hardest, strict=True):
        rival = np.argmax(np.where(study.split.train.Y[i] > 0, -1, x[i]))
        axes.imshow(study.split.train.X[i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{labels[i]}, not {rival}: {x[i, rival]:.2f}", fontsize=9)
        axes.axis("off")
    figure.suptitle("training points of the largest dual mass on another class", fontsize=11)
