"""Policies trained on the deceptive bandit: with exact rewards, with learned critics, by PPO; seeds side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .. import bandits
from ..mixtures import GaussianMixturePolicy, Mixture
from ..policies import Network
from ..replay import Replay
from ..sac import SAC, TwinCritic, scanned
from .gates import win_shares
from .losses import blend
from .ppo import PPO, PPOBatch, PPOModel

#: Contexts for which policies are drawn: where each of the narrow bumps is the better one, and where they are alike.
SHOWN = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
#: Points of a learning curve, at most.
POINTS = 50


@dataclass(frozen=True)
class Budget:
    """Of one training."""

    updates: int = 2000
    batch: int = 64
    """Contexts an update, always new ones."""
    rate: float = 1e-3
    """Of Adam."""
    alpha: float = 0.03
    """The temperature, which stays."""


class Trained(NamedTuple):
    """What a training led to; with an axis in front, what those of all seeds did."""

    score: Any
    """The mean reward of the greedy action on the evaluation contexts."""
    stochastic: Any
    """The mean reward of sampled actions, at each point of the training."""
    weights: Any
    """The gate's, averaged over the evaluation contexts."""
    wins: Any
    """How often each component's sample is the best one there, by the true reward."""
    shown: Mixture
    """The policy at the shown contexts."""
    critic_error: Any = np.nan
    """The root mean square of the critics' error for uniform actions; NaN where rewards are exact."""


def make_policy(key: Array, components: int, spread: Any = 0.0, *, scale: float | None = 1.0) -> GaussianMixturePolicy:
    """The policy of all rows: a trunk of 64 and 64 units and a gate of 32, which begin near zero.

    Initial means are spread by normal numbers of this deviation, log-deviations begin at -0.3. Without a scale, which
    is for PPO, they do not depend on the state.
    """
    for_trunk, for_gate, for_means = jax.random.split(key, 3)
    each = 2 * components
    trunk = Network([2, 64, 64, each if scale is None else 2 * each], for_trunk, last_scale=1e-2)
    gate = Network([2, 32, components], for_gate, last_scale=1e-2)
    means = spread * jax.random.normal(for_means, (each,))
    deviations = jnp.full(each, -0.3)
    bias = means if scale is None else jnp.concatenate([means, deviations])
    trunk = eqx.tree_at(lambda network: network.layers[-1].bias, trunk, bias)
    log_std = deviations.reshape(components, 2) if scale is None else None
    return GaussianMixturePolicy(
        trunk, gate, components=components, action_size=2, scale=scale, bounds=(-4.0, 1.0), log_std=log_std
    )


def act(mixture: Mixture, key: Array, *, blended: bool) -> Float[Array, "n 2"]:
    """A sampled action for each state: of one component, or the blend of all components' samples."""
    for_draw, for_choice = jax.random.split(key)
    draws = mixture.draw(for_draw)
    if blended:
        return blend(mixture, draws.action)
    index = mixture.choose(for_choice)
    return jnp.take_along_axis(draws.action, index[:, None, None], axis=1)[:, 0]


def greedy(mixture: Mixture, *, blended: bool) -> Float[Array, "n 2"]:
    """The action of the mean of the component with the largest weight, or the blend of all components' means."""
    return blend(mixture, mixture.squash(mixture.mean)) if blended else mixture.mode()


@eqx.filter_jit
def _judge(policy: GaussianMixturePolicy, key: Array, blended: bool) -> tuple[Any, ...]:
    """The score, weights and shares of wins on the evaluation contexts, and the policy at those that are shown."""
    states = jnp.asarray(bandits.evaluation_contexts(), jnp.result_type(float))
    mixture = jax.vmap(policy)(states)
    score = jnp.mean(bandits.reward(states, bandits.inside(greedy(mixture, blended=blended))))
    draws = jax.vmap(mixture.draw)(jax.random.split(key, 32))
    ranked = bandits.reward(states[None, :, None], bandits.inside(draws.action))
    wins = jnp.mean(win_shares(ranked), axis=(0, 1))
    shown = jax.vmap(policy)(jnp.asarray(SHOWN, states.dtype))
    return score, jnp.mean(mixture.weights, axis=0), wins, shown


def judged(
    policies: GaussianMixturePolicy, rewards: Array, *, blended: bool = False, critic_error: Any = np.nan
) -> Trained:
    """What trained policies are worth, an axis for seeds in front; rewards are of each seed and step of training."""
    lane = lambda i: jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, policies)
    each = [_judge(lane(i), jax.random.key(i), blended) for i in range(len(rewards))]
    score, weights, wins, shown = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    points = max(count for count in range(1, POINTS + 1) if rewards.shape[1] % count == 0)
    curve = np.mean(np.asarray(rewards).reshape(len(rewards), points, -1), axis=2)
    return Trained(score, curve, weights, wins, shown, critic_error)


def sac(budget: Budget, loss: Callable[..., Any]) -> SAC:
    """The core of both kinds of training: the temperature is fixed, and nothing follows a step."""
    return SAC(optax.adam(budget.rate), discount=0.0, policy_loss=loss)


@eqx.filter_jit
def with_exact_rewards(
    keys: Array, spread: Array, *, budget: Budget, loss: Callable[..., Any], components: int, blended: bool
) -> tuple[GaussianMixturePolicy, Array]:
    """Train a policy for each key, with the reward itself as Q, from initial means of this deviation.

    Returns the policies, and the mean reward of sampled actions at each update.
    """
    core = sac(budget, loss)

    def one(key: Array) -> tuple[GaussianMixturePolicy, Array]:
        for_policy, for_steps = jax.random.split(key)
        state = core.init(make_policy(for_policy, components, spread), bandits.reward, budget.alpha)

        def step(state: Any, key: Array) -> Any:
            for_states, for_loss, for_action = jax.random.split(key, 3)
            states = bandits.contexts(for_states, budget.batch)
            actions = act(jax.vmap(state.policy)(states), for_action, blended=blended)
            state, *_ = core.fit_policy(state, states, for_loss)
            return state, jnp.mean(bandits.reward(states, actions))

        state, rewards = scanned(step, state, jax.random.split(for_steps, budget.updates))
        return state.policy, rewards

    return eqx.filter_vmap(one)(keys)


@dataclass(frozen=True)
class CriticBudget:
    """Of a training with learned critics, beside that of its policy."""

    start: int = 4000
    """Pairs with uniform actions in the buffer at first."""
    alone: int = 1000
    """Iterations in which the critics learn and the policy waits; then each has one update of the policy."""
    pairs: int = 8
    """New ones of the policy, an iteration."""
    batch: int = 128


class Pair(NamedTuple):
    """What was tried, and what it gave."""

    state: Float[Array, "*axes 2"]
    action: Float[Array, "*axes 2"]
    reward: Float[Array, "*axes"]


@eqx.filter_jit
def with_learned_critics(
    keys: Array, *, budget: Budget, critics: CriticBudget, loss: Callable[..., Any], components: int
) -> tuple[GaussianMixturePolicy, Array, Array]:
    """Train a policy for each key, with the smaller one of two critics as Q, which learn from a buffer of pairs.

    Returns the policies, rewards as `with_exact_rewards` does, and the critics' error: the root of its mean square for
    uniform actions.
    """
    core = sac(budget, loss)
    size = critics.start + critics.pairs * (critics.alone + budget.updates)

    def one(key: Array) -> tuple[GaussianMixturePolicy, Array, Array]:
        for_policy, *for_critics, for_start, for_alone, for_steps, for_error = jax.random.split(key, 7)
        twins = TwinCritic(*(Network([4, 128, 128, 1], key) for key in for_critics))
        state = core.init(make_policy(for_policy, components), twins, budget.alpha)
        zero = jnp.zeros(2)
        buffer = Replay.like(Pair(zero, zero, zero[0]), size)
        if critics.start:
            for_states, for_actions = jax.random.split(for_start)
            states = bandits.contexts(for_states, critics.start)
            actions = jax.random.uniform(for_actions, states.shape, minval=-1.0)
            buffer = buffer.extend(Pair(states, actions, bandits.reward(states, actions)))

        def step(carried: Any, key: Array, *, waits: bool) -> Any:
            state, buffer = carried
            for_states, for_action, for_batch, for_fresh, for_loss = jax.random.split(key, 5)
            states = bandits.contexts(for_states, critics.pairs)
            actions = act(jax.vmap(state.policy)(states), for_action, blended=False)
            rewards = bandits.reward(states, actions)
            buffer = buffer.extend(Pair(states, actions, rewards))
            batch = buffer.sample(for_batch, critics.batch)
            state, _ = core.fit_critics(state, batch.state, batch.action, batch.reward)
            if not waits:
                state, *_ = core.fit_policy(state, bandits.contexts(for_fresh, budget.batch), for_loss)
            return (state, buffer), jnp.mean(rewards)

        carried = (state, buffer)
        waiting, learning = (functools.partial(step, waits=waits) for waits in (True, False))
        carried, _ = scanned(waiting, carried, jax.random.split(for_alone, critics.alone))
        (state, _), rewards = scanned(learning, carried, jax.random.split(for_steps, budget.updates))
        for_states, for_actions = jax.random.split(for_error)
        states = bandits.contexts(for_states, 4096)
        actions = jax.random.uniform(for_actions, states.shape, minval=-1.0)
        off = jax.vmap(state.critics)(states, actions) - bandits.reward(states, actions)
        return state.policy, rewards, jnp.sqrt(jnp.mean(off**2))

    return eqx.filter_vmap(one)(keys)


@dataclass(frozen=True)
class PPOBudget:
    """Of a training by PPO: about as many contexts and updates as of the others."""

    rounds: int = 64
    collected: int = 2048
    epochs: int = 4
    batch: int = 256
    rate: float = 1e-3


@eqx.filter_jit
def by_ppo(keys: Array, *, budget: PPOBudget, components: int) -> tuple[GaussianMixturePolicy, Array]:
    """Train a policy for each key by PPO, for episodes of one step; actions are moved into the box.

    Returns the policies, and the mean reward of each round.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(budget.rate))
    core = PPO(optimizer, epochs=budget.epochs, batch=budget.batch)

    def one(key: Array) -> tuple[GaussianMixturePolicy, Array]:
        for_policy, for_value, for_q, for_rounds = jax.random.split(key, 4)
        value, q = Network([2, 64, 64, 1], for_value, last_scale=1.0), Network([4, 64, 64, 1], for_q, last_scale=1.0)
        model = PPOModel(make_policy(for_policy, components, scale=None), value, q)

        def collect(carried: Any, key: Array) -> Any:
            model, state = carried
            for_states, for_actions, for_update = jax.random.split(key, 3)
            states = bandits.contexts(for_states, budget.collected)
            drawn = jax.vmap(model.policy)(states).sample(for_actions)
            rewards = bandits.reward(states, bandits.inside(drawn.action))
            values = jax.vmap(model.state_value)(states)
            batch = PPOBatch(states, drawn.action, drawn.log_prob, rewards - values, rewards, values)
            model, state, _ = core.update(model, state, batch, for_update)
            return (model, state), jnp.mean(rewards)

        (model, _), rewards = scanned(collect, (model, core.init(model)), jax.random.split(for_rounds, budget.rounds))
        return model.policy, rewards

    return eqx.filter_vmap(one)(keys)
