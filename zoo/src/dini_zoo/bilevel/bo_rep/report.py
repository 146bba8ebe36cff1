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
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, below

from .cleaning import BO_REP, MA_SOBA, UNIFORM, Cleaned
from .study import Result
from .toy import Course


def tables(result: Result) -> list[Table]:
    """The toy, and the digits."""
    return [toy_table(result), cleaning_table(result)]


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "not finite"


def toy_table(result: Result) -> Table:
    """The method, what is left of it, and the baselines at their best rates."""
    shown: list[Course | None] = [one for one in result.courses if one.variant.name not in ("SOBA", "MA-SOBA")]
    shown += [None, *result.rivals]
    rows: list[list[str] | None] = []
    for one in shown:
        if one is None:
            rows.append(None)
            continue
        reached = one.reached(0.3)
        steps = f"{reached:.0f}" if np.isfinite(reached) else "never"
        rows.append([one.variant.name, f"{one.variant.rate:g}", _number(one.final), _number(one.phi.max()), steps])
    seeds = len(result.settings.seeds)
    return Table(
        "Toy: an outer slope that grows exponentially",
        ("variant", "rate", "‖∇Φ‖ at the end", "Φ, worst", "steps to 0.3"),
        rows,
        f"‖∇Φ‖: mean of the last tenth of {result.settings.toy_steps} steps and of {seeds} seeds. SOBA and MA-SOBA: "
        f"the best of {len(result.settings.toy_rates)} rates each. Parts are left out at the first rate.",
    )


def cleaning_table(result: Result) -> Table:
    """Accuracy and how well wrong labels are found."""
    rows = []
    for one in result.cleaned:
        accuracy = Estimate.of(one.accuracy[:, -1], scale=100)
        auc = "" if one.name == UNIFORM else f"{Estimate.of(one.auc):.3f}"
        rows.append([one.name, f"{one.rate:g}" if one.rate else "", f"{accuracy:.1f}", auc])
    return Table(
        "Digits with wrong labels: a recurrent network and weights of examples",
        ("method", "rate", "test accuracy, %", "AUC of the weights"),
        rows,
        f"{result.settings.share:.0%} wrong labels, {len(result.settings.seeds)} seeds; mean and interval of 95 %. "
        "AUC: of clean labels against wrong ones.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield Check("direction: distance from dini's implicit one", result.direction, at_most(1e-5), form=".1e")
    first, second = (result.course(BO_REP, eta) for eta in (0.01, 0.03))
    at = "toy, η = 0.01"
    yield Check(f"{at}: ‖∇Φ‖ at the end", first and first.final, below(0.2), "0.07-0.09", "converges")
    yield Check(f"{at}: Φ", first and float(first.phi.max()), below(1.7), "1.643-1.653", form=".4g")
    yield Check("toy, η = 0.03: steps to 0.3", second and second.reached(0.3), at_most(800), "476-482", form=".0f")
    for name, reference in (("SOBA", 1.6), ("MA-SOBA", 11)):
        least = result.best(name)
        yield Check(f"toy, {name}: ‖∇Φ‖, best rate", least and least.final, above(1), reference)
    ours, rival = result.network(BO_REP, 0.1), result.network(MA_SOBA)
    uniform = result.network(UNIFORM)
    gain = _difference(ours, uniform)
    yield Check("digits: accuracy − uniform, points", gain, at_least(3), "≈ 6", "better", ".1f")
    yield Check("digits: AUC", float(ours.auc.mean()) if ours else None, at_least(0.9), "0.92-0.97", form=".3f")
    behind = _difference(rival, ours)
    yield Check("digits: best MA-SOBA − ours, points", behind, at_most(3), "≈ 1", "less than 0", ".1f")


def _difference(one: Cleaned | None, other: Cleaned | None) -> float | None:
    """Of mean accuracies, in percentage points."""
    if one is None or other is None:
        return None
    return float(100 * (one.accuracy[:, -1].mean() - other.accuracy[:, -1].mean()))


def headline(result: Result) -> str:
    """The one figure that matters."""
    ours, rival = result.courses[0], min((one.final for one in result.rivals), default=None)
    rates = len(result.settings.toy_rates)
    beside = "" if rival is None else f"; without normalized steps to {_number(rival)}, at the best of {rates} rates"
    return f"a slope of 1.5e5 falls to {_number(ours.final)}{beside}"


def draw(result: Result) -> Figure:
    """Slopes of the toy; its baselines over their rates; accuracies; weights."""
    figure = pictures.canvas("Bilevel optimization under unbounded smoothness", width=15, height=9)
    (slopes, rates), (accuracies, weights) = figure.subplots(2, 2)
    _slopes(slopes, result)
    _rates(rates, result)
    _accuracies(accuracies, result)
    _weights(weights, result)
    return figure


def _slopes(axes: Any, result: Result) -> None:
    shown = [one for one in result.courses if one.variant.name == BO_REP]
    colors = (*(pictures.METHOD, pictures.FOURTH, pictures.THIRD)[: len(shown)], pictures.RIVAL, pictures.ALARM)
    shown += result.rivals
    for one, color in zip(shown, colors, strict=False):
        steps = np.arange(one.slope.shape[1])
        label = f"{one.variant.name}, {one.variant.rate:g}"
        pictures.band(axes, steps, np.where(np.isfinite(one.slope), one.slope, np.nan), color=color, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("steps")
    axes.set_title("toy: ‖∇Φ(x)‖, baselines at their best rates")
    axes.legend()


def _rates(axes: Any, result: Result) -> None:
    for name, color in (("SOBA", pictures.RIVAL), ("MA-SOBA", pictures.ALARM), (BO_REP, pictures.METHOD)):
        own = [one for one in result.courses if one.variant.name == name]
        final = np.array([one.final if one.final < 1e6 else np.nan for one in own])
        axes.plot([one.variant.rate for one in own], final, "o-", color=color, label=name)
        lost = [one.variant.rate for one, value in zip(own, final, strict=True) if np.isnan(value)]
        axes.plot(lost, np.full(len(lost), 1e3), "x", color=color, ms=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rate, or length, of the outer step")
    axes.set_title("toy: ‖∇Φ‖ at the end (×: not finite)")
    axes.legend()


def _accuracies(axes: Any, result: Result) -> None:
    for one, color in zip(result.cleaned, (pictures.QUIET, pictures.METHOD, *pictures.COLORS[1:] * 3), strict=False):
        times = np.linspace(0, result.settings.steps, one.accuracy.shape[1])
        pictures.band(axes, times, one.accuracy, color=color, label=_label(one))
    axes.set_xlabel("steps")
    axes.set_title("digits: test accuracy")
    axes.legend(fontsize=9)


def _label(one: Cleaned) -> str:
    return f"{one.name}, {one.rate:g}" if one.rate else one.name


def _weights(axes: Any, result: Result) -> None:
    """Of the first run of the method: weights of clean and of wrong labels."""
    ours = next(one for one in result.cleaned if one.name == BO_REP)
    order = np.sort(ours.weights[0])
    axes.hist(ours.weights[0], bins=40, color=pictures.METHOD, label="all examples")
    axes.axvline(order[round(result.settings.share * len(order))], color=pictures.ALARM, label="share of wrong labels")
    axes.set_yscale("log")
    axes.set_xlabel("weight σ(x)")
    axes.set_title(f"digits: weights of examples, {_label(ours)}")
    axes.legend()
