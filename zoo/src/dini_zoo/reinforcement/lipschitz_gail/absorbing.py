r"""Episodes that end early, as ones that go on in a state that is never left.

A reward of one sign pays for staying alive, or for ending soon, whatever the discriminator says. With an absorbing
state behind each end, the discriminator judges it as it judges any other: policy and expert both are there for the
rest of the clock, and no transition is terminal.

References
----------
I. Kostrikov, K. K. Agrawal, D. Dwibedi, S. Levine, J. Tompson, "Discriminator-actor-critic: addressing sample
inefficiency and reward bias in adversarial imitation learning", ICLR 2019.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..environments import Environment


def absorbing(environment: Environment) -> Environment:
    """The environment with one entry more in its observations: zero, and one in the absorbing state, the others zero.

    Where the process is over, the absorbing state follows, until the clock strikes; it pays nothing, and no transition
    is terminal. Demonstrations are to be recorded in this environment, too.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.reinforcement.trajectories import rollout
    >>> walk = Environment(
    ...     reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
    ...     step=lambda key, s, a: (s + a, s + a, jnp.ones(()), (s + a)[0] >= 2),
    ...     horizon=4, observations=1, actions=1,
    ... )
    >>> found = rollout(absorbing(walk), lambda key, seen: jnp.ones(1), jax.random.key(0))
    >>> print(found.observation[:, 0], found.observation[:, 1], found.reward, found.terminal.any())
    [0. 1. 0. 0.] [0. 0. 1. 1.] [1. 1. 0. 0.] False
    """

    def shown(observation: Array, over: Array) -> Array:
        marked = jnp.append(jnp.zeros_like(observation), 1.0)
        return jnp.where(over, marked, jnp.append(observation, 0.0)).astype(observation.dtype)

    def reset(key: Any) -> tuple[Any, Array]:
        state, observation = environment.reset(key)
        over = jnp.zeros((), bool)
        return (state, over), shown(observation, over)

    def step(key: Any, carried: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        state, over = carried
        after, observation, reward, terminal = environment.step(key, state, action)
        following = over | terminal
        reward = jnp.where(over, jnp.zeros_like(reward), reward)
        return (after, following), shown(observation, following), reward, jnp.zeros((), bool)

    return Environment(
        reset,
        step,
        horizon=environment.horizon,
        observations=environment.observations + 1,
        actions=environment.actions,
        bound=environment.bound,
    )


def still(state: Float[Array, " s"], action: Float[Array, " a"]) -> Float[Array, " a"]:
    """The action, and none in the absorbing state, where it does nothing: a discriminator must not tell by it."""
    return action * (1 - state[-1])
