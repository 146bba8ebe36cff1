"""The picture: where policies go and what values are by method, what a record is worth, networks key by key."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dini_zoo.kit import pictures

from ..grids import MOVES
from .fence import GOAL, MUD, SEEN, SIZE, START, WALL, Fenced
from .network_runs import Trained
from .report import METHODS, lane_of, name_of
from .study import Result
from .tabular_runs import Duals, Lane


def draw(result: Result) -> Figure:
    """Maps above, runs below."""
    scale = result.settings.scales[0]
    figure = pictures.canvas("Behind the fence: a state that is entered in the data, and never left", height=10.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.9, 1))
    lanes = [(name_of(mode, lam), lane_of(result, mode, scale, lam=lam)) for mode, lam in METHODS]
    axes = top.subplots(2, len(lanes))
    visited = shown = None
    for (above, below), (name, lane) in zip(axes.T, lanes, strict=True):
        if lane is not None:
            visited = occupancy(above, name, lane)
            shown = values(below, lane, -20.0 * scale)
    if visited is not None and shown is not None:
        top.colorbar(visited, ax=axes[0], shrink=0.8, label="visits of a cell")
        top.colorbar(shown, ax=axes[1], shrink=0.8, extend="both", label="value")
    panels = bottom.subplots(1, 3)
    if result.duals is not None:
        worth(panels[0], result.duals)
    runs(panels[1], result.networks, "value networks: success, key by key")
    runs(panels[2], result.batches, "batches and a policy network")
    measured = (result.duals is not None, bool(result.networks), bool(result.batches))
    for axes, shown in zip(panels, measured, strict=True):
        axes.set_visible(shown)
    return figure


def _map(axes: Any, table: np.ndarray, **how: Any) -> Any:
    """A table of cells, with the wall, the start and the goal; the columns behind the fence are framed."""
    walls = Fenced().open.mask(WALL)
    shown = np.where(walls, np.nan, table).reshape(SIZE, SIZE)
    image = axes.imshow(shown, **how)
    for row, column in WALL:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=pictures.INK))
    for (row, column), text in ((START, "S"), (GOAL, "G")):
        axes.text(column, row, text, ha="center", va="center", fontsize=9, weight="bold", color=pictures.ALARM)
    axes.axvline(SEEN - 0.5, color=pictures.ALARM, lw=1.5, ls=":")
    pictures.bare(axes)
    return image


def occupancy(axes: Any, name: str, lane: Lane) -> Any:
    """How often each cell is visited, in the true world."""
    image = _map(axes, lane.paper.cells, norm=PowerNorm(0.4, 0, 20), cmap=pictures.UNSIGNED)
    axes.set_title(f"{name}\nsuccess {lane.paper.success:.3f}, mud {lane.paper.mud:.2f}")
    return image


def values(axes: Any, lane: Lane, low: float) -> Any:
    """The values, where the data say anything of them."""
    grid = Fenced()
    known = grid.left | grid.dangling
    image = _map(axes, np.where(known, lane.values, np.nan), vmin=low, vmax=0, cmap=pictures.UNSIGNED)
    axes.set_title(f"RMSE {lane.error:.3g}, dangling {lane.dangling:.1f}")
    return image


def worth(axes: Any, found: Duals) -> None:
    """The move of each cell of which a record more raises the return most; longer where it does so more."""
    grid = Fenced("none")
    recorded = grid.frequencies[found.cells] > 0
    gain = np.where(recorded, found.sensitivity.data, -np.inf)
    best = gain.argmax(axis=1)
    most = np.sqrt(np.maximum(gain.max(axis=1), 0))
    _map(axes, np.full(grid.open.count, np.nan))
    down, right = np.array(MOVES)[best].T * most / most.max()
    rows, columns = grid.open.places[found.cells].T
    how = {"angles": "xy", "scale_units": "xy", "scale": 1.2, "width": 0.008, "color": pictures.METHOD, "pivot": "mid"}
    axes.quiver(columns, rows, right, down, **how)
    for row, column in MUD:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=pictures.PALE, alpha=0.5, lw=0))
    axes.set_xlim(-0.5, SIZE - 0.5)
    axes.set_ylim(SIZE - 0.5, -0.5)
    axes.set_title("no fence: of which move one record more helps\n(implicit derivative of the return)")


def runs(axes: Any, several: list[Trained], title: str) -> None:
    """A dot for each key."""
    colors = {"orthogonal": pictures.METHOD, "semi": pictures.RIVAL}
    names = []
    for i, one in enumerate(several):
        success = [outcome.success for outcome in one.outcomes]
        cloning = one.weight == "uniform"
        color = pictures.QUIET if cloning else colors[one.mode]
        axes.plot(i + np.linspace(-0.25, 0.25, len(success)), success, "o", color=color, ms=6)
        name = "cloning" if cloning else {"orthogonal": "orthog.", "semi": "semi"}[one.mode]
        weights = {"conjugate": "paper's w", "relu": "code's w", "uniform": "w = 1"}[one.weight]
        names.append(f"{name}\n{weights}\nscale {one.scale:g}")
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(-0.05, 1.05)
    axes.grid(False, axis="x")
    axes.set_title(title)
