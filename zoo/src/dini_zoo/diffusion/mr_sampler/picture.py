"""The experiment's picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .planes import EULER
from .report import errors
from .restoration import UNSTRIDED
from .study import Result


def draw(result: Result) -> Figure:
    """Convergence, distances by calls, and restored digits."""
    figure = pictures.canvas("Mean-reverting diffusion, in reverse with few calls of the network", width=15, height=5.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    for name, values in errors(result).items():
        color = pictures.QUIET if name == EULER else pictures.COLORS[int(name.split()[1].rstrip(",")) - 1]
        style = "-" if name == EULER or "," not in name else ":" if "published" in name else "--"
        calls = sorted(values)
        left.plot(calls, [values[n] for n in calls], style, marker="o", ms=4, color=color, label=name)
    left.set(xscale="log", yscale="log", xlabel="calls")
    left.set_title("a known law: error of the flow")
    left.legend(fontsize=9, handlelength=3.5)

    one = result.restored
    lines = (
        ("SDE-2", pictures.METHOD, "-"),
        ("ODE-2", pictures.METHOD, "--"),
        ("SDE-1", pictures.THIRD, "-"),
        ("Euler-SDE", pictures.RIVAL, "-"),
        ("Euler-ODE", pictures.RIVAL, "--"),
    )
    for name, color, style in lines:
        middle.plot(one.calls, one.distances[name]["t"], style, marker="o", ms=4, color=color, label=name)
    label = f"{UNSTRIDED} (as published, unfair)"
    middle.plot(one.calls, one.distances[UNSTRIDED]["t"], ":", color=pictures.ALARM, label=label)
    pictures.level(middle, one.floor, color=pictures.INK, label="images to train with")
    middle.set(xscale="log", yscale="log", xlabel="calls")
    middle.set_xticks(one.calls, map(str, one.calls))
    middle.minorticks_off()
    middle.set_title("digits restored: Fréchet distance,\nsteps equidistant in time")
    middle.set_ylim(top=60 * one.distances[UNSTRIDED]["t"][0])  # room for the legend
    middle.legend(fontsize=8, handlelength=3.5, ncols=2, loc="upper center")

    stacked = np.concatenate([np.clip(images, 0, 1).reshape(-1, 8, 8) for images in one.shown.values()])
    columns = len(next(iter(one.shown.values())))
    right.imshow(pictures.mosaic(stacked, columns, low=0, high=1))
    pictures.bare(right)
    right.set_title("rows, from above:\n" + "; ".join(one.shown))
    return figure
