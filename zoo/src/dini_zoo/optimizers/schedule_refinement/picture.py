"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .report import DIGITS
from .schedules import smoothed
from .study import COSINE, FLAT, LEARNED, LINEAR, REFINED, SGD, Result, Study

_COLORS = {REFINED: pictures.METHOD, LINEAR: pictures.RIVAL, COSINE: pictures.FOURTH, FLAT: pictures.QUIET}


def draw(result: Result) -> Figure:
    """Norms and the schedules made of them above, what the schedules are worth below."""
    figure = pictures.canvas("Learning-rate schedules, refined by the gradient norms of an earlier run", height=12)
    above, middle, below = figure.subfigures(3, 1, height_ratios=(1, 1, 1.1))
    tasks = {f"digits, {SGD}": result.digits[SGD]}
    tasks |= {f"noise: {name}": study for name, study in result.noises.items()}
    tops, mids = above.subplots(1, len(tasks)), middle.subplots(1, len(tasks), sharey=True)
    for top, mid, (name, study) in zip(tops, mids, tasks.items(), strict=True):
        _norms(top, name, study, result.settings.smoothing)
        _schedules(mid, study, result.optimized.get(name.removeprefix("noise: ")))
    if result.learned is not None:
        rates = result.learned / result.learned.max()
        mids[0].plot(np.arange(1, len(rates) + 1) / len(rates), rates, ":", color=pictures.ALARM, label=LEARNED)
        mids[0].legend()
    left, right = below.subplots(1, 2, width_ratios=(1.3, 1))
    _digits(left, result)
    _noises(right, result)
    return figure


def _norms(axes: Any, name: str, study: Study, smoothing: float) -> None:
    """The norms of the gradients, and their running median."""
    u = np.arange(1, len(study.norms) + 1) / len(study.norms)
    axes.plot(u, study.norms, ".", color=pictures.PALE, ms=2)
    axes.plot(u, smoothed(study.norms, smoothing), color=pictures.INK, label="running median")
    axes.set_yscale("log")
    axes.set_title(name)
    axes.set_ylabel("gradient norm")
    axes.legend()


def _schedules(axes: Any, study: Study, optimized: np.ndarray | None) -> None:
    """The refined schedule beside linear decay."""
    for name in (LINEAR, REFINED):
        values = study.swept[name].values
        axes.plot(np.arange(1, len(values) + 1) / len(values), values, color=_COLORS[name], label=name)
    if optimized is not None:
        at = np.linspace(0, 1, len(optimized))
        axes.plot(at, optimized, ":", color=pictures.THIRD, label="least bound")
    axes.set_xlabel("share of the run")
    axes.set_ylabel("learning rate / greatest")
    axes.legend()


def _digits(axes: Any, result: Result) -> None:
    """The excess on the digits."""
    names = list(DIGITS[SGD])
    width = 0.8 / len(result.digits)
    for i, (optimizer, study) in enumerate(result.digits.items()):
        found = [Estimate.of(study.swept[name].excess[study.swept[name].best], scale=1e3) for name in names]
        at = np.arange(len(names)) + (i - (len(result.digits) - 1) / 2) * width
        color = (pictures.METHOD, pictures.THIRD)[i]
        axes.bar(at, [one.mean for one in found], width, color=color, label=optimizer)
        spread = np.nan_to_num([one.width for one in found])
        axes.errorbar(at, [one.mean for one in found], spread, fmt="none", color=pictures.INK, capsize=3, lw=1)
    axes.set_xticks(range(len(names)), names)
    axes.grid(False, axis="x")
    axes.set_yscale("log")
    axes.set_ylabel("1000 × excess of the last loss")
    axes.set_title(f"digits with {result.settings.noisy:.0%} noisy labels, each schedule at its best rate")
    axes.legend()


def _noises(axes: Any, result: Result) -> None:
    """The excess where the noise changes."""
    names = (LINEAR, COSINE, FLAT, REFINED)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        least = [study.swept[name].least for study in result.noises.values()]
        axes.bar(np.arange(len(least)) + (i - 1.5) * width, least, width, color=_COLORS[name], label=name)
    axes.set_xticks(range(len(result.noises)), [f"noise: {noise}" for noise in result.noises])
    axes.grid(False, axis="x")
    axes.set_yscale("log")
    axes.set_ylabel("mean excess of the last value")
    axes.set_title("absolute values with noise that changes, each schedule at its best rate")
    axes.legend(ncols=4)
