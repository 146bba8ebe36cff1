r"""Quasi-static equilibrium of tetrahedra in contact, and its derivatives.

Of all positions, some coordinates are prescribed and the others are in equilibrium: a minimum of the potential

.. math::
    \Pi(x) = \sum_{\text{tets}} V\, W(F(x)) + \tfrac12 k_n \sum_{\text{nodes}} A \min(s(x), 0)^2 - \sum_{\text{nodes}}
    f^\top x,

which :class:`dini.Newton` finds with a sparse factorization of the Hessian, whose pattern is that of the mesh. The
Hessian is assembled by elements, as the sum of those of the tetrahedra and of the nodes in contact. dini
differentiates the solution by whatever stands in the :class:`Load`: constants of the material and of the contact,
prescribed positions, forces, parameters of the surface.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

import dini
from dini.linear import Pattern

from .contact import contact_energy
from .surfaces import distance_and_normal
from .tetrahedra import TetMesh, elastic_energy, element_hessians, internal_forces


class Load(NamedTuple):
    """What acts on a body.

    Attributes
    ----------
    positions
        Of all nodes: coordinates that are prescribed are taken from here, the others are not looked at.
    mu, lam
        Constants of the stable neo-Hookean energy, numbers or one for each tetrahedron.
    forces
        On the nodes, which do not depend on where these are.
    surface
        An obstacle, as in :mod:`.surfaces`; no contact if it is not given.
    kn
        The contact's stiffness: force by depth of a node, or with ``areas`` by depth and area.
    areas
        Of the nodes, zero for those that do not touch.
    """

    positions: Float[Array, "nodes 3"]
    mu: Any
    lam: Any
    forces: Any = 0.0
    surface: Any = None
    kn: Any = 0.0
    areas: Any = 1.0


class Statics(eqx.Module):
    """A body some of whose coordinates are prescribed; :meth:`of` makes one.

    Attributes
    ----------
    mesh
        The body.
    places
        The free coordinates, as places in the flattened positions.
    element_places, node_places
        Where the second derivatives of each tetrahedron, and those of each node by its own position, are added among
        the nonzeros of the Hessian; the place after the last one is that of coordinates that are not free.
    pattern
        Where the Hessian in the free coordinates can be nonzero.
    """

    mesh: TetMesh
    places: Int[Array, " unknowns"]
    element_places: Int[Array, "tets 4 3 4 3"]
    node_places: Int[Array, "nodes 3 3"]
    pattern: Pattern = eqx.field(static=True)

    @classmethod
    def of(cls, mesh: TetMesh, free: Any) -> Self:
        """A body whose free coordinates a mask shows: of nodes, or of nodes and axes.

        Raises ``ValueError`` for a mask of another shape, and where nothing is free or nothing is held.
        """
        free = np.asarray(free)
        if free.dtype != bool or free.shape not in ((mesh.count,), (mesh.count, 3)):
            raise ValueError(
                f"free must be a mask of shape {(mesh.count,)} or {(mesh.count, 3)}: given {free.shape}, {free.dtype}."
            )
        free = np.broadcast_to(free[:, None], (mesh.count, 3)) if free.ndim == 1 else free
        if not free.any() or free.all():
            raise ValueError("free must leave some coordinates free and hold some: given all or none.")
        by_element = mesh.element_places(free)
        own = np.empty((mesh.count, 3, 3), by_element.dtype)
        for corner in range(4):  # a node is a corner of some tetrahedron; any of them will do
            own[np.asarray(mesh.tets)[:, corner]] = by_element[:, corner, :, corner]
        places = (jnp.asarray(each, jnp.int32) for each in (np.flatnonzero(free), by_element, own))
        return cls(mesh, *places, pattern=mesh.pattern(free))

    def positions(self, unknown: Float[Array, " unknowns"], prescribed: Float[Array, "nodes 3"]) -> Array:
        """The positions of all nodes."""
        return prescribed.reshape(-1).at[self.places].set(unknown).reshape(prescribed.shape)

    def unknown(self, positions: Float[Array, "nodes 3"]) -> Float[Array, " unknowns"]:
        """The free coordinates of positions."""
        return positions.reshape(-1)[self.places]

    def __call__(self, unknown: Float[Array, " unknowns"], load: Load) -> Float[Array, ""]:
        """The potential."""
        x = self.positions(unknown, load.positions)
        # forces do work on the way from rest: their potential is no difference of large numbers
        total = elastic_energy(self.mesh, x, load.mu, load.lam) - jnp.sum(load.forces * (x - self.mesh.nodes))
        if load.surface is not None:
            total = total + contact_energy(load.surface, x, load.kn, load.areas)
        return total

    def value_and_gradient(
        self, unknown: Float[Array, " unknowns"], load: Load
    ) -> tuple[Float[Array, ""], Float[Array, " unknowns"]]:
        """The potential and its gradient, minus the forces, which a shorter program computes than JAX would make."""
        x = self.positions(unknown, load.positions)
        return self(unknown, load), -self.unknown(self.forces(x, load))

    def hessian_nonzeros(self, unknown: Float[Array, " unknowns"], load: Load) -> Float[Array, " nonzeros"]:
        """The nonzeros of the potential's Hessian in the free coordinates, in the order of the pattern."""
        x = self.positions(unknown, load.positions)
        blocks = element_hessians(self.mesh, x, load.mu, load.lam)
        total = jnp.zeros(self.pattern.count + 1, x.dtype).at[self.element_places].add(blocks)
        if load.surface is not None:
            # a node's contact force depends on its own position alone: three products show the blocks of all nodes
            product = lambda axis: jax.jvp(lambda x: self.contact_forces(x, load), (x,), (jnp.zeros_like(x) + axis,))[1]
            total = total.at[self.node_places].add(-jax.vmap(product, out_axes=-1)(jnp.eye(3, dtype=x.dtype)[:, None]))
        return total[:-1]

    def forces(self, x: Float[Array, "nodes 3"], load: Load) -> Float[Array, "nodes 3"]:
        """All forces on the nodes; on prescribed coordinates, minus what holds them."""
        total = internal_forces(self.mesh, x, load.mu, load.lam) + load.forces
        return total if load.surface is None else total + self.contact_forces(x, load)

    def contact_forces(self, x: Float[Array, "nodes 3"], load: Load) -> Float[Array, "nodes 3"]:
        """The forces of the obstacle on the nodes."""
        if load.surface is None:
            return jnp.zeros_like(x)
        distance, normal = distance_and_normal(load.surface, x)
        return (load.kn * load.areas * jnp.maximum(-distance, 0))[:, None] * normal

    @property
    def problem(self) -> dini.Minimize:
        """The problem for dini, of the free coordinates with the load as its argument."""
        return dini.Minimize(self)

    def under(self, load: Load) -> dini.Minimize:
        """The problem under one load, whose values are parameters wherever they come from."""
        return dini.Minimize(Loaded(self, load))

    @property
    def linear_solver(self) -> dini.linear.Sparse:
        """What solves with the Hessian for the solution; the derivative uses the factor of the last step."""
        return dini.linear.Sparse(self.pattern)

    def solve(
        self, load: Load, init: Float[Array, "nodes 3"], *, rtol: Any = None, max_steps: int = 100, **options: Any
    ) -> tuple[Float[Array, "nodes 3"], dini.Solution]:
        """Equilibrium positions, and dini's solution with its status; it raises where none was found.

        Parameters
        ----------
        load
            What acts.
        init
            Where Newton's method starts: positions of all nodes, best those of a similar load.
        rtol, max_steps
            Of :class:`dini.Newton`.
        **options
            Of :func:`dini.minimize`, such as ``on_failure``.
        """
        how = {} if rtol is None else {"rtol": rtol}
        found = dini.solve(
            self.problem,
            dini.Newton(linear_solver=self.linear_solver, max_steps=max_steps, **how),
            self.unknown(init),
            load,
            **options,
        )
        return self.positions(found.x, load.positions), found


class Loaded(eqx.Module):
    """The potential under one load, its gradient and the nonzeros of its Hessian."""

    statics: Statics
    load: Load

    def __call__(self, unknown: Float[Array, " unknowns"]) -> Float[Array, ""]:
        """The potential."""
        return self.statics(unknown, self.load)

    def value_and_gradient(self, unknown: Float[Array, " unknowns"]) -> tuple[Array, Array]:
        """The potential and its gradient."""
        return self.statics.value_and_gradient(unknown, self.load)

    def hessian_nonzeros(self, unknown: Float[Array, " unknowns"]) -> Array:
        """The nonzeros of the Hessian."""
        return self.statics.hessian_nonzeros(unknown, self.load)


def static_equilibrium(
    mesh: TetMesh, free: Bool[Any, nodes * axes], load: Load, init: Float[Array, "nodes 3"], **options: Any
) -> Float[Array, "nodes 3"]:
    """Equilibrium positions of a body, as :meth:`Statics.solve` finds them, with implicit derivatives by the load."""
    return Statics.of(mesh, free).solve(load, init, **options)[0]
