"""Pictures of one palette and one style.

`Experiment.draw` applies the style: a picture says only what is its own. Colors have meanings: the method is `METHOD`,
what it is compared with first is `RIVAL`, and so on; further lines take `COLORS` in order.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from .seeds import Estimate

METHOD, RIVAL, INK, THIRD, QUIET, ALARM, FOURTH, PALE = (
    "#1f8a8c",
    "#e08a2c",
    "#26374a",
    "#7b5ea7",
    "#8d9aa6",
    "#c8413b",
    "#5b9bd5",
    "#c9d1da",
)
COLORS = (METHOD, RIVAL, THIRD, FOURTH, ALARM, QUIET, INK)
#: For numbers of both signs, and for those of one.
SIGNED, UNSIGNED = "RdBu_r", "viridis"

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "figure.titlesize": 16,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "savefig.dpi": 110,
}


def style() -> Any:
    """The context in which pictures are drawn."""
    return matplotlib.style.context(["default", STYLE])


def canvas(title: str, width: float = 15, height: float = 5.5) -> Figure:
    """An empty picture with a title; `subplots` and `subfigures` divide it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title)
    return figure


def bare(axes: Any) -> None:
    """No grid, no ticks, no frame: for images."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def band(axes: Any, x: Any, runs: Any, *, color: str, label: str, ls: str = "-", ends: bool = True) -> None:
    """The mean of several runs over `x`, and the band from the least to the greatest; `runs` has a row for each.

    Without `ends` the band is one standard deviation to each side.
    """
    runs = np.atleast_2d(np.asarray(runs, float))
    middle = runs.mean(axis=0)
    low, high = (runs.min(axis=0), runs.max(axis=0)) if ends else (middle - runs.std(axis=0), middle + runs.std(axis=0))
    axes.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(x, middle, color=color, ls=ls, label=label)


def level(axes: Any, values: Any, *, color: str, label: str, ls: str = "--") -> None:
    """A horizontal line at the mean of some values, and a band of one standard deviation to each side."""
    values = np.atleast_1d(np.asarray(values, float))
    if len(values) > 1:
        axes.axhspan(values.mean() - values.std(), values.mean() + values.std(), color=color, alpha=0.15, lw=0)
    axes.axhline(values.mean(), color=color, lw=1.2, ls=ls, label=label)


def bars(
    axes: Any,
    values: Mapping[str, float | Estimate],
    *,
    form: str = "{:.3g}",
    colors: Mapping[str, str] | None = None,
    log: bool = False,
) -> None:
    """A bar for each name with its figure above it; an `Estimate` has its interval and a dot for each value.

    `form` writes a number. A name without a color of its own takes those of the palette in order.
    """
    cycle = iter(COLORS * (1 + len(values) // len(COLORS)))
    chosen = colors or {}
    for i, (name, value) in enumerate(values.items()):
        color = chosen.get(name) or next(cycle)
        height = value.mean if isinstance(value, Estimate) else value
        axes.bar(i, height, color=color, width=0.65)
        top = height
        if isinstance(value, Estimate) and np.isfinite(value.width):
            axes.errorbar(i, height, value.width, color=INK, capsize=4, lw=1.2)
            spread = np.linspace(-0.15, 0.15, len(value.values))
            axes.plot(i + spread, value.values, "o", color=INK, ms=3, alpha=0.6)
            top = max(value.high, *value.values)
        axes.annotate(
            form.format(height), (i, top), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom"
        )
    axes.set_xticks(range(len(values)), [name.replace(" ", "\n") for name in values])
    axes.grid(False, axis="x")
    axes.margins(y=0.12)
    if log:
        axes.set_yscale("log")


def mosaic(images: Any, columns: int, *, colors: str = "gray_r", low: Any = None, high: Any = None) -> np.ndarray:
    """Images side by side in rows, as one image for `imshow`.

    Parameters
    ----------
    images
        Of shape `(n, height, width)`.
    columns
        Images in a row.
    low, high
        The numbers that get the ends of the colors; each image's own least and greatest if they are not given.
    """
    images = np.asarray(images, float)
    ends = (images.min(axis=(1, 2)) if low is None else low, images.max(axis=(1, 2)) if high is None else high)
    least, most = (np.broadcast_to(end, len(images))[:, None, None] for end in ends)
    scaled = (images - least) / np.where(most > least, most - least, 1.0)
    n, height, width = images.shape
    zoom = max(1, 80 // max(height, width))
    gap = max(1, zoom // 2)
    rows = -(-n // columns)
    pitch = (height * zoom + 2 * gap, width * zoom + 2 * gap)
    page = np.ones((rows * pitch[0], columns * pitch[1], 3))
    for i, image in enumerate(scaled):
        y, x = (i // columns) * pitch[0] + gap, (i % columns) * pitch[1] + gap
        large = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        page[y : y + height * zoom, x : x + width * zoom] = matplotlib.colormaps[colors](large)[..., :3]
    return page


def points(axes: Any, x: Any, y: Any, labels: Sequence[str], *, color: str) -> None:
    """Marks with a word beside each."""
    axes.plot(x, y, "o", color=color, ms=6)
    for at_x, at_y, text in zip(x, y, labels, strict=True):
        axes.annotate(text, (at_x, at_y), xytext=(6, 6), textcoords="offset points", color=color, fontsize=9)


#: What a picture on a page may weigh.
LIMIT = 150_000


def save_small(figure: Figure, path: Path, limit: int = LIMIT) -> None:
    """Save a picture as a PNG of at most `limit` bytes: with fewer colors, then with fewer dots."""
    from PIL import Image

    for dpi in (100, 80, 64, 50, 40):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        image = Image.open(buffer).convert("RGB").quantize(192, dither=Image.Dither.NONE)
        small = io.BytesIO()
        image.save(small, format="png", optimize=True)
        if small.tell() <= limit:
            path.write_bytes(small.getvalue())
            return
    raise ValueError(f"The picture {path} has more than {limit} bytes even at {dpi} dots an inch.")
