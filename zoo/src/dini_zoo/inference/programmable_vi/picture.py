"""The experiment's picture: the posterior with the fitted guides, the ascents, values beside the evidence, spreads."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .cone import MIDPOINTS, OBSERVED, SCALE
from .study import Result

COLORS = {
    "ELBO": pictures.RIVAL,
    "IWELBO(5)": pictures.ALARM,
    "HVI": pictures.QUIET,
    "IWHVI(5,1)": pictures.FOURTH,
    "DIWHVI(5,5)": pictures.THIRD,
    MIDPOINTS: pictures.METHOD,
}


def draw(result: Result) -> Figure:
    """A map for each objective's guide, and three panels."""
    figure = pictures.canvas("The noisy cone: guides for a posterior that is a ring", height=8)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    for axes, name in zip(np.atleast_1d(top.subplots(1, len(result.draws))), first(result), strict=True):
        guide(axes, name, result)
    left, middle, right = bottom.subplots(1, 3, width_ratios=(1.2, 1.2, 1))
    ascents(left, result)
    values(middle, result)
    spreads(right, result)
    return figure


def posterior(x: Any, y: Any) -> Any:
    """The model's joint density at the observation, up to a factor."""
    r = x**2 + y**2
    scale = 0.1 + r / 100
    return np.exp(-r / (2 * SCALE**2) - 0.5 * ((OBSERVED - r) / scale) ** 2) / scale


def guide(axes: Any, name: str, result: Result) -> None:
    """Draws of a fitted guide over the posterior."""
    at = np.linspace(-3.2, 3.2, 200)
    axes.contourf(at, at, posterior(*np.meshgrid(at, at)), levels=8, cmap="Greys")
    x, y = result.draws[name].T
    axes.plot(x, y, ".", ms=1.5, alpha=0.5, color=COLORS[name])
    axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", title=name)
    pictures.bare(axes)


def ascents(axes: Any, result: Result) -> None:
    """The objectives on the way."""
    for name, found in first(result).items():
        n = found.curves.shape[1]
        steps = (np.arange(n) + 0.5) * result.settings.steps / n
        pictures.band(axes, steps, found.curves, color=COLORS[name], label=name)
    axes.axhline(result.evidence, color=pictures.INK, lw=1.2, ls="--", label="exact log-evidence")
    axes.set(xlabel="step", ylim=(-16, -4.5), title="objectives on the way up")
    axes.legend(fontsize=9, ncols=2, loc="lower right")


def first(result: Result) -> dict[str, Any]:
    """Each objective's ascent from its first start."""
    found = {one.name: one for one in reversed(result.trained)}
    return {name: found[name] for name in COLORS if name in found}


def values(axes: Any, result: Result) -> None:
    """Values after the ascent, with those of NumPyro's objectives."""
    found = {name: Estimate.of(one.values) for name, one in first(result).items()}
    theirs = {f"NumPyro {one.name}": Estimate.of(one.values) for one in result.numpyro}
    colors = {**COLORS, **dict.fromkeys(theirs, pictures.PALE)}
    for i, (name, one) in enumerate({**theirs, **found}.items()):
        axes.plot(one.values, np.full(len(one.values), i), "o", color=colors[name], ms=7)
        axes.annotate(
            f"{one.mean:.2f}", (one.mean, i), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    axes.axvline(result.evidence, color=pictures.INK, lw=1.2, ls="--")
    axes.set_yticks(range(len(theirs) + len(found)), [*theirs, *found])
    axes.margins(x=0.1, y=0.12)
    axes.grid(False, axis="y")
    axes.set_title("after the ascent, a dot for each seed")


def spreads(axes: Any, result: Result) -> None:
    """Standard deviations of one gradient."""
    pictures.bars(axes, {one.name: one.spread for one in result.estimators}, form="{:.2f}")
    axes.set_title("one binary choice: spread of a gradient")
