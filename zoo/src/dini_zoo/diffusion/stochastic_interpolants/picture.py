"""The experiment's picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .report import divergences
from .study import Result


def draw(result: Result) -> Figure:
    """Paths and samples in the plane, distances by noise; divergences in many dimensions, bridges."""
    figure = pictures.canvas("Between two laws: fields learned once, any level of noise afterwards", height=10)
    above, below = figure.subfigures(2, 1)
    paths, samples, distances = above.subplots(1, 3)
    one = result.transport

    for path in one.paths.swapaxes(0, 1):
        paths.plot(path[:, 0], path[:, 1], color=pictures.PALE, lw=1)
    paths.plot(*one.paths[0].T, "o", color=pictures.RIVAL, ms=4, label="time 0")
    paths.plot(*one.paths[-1].T, "o", color=pictures.METHOD, ms=4, label="time 1")
    paths.set_title(f"learned paths, noise {one.levels[0]:g}")
    paths.legend()

    level, drawn = list(one.samples.items())[-1]
    samples.plot(*drawn.T, ".", color=pictures.METHOD, ms=3)
    samples.set_title(f"samples of the same fields, noise {level:g}")
    for axes in (paths, samples):
        axes.set(xlim=(-4.5, 4.5), ylim=(-4, 4.5), aspect="equal")

    at = np.arange(len(one.levels))
    for values, color, label in (
        (one.exact, pictures.INK, "exact fields"),
        (one.learned, pictures.METHOD, "learned fields"),
    ):
        pictures.band(distances, at, np.transpose(values), color=color, label=label)
    pictures.level(distances, one.floor, color=pictures.QUIET, label="two exact samples")
    distances.set_xticks(at, [f"{level:g}" for level in one.levels])
    distances.set(xlabel="noise ε", ylim=(0, None))
    distances.set_title("in the plane: sliced Wasserstein distance")
    distances.legend()

    panels = below.subplots(1, 1 + len(result.bridges), squeeze=False)[0]
    found = divergences(result)
    at = np.arange(len(found))
    pictures.band(panels[0], at, np.transpose(list(found.values())), color=pictures.METHOD, label="short training")
    floor = [value for seed in result.levels for value in seed.floor]
    pictures.level(panels[0], floor, color=pictures.QUIET, label="two exact samples")
    panels[0].set_xticks(at, [f"{level:g}" for level in found])
    panels[0].set(xlabel="noise ε", ylim=(0, None))
    panels[0].set_title(f"{result.settings.dimension} dimensions: divergence")
    panels[0].legend()

    names = ("independent ends", "bridge", "discretized, dini", "learned on samples")
    looks = ((pictures.QUIET, "-"), (pictures.INK, "-"), (pictures.RIVAL, "--"), (pictures.METHOD, ":"))
    for axes, case in zip(panels[1:], result.bridges, strict=True):
        for curve, name, (color, style) in zip(case.curves, names, looks, strict=True):
            axes.plot(np.linspace(0, 1, len(curve)), curve, style, color=color, label=name)
        axes.set(xlabel="time")
        axes.set_title(f"variances from {case.a:g} to {case.b:g}, ε = {case.eps:g}:\nenergy {case.optimum:.3f}")
    panels[-1].legend(fontsize=9)
    return figure
