"""The scenes of the experiment: a block on a sphere, and a dome that a sphere presses. Centimeters, grams, seconds."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..dome import dome_mesh
from ..elasticity import lame_stable
from ..statics import Load, Statics
from ..surfaces import Sphere
from ..tetrahedra import TetMesh, block_mesh, plane_nodes
from .camera import FisheyeCamera, MarkerReadout
from .sensor import Parameters, TactileSim

#: The parameters that are to be found, and where the search begins.
TRUTH = Parameters(E=1e4, kn=2e3, mu_f=0.3)
START = (0.5, 2.0, 0.5)

_BOTTOM, _HEIGHT = 0.02, 1.0


def block(cells: tuple[int, int, int], dtype: Any) -> tuple[TetMesh, np.ndarray, np.ndarray]:
    """The block, and masks of the nodes at its top and its bottom."""
    mesh = block_mesh((-1, -1, _BOTTOM), (1, 1, _BOTTOM + _HEIGHT), cells, dtype)
    return mesh, plane_nodes(mesh, 2, _BOTTOM + _HEIGHT), plane_nodes(mesh, 2, _BOTTOM)


def ball(dtype: Any) -> Sphere:
    """The sphere that the block is pressed onto."""
    return Sphere(jnp.asarray([0.1, 0.0, -1.0], dtype), jnp.asarray(1.0, dtype))


def block_sensor(cells: tuple[int, int, int] = (6, 6, 3), substeps: int = 20, dtype: Any = jnp.float32) -> TactileSim:
    """The block with its top in the frame, in front of the sphere."""
    mesh, top, bottom = block(cells, dtype)
    return TactileSim.of(mesh, top, bottom, ball(dtype), substeps=substeps)


def schedule(steps: int = 12, dtype: Any = jnp.float32) -> Any:
    """Velocities that press the block onto the sphere and then drag it sideways, ``steps`` control steps each."""
    down, aside = np.tile([0.0, 0.0, -2.0], (steps, 1)), np.tile([1.5, 0.0, 0.0], (steps, 1))
    return jnp.asarray(np.concatenate([down, aside]), dtype)


def other_motion(steps: int = 12, dtype: Any = jnp.float32) -> Any:
    """A motion that no calibration sees: deeper, and dragged along y and back along x."""
    down, aside = np.tile([0.0, 0.0, -2.5], (steps, 1)), np.tile([-0.8, 1.2, 0.0], (steps, 1))
    return jnp.asarray(np.concatenate([down, aside]), dtype)


class PressedBlock:
    """The block at rest under its top at a depth, without friction: what it measures, by its equilibrium."""

    def __init__(self, cells: tuple[int, int, int]):
        mesh, top, bottom = block(cells, jnp.float64)
        self.statics, self.bottom = Statics.of(mesh, ~top), jnp.asarray(np.flatnonzero(bottom))
        self._areas, self._ball = jnp.asarray(bottom, jnp.float64), ball(jnp.float64)

    def load(self, E: Any, kn: Any, depth: Any, nu: Any = TRUTH.nu) -> Load:
        """What acts."""
        mu, lam = lame_stable(E, nu)
        return Load(self.lowered(depth), mu, lam, surface=self._ball, kn=kn, areas=self._areas)

    def lowered(self, depth: Any) -> Any:
        """The positions of a block that is moved without a change in form."""
        return self.statics.mesh.nodes - jnp.array([0.0, 0.0, 1.0]) * depth

    def measured(self, x: Any, load: Load) -> tuple[Any, Any]:
        """The total force, and displacements of the bottom less the frame's."""
        markers = (x - load.positions)[self.bottom]
        return self.statics.contact_forces(x, load).sum(axis=0), markers


class PressedDome:
    """A dome whose inner layer is held, pressed by a sphere, and the camera inside."""

    def __init__(self, count: int, layers: int, markers: int):
        mesh, layer = dome_mesh(count=count, layers=layers)
        self.mesh, self.layer, self.radius = mesh, layer, 0.75 + 0.25 * (layers - 1)
        self.statics = Statics.of(mesh, layer > 0)
        self.outer = np.flatnonzero(layer == layers - 1)
        self.areas = jnp.where(jnp.asarray(layer == layers - 1), mesh.areas(), 0)
        self.camera = FisheyeCamera()
        # rings of markers on the image, six more in each
        rings = [
            180 * k / markers * np.stack([np.cos(a), np.sin(a)], axis=1)
            for k in range(1, markers + 1)
            for a in [2 * np.pi * np.arange(6 * k) / (6 * k)]
        ]
        pixels = np.concatenate([np.zeros((1, 2)), *rings]) + np.asarray(self.camera.center)
        self.markers = MarkerReadout.of(self.camera, mesh.nodes, self.outer, pixels)

    def load(self, E: Any, kn: Any, place: Any, depth: Any, radius: float = 0.6) -> Load:
        """A sphere that has come so deep towards the origin, at a place (x, z) of the directions from there."""
        mu, lam = lame_stable(E, TRUTH.nu)
        place = jnp.asarray(place)
        direction = jnp.stack([place[0], jnp.sqrt(1 - jnp.sum(place**2)), place[1]])
        sphere = Sphere((self.radius + radius - depth) * direction, radius)
        return Load(self.mesh.nodes, mu, lam, surface=sphere, kn=kn, areas=self.areas)
