r"""Linear tetrahedra: meshes, deformation gradients, elastic energy and nodal forces.

In a tetrahedron with the rest volume ``V`` and the gradients :math:`\nabla N_a` of its four shape functions,

.. math::
    F = \sum_a x_a \nabla N_a^\top, \qquad U = \sum_{\text{tets}} V\, W(F), \qquad
    f_a = -\frac{\partial U}{\partial x_a} = -\sum_{\text{tets}} V\, P(F)\, \nabla N_a, \qquad
    \frac{\partial^2 U}{\partial x_a\, \partial x_b} = \sum_{\text{tets}} V\,
    \frac{\partial P}{\partial F} : \nabla N_a \otimes \nabla N_b .

Units are the caller's, and only have to agree with each other.
"""

from __future__ import annotations

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini.linear import Pattern
from dini_zoo.kit.checking import real, same_shape, within

from .elasticity import Components, energy_of_components, stacked, stress_of_components

#: The six tetrahedra of a cube, whose corners are numbered by their bits x + 2 y + 4 z (Kuhn's division).
_KUHN = np.array([[0, 1, 3, 7], [0, 1, 5, 7], [0, 2, 3, 7], [0, 2, 6, 7], [0, 4, 5, 7], [0, 4, 6, 7]])
_FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])


class TetMesh(eqx.Module):
    """A mesh of linear tetrahedra at rest; :meth:`of` makes one of nodes and tetrahedra.

    Attributes
    ----------
    nodes
        Positions at rest.
    tets
        Four nodes each, in an order of positive volume.
    gradients
        Of the four shape functions, at rest.
    volumes
        At rest.
    surface
        Triangles that belong to one tetrahedron alone, counterclockwise as seen from outside.
    corners
        For each node the corners of tetrahedra that meet there, as places in the flattened ``tets``; filled up with a
        place after the last one. It makes sums over the tetrahedra of a node without scattered additions.
    """

    nodes: Float[Array, "nodes 3"]
    tets: Int[Array, "tets 4"]
    gradients: Float[Array, "tets 4 3"]
    volumes: Float[Array, " tets"]
    surface: Int[Array, "triangles 3"]
    corners: Int[Array, "nodes most"]

    @classmethod
    def of(cls, nodes: Any, tets: Any, dtype: Any = None) -> Self:
        """A mesh; tetrahedra of negative volume are turned around.

        Raises ``ValueError`` for indices of no node, nodes of no tetrahedron, and tetrahedra whose volume is rounding.
        """
        nodes, tets = np.asarray(nodes, float), np.array(tets, np.int32)
        if nodes.ndim != 2 or nodes.shape[1] != 3 or tets.ndim != 2 or tets.shape[1] != 4 or not len(tets):
            raise ValueError(
                f"TetMesh needs nodes of shape (n, 3) and tets of shape (m, 4), m > 0: given {nodes.shape}, "
                f"{tets.shape}."
            )
        if tets.min() < 0 or tets.max() >= len(nodes):
            raise ValueError(f"tets must name some of the {len(nodes)} nodes: given {tets.min()} to {tets.max()}.")
        if len(lost := np.setdiff1d(np.arange(len(nodes)), tets)):
            raise ValueError(f"Each node must belong to a tetrahedron: {len(lost)} do not, node {lost[0]} the first.")
        volumes = signed_volumes(nodes, tets)
        longest = np.max(np.linalg.norm(nodes[tets] - nodes[tets[:, :1]], axis=-1), axis=1)
        if np.any(flat := ~(np.abs(volumes) > 1e-9 * longest**3)):
            raise ValueError(
                f"Each tetrahedron must have a volume: {flat.sum()} are flat, {np.argmax(flat)} the first."
            )
        turned = volumes < 0
        tets[turned] = tets[turned][:, [0, 2, 1, 3]]
        edges = np.swapaxes(nodes[tets[:, 1:]] - nodes[tets[:, :1]], 1, 2)
        inverse = np.linalg.inv(edges)
        gradients = np.concatenate([-inverse.sum(axis=1, keepdims=True), inverse], axis=1)
        real = lambda a: jnp.asarray(a, dtype or jnp.result_type(float))
        whole = lambda a: jnp.asarray(a, jnp.int32)
        return cls(
            nodes=real(nodes),
            tets=whole(tets),
            gradients=real(gradients),
            volumes=real(np.abs(volumes)),
            surface=whole(_boundary(tets)),
            corners=whole(_incident(tets, len(nodes))),
        )

    @property
    def count(self) -> int:
        """Number of nodes."""
        return self.nodes.shape[0]

    def astype(self, dtype: Any) -> Self:
        """The mesh with its real numbers in another precision."""
        return type(self)(
            self.nodes.astype(dtype), self.tets, self.gradients.astype(dtype), self.volumes.astype(dtype),
            self.surface, self.corners,
        )  # fmt: skip

    def gather(self, corners: Float[Array, "tets 4 *k"]) -> Float[Array, nodes * k]:
        """The sum over the corners of tetrahedra that meet at each node."""
        flat = corners.reshape(-1, *corners.shape[2:])
        padded = jnp.concatenate([flat, jnp.zeros_like(flat[:1])])
        return padded[self.corners].sum(axis=1)

    def masses(self, density: Any) -> Float[Array, " nodes"]:
        """Lumped masses: a quarter of each tetrahedron's at each of its corners."""
        quarter = jnp.broadcast_to(0.25 * density * self.volumes[:, None], self.tets.shape)
        return self.gather(quarter)

    def areas(self, triangles: Any = None) -> Float[Array, " nodes"]:
        """Tributary areas at rest of some triangles, of the surface if not given: a third at each corner."""
        triangles = np.asarray(self.surface if triangles is None else triangles)
        a, b, c = np.moveaxis(np.asarray(self.nodes, float)[triangles], 1, 0)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
        found = np.zeros(self.count)
        np.add.at(found, triangles, area[:, None])
        return jnp.asarray(found, self.nodes.dtype)

    @property
    def altitude(self) -> Float[Array, ""]:
        """The smallest altitude of a tetrahedron, which bounds explicit time steps."""
        return jnp.min(1 / jnp.linalg.norm(self.gradients, axis=-1))

    def pattern(self, free: Any = None) -> Pattern:
        """Where a Hessian can be nonzero, in all coordinates of the nodes or in those of a mask of nodes and axes."""
        free = self._free(free)
        i, j = self._pairs(free)
        kept = (i >= 0) & (j >= 0)
        return Pattern(i[kept], j[kept], (int(free.sum()),) * 2)

    def element_places(self, free: Any = None) -> Int[np.ndarray, "tets 4 3 4 3"]:
        """Where each element of :func:`element_hessians` is added among the nonzeros of :meth:`pattern`.

        Elements of coordinates that are not free have the place after the last one.
        """
        free = self._free(free)
        pattern = self.pattern(free)
        i, j = self._pairs(free)
        size = pattern.shape[0]
        places = np.searchsorted(pattern.rows * size + pattern.columns, i * size + j)
        return np.where((i >= 0) & (j >= 0), places, pattern.count).reshape(-1, 4, 3, 4, 3)

    def _free(self, free: Any) -> np.ndarray:
        free = np.ones((self.count, 3), bool) if free is None else np.asarray(free)
        same_shape("free", free, "the mesh's nodes and axes", (self.count, 3))
        return free

    def _pairs(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of coordinates of one tetrahedron, as places among the free ones, -1 for the others."""
        coordinates = 3 * np.asarray(self.tets, np.int64)[:, :, None] + np.arange(3)
        place = np.where(free.ravel(), np.cumsum(free) - 1, -1)[coordinates.reshape(-1, 12)]
        return np.repeat(place, 12, axis=1).ravel(), np.tile(place, (1, 12)).ravel()


def signed_volumes(nodes: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """Volumes of tetrahedra, negative where the order of nodes is left-handed."""
    return np.linalg.det(nodes[tets[:, 1:]] - nodes[tets[:, :1]]) / 6


def _boundary(tets: np.ndarray) -> np.ndarray:
    faces = tets[:, _FACES].reshape(-1, 3)
    _, first, times = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return faces[np.sort(first[times == 1])]


def _incident(tets: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(tets.ravel(), kind="stable")
    owners = tets.ravel()[order]
    starts = np.searchsorted(owners, np.arange(count))
    rank = np.arange(tets.size) - starts[owners]
    table = np.full((count, int(rank.max()) + 1), tets.size)
    table[owners, rank] = order
    return table


def block_mesh(
    low: tuple[float, float, float], high: tuple[float, float, float], cells: tuple[int, int, int], dtype: Any = None
) -> TetMesh:
    """A block between two corners, of ``cells`` boxes along each axis, each divided into six tetrahedra.

    Nodes are numbered along x first, then y, then z.
    """
    if min(cells) < 1 or not np.all(np.asarray(high, float) > np.asarray(low, float)):
        raise ValueError(f"block_mesh needs low < high and at least one cell an axis: given {low}, {high}, {cells}.")
    ticks = [np.linspace(a, b, n + 1) for a, b, n in zip(low, high, cells, strict=True)]
    z, y, x = np.meshgrid(ticks[2], ticks[1], ticks[0], indexing="ij")
    number = np.arange(x.size).reshape(x.shape)
    corner = lambda i, j, k: number[k : k + cells[2], j : j + cells[1], i : i + cells[0]].ravel()
    cubes = np.stack([corner(b & 1, b >> 1 & 1, b >> 2) for b in range(8)], axis=1)
    return TetMesh.of(np.stack([x, y, z], axis=-1).reshape(-1, 3), cubes[:, _KUHN].reshape(-1, 4), dtype)


def plane_nodes(mesh: TetMesh, axis: int, value: float) -> Bool[np.ndarray, " nodes"]:
    """Which nodes have a coordinate at rest, up to rounding of the mesh's size."""
    within("axis", axis, 3)
    real("value", value)
    nodes = np.asarray(mesh.nodes)
    return np.abs(nodes[:, axis] - value) <= 1e-5 * np.ptp(nodes, axis=0).max()


def _gradients(mesh: TetMesh, x: Float[Array, "nodes 3"]) -> Components:
    """The entries of ``F`` of each tetrahedron."""
    same_shape("x", x, "the mesh's nodes", mesh.nodes.shape)
    corners = [[x[:, i][mesh.tets[:, a]] for i in range(3)] for a in range(4)]
    entry = lambda i, j: sum(corners[a][i] * mesh.gradients[:, a, j] for a in range(4))
    return tuple(tuple(entry(i, j) for j in range(3)) for i in range(3))


def deformation_gradients(mesh: TetMesh, x: Float[Array, "nodes 3"]) -> Float[Array, "tets 3 3"]:
    """``F`` of each tetrahedron at the positions ``x``."""
    return stacked(_gradients(mesh, x))


def elastic_energy(mesh: TetMesh, x: Float[Array, "nodes 3"], mu: Any, lam: Any) -> Float[Array, ""]:
    """The stable neo-Hookean energy at the positions ``x``; constants are numbers, or one for each tetrahedron."""
    return jnp.sum(mesh.volumes * energy_of_components(_gradients(mesh, x), mu, lam))


def internal_forces(mesh: TetMesh, x: Float[Array, "nodes 3"], mu: Any, lam: Any) -> Float[Array, "nodes 3"]:
    """The elastic forces on the nodes, which are minus the gradient of :func:`elastic_energy`."""
    stress = stress_of_components(_gradients(mesh, x), mu, lam)
    along = lambda a, i: sum(stress[i][j] * mesh.gradients[:, a, j] for j in range(3))
    corners = [jnp.stack([-mesh.volumes * along(a, i) for i in range(3)], axis=-1) for a in range(4)]
    return mesh.gather(jnp.stack(corners, axis=1))


def element_hessians(mesh: TetMesh, x: Float[Array, "nodes 3"], mu: Any, lam: Any) -> Float[Array, "tets 4 3 4 3"]:
    r"""The second derivatives of each tetrahedron's energy by the positions of its corners.

    Element ``(a, i, b, j)`` is :math:`V \sum_{kl} \partial P_{ik} / \partial F_{jl}\, \partial_k N_a\, \partial_l N_b`.
    The sum over the tetrahedra, each at its :meth:`TetMesh.element_places`, is the Hessian of :func:`elastic_energy`.
    """
    F = _gradients(mesh, x)

    def column(along: Array) -> Array:
        tangent = tuple(tuple(along[j, l] * jnp.ones_like(F[j][l]) for l in range(3)) for j in range(3))
        return stacked(jax.jvp(lambda F: stress_of_components(F, mu, lam), (F,), (tangent,))[1])

    # (jl, tets, i, k): one program for the nine columns
    moduli = jax.vmap(column)(jnp.eye(9, dtype=x.dtype).reshape(9, 3, 3)).reshape(3, 3, -1, 3, 3)
    # in full precision on every device, as the gradient is
    half = jnp.einsum("jltik,tbl->tikbj", moduli, mesh.volumes[:, None, None] * mesh.gradients, precision="highest")
    return jnp.einsum("tikbj,tak->taibj", half, mesh.gradients, precision="highest")
