r"""Explicit time steps of masses at nodes, and how long they may be.

.. math:: v \leftarrow (1 - c\, \Delta t)\Bigl(v + \frac{\Delta t}{m} f\Bigr), \qquad x \leftarrow x + \Delta t\, v,

symplectic Euler with damping in proportion to the mass. Nodes that are driven have a given velocity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known

from .contact import Penalty
from .elasticity import linearized
from .tetrahedra import TetMesh


class Motion(NamedTuple):
    """Positions and velocities of nodes."""

    x: Float[Array, "nodes 3"]
    v: Float[Array, "nodes 3"]


def explicit_step(
    motion: Motion,
    forces: Float[Array, "nodes 3"],
    masses: Float[Array, " nodes"],
    dt: Any,
    *,
    damping: Any = 0.0,
    driven: Any = None,
    velocity: Any = None,
) -> Motion:
    """One step. The nodes of the mask ``driven`` move with ``velocity``, one for all or for each node."""
    v = (motion.v + dt * forces / masses[:, None]) * (1 - damping * dt)
    if driven is not None:
        v = jnp.where(jnp.asarray(driven)[:, None], velocity, v)
    return Motion(motion.x + dt * v, v)


def elastic_limit(mesh: TetMesh, mu: Any, lam: Any, density: Any) -> Any:
    r"""A bound of stable steps of an elastic mesh: :math:`0.9\, h_{\min} / c_p`, with the smallest altitude.

    The speed of compression waves is :math:`c_p^2 = (\lambda_L + 2 \mu_L) / \rho` in the constants for small strains.
    """
    shear, bulk = linearized(mu, lam)
    return 0.9 * mesh.altitude / jnp.sqrt((bulk + 2 * shear) / density)


def contact_limit(masses: Any, penalty: Penalty) -> Any:
    r"""A bound of stable steps for nodes in contact: the least of :math:`\sqrt{2 m / k_n}` and :math:`2 m / k_t`."""
    small = jnp.min(jnp.asarray(masses))
    bound = lambda mass, stiffness: jnp.where(stiffness == 0, jnp.inf, mass / jnp.where(stiffness == 0, 1, stiffness))
    return jnp.minimum(jnp.sqrt(bound(2 * small, penalty.kn)), bound(2 * small, penalty.kt))


def require_stable(dt: Any, limit: Any, what: str) -> None:
    """Raise ``ValueError`` where a step and its bound are known and the step is longer."""
    if known(dt) and known(limit) and not float(dt) < float(limit):
        raise ValueError(
            f"dt must be below {float(limit):.3g}, where explicit steps of {what} become unstable: given "
            f"{float(dt):.3g}. Take shorter steps, a softer material or contact, or a coarser mesh."
        )
