"""Soft actor-critic with a mixture of experts on a control task, a step of the task and an update at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ..environments import Environment, Transition
from ..mixtures import GaussianMixturePolicy
from ..policies import Network
from ..replay import Replay
from ..sac import SAC, TwinCritic, plain_sample, scanned
from ..trajectories import episode_returns
from .losses import Backprop, Entropy, mixture_policy_loss


@dataclass(frozen=True)
class ControlBudget:
    """Of one training."""

    steps: int = 15_000
    """Of the task, each with one update after the first ones."""
    random: int = 1000
    """The first steps, with uniform actions and without updates."""
    batch: int = 64
    hidden: int = 64
    """Units of each of two layers, of all networks but the gate, which is linear."""
    rate: float = 1e-3
    tau: float = 1e-2
    reward_scale: float = 0.1


class Controlled(NamedTuple):
    """What a training led to; with an axis in front, what those of all seeds did."""

    reward: Float[Array, "*axes T"]
    """Of every step."""
    ended: Any
    """Whether an episode ended with the step."""
    alpha: Float[Array, "*axes"]
    """The temperature at the end."""
    wins: Float[Array, "*axes K"]
    """How often each component's sample was the best one, over the last tenth of the updates."""
    weights: Float[Array, "*axes K"]
    greedy: Float[Array, "*axes episodes"]
    """Returns after the training, of the largest weight's mean."""


def component_sample(policy: GaussianMixturePolicy, key: Array, state: Array) -> tuple[Array, Array]:
    """An action, and its log-density under the component that it was drawn from, as the published code has it."""
    found = policy.sample(key, state)
    return found.action, found.component_log_prob


def mixture_sac(
    optimizer: optax.GradientTransformation,
    *,
    backprop: Backprop = "max",
    entropy: Entropy = "component",
    **options: Any,
) -> SAC:
    """SAC of a mixture of experts; `entropy` says which density enters critics' targets and the policy's loss.

    `options` are those of `SAC`: discount, tau, target_entropy.
    """
    loss = functools.partial(mixture_policy_loss, backprop=backprop, entropy=entropy)
    sample = component_sample if entropy == "component" else plain_sample
    return SAC(optimizer, policy_loss=loss, sample=sample, **options)


@functools.partial(jax.jit, static_argnames=("environment", "budget", "components", "backprop"))
def control(
    keys: Array, *, environment: Environment, budget: ControlBudget, components: int, backprop: Backprop = "max"
) -> Controlled:
    """Train for each key. With one component this is SAC."""
    size = environment.actions
    core = mixture_sac(optax.adam(budget.rate), backprop=backprop, tau=budget.tau, target_entropy=-float(size))

    def one(key: Array) -> Controlled:
        for_trunk, for_gate, *for_critics, for_start, for_random, for_steps, for_greedy = jax.random.split(key, 8)
        hidden = [budget.hidden] * 2
        trunk = Network([environment.observations, *hidden, 2 * components * size], for_trunk, last_scale=1e-2)
        gate = Network([environment.observations, components], for_gate, last_scale=1e-2)
        policy = GaussianMixturePolicy(trunk, gate, components=components, action_size=size, scale=environment.bound)
        twins = (Network([environment.observations + size, *hidden, 1], key) for key in for_critics)
        state = core.init(policy, TwinCritic(*twins))
        running = environment.start(for_start)
        _, like = jax.eval_shape(environment.advance, for_start, running, jnp.zeros(size))
        buffer = Replay.like(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like), budget.steps)

        def seen(running: Any, buffer: Any, key: Array, action: Array) -> tuple[Any, Any, Transition]:
            running, step = environment.advance(key, running, action)
            return running, buffer.add(step), step

        def at_random(carried: Any, key: Array) -> Any:
            for_action, for_step = jax.random.split(key)
            action = environment.bound * jax.random.uniform(for_action, (size,), minval=-1.0)
            running, buffer, step = seen(*carried, for_step, action)
            return (running, buffer), (step.reward, step.terminal | step.truncated)

        def learning(carried: Any, key: Array) -> Any:
            state, running, buffer = carried
            for_action, for_step, for_batch, for_update = jax.random.split(key, 4)
            action, _ = core.sample(state.policy, for_action, running.observation)
            running, buffer, step = seen(running, buffer, for_step, action)
            batch = buffer.sample(for_batch, budget.batch)
            batch = batch._replace(reward=budget.reward_scale * batch.reward)
            state, info = core.step(state, batch, for_update)
            outcome = (step.reward, step.terminal | step.truncated), (info.figures.wins, info.figures.weights)
            return (state, running, buffer), outcome

        carried, first = scanned(at_random, (running, buffer), jax.random.split(for_random, budget.random))
        keys = jax.random.split(for_steps, budget.steps - budget.random)
        (state, *_), (then, shares) = scanned(learning, (state, *carried), keys)
        reward, ended = (jnp.concatenate(both) for both in zip(first, then, strict=True))
        last = max(1, len(keys) // 10)
        wins, weights = (jnp.mean(share[-last:], axis=0) for share in shares)
        mode = lambda _, seen: state.policy.mode(seen)
        greedy = episode_returns(environment, mode, for_greedy, 10)
        return Controlled(reward, ended, jnp.exp(state.log_alpha), wins, weights, greedy)

    return jax.vmap(one)(keys)
