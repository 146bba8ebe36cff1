"""Walks between noises with the penalty and without, how even they are, and what it costs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .report import distance, of_weight, seen, std, unseen
from .study import Result


def draw(result: Result) -> Figure:
    """The first walks of the first seed; the profile of steps; ISTD beside quality; inversion."""
    settings = result.settings
    ours, control = (of_weight(result, weight) for weight in (settings.weight, 0.0))
    figure = pictures.canvas("Walks between two noises, with the penalty and without", height=8.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    for axes, one, title in zip(
        top.subplots(1, 2),
        (control[0], ours[0]),
        ("control, λ = 0", f"with the penalty, λ = {settings.weight:g}"),
        strict=True,
    ):
        images = one.shown.reshape(-1, 8, 8)
        axes.imshow(pictures.mosaic(images, one.shown.shape[1], low=0, high=1))
        pictures.bare(axes)
        axes.set_title(f"{title}: the same noises, equal steps of the ratio")
    profile, trade, inversion = bottom.subplots(1, 3)
    steps = np.arange(1, len(ours[0].arcs.profile) + 1)
    for judged, color, label in (
        (control, pictures.RIVAL, "control"),
        (ours, pictures.METHOD, f"λ = {settings.weight:g}"),
    ):
        pictures.band(profile, steps, [one.arcs.profile for one in judged], color=color, label=label)
    profile.axhline(1, color=pictures.QUIET, ls="--", lw=1.2, label="even")
    profile.set_xlabel("steps of a walk, the greatest first")
    profile.set_title("distance of neighbors over their mean")
    profile.legend()
    others = iter((pictures.THIRD, pictures.FOURTH, pictures.ALARM, pictures.QUIET))
    for weight in settings.weights:
        color = {settings.weight: pictures.METHOD, 0.0: pictures.RIVAL}.get(weight) or next(others, pictures.INK)
        judged = of_weight(result, weight)
        x, y = [std(one) for one in judged], [distance(one) for one in judged]
        trade.plot(x, y, "o", color=color, ms=6, label="control" if weight == 0 else f"λ = {weight:g}")
    trade.set_ylim(bottom=0)
    trade.set_xlabel("interpolation standard deviation")
    trade.set_title("Fréchet distance in a classifier's features, by seed")
    trade.legend()
    values: dict[str, float | Estimate] = {}
    colors = {}
    for judged, color, label in (
        (control, pictures.RIVAL, "control"),
        (ours, pictures.METHOD, f"λ={settings.weight:g}"),
    ):
        for name, error in (("trained with", seen), ("others", unseen)):
            values[f"{label}, {name}"] = Estimate.of(error(one) for one in judged)
            colors[f"{label}, {name}"] = color
    pictures.bars(inversion, values, form="{:.4f}", colors=colors)
    inversion.set_title(f"there and back in {settings.inversion_steps} steps: squared error")
    return figure
