r"""FIRE: molecular dynamics that is stopped when it runs uphill.

The unknown moves with unit mass under the force :math:`f = -\nabla E(x)`, by the velocity Verlet rule with time step
:math:`\Delta`. After each step, with the power :math:`P = f \cdot v`, the velocity is steered towards the force,

.. math:: v \leftarrow (1 - \alpha) v + \alpha \frac{\|v\|}{\|f\|} f .

Where :math:`P > 0` for more than :math:`n_{\min}` steps in a row, the time step grows and the steering fades; where
:math:`P < 0`, the motion stops and starts again with a shorter time step.

References
----------
Bitzek, Koskinen, Gähler, Moseler, Gumbsch, "Structural relaxation made simple", Phys. Rev. Lett. 97, 2006.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import dini


class State(NamedTuple):
    """What moves along with the point."""

    error: Float[Array, ""]
    """The norm of the force."""
    velocity: Float[Array, ...]
    force: Float[Array, ...]
    time_step: Float[Array, ""]
    steering: Float[Array, ""]
    downhill: Int[Array, ""]
    """How many steps in a row the force and the velocity have agreed."""


@dini.solver
class FIRE(dini.Solver):
    """The method as a solver of dini, for an unknown that is one array. It stops where the force is at most `tol`."""

    time_step: Any = 0.1
    longest: Any = 0.4
    patience: int = field(default=5, metadata={"static": True})
    grow: Any = 1.1
    shrink: Any = 0.5
    steering: Any = 0.1
    fade: Any = 0.99
    tol: Any = 1e-13
    max_steps: int = field(default=4000, metadata={"static": True})

    solves = (dini.Minimize,)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """At rest."""
        force = -problem.gradient(x, *args)
        scalar = lambda value: jnp.asarray(value, x.dtype)
        return State(
            jnp.linalg.norm(force),
            jnp.zeros_like(x),
            force,
            scalar(self.time_step),
            scalar(self.steering),
            jnp.zeros((), jnp.int32),
        )

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Move by one time step, then steer, and choose the next time step."""
        dt = state.time_step
        x = x + dt * state.velocity + 0.5 * dt**2 * state.force
        force = -problem.gradient(x, *args)
        velocity = state.velocity + 0.5 * dt * (state.force + force)

        power = jnp.sum(force * velocity)
        size = _norm(force)
        towards = force * (_norm(velocity) / jnp.where(size > 0, size, 1.0))
        velocity = velocity + state.steering * (towards - velocity)

        uphill = power < 0
        downhill = jnp.where(uphill, 0, state.downhill + 1)
        fast = (power > 0) & (downhill > self.patience)
        kept = jnp.where(fast, jnp.minimum(dt * self.grow, self.longest), dt)
        steering = jnp.where(fast, state.steering * self.fade, state.steering)
        return x, State(
            jnp.linalg.norm(force),
            jnp.where(uphill, 0.0, velocity),
            force,
            jnp.where(uphill, dt * self.shrink, kept),
            jnp.where(uphill, jnp.asarray(self.steering, x.dtype), steering),
            downhill,
        )


def _norm(v: Any) -> Any:
    """The Euclidean norm, with derivative zero at zero."""
    squared = jnp.sum(v**2)
    return jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))
