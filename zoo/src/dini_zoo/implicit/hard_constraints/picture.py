"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dini_zoo.kit import pictures

from .study import HARD, MIXTURE, SOFT, Result

_COLORS = {SOFT: pictures.THIRD, HARD: pictures.RIVAL, MIXTURE: pictures.METHOD}


def draw(result: Result) -> Figure:
    """The solution, predictions and their errors; below, errors by initial condition, training, and costs."""
    figure = pictures.canvas(
        "Diffusion-sorption learned without solutions: the equation as a network's constraint", height=12
    )
    above, below = figure.subfigures(2, 1, height_ratios=(7, 4.5))
    _maps(above, result)
    drawn = [_errors, _training, *([_costs] if result.costs else []), *([_devices] if result.devices else [])]
    for draw_one, axes in zip(drawn, below.subplots(1, len(drawn)), strict=True):
        draw_one(axes, result)
    return figure


def _maps(figure: Any, result: Result) -> None:
    """One initial condition: that whose error, of the best method, is the median."""
    settings, names = result.settings, list(result.learned)
    errors = result.learned[MIXTURE].errors[0]
    which = int(np.argsort(errors)[len(errors) // 2])
    truth = result.reference[0, which]
    axes = figure.subplots(2, 1 + len(names), sharex=True, sharey=True)
    extent = (0, 1, 0, settings.equation.duration)
    style = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
    wrong = {name: result.learned[name].predictions[0, which] - truth for name in names}
    top = max(np.quantile(np.abs(error), 0.99) for error in wrong.values())
    images = []
    fields = {"method of lines": truth} | {name: result.learned[name].predictions[0, which] for name in names}
    for (name, field), one in zip(fields.items(), axes[0], strict=True):
        one.grid(False)
        images.append(one.imshow(field, cmap=pictures.UNSIGNED, vmin=0, vmax=1, **style))
        one.set_title(name, fontsize=12)
    axes[1, 0].set_visible(False)
    for name, one in zip(names, axes[1, 1:], strict=True):
        one.grid(False)
        images.append(one.imshow(wrong[name], cmap=pictures.SIGNED, vmin=-top, vmax=top, **style))
        error = result.learned[name].errors[0, which]
        one.set_title(f"error, {error:.1%} of the solution")
        one.set_xlabel("x")
    for one in axes[:, -1]:
        for box in range(1, settings.experts):
            one.axvline(box / settings.experts, color="white" if one is axes[0, -1] else pictures.INK, lw=0.8, ls=":")
    axes[0, 0].set_xlabel("x")
    axes[0, 0].tick_params(labelbottom=True)
    axes[1, 1].tick_params(labelleft=True)
    for one in (axes[0, 0], axes[1, 1]):
        one.set_ylabel("t")
    figure.colorbar(images[0], ax=axes[0], label="concentration u", pad=0.01)
    figure.colorbar(images[-1], ax=axes[1], label="error", pad=0.01)
    figure.text(
        0.02,
        0.28,
        f"u(x, 0) = {result.initials[0, which]:.3f},\nu(0, t) = 1, outflow at x = 1.\n\nDotted: the boxes of the\n"
        f"{settings.experts} experts.",
        fontsize=12,
        color=pictures.INK,
        va="center",
    )


def _errors(axes: Any, result: Result) -> None:
    for name, learned in result.learned.items():
        for seed, errors in enumerate(learned.errors):
            label = f"{name}: {learned.mean:.3f}" if seed == 0 else None
            initials, order = result.initials[seed], np.argsort(result.initials[seed])
            axes.plot(initials[order], errors[order], "o-", color=_COLORS[name], ms=3, lw=1, alpha=0.7, label=label)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 2.5)
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if low < tick < high]
    axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("initial concentration u(x, 0)")
    axes.set_ylabel("relative error")
    axes.set_title("error by initial condition; a line is a seed")
    axes.legend(fontsize=9, loc="upper center")


def _training(axes: Any, result: Result) -> None:
    for name, learned in result.learned.items():
        for seed, course in enumerate(learned.courses):
            width = max(len(course.loss) // 40, 1)
            smooth = course.loss[: len(course.loss) // width * width].reshape(-1, width).mean(axis=1)
            steps = width * (np.arange(len(smooth)) + 0.5)
            axes.plot(steps, smooth, color=_COLORS[name], lw=1.4, label=name if seed == 0 else None)
    axes.set_yscale("log")
    axes.set_xlabel("steps of Adam")
    axes.set_ylabel("loss: residuals of the prediction")
    axes.set_title("training, without solutions")
    axes.legend(fontsize=9)


def _costs(axes: Any, result: Result) -> None:
    totals = list(result.costs)
    for name in result.costs[totals[0]]:
        costs = [result.costs[total][name] for total in totals]
        times = [1e3 * cost.fastest for cost in costs]
        axes.plot(totals, times, "o-", color=_COLORS[name], label=name)
        for total, spent, cost in zip(totals, times, costs, strict=True):
            axes.annotate(
                f"{cost.iterations:.0f}",
                (total, spent),
                textcoords="offset points",
                xytext=(0, 8 if name == HARD else -15),
                ha="center",
                fontsize=9,
                color=_COLORS[name],
            )
    axes.set_xscale("log")
    axes.set_xticks(totals, [str(total) for total in totals])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    axes.set_xlabel("points (at the curves: iterations)")
    axes.set_ylabel("time, ms")
    axes.set_title("a batch of constraints, with derivative")
    axes.legend(fontsize=9, loc="lower right")


def _devices(axes: Any, result: Result) -> None:
    names = ["one\nbatch" if not one.count else str(one.count) for one in result.devices]
    times = [1e3 * one.fastest for one in result.devices]
    bars = axes.bar(names, times, color=[pictures.PALE, *[pictures.METHOD] * (len(times) - 1)], width=0.6)
    axes.bar_label(bars, [f"{spent:.0f}" for spent in times], padding=2, fontsize=10, color=pictures.INK)
    axes.set_ylim(0, 1.12 * max(times))
    axes.set_xlabel("virtual devices")
    axes.set_ylabel("time, ms")
    axes.set_title(f"{result.settings.experts} experts over devices")
