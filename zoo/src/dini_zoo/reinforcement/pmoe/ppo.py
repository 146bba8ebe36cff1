r"""The mixture of experts in PPO: the mixture's ratio, and a Q-network that ranks components' samples for the gate.

.. math::

    L = -\mathrm{mean} \min\bigl(\rho A,\; \mathrm{clip}(\rho, 1 \pm \epsilon) A\bigr)
        + c_v L_V + L_Q + \mathrm{mean}_s \frac1K \sum_i (w_i - v_i)^2,
    \qquad \rho = \frac{\pi(a | s)}{\pi_{\mathrm{old}}(a | s)}.

The gate has the surrogate's gradient as well as that of frequencies. :math:`L_V` is the larger one of the squared
errors of the value and of the value clipped to :math:`\epsilon` around the old one, :math:`L_Q` the squared error of
:math:`Q(s, a)` beside the return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, one_length, positive

from ..mixtures import GaussianMixturePolicy
from .gates import frequency_gate_loss, win_shares


class PPOModel(eqx.Module):
    """What PPO trains."""

    policy: GaussianMixturePolicy
    value: Callable[[Any], Any]
    """From a state to one number in an array."""
    q: Callable[[Any], Any]
    """From a state and an action side by side to one number in an array."""

    def state_value(self, state: Float[Array, " s"]) -> Float[Array, ""]:
        """V."""
        return self.value(state)[0]

    def action_value(self, state: Float[Array, " s"], action: Float[Array, " d"]) -> Float[Array, ""]:
        """Q."""
        return self.q(jnp.concatenate([state, action]))[0]


class PPOBatch(NamedTuple):
    """Steps of the old policy, with an axis for them in front."""

    state: Float[Array, "n s"]
    action: Float[Array, "n d"]
    log_prob: Float[Array, " n"]
    """The mixture's, when the action was drawn."""
    advantage: Float[Array, " n"]
    """Such as `trajectories.generalized_advantages` finds it, where time-outs keep their value."""
    returned: Float[Array, " n"]
    """What values learn: the advantage and the old value together."""
    value: Float[Array, " n"]
    """The old one."""


class PPOFigures(NamedTuple):
    """What a loss is made of."""

    surrogate: Float[Array, ""]
    value: Float[Array, ""]
    q: Float[Array, ""]
    gate: Float[Array, ""]
    clipped: Float[Array, ""]
    """The share of steps whose ratio is clipped."""
    wins: Float[Array, " K"]


@dataclass(frozen=True)
class PPO:
    r"""Proximal policy optimization of a mixture of experts.

    Parameters
    ----------
    optimizer
        An optax transformation, with the clipping of gradients in it.
    clip
        :math:`\epsilon`.
    value_coefficient
        :math:`c_v`.
    epochs, batch
        Passes through what was collected, and steps in a minibatch.
    normalize
        Whether a minibatch's advantages are shifted and scaled to mean zero and deviation one.

    Raises
    ------
    ValueError
        If a setting is not positive, or the minibatch does not divide what was collected.
    """

    optimizer: optax.GradientTransformation
    clip: float = 0.2
    value_coefficient: float = 0.5
    epochs: int = 10
    batch: int = 64
    normalize: bool = True

    def __post_init__(self) -> None:
        positive("clip", self.clip)
        at_least("epochs", self.epochs, 1)
        at_least("batch", self.batch, 1)

    def init(self, model: PPOModel) -> Any:
        """The optimizer's state."""
        return self.optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    def loss(self, model: PPOModel, batch: PPOBatch, key: Array) -> tuple[Float[Array, ""], PPOFigures]:
        """The loss of a minibatch; the key is for the samples that are ranked."""
        mixture = jax.vmap(model.policy)(batch.state)
        ratio = jnp.exp(mixture.log_prob(batch.action) - batch.log_prob)
        advantage = batch.advantage
        if self.normalize:
            advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
        within = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        surrogate = -jnp.mean(jnp.minimum(ratio * advantage, within * advantage))
        value = jax.vmap(model.state_value)(batch.state)
        near = batch.value + jnp.clip(value - batch.value, -self.clip, self.clip)
        of_value = jnp.mean(jnp.maximum((value - batch.returned) ** 2, (near - batch.returned) ** 2))
        of_q = jnp.mean((jax.vmap(model.action_value)(batch.state, batch.action) - batch.returned) ** 2)
        draws = jax.lax.stop_gradient(mixture.draw(key))
        ranked = jax.vmap(jax.vmap(model.action_value, (None, 0)))(batch.state, draws.action)
        q_values = jax.lax.stop_gradient(ranked)
        of_gate = frequency_gate_loss(mixture.logits, q_values)
        whole = surrogate + self.value_coefficient * of_value + of_q + of_gate
        outside = jnp.mean(jnp.abs(ratio - 1) > self.clip)
        wins = jnp.mean(win_shares(q_values), axis=0)
        return whole, PPOFigures(surrogate, of_value, of_q, of_gate, outside, wins)

    def update(self, model: PPOModel, state: Any, collected: PPOBatch, key: Array) -> tuple[PPOModel, Any, PPOFigures]:
        """All passes through what was collected, in orders that the key draws; figures are means over minibatches."""
        count = one_length("collected", collected)
        if count % self.batch:
            raise ValueError(f"batch must divide the steps that were collected, {count}: given {self.batch}.")
        arrays, static = eqx.partition(model, eqx.is_inexact_array)

        def minibatch(carried: Any, given: Any) -> Any:
            arrays, state = carried
            indices, key = given
            batch = jax.tree.map(lambda leaf: leaf[indices], collected)
            loss = lambda arrays: self.loss(eqx.combine(arrays, static), batch, key)
            slope, figures = jax.grad(loss, has_aux=True)(arrays)
            updates, state = self.optimizer.update(slope, state, arrays)
            return (optax.apply_updates(arrays, updates), state), figures

        for_orders, for_samples = jax.random.split(key)
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(for_orders, self.epochs))
        orders = orders.reshape(-1, self.batch)
        keys = jax.random.split(for_samples, len(orders))
        (arrays, state), figures = jax.lax.scan(minibatch, (arrays, state), (orders, keys))
        return eqx.combine(arrays, static), state, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), figures)
