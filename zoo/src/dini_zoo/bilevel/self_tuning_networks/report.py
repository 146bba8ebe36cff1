"""What the experiment prints and draws.

References were computed for the specification, with other code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, below, between

from .networks import RATES, Trained
from .study import Result


def tables(result: Result) -> list[Table]:
    """Ridge regression, and networks."""
    return [slope_table(result), ridge_table(result), network_table(result)]


def slope_table(result: Result) -> Table:
    """Derivatives through an affine response."""
    rows = [
        [f"{sigma:g}", f"{through:.8f}", f"{abs(through / exact - 1):.1e}"]
        for sigma, (through, exact) in result.ridge.slopes.items()
    ]
    return Table(
        "Ridge: dF/dλ through the best affine response",
        ("deviation σ", "derivative", "relative error"),
        rows,
        "Beside dini's implicit derivative of the exact solution, at λ = 0.",
    )


def ridge_table(result: Result) -> Table:
    """Where the loops end."""
    found = result.ridge
    rows: list[list[str] | None] = [["optimum", "", f"{found.best:.4f}", f"{found.value:.6f}"], None]
    for one in found.loops:
        kind = "deviation tuned" if one.tuned else "deviation fixed"
        rows.append([kind, f"{one.start:g}", f"{one.found:.4f}", f"{one.value:.6f}"])
    caption = "λ: the logarithm of the penalty, its mean over the last sixth of the cycles."
    return Table("Ridge: alternating steps", ("", "start", "λ", "validation loss"), rows, caption)


def network_table(result: Result) -> Table:
    """Losses and rates."""
    starts = result.settings.starts
    rows: list[list[str] | None] = []
    for start, trained in zip(starts, result.tuned, strict=True):
        rows.append(_row(f"self-tuning, from {start:g}", trained))
    rows += [_row("constant, tuned ones' last", result.again[0]), None]
    for start, trained in zip(starts, result.constant, strict=True):
        rows.append(_row(f"constant, {start:g}", trained))
    order = np.argsort([np.mean(result.validation(one)) for one in result.drawn])
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    for name, i in places.items():
        rows.append(_row(f"drawn, {name} of {len(order)}", result.drawn[i]))
    return Table(
        "Digits: cross-entropy with dropout rates that are tuned, and constant",
        ("rates", "validation", "test", "at the end"),
        rows,
        f"{result.settings.share:.0%} wrong labels to train on, {len(result.settings.seeds)} seeds; mean and interval "
        "of 95 %, each at its best validation loss. Rates: of the input and of both hidden layers, the mean.",
    )


def _row(name: str, trained: list[Trained]) -> list[str]:
    best = np.array([one.best for one in trained])
    rates = np.mean([one.rates[-1] for one in trained], axis=0)
    losses = [f"{Estimate.of(column):.3f}" for column in best.T]
    return [name, *losses, " ".join(f"{rate:.2f}" for rate in rates)]


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    found = result.ridge
    yield Check("ridge: λ*", found.best, between(-0.642136, -0.642134), -0.642135, form=".6f")
    yield Check("ridge: F*", found.value, between(0.6558805, 0.6558815), 0.655881, form=".6f")
    worst = max(abs(one.found - found.best) for one in found.loops)
    excess = max(one.value - found.value for one in found.loops)
    yield Check("ridge: largest |λ − λ*|", worst, below(0.03), "0.005", form=".4f")
    yield Check("ridge: largest excess of F", excess, below(1e-4), form=".1e")
    tuned = [np.mean(result.validation(one)) for one in result.tuned]
    best, median = float(np.mean(result.best_draws)), float(np.mean(result.median_draws))
    ours = float(np.mean(tuned))
    yield Check("digits: self-tuning / best drawn", ours / best, at_most(1.05), "0.97", "< 1", ".3f")
    yield Check("digits: self-tuning / median drawn", ours / median, at_most(0.9), "0.78", "< 1", ".3f")
    low = float(np.mean(result.validation(result.constant[0]))) if result.settings.starts[0] == 0.05 else None
    yield Check("digits: self-tuning / constant 0.05", ours / low if low else None, at_most(0.88), "0.79", form=".3f")
    ends = np.array([one.rates[-1] for trained in result.tuned for one in trained])
    yield Check("digits: least input rate", float(ends[:, 0].min()), at_least(0.03), "0.12", form=".2f")
    yield Check("digits: largest input rate", float(ends[:, 0].max()), at_most(0.4), "0.25", form=".2f")
    yield Check("digits: least hidden rate", float(ends[:, 1:].min()), at_least(0.3), "0.38", form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    ours = np.mean([result.validation(one) for one in result.tuned])
    return (
        f"validation loss {ours:.3f} in one training; of {len(result.drawn)} with drawn dropout rates the best "
        f"{np.mean(result.best_draws):.3f}, the median {np.mean(result.median_draws):.3f}"
    )


def draw(result: Result) -> Figure:
    """Loops on ridge regression; losses of the networks; rates along the way."""
    figure = pictures.canvas("Self-tuning networks: hyperparameters tuned in one training", width=16, height=5.5)
    loops, losses, rates = figure.subplots(1, 3)
    _loops(loops, result)
    _losses(losses, result)
    _rates(rates, result)
    return figure


def _loops(axes: Any, result: Result) -> None:
    for one in result.ridge.loops:
        color, ls = (pictures.METHOD, "-") if one.tuned else (pictures.RIVAL, "--")
        axes.plot(one.path, color=color, ls=ls, label=f"from {one.start:g}, σ {'tuned' if one.tuned else 'fixed'}")
    axes.axhline(result.ridge.best, color=pictures.INK, lw=1, label="optimum")
    axes.set_xlabel("steps of the hyperparameter")
    axes.set_title("ridge regression: log penalty λ")
    axes.legend()


def _losses(axes: Any, result: Result) -> None:
    low = np.min([np.mean(result.validation(one)) for one in result.drawn])
    groups = {f"tuned from {start:g}": one for start, one in zip(result.settings.starts, result.tuned, strict=True)}
    groups |= {f"constant {start:g}": one for start, one in zip(result.settings.starts, result.constant, strict=True)}
    values = {name: Estimate.of(result.validation(one)) for name, one in groups.items()}
    colors = {name: pictures.METHOD if "tuned" in name else pictures.QUIET for name in values}
    values |= {"best drawn": Estimate.of(result.best_draws), "median drawn": Estimate.of(result.median_draws)}
    pictures.bars(
        axes, values, form="{:.3f}", colors=colors | {"best drawn": pictures.RIVAL, "median drawn": pictures.PALE}
    )
    axes.set_ylim(bottom=0.6 * low)
    axes.set_title("digits: best validation loss")


def _rates(axes: Any, result: Result) -> None:
    settings = result.settings
    for start, trained, ls in zip(settings.starts, result.tuned, ("-", "--", ":"), strict=False):
        paths = np.array([one.rates for one in trained])
        times = np.linspace(settings.warmup, settings.steps, paths.shape[1])
        for i, color in enumerate((pictures.METHOD, pictures.RIVAL, pictures.THIRD)):
            pictures.band(axes, times, paths[:, :, i], color=color, label=f"{RATES[i]}, from {start:g}", ls=ls)
    axes.set_xlabel("steps")
    axes.set_title("digits: dropout rates")
    axes.legend(fontsize=9)
