r"""Contact by penalties of signed distances, with viscous damping and regularized Coulomb friction.

A point at the signed distance ``s`` of a body with the outward normal ``n``, which moves with the velocity ``v``
relative to it, is pushed by

.. math::
    f_n = \bigl(k_n + k_d \max(-n^\top v, 0)\bigr) \max(-s, 0), \qquad
    f = f_n\, n - \frac{v_t}{\|v_t\|} \min(k_t \|v_t\|, \mu_f f_n), \qquad v_t = v - (n^\top v)\, n .

Below the limit friction is viscous: nothing sticks, a block on a slope creeps, and :math:`\mu_f` shows only where
:math:`k_t \|v_t\| > \mu_f f_n`. Slower than ``cutoff`` there is no friction. A point that touches nothing has no force
and a gradient of zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import not_negative, positive, same_shape, taken

from .surfaces import Surface, distance_and_normal


class Penalty(NamedTuple):
    """Constants of a contact.

    Attributes
    ----------
    kn
        Stiffness: force by depth.
    kd
        Damping along the normal: force by depth and by velocity.
    kt
        Viscosity of the friction: force by velocity, below the limit.
    mu_f
        Coulomb's coefficient.
    cutoff
        Tangential speed up to which there is no friction.
    """

    kn: Any
    kd: Any = 0.0
    kt: Any = 0.0
    mu_f: Any = 0.0
    cutoff: Any = 1e-4


def penalty_force(
    distance: Float[Array, " n"], normal: Float[Array, "n 3"], velocity: Float[Array, "n 3"], penalty: Penalty
) -> Float[Array, "n 3"]:
    """The force on points at signed distances from a body, with velocities relative to it."""
    outward = jnp.sum(normal * velocity, axis=-1)
    pressed = (penalty.kn + penalty.kd * jnp.maximum(-outward, 0)) * jnp.maximum(-distance, 0)
    tangential = velocity - outward[..., None] * normal
    square = jnp.sum(tangential * tangential, axis=-1)
    slides = square > penalty.cutoff**2
    speed = jnp.sqrt(jnp.where(slides, square, 1))
    # the smaller of two viscosities: what is below the cutoff has neither, and no division by its speed
    drag = jnp.where(slides, jnp.minimum(penalty.kt, penalty.mu_f * pressed / speed), 0)
    return pressed[..., None] * normal - drag[..., None] * tangential


def surface_contact(
    surface: Surface,
    points: Float[Array, "n 3"],
    velocities: Float[Array, "n 3"],
    penalty: Penalty,
) -> Float[Array, "n 3"]:
    """The forces of a body at rest on points."""
    distance, normal = distance_and_normal(surface, points)
    return penalty_force(distance, normal, velocities, penalty)


def contact_energy(surface: Surface, points: Float[Array, "n 3"], kn: Any, areas: Any = 1.0) -> Float[Array, ""]:
    r"""The potential :math:`\tfrac12 k_n \sum A \min(s, 0)^2`, whose forces are those of :func:`penalty_force` at rest.

    ``areas`` makes of a stiffness by area one by node: a number, or one for each point; so may be ``kn``.
    """
    for name, value in {"kn": kn, "areas": areas}.items():
        not_negative(name, value)
        if np.ndim(value):
            same_shape(name, value, "the points", (len(points),))
    depth = jnp.minimum(jax.vmap(surface)(points), 0)
    return 0.5 * jnp.sum(kn * areas * depth**2)


class TriangleContact(NamedTuple):
    """Forces of a contact between points and a surface of triangles, which sum to zero."""

    points: Float[Array, "points 3"]
    """On the points."""
    vertices: Float[Array, "vertices 3"]
    """On the vertices of the triangles."""


def triangle_contact(
    points: Float[Array, "points 3"],
    point_velocities: Float[Array, "points 3"],
    vertices: Float[Array, "vertices 3"],
    vertex_velocities: Float[Array, "vertices 3"],
    triangles: Int[Array, "triangles 3"],
    penalty: Penalty,
    *,
    softness: float | None = None,
) -> TriangleContact:
    r"""Contact of points with a deformable surface: each with the triangle whose centroid is nearest.

    The signed distance is that of the triangle's plane. Its velocity is the mean of its vertices', and each of them
    gets a third of the opposite force. There is no force where the point's projection is not in the triangle. The index
    of the nearest triangle is no function with a derivative.

    Parameters
    ----------
    points, point_velocities
        Of the other body: nodes, particles, or nodes of a grid, which receive the force times the time step as an
        impulse.
    vertices, vertex_velocities
        Of the surface.
    triangles
        Counterclockwise as seen from outside.
    penalty
        The constants.
    softness
        In place of the nearest triangle the mean of all with the weights :math:`\operatorname{softmax}(-d^2 / \ell^2)`,
        by the distance ``d`` of the centroid and this length :math:`\ell`; of those whose triangle holds the
        projection.

    Returns
    -------
    TriangleContact
        The forces on points and on vertices.
    """
    if softness is not None:
        positive("softness", softness)
    corners, speeds = taken("triangles", vertices, triangles), vertex_velocities[triangles]
    centroids = corners.mean(axis=1)
    square = jnp.sum((points[:, None] - centroids[None]) ** 2, axis=-1)
    if softness is None:
        nearest = jax.lax.stop_gradient(jnp.argmin(square, axis=1))
        force = _against(points, point_velocities, corners[nearest], speeds[nearest], penalty)
        shared = jnp.broadcast_to(-force[:, None] / 3, (*nearest.shape, 3, 3))
        on_vertices = jnp.zeros_like(vertices).at[triangles[nearest]].add(shared)
        return TriangleContact(force, on_vertices)
    weights = jax.nn.softmax(-square / softness**2, axis=1)
    against = jax.vmap(_against, in_axes=(None, None, 0, 0, None), out_axes=1)
    each = (len(triangles), 1, 3, 3)
    forces = against(points, point_velocities, corners.reshape(each), speeds.reshape(each), penalty)
    forces = weights[..., None] * forces
    on_triangles = -forces.sum(axis=0)[:, None] / 3
    on_vertices = jnp.zeros_like(vertices).at[triangles].add(jnp.broadcast_to(on_triangles, corners.shape))
    return TriangleContact(forces.sum(axis=1), on_vertices)


def _against(
    points: Array, velocities: Array, corners: Array, speeds: Array, penalty: Penalty
) -> Float[Array, "points 3"]:
    """Forces on points, each of a triangle of its own or all of the same."""
    a, b, c = (corners[..., i, :] for i in range(3))
    raised = jnp.cross(b - a, c - a)
    doubled = jnp.sum(raised * raised, axis=-1, keepdims=True)
    normal = raised / jnp.sqrt(doubled)
    offset = points - a
    distance = jnp.sum(offset * normal, axis=-1)
    # barycentric coordinates of the projection
    second = jnp.sum(jnp.cross(offset, c - a) * raised, axis=-1) / doubled[..., 0]
    third = jnp.sum(jnp.cross(b - a, offset) * raised, axis=-1) / doubled[..., 0]
    inside = (second >= 0) & (third >= 0) & (second + third <= 1)
    relative = velocities - speeds.mean(axis=-2)
    normal = jnp.broadcast_to(normal, points.shape)
    force = penalty_force(distance, normal, relative, penalty)
    return jnp.where(inside[..., None], force, 0)
