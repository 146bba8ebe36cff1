"""Many steps of the material point method: rollouts of one material, checkpointed, that say whether to believe them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, positive

from .mpm import MPMConfig, MPMState, Particles, beyond_the_grid, step


class Rollout(NamedTuple):
    """What a simulation went through. It is to be believed where it `is_sound`."""

    final: MPMState
    recorded: Any
    """Of each state after a step, what `record` made of it: the positions, if it was not given."""
    finite: Bool[Array, ""]
    """Whether the final state is: what is not finite once remains so."""
    clamped: Int[Array, ""]
    """How many particles, summed over steps, were so near to an upper face that nodes of their stencil do not exist.

    Their momentum goes to the last node: walls at the upper faces are a little nearer than those at the lower ones.
    """
    courant: Float[Array, ""]
    """The Courant number of the undeformed bodies' elastic waves: see :func:`courant_number`."""
    travel: Float[Array, ""]
    """The most cells that a particle went along an axis in a step; beyond one it passes through walls and bodies."""

    @property
    def is_sound(self) -> Bool[Array, ""]:
        """Whether all is finite, and neither an elastic wave nor a particle faster than a cell a step."""
        return self.finite & (self.courant <= 1) & (self.travel <= 1)

    def checked(self) -> Rollout:
        """The same, or an error that says what is wrong.

        Raises `FloatingPointError` where a state is not finite, and `ValueError` where the time step is too long.
        """
        if np.any(self.courant > 1):
            raise ValueError(
                f"The time step is too long for this material: elastic waves go {np.max(self.courant):.3g} cells in "
                "a step, and must go less than one (less than 0.3 to be safe). Take a smaller dt."
            )
        if np.any(self.travel > 1):
            raise ValueError(
                f"The time step is too long for this motion: a particle goes {np.max(self.travel):.3g} cells in a "
                "step, and must go less than one. Take a smaller dt."
            )
        if not np.all(self.finite & np.isfinite(self.courant)):
            raise FloatingPointError(
                "The simulation is not finite: the elastic law has no stress for what the deformation became. Take a "
                "smaller dt, a law that resists compression, or, for one that is not trained yet, shorter rollouts."
            )
        return self


def courant_number(config: MPMConfig, particles: Particles, elasticity: Callable[[Any], Any]) -> Float[Array, ""]:
    r"""The cells that an elastic wave crosses in a step, :math:`\Delta t \sqrt{M / \rho} / \Delta x`.

    :math:`M = \partial \tau_{11} / \partial F_{11}` at :math:`F = I`: for isotropic laws :math:`\lambda + 2 \mu`. An
    explicit step is unstable above about one; below 0.3 it is safe for large deformations, too.
    """
    one = jnp.eye(config.dim)
    stiffness = jax.jvp(elasticity, (one,), (jnp.zeros_like(one).at[0, 0].set(1),))[1][0, 0]
    return config.dt / config.dx * jnp.sqrt(jnp.maximum(stiffness, 0) / jnp.min(jnp.asarray(particles.density)))


def _positions(state: MPMState) -> Any:
    return state.x


def _same(F: Any) -> Any:
    return F


def simulate(
    config: MPMConfig,
    particles: Particles,
    state: MPMState,
    elasticity: Callable[[Any], Any],
    plasticity: Callable[[Any], Any] = _same,
    *,
    steps: int,
    checkpoint: int = 1,
    record: Callable[[MPMState], Any] = _positions,
) -> Rollout:
    """So many steps of particles of one material.

    Parameters
    ----------
    config, particles, state
        The grid, and what is on it.
    elasticity
        The Kirchhoff stress of one deformation gradient.
    plasticity
        The deformation that one becomes at the end of each step.
    steps
        How many.
    checkpoint
        A derivative in reverse mode keeps the state before each so many steps, and computes again what is between. More
        take less memory up to the root of `steps`.
    record
        What to keep of the state after each step.

    Returns
    -------
    Rollout
        What was recorded, the final state, and whether it is to be believed. Outside of a traced function it has been
        `checked`.

    Raises
    ------
    ValueError
        For counts below one, and as :meth:`Rollout.checked` does.
    FloatingPointError
        As :meth:`Rollout.checked` does.
    """
    at_least("steps", steps, 1)
    at_least("checkpoint", checkpoint, 1)
    positive("volume", particles.volume)
    positive("density", particles.density)
    courant = courant_number(config, particles, elasticity)
    stress, returned = jax.vmap(elasticity), jax.vmap(plasticity)

    def one(carried: Any, _: Any) -> Any:
        state, clamped, travel = carried
        clamped += beyond_the_grid(config, state.x)
        before = state.x
        state = step(config, particles, state, stress(state.F))
        state = state._replace(F=returned(state.F))
        cells = jnp.max(jnp.abs(jax.lax.stop_gradient(state.x - before)), initial=0.0) / config.dx
        return (state, clamped, jnp.maximum(travel, cells)), record(state)

    @jax.checkpoint
    def several(carried: Any, _: Any) -> Any:
        return jax.lax.scan(one, carried, length=checkpoint)

    whole, rest = divmod(steps, checkpoint)
    carried, recorded = jax.lax.scan(several, (state, jnp.zeros((), int), jnp.zeros((), state.x.dtype)), length=whole)
    recorded = jax.tree.map(lambda leaf: leaf.reshape(whole * checkpoint, *leaf.shape[2:]), recorded)
    if rest:
        carried, last = jax.lax.scan(one, carried, length=rest)
        recorded = jax.tree.map(lambda *parts: jnp.concatenate(parts), recorded, last)
    final, clamped, travel = carried
    sound = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in final]))
    rollout = Rollout(final, recorded, sound, clamped, courant, travel)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(rollout))
    return rollout if traced else rollout.checked()
