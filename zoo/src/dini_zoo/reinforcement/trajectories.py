"""Trajectories as trees of arrays with time in front: rollouts, returns, advantages, and the values of policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dini_zoo.kit.checking import at_least, one_of, same_shape

from .environments import Environment, Transition

type ActionRule = Callable[[Any, Array], Array]
"""`policy(key, observation) -> action`."""


class Trajectory(NamedTuple):
    """One episode, time in front; with axes before it, many."""

    observation: Float[Array, "T n"]
    action: Array
    reward: Float[Array, " T"]
    mask: Bool[Array, " T"]
    """Whether the step belongs to the episode. What stands where it does not has no meaning: it is to be masked in
    rewards and in log-probabilities alike."""
    next_observation: Float[Array, "T n"]
    terminal: Bool[Array, " T"]
    """Whether the process was over after the step; false where only the clock struck."""


def rollout(environment: Environment, policy: ActionRule, key: Key[Array, ""], steps: int | None = None) -> Trajectory:
    r"""One episode of a policy. A batch is a `jax.vmap` over keys.

    No derivative passes: what is seen and done is a sample, and its derivatives are those of its probability.

    Parameters
    ----------
    environment
        Where.
    policy
        `policy(key, observation) -> action`.
    key
        For the start, the steps and the policy.
    steps
        How many, at most the environment's horizon, which None stands for. After a terminal state the mask is false.

    Raises
    ------
    ValueError
        For fewer than one step, or more than the horizon.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_zoo.reinforcement.environments import Environment
    >>> walk = Environment(
    ...     reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
    ...     step=lambda key, s, a: (s + a, s + a, jnp.ones(()), (s + a)[0] >= 2),
    ...     horizon=4, observations=1, actions=1,
    ... )
    >>> found = rollout(walk, lambda key, seen: jnp.ones(1), jax.random.key(0))
    >>> print(found.mask, found.terminal)
    [ True  True False False] [False  True False False]
    >>> print(discounted_returns(found.reward, 0.5, mask=found.mask))
    [1.5 1.  0.  0. ]
    """
    steps = environment.horizon if steps is None else steps
    if not 1 <= steps <= environment.horizon:
        raise ValueError(f"steps must be from 1 to the environment's horizon, {environment.horizon}: given {steps}.")
    begin, onward = jax.random.split(key)

    def one(carry: Any, key: Any) -> tuple[Any, tuple[Transition, Array]]:
        running, alive = carry
        for_action, for_step = jax.random.split(key)
        action = policy(for_action, running.observation)
        running, seen = environment.move(for_step, running, action)
        return (running, alive & ~seen.terminal), (seen, alive)

    start = (environment.start(begin), jnp.ones((), bool))
    _, (seen, mask) = jax.lax.scan(one, start, jax.random.split(onward, steps))
    found = Trajectory(seen.observation, seen.action, seen.reward, mask, seen.next_observation, seen.terminal & mask)
    return jax.lax.stop_gradient(found)


def discounted_returns(
    reward: Float[Array, " T"],
    discount: float | Array,
    *,
    mask: Bool[Array, " T"] | None = None,
    discount_from: Literal["step", "start"] = "step",
    bootstrap: float | Array = 0.0,
) -> Float[Array, " T"]:
    r"""What is still to come, after each step of an episode.

    .. math:: G_t = \sum_{h=t}^{T-1} \gamma^{h-t} r_h + \gamma^{T-t} v \quad\text{("step")}, \qquad
              \sum_{h=t}^{T-1} \gamma^h r_h + \gamma^T v \quad\text{("start")}

    Parameters
    ----------
    reward
        The rewards, time in front.
    discount
        `γ` in [0, 1].
    mask
        Whether a step belongs to the episode; rewards where it does not are not counted.
    discount_from
        Where the discount begins: at each step, or at the start of the episode.
    bootstrap
        `v`, the value of what was reached at the end. Zero where that is terminal, and only there.
    """
    one_of("discount_from", discount_from, ("step", "start"))
    if mask is not None:
        same_shape("mask", mask, "reward", jnp.shape(reward))
        reward = jnp.where(mask, reward, 0.0)
    # a value after the last step counts, unless the episode was over before
    last = jnp.asarray(bootstrap, reward.dtype) * (1.0 if mask is None else mask[-1])

    def back(after: Any, now: Any) -> tuple[Any, Any]:
        total = now + discount * after
        return total, total

    _, found = jax.lax.scan(back, last, reward, reverse=True)
    powers = jnp.asarray(discount, reward.dtype) ** jnp.arange(len(reward))
    return found * powers if discount_from == "start" else found


def generalized_advantages(
    reward: Float[Array, " T"],
    value: Float[Array, " T"],
    next_value: Float[Array, " T"],
    terminal: Bool[Array, " T"],
    ended: Bool[Array, " T"],
    *,
    discount: float | Array,
    decay: float | Array,
) -> Float[Array, " T"]:
    r"""Generalized advantage estimates (Schulman et al., 2016) over a stretch of steps that may hold several episodes.

    .. math:: \delta_t = r_t + \gamma (1 - \text{terminal}_t)\, V(s'_t) - V(s_t), \qquad
              A_t = \delta_t + \gamma\lambda (1 - \text{ended}_t)\, A_{t+1}

    Parameters
    ----------
    reward, value, next_value
        `r_t`, `V(s_t)` and `V(s'_t)`, of the state that was reached *before* any new episode was begun.
    terminal
        Where the process was over: nothing is bootstrapped there.
    ended
        Where an episode ended, be it by the clock or by its end: no sum goes on past it. A time-out ends an episode
        and keeps its bootstrapped value.
    discount, decay
        `γ` and `λ`. With `λ = 1` and one episode, the return less the value.
    """
    for name, array in {"value": value, "next_value": next_value, "terminal": terminal, "ended": ended}.items():
        same_shape(name, array, "reward", jnp.shape(reward))
    delta = reward + discount * jnp.where(terminal, 0.0, next_value) - value
    onward = jnp.where(ended | terminal, 0.0, discount * decay)

    def back(after: Any, now: Any) -> tuple[Any, Any]:
        found = now[0] + now[1] * after
        return found, found

    return jax.lax.scan(back, jnp.zeros((), delta.dtype), (delta, onward), reverse=True)[1]


def episode_returns(
    environment: Environment, policy: ActionRule, key: Key[Array, ""], episodes: int, *, discount: float = 1.0
) -> Float[Array, " episodes"]:
    """The returns of a number of episodes, for the evaluation of a policy; see `dini_zoo.kit.seeds.Estimate`."""
    at_least("episodes", episodes, 1)

    def one(key: Any) -> Array:
        found = rollout(environment, policy, key)
        return discounted_returns(found.reward, discount, mask=found.mask)[0]

    return jax.vmap(one)(jax.random.split(key, episodes))
