r"""Flow through a porous solid: a network of pores, joined by throats.

Pores are random points in the unit cube, and throats the edges of their Delaunay triangulation. A throat of radius
:math:`r` and length :math:`l` conducts :math:`k = \pi r^4 / (8 \mu l)`. The pressure is one at the pores in front, zero
at those behind, and at all others nothing gets lost:

.. math:: \sum_j k_{ij} (p_j - p_i) = 0 .

Units are a millimeter for lengths and the pressure in front for pressures; conductances are divided by their mean.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay
from scipy.spatial.distance import pdist, squareform

from .data import Labeled
from .graphs import make_graph


def pore_network(pores: int, random: np.random.Generator, rim: float = 0.1) -> Labeled:
    r"""A network of so many pores with its pressures.

    Diameters of pores are lognormal (median 0.01, spread 0.1) and at most 0.9 times the distance to the nearest other
    pore; a throat is as wide as the narrower of its pores, and as long as the gap between them. Pores within `rim` of
    the front and of the back hold their pressure.

    Features of a node are its place (3), whether it holds its pressure, and that pressure (otherwise zero). Features of
    an edge are the throat's diameter, length and conductance. Every throat is an edge in each direction.

    Raises
    ------
    ValueError
        For fewer than 8 pores, and a rim that is not between 0 and one half.
    """
    if pores < 8:
        raise ValueError(f"pore_network needs at least 8 pores: given {pores}.")
    if not 0 < rim < 0.5:
        raise ValueError(f"rim must be between 0 and 0.5: given {rim}.")
    points = random.random((pores, 3))
    # one pore at least on either side
    points[0, 0], points[1, 0] = 0.0, 1.0
    distances = squareform(pdist(points))
    nearest = np.min(distances + np.where(np.eye(pores) > 0, np.inf, 0.0), axis=1)
    diameter = np.minimum(random.lognormal(np.log(0.01), 0.1, pores), 0.9 * nearest)
    corners = Delaunay(points).simplices
    pairs = np.concatenate([corners[:, [i, j]] for i in range(4) for j in range(i)])
    i, j = np.unique(np.sort(pairs, axis=1), axis=0).T
    width = np.minimum(diameter[i], diameter[j])
    length = distances[i, j] - (diameter[i] + diameter[j]) / 2
    conductance = np.pi * (width / 2) ** 4 / (8 * length)
    conductance /= conductance.mean()
    front, back = points[:, 0] < rim, points[:, 0] > 1 - rim
    pressure = pressures(pores, i, j, conductance, front | back, np.where(front, 1.0, 0.0))
    nodes = np.column_stack([points, front | back, np.where(front, 1.0, 0.0)])
    edges = np.column_stack([width, length, conductance])
    graph = make_graph(nodes, np.concatenate([edges, edges]), np.concatenate([i, j]), np.concatenate([j, i]))
    return Labeled(graph, pressure)


def pressures(
    size: int,
    i: Int[np.ndarray, E],
    j: Int[np.ndarray, E],
    conductance: Float[np.ndarray, E],
    held: np.ndarray,
    values: Float[np.ndarray, n],
) -> Float[np.ndarray, n]:
    """The pressures of a network whose nodes in `held` have the `values`; throats are given once."""
    flow = coo_array((conductance, (i, j)), (size, size))
    both = csr_array(flow + flow.T)
    laplacian = csr_array(coo_array((both.sum(axis=1), (np.arange(size), np.arange(size))), (size, size)) - both)
    free, pressure = np.flatnonzero(~held), np.where(held, values, 0.0)
    if free.size:
        pressure[free] = spsolve(laplacian[free][:, free].tocsc(), -(laplacian @ pressure)[free])
    return pressure
