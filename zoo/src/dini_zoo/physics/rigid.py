r"""One rigid body in space: pose, twist, and steps under forces at points.

.. math::
    m \dot v = f, \qquad I \dot\omega = \tau - \omega \times I \omega, \qquad \dot p = v, \qquad
    \dot R = [\omega]_\times R,

in the world's axes, with :math:`I = R I_0 R^\top`. A step is semi-implicit: velocities first, then positions with the
new velocities, the rotation by the exponential map.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .contact import Penalty, surface_contact


class Pose(NamedTuple):
    """Where a rigid body is and how it moves.

    Attributes
    ----------
    position
        Of the center of mass.
    quaternion
        The rotation from the body's axes to the world's, a unit quaternion with its real part first.
    velocity
        Of the center of mass.
    spin
        The angular velocity, in the world's axes.
    """

    position: Float[Array, " 3"]
    quaternion: Float[Array, " 4"]
    velocity: Float[Array, " 3"]
    spin: Float[Array, " 3"]

    @classmethod
    def at(cls, position: Any, velocity: Any = (0.0, 0.0, 0.0), spin: Any = (0.0, 0.0, 0.0)) -> Pose:
        """A body that is not turned."""
        first, *rest = map(jnp.asarray, (position, velocity, spin))
        return cls(first, jnp.zeros(4, first.dtype).at[0].set(1), *rest)


class RigidBody(eqx.Module):
    """Mass, inertia about the center of mass in the body's axes, and the points at which it touches others."""

    mass: Any
    inertia: Float[Array, "3 3"] = eqx.field(converter=jnp.asarray)
    points: Float[Array, "n 3"] = eqx.field(converter=jnp.asarray)

    def world(self, pose: Pose) -> tuple[Float[Array, "n 3"], Float[Array, "n 3"]]:
        """Positions and velocities of the points."""
        arms = self.points @ rotation(pose.quaternion).T
        return pose.position + arms, pose.velocity + jnp.cross(pose.spin, arms)

    def step(self, pose: Pose, forces: Float[Array, "n 3"], dt: Any, *, gravity: Any = 0.0) -> Pose:
        """One step under forces at the points, and an acceleration of all."""
        arms = self.world(pose)[0] - pose.position
        turn = rotation(pose.quaternion)
        inertia = turn @ self.inertia @ turn.T
        torque = jnp.cross(arms, forces).sum(axis=0) - jnp.cross(pose.spin, inertia @ pose.spin)
        velocity = pose.velocity + dt * (forces.sum(axis=0) / self.mass + gravity)
        spin = pose.spin + dt * jnp.linalg.solve(inertia, torque)
        turned = product(exponential(dt * spin), pose.quaternion)
        return Pose(pose.position + dt * velocity, turned / jnp.linalg.norm(turned), velocity, spin)

    def touching(self, pose: Pose, surface: Any, penalty: Penalty) -> Float[Array, "n 3"]:
        """The forces of an obstacle at rest on the points."""
        return surface_contact(surface, *self.world(pose), penalty)


def box_inertia(mass: Any, sides: Any) -> Float[Array, "3 3"]:
    """The inertia of a box of uniform density, in its axes."""
    square = jnp.asarray(sides) ** 2
    return mass / 12 * jnp.diag(square.sum() - square)


def product(a: Float[Array, " 4"], b: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """The quaternion that turns by ``b``, then by ``a``."""
    real = a[0] * b[0] - a[1:] @ b[1:]
    return jnp.concatenate([real[None], a[0] * b[1:] + b[0] * a[1:] + jnp.cross(a[1:], b[1:])])


def exponential(angle: Float[Array, " 3"]) -> Float[Array, " 4"]:
    """The quaternion of a rotation vector; smooth at zero."""
    half = 0.25 * jnp.sum(angle * angle)
    small = half < 1e-12
    size = jnp.sqrt(jnp.where(small, 1, half))
    ratio = jnp.where(small, 1 - half / 6, jnp.sin(size) / size)
    real = jnp.where(small, 1 - half / 2, jnp.cos(size))
    return jnp.concatenate([real[None], 0.5 * ratio * angle])


def rotation(q: Float[Array, " 4"]) -> Float[Array, "3 3"]:
    """The matrix of a unit quaternion."""
    w, x, y, z = q
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
