r"""Soft actor-critic, for any policy: twin critics with targets, a learned temperature, steps that are pure functions.

.. math::

    y &= r + \gamma (1 - d) \bigl[\min_k \bar Q_k(s', a') - \alpha \log p(a' | s')\bigr], \qquad
    L_Q = \sum_k \mathrm{mean}\,(Q_k(s, a) - y)^2, \\
    L_\pi &= \mathrm{mean}_s \bigl[\alpha \log p(a | s) - \min_k Q_k(s, a)\bigr], \qquad
    L_\alpha = -\log \alpha\; \mathrm{mean}\,(\log p + H_0).

:math:`d` is one where the process is over, and not where the clock cut an episode: there :math:`s'` has a value as any
other state has. The policy's loss is an argument, so that mixtures and other policies run through the same step.
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
from jaxtyping import Array, Float

from dini_zoo.kit.checking import one_length, positive, same_shape

from .environments import Transition
from .policies import polyak


class TwinCritic(eqx.Module):
    """Two critics, each from a state and an action side by side to one number in an array."""

    first: Callable[[Any], Any]
    second: Callable[[Any], Any]

    def both(self, state: Float[Array, " s"], action: Float[Array, " d"]) -> Float[Array, " 2"]:
        """Both values."""
        joined = jnp.concatenate([state, action])
        return jnp.concatenate([self.first(joined), self.second(joined)])

    def __call__(self, state: Float[Array, " s"], action: Float[Array, " d"]) -> Float[Array, ""]:
        """The smaller one of both values."""
        return jnp.min(self.both(state, action))


class PlainFigures(NamedTuple):
    """What the plain policy's loss tells beside its value."""

    log_prob: Float[Array, " n"]


def plain_sample(policy: Any, key: Array, state: Float[Array, " s"]) -> tuple[Any, Any]:
    """An action and its log-density: the first two of what the policy's method `sample` returns."""
    action, log_prob, *_ = policy.sample(key, state)
    return action, log_prob


def plain_policy_loss(
    policy: Any, q_fn: Callable[[Any, Any], Any], key: Array, states: Float[Array, "n s"], alpha: Any
) -> tuple[Float[Array, ""], PlainFigures]:
    r""":math:`\mathrm{mean}_s [\alpha \log p(a | s) - Q(s, a)]` for one differentiable sample of each state."""
    sample = lambda key, state: plain_sample(policy, key, state)
    actions, log_prob = jax.vmap(sample)(jax.random.split(key, len(states)), states)
    return jnp.mean(alpha * log_prob - jax.vmap(q_fn)(states, actions)), PlainFigures(log_prob)


class SACState(NamedTuple):
    """All that training carries."""

    policy: Any
    critics: Any
    """`TwinCritic`, or where values are known any function of a state and an action."""
    targets: Any
    log_alpha: Float[Array, ""]
    policy_optimizer: Any
    critic_optimizer: Any
    alpha_optimizer: Any


class SACInfo(NamedTuple):
    """What a step tells."""

    critic_loss: Float[Array, ""]
    policy_loss: Float[Array, ""]
    alpha: Float[Array, ""]
    figures: Any
    """The policy's loss's own."""


@dataclass(frozen=True)
class SAC:
    r"""Soft actor-critic.

    Parameters
    ----------
    optimizer
        Of the policy, of the critics, and of the temperature: each has a state of its own.
    discount
        :math:`\gamma`, below one.
    tau
        The share of the critics that goes into their targets at each step.
    target_entropy
        :math:`H_0`, often minus the number of actions; without it the temperature stays as it is.
    policy_loss
        `policy_loss(policy, q_fn, key, states, alpha)`, the loss and figures that have `log_prob`.
    sample
        `sample(policy, key, state)`, an action and the log-density that enters critics' targets.

    Raises
    ------
    ValueError
        If the discount is not in [0, 1) or the share not in (0, 1].
    """

    optimizer: optax.GradientTransformation
    discount: float = 0.99
    tau: float = 5e-3
    target_entropy: float | None = None
    policy_loss: Callable[..., tuple[Any, Any]] = plain_policy_loss
    sample: Callable[..., tuple[Any, Any]] = plain_sample

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must be in [0, 1): given {self.discount}.")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must be in (0, 1]: given {self.tau}.")

    def init(self, policy: Any, critics: Any, alpha: float = 1.0) -> SACState:
        """The state before the first step; targets start as the critics."""
        positive("alpha", alpha)
        log_alpha = jnp.asarray(np.log(alpha), jnp.result_type(float))
        start = lambda tree: self.optimizer.init(eqx.filter(tree, eqx.is_inexact_array))
        return SACState(policy, critics, critics, log_alpha, start(policy), start(critics), start(log_alpha))

    def targets(self, state: SACState, batch: Transition, key: Array) -> Float[Array, " n"]:
        """:math:`y`, without a derivative."""
        sample = lambda key, reached: self.sample(state.policy, key, reached)
        actions, log_prob = jax.vmap(sample)(jax.random.split(key, len(batch.reward)), batch.next_observation)
        soft = jax.vmap(state.targets)(batch.next_observation, actions) - jnp.exp(state.log_alpha) * log_prob
        # not a product: a process may end in a state whose value is not finite
        return jax.lax.stop_gradient(batch.reward + jnp.where(batch.terminal, 0.0, self.discount * soft))

    def fit_critics(
        self, state: SACState, states: Any, actions: Any, y: Float[Array, " n"]
    ) -> tuple[SACState, Float[Array, ""]]:
        """One step of the critics towards values `y`; targets stay. Raises `ValueError` unless there is one a state."""
        same_shape("y", y, "the states", (one_length("states and actions", (states, actions)),))

        def loss(critics: TwinCritic) -> Float[Array, ""]:
            off = jax.vmap(critics.both)(states, actions) - y[:, None]
            return jnp.sum(jnp.mean(off**2, axis=0))

        value, slope = eqx.filter_value_and_grad(loss)(state.critics)
        critics, optimizer = self._stepped(state.critics, slope, state.critic_optimizer)
        return state._replace(critics=critics, critic_optimizer=optimizer), value

    def follow(self, state: SACState) -> SACState:
        """The critics' targets, a share nearer to them."""
        return state._replace(targets=polyak(state.targets, state.critics, self.tau))

    def fit_policy(self, state: SACState, states: Any, key: Array) -> tuple[SACState, Float[Array, ""], Any]:
        """One step of the policy; the critics' parameters have no part in its gradient."""
        alpha = jax.lax.stop_gradient(jnp.exp(state.log_alpha))
        loss = lambda policy: self.policy_loss(policy, state.critics, key, states, alpha)
        (value, figures), slope = eqx.filter_value_and_grad(loss, has_aux=True)(state.policy)
        policy, optimizer = self._stepped(state.policy, slope, state.policy_optimizer)
        return state._replace(policy=policy, policy_optimizer=optimizer), value, figures

    def fit_temperature(self, state: SACState, log_prob: Any) -> SACState:
        """One step of the temperature, which rises where entropy is below its target; none without a target."""
        if self.target_entropy is None:
            return state
        slope = -jnp.mean(jax.lax.stop_gradient(log_prob) + self.target_entropy)
        log_alpha, optimizer = self._stepped(state.log_alpha, slope, state.alpha_optimizer)
        return state._replace(log_alpha=log_alpha, alpha_optimizer=optimizer)

    def step(self, state: SACState, batch: Transition, key: Array) -> tuple[SACState, SACInfo]:
        """Critics, policy, temperature, targets, in this order: one step of each."""
        for_target, for_policy = jax.random.split(key)
        y = self.targets(state, batch, for_target)
        state, critic_loss = self.fit_critics(state, batch.observation, batch.action, y)
        state, policy_loss, figures = self.fit_policy(state, batch.observation, for_policy)
        state = self.fit_temperature(state, figures.log_prob)
        return self.follow(state), SACInfo(critic_loss, policy_loss, jnp.exp(state.log_alpha), figures)

    def _stepped(self, model: Any, slope: Any, optimizer: Any) -> tuple[Any, Any]:
        updates, optimizer = self.optimizer.update(slope, optimizer, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), optimizer


def scanned(step: Callable[[Any, Any], tuple[Any, Any]], carried: Any, given: Any) -> tuple[Any, Any]:
    """`jax.lax.scan` for what carries models: their arrays are carried, and what is no array stays as it is."""
    arrays, static = eqx.partition(carried, eqx.is_array)

    def one(arrays: Any, given: Any) -> tuple[Any, Any]:
        after, info = step(eqx.combine(arrays, static), given)
        return eqx.filter(after, eqx.is_array), info

    arrays, info = jax.lax.scan(one, arrays, given)
    return eqx.combine(arrays, static), info
