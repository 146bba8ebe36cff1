r"""Soft spheres in a periodic square: diameters, distances, energy.

Of :math:`N` disks in a square of side :math:`L` whose opposite sides are glued, the first half have the diameter
:math:`\theta`, the others one. Disks that overlap repel:

.. math:: E(x, \theta) = \sum_{i < j} \tfrac12 \max\Big(0,\; 1 - \frac{r_{ij}}{\sigma_{ij}}\Big)^2,
          \qquad \sigma_{ij} = \tfrac12 (\sigma_i + \sigma_j) ,

with :math:`r_{ij}` the distance between the nearest images of two disks. The energy does not change when all disks move
alike, nor when one that touches no other (a rattler) moves alone: its minima are not unique.

References
----------
O'Hern, Silbert, Liu, Nagel, "Jamming at zero temperature and zero applied stress", Phys. Rev. E 68, 2003.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, positive


def diameters(theta: Float[Array, ""] | float, count: int) -> Float[Array, " n"]:
    """Of all disks: `theta` for the first half of them, one for the others."""
    return jnp.where(jnp.arange(count) < count // 2, theta, 1.0)


def box_side(count: int, theta: float, fraction: float) -> float:
    """The side of the square that the disks would fill to this fraction of its area, did they not overlap."""
    area = math.pi / 4 * (count // 2 * theta**2 + (count - count // 2))
    return math.sqrt(area / fraction)


def displacements(x: Float[Array, "n 2"], side: Float[Array, ""] | float) -> Float[Array, "n n 2"]:
    """`x[i] - x[j]`, from each disk to the nearest image of the other."""
    apart = x[:, None] - x[None, :]
    return apart - side * jnp.round(apart / side)


def overlaps(
    x: Float[Array, "n 2"], theta: Float[Array, ""] | float, side: Float[Array, ""] | float
) -> Float[Array, "n n"]:
    """`1 - r / σ` for each pair of disks; positive where they overlap, and zero on the diagonal."""
    squared = jnp.sum(displacements(x, side) ** 2, axis=-1)
    # the root has no derivative at zero, where each disk is from itself
    distance = jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))
    sigma = diameters(theta, len(x))
    relative = 1 - distance / (0.5 * (sigma[:, None] + sigma[None, :]))
    return jnp.where(jnp.eye(len(x), dtype=bool), 0.0, relative)


def energy(x: Float[Array, "n 2"], theta: Float[Array, ""] | float, side: Float[Array, ""] | float) -> Float[Array, ""]:
    """The energy of the disks at `x`."""
    return 0.25 * jnp.sum(jnp.maximum(overlaps(x, theta, side), 0.0) ** 2)  # the matrix holds each pair twice


#: Packing the disks, a function of `x` and the parameters `(theta, side)`.
packing = dini.Minimize(energy)


def random_start(key: Array, count: int, side: float) -> Float[Array, "n 2"]:
    """Disks thrown into the square."""
    at_least("count", count, 1)
    positive("side", side)
    return jax.random.uniform(key, (count, 2)) * side
