r"""The camera inside a sensor, and the markers that it sees on the outer surface.

An equidistant fisheye camera: a point at the angle :math:`\theta` from the optical axis is at the distance
:math:`r = m f \theta` from the image's center. Sensor coordinates (x, y, z) have the optical axis along y.
"""

from __future__ import annotations

from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, finite, same_shape, taken, within

from ..surfaces import safe_norm


class FisheyeCamera(eqx.Module):
    """An equidistant fisheye camera.

    Attributes
    ----------
    focal
        The focal length ``f``.
    scale
        Pixels by length on the chip, ``m``.
    center
        The pixel on the optical axis.
    offset
        How far the camera is behind the origin.
    """

    focal: float = 8.627e-4
    scale: float = 173913.04
    center: tuple[float, float] = (332.0, 240.0)
    offset: float = 0.02

    def project(self, points: Float[Array, "n 3"]) -> Float[Array, "n 2"]:
        r"""Pixels of points.

        With :math:`\omega = \operatorname{atan2}(z, x) + \pi` the pixel is the center plus
        :math:`r (\cos\omega, \sin\omega)`.

        Examples
        --------
        >>> print(FisheyeCamera().project(jnp.array([[0.0, 0.01, 0.0]])))
        [[332. 240.]]
        """
        across, ahead = points[:, ::2], points[:, 1] + self.offset
        sine = safe_norm(across)
        # θ / sin θ for unit depth: smooth on the axis, where both vanish
        near = sine < 1e-6 * jnp.abs(ahead)
        safe = jnp.where(near, 1, sine)
        ratio = jnp.where(near, 1 / jnp.where(near, ahead, 1), jnp.arctan2(safe, ahead) / safe)
        return jnp.asarray(self.center, points.dtype) - self.scale * self.focal * ratio[:, None] * across


class MarkerReadout(eqx.Module):
    """Markers that move with the surface: each is a fixed mean of projected nodes.

    Attributes
    ----------
    camera
        What sees them.
    nodes
        Which nodes of the body make each marker.
    weights
        Their weights, which sum to one.
    """

    camera: FisheyeCamera
    nodes: Int[Array, "markers k"]
    weights: Float[Array, "markers k"]

    @classmethod
    def of(cls, camera: FisheyeCamera, rest: Any, outer: Any, markers: Any, k: int = 5) -> Self:
        """Markers at pixels of the image at rest, each of the ``k`` nearest outer nodes, by inverse distances.

        Parameters
        ----------
        camera
            What sees them.
        rest
            Positions of all nodes at rest.
        outer
            Which of them are on the surface with the markers, as indices: of a mask take `np.flatnonzero`.
        markers
            Pixels, of shape ``(markers, 2)``.
        k
            Nodes for each.

        Examples
        --------
        >>> rest = jnp.array([[0.0, 0.01, 0.0], [0.004, 0.01, 0.0], [0.0, 0.01, 0.004]])
        >>> readout = MarkerReadout.of(FisheyeCamera(), rest, np.array([0, 1, 2]), [[332.0, 240.0]], k=1)
        >>> print(readout(rest))
        [[332. 240.]]
        """
        rest = np.asarray(rest)
        same_shape("rest", rest, "positions of nodes", (len(rest), 3))
        same_shape("markers", markers, "pixels", (len(markers), 2))
        finite("rest", rest)
        finite("markers", np.asarray(markers, float))
        within("outer", outer, len(rest))
        outer, markers = np.asarray(outer), np.asarray(markers, float)
        at_least("k", k, 1)
        at_least("outer, the number of nodes,", len(outer), k)
        seen = np.asarray(camera.project(jnp.asarray(rest)[outer]), float)
        distance = np.linalg.norm(markers[:, None] - seen[None], axis=-1)
        nearest = np.argsort(distance, axis=1)[:, :k]
        inverse = 1 / np.maximum(np.take_along_axis(distance, nearest, axis=1), 1e-9)
        weights = inverse / inverse.sum(axis=1, keepdims=True)
        return cls(camera, jnp.asarray(outer[nearest], jnp.int32), jnp.asarray(weights, jnp.asarray(rest).dtype))

    def __call__(self, x: Float[Array, "nodes 3"]) -> Float[Array, "markers 2"]:
        """Pixels of the markers for positions of all nodes."""
        seen = self.camera.project(taken("nodes", x, self.nodes.reshape(-1))).reshape(*self.nodes.shape, 2)
        return jnp.sum(self.weights[..., None] * seen, axis=1)
