"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .racing import Race
from .report import LAST
from .study import ADAM, SGD, Result, sso


def draw(result: Result) -> Figure:
    """The loss by costly gradients in each task, and by step size on the digits."""
    figure = pictures.canvas("Many cheap steps for each costly gradient", width=15, height=9)
    (left, right), (low, last) = figure.subplots(2, 2)
    _factorization(left, result)
    _digits(right, result)
    _step_sizes(low, result)
    _imitation(last, result)
    return figure


def _lines(axes: Any, named: list[tuple[str, Race, str]]) -> None:
    for name, race, color in named:
        runs = race.course[race.best]
        pictures.band(axes, np.arange(runs.shape[1]), runs, color=color, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("gradients of targets")
    axes.set_ylabel("training loss")
    axes.legend()


def _factorization(axes: Any, result: Result) -> None:
    settings = result.settings
    if not result.factorization:
        axes.set_visible(False)
        return
    batch = min(result.factorization)
    races = result.factorization[batch]
    names = (SGD, ADAM, sso(1, 1), sso(10, 1), sso(settings.long, 1))
    _lines(axes, [(name, races[name], color) for name, color in zip(names, _COLORS, strict=True)])
    axes.set_title(f"matrix factorization, batches of {batch}, η = 1")


#: Gradient descent, Adam, and the method with more and more inner steps.
_COLORS = (pictures.RIVAL, pictures.ALARM, pictures.FOURTH, pictures.METHOD, pictures.INK)


def _digits(axes: Any, result: Result) -> None:
    batch = max(result.digits)
    races = result.digits[batch]
    names = (SGD, ADAM, *map(sso, result.settings.digits_steps))
    _lines(axes, [(f"{name} ({races[name].rate:g})", races[name], color) for name, color in _named(names)])
    axes.set_title(f"softmax regression on digits, batches of {batch} (best step size)")


def _named(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(names, _COLORS, strict=False))


def _step_sizes(axes: Any, result: Result) -> None:
    for batch, style in zip(result.digits, ("-", "--", ":"), strict=False):
        for name, color in _named((SGD, ADAM, *map(sso, result.settings.digits_steps))):
            race = result.digits[batch][name]
            axes.plot(
                race.rates, race.ends.mean(axis=1), style, marker="o", ms=3, color=color, label=f"{name}, {batch}"
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(top=3)
    axes.set_xlabel("step size: of the parameters for gradient descent and Adam, of the targets for SSO")
    axes.set_ylabel("last training loss")
    axes.set_title("digits: what the step size makes of it")
    axes.legend(ncols=2, fontsize=8)


def _imitation(axes: Any, result: Result) -> None:
    for name, color in zip(result.imitation, _COLORS, strict=True):
        course = result.imitation[name]
        runs = course.loss[int(np.argmin(course.figure(LAST).mean(axis=1)))]
        pictures.band(axes, np.arange(runs.shape[1]), runs, color=color, label=f"{name} ({course.rate(LAST):g})")
    axes.set_yscale("log")
    axes.set_xlabel("rounds")
    axes.set_ylabel("loss on the states of the round")
    axes.set_title("imitation of an expert that balances a pole (best step size)")
    axes.legend()
