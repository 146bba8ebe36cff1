"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from .equilibrium import DomeResult, Pressed
from .scenes import block
from .seeing import Seen
from .study import Calibration, Controlled, Result


def draw(result: Result) -> Figure:
    """The block under load and the dome's markers, calibration, control; dents, true and rendered."""
    figure = pictures.canvas(
        "A soft sensor in contact, differentiated: under load, calibrated, moved to a goal", height=9
    )
    above, below = figure.subfigures(2, 1)
    panels = [*above.subplots(1, 3), *below.subplots(1, 3)]
    pressed, markers, seen, calibration, control, identified = panels
    if result.calibration:
        draw_block(pressed, result)
        draw_calibration(calibration, result.calibration)
    if result.dome:
        draw_markers(markers, result.dome)
    if result.optics:
        draw_dents(seen, result.optics[0])
    if result.control:
        draw_control(control, result.control)
    if result.equilibrium:
        draw_identification(identified, result.equilibrium)
    for axes in panels:
        if not axes.get_title():
            pictures.bare(axes)
    return figure


def draw_block(axes: Any, result: Result) -> None:
    """The block's middle, seen along y, at the end of the motion; the sphere below it."""
    assert result.calibration is not None
    mesh, _, _ = block(result.settings.cells, np.float32)
    rest, x = np.asarray(mesh.nodes), result.calibration.pressed
    nx, ny, nz = result.settings.cells
    lattice = np.arange(mesh.count).reshape(nz + 1, ny + 1, nx + 1)[:, (ny + 1) // 2]
    corners = np.stack([lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, 1:], lattice[1:, :-1]], axis=-1)
    strain = np.linalg.norm(x - rest - (x - rest)[lattice[-1, 0]], axis=1)
    quads = corners.reshape(-1, 4)
    faces = PolyCollection(x[quads][:, :, ::2], array=strain[quads].mean(axis=1), cmap="YlGnBu", edgecolor="white")
    circle = np.linspace(0, np.pi, 200)
    axes.fill(0.1 + np.cos(circle), -1 + np.sin(circle), color=pictures.PALE, zorder=0)
    axes.add_collection(faces)
    force = result.calibration.force[-1]
    size = 0.6 / max(np.linalg.norm(force), 1e-9)
    style = {"width": 0.02, "color": pictures.ALARM, "length_includes_head": True, "zorder": 3}
    axes.arrow(0.1, 0, size * force[0], size * force[2], **style)
    axes.set_xlim(-1.3, 1.6)
    axes.set_ylim(-0.6, 1.1)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xlabel("x")
    axes.set_ylabel("z")
    axes.set_title("pressed onto a sphere and dragged;\ncolor: displacement less the frame's")


def draw_markers(axes: Any, dome: DomeResult) -> None:
    """What the camera in the dome sees, with exaggerated displacements."""
    moved = dome.moved - dome.rest
    size = np.linalg.norm(moved, axis=1)
    longest = 40 / max(size.max(), 1e-9)
    axes.plot(*dome.rest.T, "o", color=pictures.QUIET, ms=3)
    tips = longest * moved
    axes.quiver(
        *dome.rest.T, *tips.T, size, cmap="viridis", angles="xy", scale_units="xy", scale=1, width=0.006, zorder=3
    )
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("pixel")
    axes.set_title(
        "markers in a dome under a sphere, as its camera\n"
        f"sees them ({longest:.0f} times; most {size.max():.1f} pixels)"
    )


def draw_dents(axes: Any, seen: Seen) -> None:
    """A test image and what the network makes of its normals."""
    both = np.concatenate([seen.true, np.ones((len(seen.true), 2, 3)), seen.rendered], axis=1)
    axes.imshow(np.clip(0.5 + 0.5 * both / np.abs(seen.true).max(), 0, 1))
    pictures.bare(axes)
    axes.set_title("a dent under three lamps: true, and\nrendered by the network from its normals")


def draw_calibration(axes: Any, calibration: Calibration) -> None:
    """The loss by simulations."""
    for i, one in enumerate(calibration.searches):
        label = lambda text, i=i: None if i else text
        axes.plot(np.arange(len(one.course)), one.course, color=pictures.METHOD, label=label("gradients"))
        counted = 8 * np.arange(1, len(one.evolution) + 1)
        axes.plot(counted, one.evolution, color=pictures.RIVAL, label=label("CMA-ES"))
    axes.set_yscale("log")
    axes.set_xlabel("simulations (gradients: with a backward pass each)")
    axes.legend()
    axes.set_title("calibration of E, kn and μ_f:\nmismatch of forces and markers")


def draw_control(axes: Any, control: Controlled) -> None:
    """The objective by simulations."""
    axes.plot(np.arange(len(control.course)), control.course, color=pictures.METHOD, label="gradients")
    counted = 16 * np.arange(1, len(control.evolutions[0]) + 1)
    pictures.band(axes, counted, control.evolutions, color=pictures.RIVAL, label="CMA-ES")
    axes.set_yscale("log")
    axes.set_xlabel("simulations (gradients: with a backward pass each)")
    axes.legend()
    axes.set_title(f"control: {control.controls.size} velocities to a force\nand a displacement")


def draw_identification(axes: Any, block: Pressed) -> None:
    """The mismatch by equilibria."""
    axes.plot(np.arange(1, len(block.course) + 1), np.maximum(block.course, 1e-20), "o-", color=pictures.METHOD, ms=4)
    axes.set_yscale("log")
    axes.set_xlabel("equilibria, each with its certified gradient")
    axes.set_title("E and kn from one image at rest:\nmismatch, without noise")
