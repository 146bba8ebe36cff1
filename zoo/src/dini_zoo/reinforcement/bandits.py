r"""A contextual bandit with a trap: a wide low bump next to where policies start, and two narrow high ones far away.

Contexts are normal, actions are in :math:`[-1, 1]^2`. The reward is the highest of three bumps,

.. math::

    r(s, a) = \max_j h_j(s) \exp\Bigl(-\frac{|a - c_j|^2}{2 \omega_j^2}\Bigr), \qquad
    h = \bigl(.55,\; .3 + .7 g,\; .3 + .7 (1 - g)\bigr), \qquad g = \frac{1}{1 + e^{-4 s_1}}.

Which of the high bumps is the better one depends on the context. All is a pure function, differentiable in the action.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

CENTERS = np.array([[0.35, 0.0], [-0.7, 0.6], [-0.2, -0.8]])
WIDTHS = np.array([0.35, 0.2, 0.2])
#: The height of the wide bump: what a policy in the trap gets at most.
TRAP = 0.55


def contexts(key: Array, count: int) -> Float[Array, "n 2"]:
    """So many contexts."""
    return jax.random.normal(key, (count, 2))


def evaluation_contexts(count: int = 256) -> Float[np.ndarray, "n 2"]:
    """The contexts on which policies are judged, always the same ones."""
    return np.random.default_rng(0).standard_normal((count, 2))


def inside(actions: Float[Array, "*axes 2"]) -> Float[Array, "*axes 2"]:
    """Actions, moved to the box's face where they are outside."""
    return jnp.clip(actions, -1.0, 1.0)


def heights(states: Float[Array, "*axes 2"]) -> Float[Array, "*axes 3"]:
    """Of the three bumps; the largest one is the most that any action gets."""
    g = jax.nn.sigmoid(4 * states[..., 0])
    return jnp.stack([jnp.full_like(g, TRAP), 0.3 + 0.7 * g, 0.3 + 0.7 * (1 - g)], axis=-1)


def bumps(states: Float[Array, "*#axes 2"], actions: Float[Array, "*#axes 2"]) -> Float[Array, "*axes 3"]:
    """What each bump gives."""
    _check("states", states)
    _check("actions", actions)
    centers, widths = jnp.asarray(CENTERS, actions.dtype), jnp.asarray(WIDTHS, actions.dtype)
    away = jnp.sum((actions[..., None, :] - centers) ** 2, axis=-1)
    return heights(states) * jnp.exp(-away / (2 * widths**2))


def reward(states: Float[Array, "*#axes 2"], actions: Float[Array, "*#axes 2"]) -> Float[Array, "*axes"]:
    """The reward of an action in a context, between 0 and 1; shapes broadcast but for the last axes."""
    return jnp.max(bumps(states, actions), axis=-1)


def optimum(states: Float[Array, "*axes 2"]) -> Float[Array, "*axes"]:
    """The reward of the best action: one of the bumps' tops, for they are too far apart to rise over each other's."""
    return jnp.max(heights(states), axis=-1)


def _check(name: str, given: Array) -> None:
    if jnp.ndim(given) < 1 or jnp.shape(given)[-1] != 2:
        raise ValueError(f"{name} must have a last axis of length 2: given {jnp.shape(given)}.")
