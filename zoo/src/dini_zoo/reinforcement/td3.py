r"""TD3: a deterministic actor and two critics, learned from replayed transitions, as a pure step.

.. math:: y = R + \gamma'\, \bigl(w \min_i Q'_i(s', a') + (1 - w) \max_i Q'_i(s', a')\bigr), \qquad
          a' = \mu'(s') + \operatorname{clip}(N(0, \sigma^2), \pm c),

clipped to the box of actions. Critics descend :math:`\sum_i \ell(Q_i(s, a) - y)` at each step; every few steps the
actor ascends :math:`Q_1(s, \mu(s))` and the targets :math:`\mu', Q'` move towards what they follow. The return
:math:`R` of one or several rewards and the discount :math:`\gamma'` of what follows come with the batch (`n_step`):
the discount is zero behind a terminal state and behind nothing else. A time-out is not terminal.

References
----------
S. Fujimoto, H. van Hoof, D. Meger, "Addressing function approximation error in actor-critic methods", ICML 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from ..kit.checking import at_least, known, not_negative, positive
from .policies import Network, polyak, squash


class Actor(eqx.Module):
    r"""A deterministic policy in the box :math:`[-c, c]`: :math:`\mu(s) = c \tanh(f(s))`.

    Raises `ValueError` for a bound that is not positive.
    """

    network: Callable[[Array], Array]
    """:math:`f`, such as a `Network` whose last scale is small."""
    bound: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        positive("bound", self.bound)

    def __call__(self, state: Float[Array, " s"]) -> Float[Array, " a"]:
        """The action for one state."""
        return squash(self.network(state), self.bound)


class Critic(eqx.Module):
    """A value of a state and an action, from a network that takes them one behind the other and has one output."""

    network: Callable[[Array], Array]

    def __call__(self, state: Float[Array, " s"], action: Float[Array, " a"]) -> Float[Array, ""]:
        """The value of one state and one action."""
        return self.network(jnp.concatenate([state, action]))[0]


def actor_and_critics(
    key: Array, observations: int, actions: int, hidden: tuple[int, ...] = (64, 64), *, bound: float = 1.0
) -> tuple[Actor, Critic]:
    """Networks of these layers with rectified units, and an actor that begins near zero; the critics are twins."""
    one, other = jax.random.split(key)
    actor = Actor(Network((observations, *hidden, actions), one, last_scale=0.01), bound)
    return actor, twins(lambda key: Critic(Network((observations + actions, *hidden, 1), key)), other)


class Batch(NamedTuple):
    """Transitions that are learned from, of `b` examples."""

    state: Float[Array, "b s"]
    action: Float[Array, "b a"]
    reward: Float[Array, " b"]
    """The return of the rewards until `next_state`, discounted."""
    next_state: Float[Array, "b s"]
    discount: Float[Array, " b"]
    r"""Of what follows `next_state`: :math:`\gamma^n`, and zero where it is terminal."""


class TD3State(NamedTuple):
    """What is carried from step to step."""

    actor: Any
    critics: Any
    """Both, as one module whose arrays have an axis of length two in front."""
    target_actor: Any
    target_critics: Any
    actor_optimizer: Any
    critic_optimizer: Any
    step: Int[Array, ""]


class Figures(NamedTuple):
    """What a step shows."""

    critic_loss: Float[Array, ""]
    target: Float[Array, ""]
    """The mean of the values that the critics were to have."""


def twins(make: Callable[[Array], Any], key: Array) -> Any:
    """Two critics as one module, each made by `make` from a key of its own."""
    return eqx.filter_vmap(make)(jax.random.split(key))


def twin_values(critics: Any, states: Float[Array, "b s"], actions: Float[Array, "b a"]) -> Float[Array, "2 b"]:
    """The values of both critics."""
    return eqx.filter_vmap(lambda critic: jax.vmap(critic)(states, actions))(critics)


def first_of(critics: Any) -> Any:
    """The first of two critics: the one that the actor ascends."""
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, critics)


def n_step(
    rewards: Float[Array, " n"],
    next_states: Float[Array, "n s"],
    terminal: Bool[Array, " n"],
    truncated: Bool[Array, " n"],
    gamma: float | Array,
) -> tuple[Float[Array, ""], Float[Array, " s"], Float[Array, ""]]:
    r"""The return of the rewards of successive steps, what follows it, and the discount of that.

    .. math:: R = \sum_{k < m} \gamma^k r_k, \qquad \gamma' = \gamma^m\, [\text{not terminal}],

    with :math:`m` the number of steps until the episode ends, at most :math:`n`. Behind a time-out what follows counts,
    as anywhere: from the state in which the episode was cut off.

    Parameters
    ----------
    rewards, next_states, terminal, truncated
        Of :math:`n` successive steps in the order in which they were stored. What is behind an episode's end belongs to
        another one, and is left out.
    gamma
        The discount of a step.

    Examples
    --------
    >>> flags = jnp.array([False, True, False])
    >>> none, states = jnp.zeros(3, bool), jnp.arange(3.0)[:, None]
    >>> R, state, discount = n_step(jnp.ones(3), states, none, flags, 0.5)
    >>> float(R), float(state[0]), float(discount)
    (1.5, 1.0, 0.25)
    >>> float(n_step(jnp.ones(3), states, flags, none, 0.5)[2])
    0.0
    """
    n = len(rewards)
    at_least("the number of rewards", n, 1)
    ends = terminal | truncated
    kept = jnp.concatenate([jnp.ones(1, bool), jnp.cumsum(ends)[:-1] == 0])
    powers = jnp.asarray(gamma, rewards.dtype) ** jnp.arange(n)
    last = jnp.sum(kept) - 1
    discount = jnp.where(terminal[last], 0.0, gamma * powers[last])
    # a reward of another episode may be anything, even not a number
    return jnp.sum(jnp.where(kept, powers * rewards, 0.0)), next_states[last], discount.astype(rewards.dtype)


@dataclass(frozen=True)
class TD3:
    r"""The settings; `init` and `update` are pure functions.

    Parameters
    ----------
    actor_optimizer, critic_optimizer
        optax transformations.
    low, high
        The box of actions; numbers, or arrays of an entry for each.
    polyak
        The share by which targets move.
    noise, noise_clip
        :math:`\sigma` and :math:`c`, in the units of actions.
    delay
        Of so many steps one moves actor and targets.
    weight_of_min
        :math:`w`, from 0 to 1: a hard minimum at 1.
    huber
        Where the critics' loss turns from a square into a line; a square everywhere if it is not given.

    Raises
    ------
    ValueError
        For numbers outside of their ranges, and an empty box.
    """

    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    low: Any = -1.0
    high: Any = 1.0
    polyak: float = 0.005
    noise: float = 0.2
    noise_clip: float = 0.5
    delay: int = 2
    weight_of_min: float = 1.0
    huber: float | None = None

    def __post_init__(self) -> None:
        if known(self.low) and known(self.high) and not np.all(np.asarray(self.low) < np.asarray(self.high)):
            raise ValueError(f"low must be below high: given {self.low} and {self.high}.")
        for name in ("polyak", "weight_of_min"):
            value = getattr(self, name)
            if known(value) and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1: given {value}.")
        not_negative("noise", self.noise)
        not_negative("noise_clip", self.noise_clip)
        at_least("delay", self.delay, 1)
        if self.huber is not None:
            positive("huber", self.huber)

    def init(self, actor: Any, critics: Any) -> TD3State:
        """The first state, for `actor(s)` and the `twins` of `critic(s, a)`, Equinox modules of one example."""
        return TD3State(
            actor,
            critics,
            actor,
            critics,
            self.actor_optimizer.init(eqx.filter(actor, eqx.is_inexact_array)),
            self.critic_optimizer.init(eqx.filter(critics, eqx.is_inexact_array)),
            jnp.zeros((), int),
        )

    def explore(self, key: Array, action: Float[Array, " a"], std: float | Array) -> Float[Array, " a"]:
        """An action with normal noise, in the box."""
        return jnp.clip(action + std * jax.random.normal(key, action.shape, action.dtype), self.low, self.high)

    def targets(self, state: TD3State, key: Array, batch: Batch) -> Float[Array, " b"]:
        """What the critics' values are to be."""
        noise = self.noise * jax.random.normal(key, batch.action.shape, batch.action.dtype)
        following = jax.vmap(state.target_actor)(batch.next_state)
        following = jnp.clip(following + jnp.clip(noise, -self.noise_clip, self.noise_clip), self.low, self.high)
        values = twin_values(state.target_critics, batch.next_state, following)
        value = self.weight_of_min * values.min(axis=0) + (1 - self.weight_of_min) * values.max(axis=0)
        # what follows a terminal state is not looked at, whatever it is
        return batch.reward + jnp.where(batch.discount == 0, 0.0, batch.discount * value)

    def update(self, state: TD3State, key: Array, batch: Batch) -> tuple[TD3State, Figures]:
        """One step on a batch."""
        targets = self.targets(state, key, batch)

        def error(critics: Any) -> Array:
            gap = twin_values(critics, batch.state, batch.action) - targets
            loss = gap**2 if self.huber is None else 2 * optax.huber_loss(gap, delta=self.huber)
            return loss.mean(axis=1).sum()

        loss, slope = eqx.filter_value_and_grad(error)(state.critics)
        critics, critic_optimizer = _descended(self.critic_optimizer, slope, state.critic_optimizer, state.critics)
        state = state._replace(critics=critics, critic_optimizer=critic_optimizer, step=state.step + 1)
        dynamic, static = eqx.partition(state, eqx.is_array)
        moved = lambda dynamic: eqx.filter(self._delayed(eqx.combine(dynamic, static), batch), eqx.is_array)
        dynamic = jax.lax.cond(state.step % self.delay == 0, moved, lambda dynamic: dynamic, dynamic)
        return eqx.combine(dynamic, static), Figures(loss, targets.mean())

    def _delayed(self, state: TD3State, batch: Batch) -> TD3State:
        """The actor one step on, and the targets nearer to what they follow."""
        critic = first_of(state.critics)
        loss = lambda actor: -jnp.mean(jax.vmap(lambda s: critic(s, actor(s)))(batch.state))
        actor, optimizer = _descended(
            self.actor_optimizer, eqx.filter_grad(loss)(state.actor), state.actor_optimizer, state.actor
        )
        return state._replace(
            actor=actor,
            actor_optimizer=optimizer,
            target_actor=polyak(state.target_actor, actor, self.polyak),
            target_critics=polyak(state.target_critics, state.critics, self.polyak),
        )


def _descended(optimizer: optax.GradientTransformation, slope: Any, memory: Any, module: Any) -> tuple[Any, Any]:
    updates, memory = optimizer.update(slope, memory, eqx.filter(module, eqx.is_inexact_array))
    return eqx.apply_updates(module, updates), memory
