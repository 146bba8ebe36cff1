r"""What a camera sees of a surface under colored lamps: a network from pixel and normal to the change in color.

.. math:: \Delta c = \operatorname{MLP}(u, v, n_x, n_y, n_z), \qquad \mathbb{R}^5 \to \mathbb{R}^3

Trained on images of known shapes, it renders any other: the surface of a deformed mesh by :func:`pixel_normals`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, marked, taken, within


class OpticalMLP(eqx.Module):
    """The change in color of a pixel from its place and the surface's unit normal there."""

    network: eqx.nn.MLP

    def __init__(self, key: Array, width: int = 32, depth: int = 2):
        self.network = eqx.nn.MLP(5, 3, width, depth, activation=jax.nn.silu, key=key)

    def __call__(self, pixels: Float[Array, "n 2"], normals: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
        """Red, green and blue."""
        return jax.vmap(self.network)(jnp.concatenate([pixels, normals], axis=1))


def vertex_normals(x: Float[Array, "nodes 3"], triangles: Int[Array, "m 3"]) -> Float[Array, "nodes 3"]:
    """Unit normals at the vertices of a surface, means of its triangles' by area; zero at other nodes.

    Examples
    --------
    >>> corners = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    >>> print(vertex_normals(corners, jnp.array([[0, 1, 2]])))
    [[0. 0. 1.]
     [0. 0. 1.]
     [0. 0. 1.]
     [0. 0. 0.]]
    """
    right = within("triangles", triangles, len(x))
    a, b, c = jnp.moveaxis(x[triangles], 1, 0)
    raised = jnp.cross(b - a, c - a)
    total = jnp.zeros_like(x).at[triangles].add(jnp.broadcast_to(raised[:, None], (*triangles.shape, 3)))
    square = jnp.sum(total**2, axis=1, keepdims=True)
    return marked(jnp.where(square == 0, 0, total / jnp.sqrt(jnp.where(square == 0, 1, square))), right)


def pixel_normals(
    pixels: Float[Array, "n 2"],
    seen: Float[Array, "nodes 2"],
    normals: Float[Array, "nodes 3"],
    triangles: Int[Array, "m 3"],
) -> tuple[Float[Array, "n 3"], Float[Array, " n"]]:
    """Unit normals at pixels of an image, interpolated between the vertices of the triangle around each.

    Parameters
    ----------
    pixels
        Places in the image.
    seen
        Where nodes are in it.
    normals
        At the nodes.
    triangles
        That the nodes make.

    Returns
    -------
    tuple
        The normals, and one for pixels that lie in a triangle, zero for others, whose normal is that of the nearest.

    Examples
    --------
    >>> seen, up = jnp.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]]), jnp.tile(jnp.array([0.0, 0.0, 1.0]), (3, 1))
    >>> normals, inside = pixel_normals(jnp.array([[2.0, 2.0], [9.0, 9.0]]), seen, up, jnp.array([[0, 1, 2]]))
    >>> print(normals, inside)
    [[0. 0. 1.]
     [0. 0. 1.]] [1. 0.]
    """
    at_least("the number of triangles", len(triangles), 1)
    a, b, c = jnp.moveaxis(taken("triangles", seen, triangles), 1, 0)
    doubled = _cross(b - a, c - a)
    offset = pixels[:, None] - a
    safe = jnp.where(doubled != 0, doubled, 1)
    second, third = _cross(offset, c - a) / safe, _cross(b - a, offset) / safe
    coordinates = jnp.stack([1 - second - third, second, third], axis=-1)
    least = jnp.where(doubled != 0, coordinates.min(axis=-1), -jnp.inf)
    best = jax.lax.stop_gradient(jnp.argmax(least, axis=1))
    found = jnp.take_along_axis(coordinates, best[:, None, None], axis=1)[:, 0]
    inside = jnp.take_along_axis(least, best[:, None], axis=1)[:, 0] >= 0
    mixed = jnp.sum(jnp.maximum(found, 0)[..., None] * normals[triangles[best]], axis=1)
    return mixed / jnp.linalg.norm(mixed, axis=1, keepdims=True), inside.astype(pixels.dtype)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


class Dents(NamedTuple):
    """Images of dents in a flat surface under three colored lamps."""

    pixels: np.ndarray
    """In [-1, 1], of shape ``(size², 2)``."""
    normals: np.ndarray
    """Of each image, of shape ``(images, size², 3)``."""
    colors: np.ndarray
    """Less those of the flat surface."""


def dents(random: np.random.Generator, images: int, size: int, elevation: float = 30.0) -> Dents:
    """Dents ``-a exp(-|p - c|² / (2 w²))``, lit by lamps at three azimuths, whose light fades with the distance."""
    ticks = np.linspace(-1, 1, size)
    pixels = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    center = random.uniform(-0.5, 0.5, (images, 1, 2))
    depth, width = random.uniform(0.2, 0.5, (images, 1)), random.uniform(0.12, 0.25, (images, 1))
    offset = pixels - center
    height = -depth * np.exp(-np.sum(offset**2, axis=-1) / (2 * width**2))
    slope = -offset * (height / width**2)[..., None]
    raised = np.concatenate([-slope, np.ones_like(slope[..., :1])], axis=-1)
    normals = raised / np.linalg.norm(raised, axis=-1, keepdims=True)
    azimuth, up = np.deg2rad([0.0, 120.0, 240.0]), np.deg2rad(elevation)
    lamps = np.stack([np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.full(3, np.sin(up))], axis=1)
    fading = 1 + np.sum(pixels**2, axis=-1)[:, None]
    shade = lambda normals: np.maximum(normals @ lamps.T, 0) / fading
    flat = shade(np.broadcast_to([0.0, 0.0, 1.0], (size**2, 3)))
    return Dents(pixels, normals, shade(normals) - flat)


def linear_fit(inputs: Any, colors: Any) -> np.ndarray:
    """The least-squares map from inputs and a constant to colors: what a network is compared with."""
    return np.linalg.lstsq(np.column_stack([inputs, np.ones(len(inputs))]), colors, rcond=None)[0]
