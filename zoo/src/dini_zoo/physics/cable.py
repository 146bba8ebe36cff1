r"""A cable of particles, by position-based dynamics.

Particles move freely for a step and are then pulled back to constraints: neighbors at their distance ``length``, next
neighbors at twice that, which resists bending. For a pair at the distance ``d``, with the direction ``n`` from the
first to the second,

.. math::
    \Delta p_i = \kappa\, w_i \frac{d - d_0}{w_i + w_j + \alpha / \Delta t^2}\, n, \qquad
    \Delta p_j = -\frac{w_j}{w_i} \Delta p_i,

with inverse masses ``w``, a compliance :math:`\alpha` and a relaxation :math:`\kappa`, all pairs at once (Jacobi).

References
----------
Müller, Heidelberger, Hennix, Ratcliff, "Position based dynamics", 2007. Macklin, Müller, Chentanez, "XPBD", 2016.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .surfaces import safe_norm


class CableState(NamedTuple):
    """Positions and velocities of the particles."""

    x: Float[Array, "n 3"]
    v: Float[Array, "n 3"]


class Cable(eqx.Module):
    """A cable whose first particle is held.

    Attributes
    ----------
    length
        Between neighbors at rest.
    mass
        Of a particle.
    compliance
        The inverse stiffness of a constraint, zero where only relaxation softens it.
    stretch, bend
        Relaxations of the two kinds of constraints.
    iterations
        Passes over all constraints in a step.
    floor
        Height that no particle falls below, and at which horizontal velocities are multiplied by ``slide`` each step.
    """

    length: Any
    mass: Any
    compliance: Any = 0.0
    stretch: Any = 0.3
    bend: Any = 0.1
    iterations: int = eqx.field(default=20, static=True)
    floor: Any = -jnp.inf
    slide: Any = 0.995

    def step(self, state: CableState, dt: Any, *, forces: Any = 0.0, gravity: Any = 0.0) -> CableState:
        """One step under forces on the particles, and an acceleration of all."""
        x, v = state
        weights = jnp.full(len(x), 1 / jnp.asarray(self.mass, x.dtype)).at[0].set(0)
        free = (weights > 0)[:, None]
        moved = jnp.where(free, x + dt * (v + dt * (weights[:, None] * forces + gravity)), x)
        moved = jax.lax.fori_loop(0, self.iterations, lambda _, p: self.corrected(p, weights, dt), moved)
        moved = moved.at[:, 2].max(self.floor)
        velocity = (moved - x) / dt
        lies = free & (moved[:, 2:] <= self.floor)
        slowed = velocity * jnp.array([self.slide, self.slide, 1.0], x.dtype)
        return CableState(moved, jnp.where(lies, slowed, velocity))

    def corrected(self, p: Float[Array, "n 3"], weights: Float[Array, " n"], dt: Any) -> Float[Array, "n 3"]:
        """The positions after one pass over the constraints."""
        total = jnp.zeros_like(p)
        for apart, relaxation in ((1, self.stretch), (2, self.bend)):
            offset = p[apart:] - p[:-apart]
            distance = safe_norm(offset)
            sum_of_weights = weights[apart:] + weights[:-apart] + self.compliance / dt**2
            pull = relaxation * (distance - apart * self.length) / sum_of_weights
            along = offset * (pull / jnp.where(distance > 0, distance, 1))[:, None]
            total = total.at[:-apart].add(weights[:-apart, None] * along).at[apart:].add(-weights[apart:, None] * along)
        return p + total
