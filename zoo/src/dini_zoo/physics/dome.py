"""Hemispherical shells of tetrahedra: the elastomer of a dome-shaped tactile sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import Delaunay

from dini_zoo.kit.checking import at_least, positive

from .tetrahedra import TetMesh, signed_volumes


def hemisphere(count: int) -> np.ndarray:
    """``count`` points that are spread evenly over the half of the unit sphere with y > 0, by Fibonacci's spiral."""
    y = (np.arange(count) + 0.5) / count
    ring, angle = np.sqrt(1 - y**2), np.pi * (3 - np.sqrt(5)) * np.arange(count)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)


def dome_mesh(
    inner: float = 0.75, thickness: float = 0.25, layers: int = 4, count: int = 200, dtype: Any = None
) -> tuple[TetMesh, np.ndarray]:
    """A hemispherical shell with its axis along y, of ``layers`` layers of nodes.

    The innermost layer has ``count`` nodes, the others more in proportion to their areas. Tetrahedra are those of
    Delaunay in the coordinates (x, radius, z), where the shell is flat.

    Parameters
    ----------
    inner
        The innermost radius.
    thickness
        Between two layers.
    layers, count
        Layers of nodes, at least two; nodes of the innermost.
    dtype
        Of the mesh.

    Returns
    -------
    tuple
        The mesh, and the layer of each node, from 0 inside.
    """
    positive("inner", inner)
    positive("thickness", thickness)
    at_least("layers", layers, 2)
    at_least("count", count, 8)
    radii = inner + thickness * np.arange(layers)
    shells = [radius * hemisphere(round(count * (radius / inner) ** 2)) for radius in radii]
    nodes, layer = np.concatenate(shells), np.repeat(np.arange(layers), [len(one) for one in shells])
    flat = np.stack([nodes[:, 0], radii[layer], nodes[:, 2]], axis=1)
    tets = Delaunay(flat).simplices
    volumes = np.abs(signed_volumes(nodes, tets))
    # between layers only: flat ones join nodes of one
    spans = np.ptp(layer[tets], axis=1) > 0
    return TetMesh.of(nodes, tets[spans & (volumes > 1e-4 * np.median(volumes))], dtype), layer
