"""The picture: slopes of the learned reward by seed, scores, slopes of values, few demonstrations."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .study import CONSTANT, DRAGAN, MODELED, NAGARD, PLAIN, SPECTRAL, WGAN, Result, shown_name

COLORS = {
    PLAIN: pictures.ALARM,
    WGAN: pictures.METHOD,
    CONSTANT: pictures.FOURTH,
    MODELED: pictures.INK,
    DRAGAN: pictures.RIVAL,
    NAGARD: pictures.QUIET,
    SPECTRAL: pictures.THIRD,
}


def draw(result: Result) -> Figure:
    """Slopes over steps and scores over steps above; below scores against slopes, and few demonstrations."""
    figure = pictures.canvas(
        "Imitation with a learned reward: how steep it is, and what becomes of the policy", height=9.5
    )
    panels = figure.subplots(2, 2)
    reward_slopes(panels[0, 0], result)
    scores_over_steps(panels[0, 1], result)
    values(panels[1, 0], result)
    few(panels[1, 1], result)
    return figure


def reward_slopes(axes: Any, result: Result) -> None:
    """The reward's slope, a line a seed."""
    for name, color in COLORS.items():
        if name not in result.outcomes or name in (CONSTANT, MODELED):
            continue
        one = result.outcomes[name]
        for i, line in enumerate(one.looks.reward_slope):
            axes.plot(one.at, line, color=color, lw=1.2, label=name if i == 0 else None)
    axes.axhline(result.settings.target, color=pictures.INK, lw=1, ls=":", label="what the penalty allows")
    axes.set(yscale="log", xlabel="step", title="largest slope of the reward on the demonstrations, by seed")
    axes.set_ylim(top=5 * axes.get_ylim()[1])
    axes.legend(fontsize=9, ncols=3, loc="upper left")


def scores_over_steps(axes: Any, result: Result) -> None:
    """The score, a line a seed, on a scale that shows both ends."""
    for name in (PLAIN, DRAGAN, WGAN):
        if name not in result.outcomes:
            continue
        one = result.outcomes[name]
        for i, line in enumerate(one.looks.score):
            axes.plot(one.at, line, color=COLORS[name], lw=1.2, label=name if i == 0 else None)
    axes.axhline(1.0, color=pictures.INK, lw=1, ls=":", label="expert")
    scale_of_scores(axes)
    axes.set(xlabel="step", title="score by seed: 1 is the expert, 0 no action at all")
    axes.legend(fontsize=9, ncols=4, loc="upper left")


def scale_of_scores(axes: Any) -> None:
    """Linear where scores are between the two ends, logarithmic where they are far below."""
    axes.set_yscale("symlog", linthresh=1.0, linscale=1.5)
    axes.set_yticks([1, 0.5, 0, -1, -10, -100], ["1", "0.5", "0", "−1", "−10", "−100"])
    axes.minorticks_off()
    axes.set_ylim(top=4)


def values(axes: Any, result: Result) -> None:
    """The slope of the value against that of the reward the critic was given, at the end."""
    for name, color in COLORS.items():
        if name in result.outcomes:
            one = result.outcomes[name]
            given = one.final("reward_slope") * one.kappa[:, -1]
            axes.plot(given, one.final("value_slope"), "o", color=color, ms=6, alpha=0.8, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="slope of the reward, times its factor κ",
        title="largest slope of the learned value, a dot a seed",
    )
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter("")
    axes.legend(fontsize=9)


def few(axes: Any, result: Result) -> None:
    """Scores by number of episodes that are shown."""
    shown = sorted(result.cloned)
    for name, color, shift in ((WGAN, pictures.METHOD, -0.08), ("behavior cloning", pictures.RIVAL, 0.08)):
        found = []
        for count in shown:
            if name != WGAN:
                found.append(result.cloned[count])
            elif shown_name(count) in result.outcomes:
                found.append(result.outcomes[shown_name(count)].final("score"))
        at = np.arange(len(found)) + shift
        axes.plot(at, [one.mean() for one in found], color=color, label=name)
        axes.plot(np.repeat(at, len(found[0])), np.ravel(found), "o", color=color, ms=5, alpha=0.6)
    axes.axhline(1.0, color=pictures.INK, lw=1, ls=":")
    axes.set_xticks(range(len(shown)), [str(count) for count in shown])
    axes.set(xlabel="the expert's episodes that are shown", title="score at the end: seeds, and their mean")
    scale_of_scores(axes)
    axes.legend(fontsize=9, ncols=2, loc="upper left")
