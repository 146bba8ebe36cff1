r"""Offline learning and imitation from batches of records: a value function and a weighted clone, and no third network.

One step takes :math:`V` along `dice_gradients`, its copy after it, and the policy along the gradient of

.. math:: -E_D\bigl[\min(w(y), w_{\max}) \log \pi(a | s)\bigr], \qquad y = r + \gamma \bar V(s') - V(s),

with the weights that :math:`V` gave *before* the step. No action is judged that is not in the data. Imitation is the
same step with :math:`r = 0` on an expert's records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import known, not_negative, positive, same_shape

from ..grids import discount_factor
from ..policies import polyak
from .conjugates import Divergence, Weight, action_weights
from .gradients import Aux, Mode, Transitions, dice_gradients, trade_off


def weighted_bc_loss(
    log_prob_fn: Callable[[Any, Any, Any], Array],
    policy_params: Any,
    batch: Transitions,
    weights: Float[Array, " n"],
    max_weight: Float[Array, ""] | float = 100.0,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""The loss :math:`-E_D[\min(w, w_{\max}) \log \pi(a | s)]` of a policy; the weights have no derivative.

    Parameters
    ----------
    log_prob_fn
        `log_prob_fn(policy_params, observations, actions)`, one number for each record. Of a squashed policy it must be
        finite on the edge of the box, as that of `SquashedGaussian` is.
    policy_params
        Of the policy.
    batch
        The records.
    weights
        Of each; where one is zero, the log-probability may be anything.
    max_weight
        :math:`w_{\max}`.
    axis_name
        Over which mapped axis the batch is divided; what comes back is this part's, to be summed.

    Raises
    ------
    ValueError
        For weights that are not one for each record, or negative; a greatest one that is not positive.
    """
    same_shape("weights", weights, "the rewards", jnp.shape(batch.reward))
    not_negative("weights", weights)
    positive("max_weight", max_weight)
    weights = jax.lax.stop_gradient(jnp.minimum(weights, max_weight))
    log_prob = log_prob_fn(policy_params, batch.observation, batch.action)
    same_shape("the output of log_prob_fn", log_prob, "the rewards", jnp.shape(batch.reward))
    counted = weights > 0
    return -jnp.sum(batch.shares(axis_name) * weights * jnp.where(counted, log_prob, 0.0))


class State(NamedTuple):
    """What is carried from step to step."""

    value: Any
    target: Any
    policy: Any
    value_state: Any
    policy_state: Any
    steps: Int[Array, ""]


class Report(NamedTuple):
    """What a step showed."""

    dual: Aux
    policy_loss: Float[Array, ""]
    weight: Float[Array, ""]
    """The mean weight of an action."""


@dataclass(frozen=True)
class Learner:
    r"""How to learn: the networks as functions, their optimizers, and the numbers of the method.

    Parameters
    ----------
    value_fn
        `value_fn(params, observations)`, see `dice_gradients`; rows of an ensemble where there are twins.
    log_prob_fn
        `log_prob_fn(params, observations, actions)`.
    value_optimizer, policy_optimizer
        Optax transformations; weight decay is theirs.
    lam, gamma, eta, mode, divergence
        See `dice_gradients`.
    target_rate
        By how much the copy :math:`\bar V` follows in a step.
    weight, max_weight
        See `action_weights` and `weighted_bc_loss`.
    axis_name
        Over which mapped axis batches are divided: gradients are summed, and the projection is that of the whole.

    Raises
    ------
    ValueError
        For numbers out of their range, or names that do not exist.
    """

    value_fn: Callable[[Any, Any], Array]
    log_prob_fn: Callable[[Any, Any, Any], Array]
    value_optimizer: optax.GradientTransformation
    policy_optimizer: optax.GradientTransformation
    lam: Any = 0.6
    gamma: Any = 0.99
    eta: Any = 1.0
    mode: Mode = "orthogonal"
    divergence: Divergence = "pearson_chi2"
    target_rate: Any = 0.005
    weight: Weight = "relu"
    max_weight: Any = 100.0
    axis_name: str | None = None

    def __post_init__(self) -> None:
        trade_off("lam", self.lam)
        discount_factor("gamma", self.gamma)
        not_negative("eta", self.eta)
        positive("max_weight", self.max_weight)
        if known(self.target_rate) and not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate must be in (0, 1]: given {self.target_rate}.")
        action_weights(np.zeros(1), self.weight, self.divergence)  # raises where the two do not fit

    def init(self, value_params: Any, policy_params: Any) -> State:
        """The state before the first step; the copy begins as the value function."""
        value_state, policy_state = self.value_optimizer.init(value_params), self.policy_optimizer.init(policy_params)
        return State(value_params, value_params, policy_params, value_state, policy_state, jnp.zeros((), jnp.int32))


def odice_step(learner: Learner, state: State, batch: Transitions) -> tuple[State, Report]:
    """One step of the value function, its copy and the policy on a batch of records; pure, to be jitted or scanned.

    Examples
    --------
    Two states in turn, and an action that is rewarded in both:

    >>> import jax, jax.numpy as jnp, optax
    >>> states, actions = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
    >>> batch = Transitions(states, actions, 10.0 * actions, 1 - states, jnp.zeros(4, bool))
    >>> log_prob = lambda p, s, a: jax.nn.log_softmax(p[s])[jnp.arange(len(s)), a]
    >>> learner = Learner(lambda v, s: v[s], log_prob, optax.adam(0.1), optax.adam(0.1), gamma=0.5)
    >>> state = learner.init(jnp.zeros(2), jnp.zeros((2, 2)))
    >>> state, _ = jax.lax.scan(lambda s, _: odice_step(learner, s, batch), state, length=300)
    >>> print(jax.nn.softmax(state.policy)[:, 1] > 0.9)
    [ True  True]
    """
    gradient, dual = dice_gradients(
        learner.value_fn,
        state.value,
        state.target,
        batch,
        lam=learner.lam,
        gamma=learner.gamma,
        eta=learner.eta,
        mode=learner.mode,
        divergence=learner.divergence,
        axis_name=learner.axis_name,
    )
    weights = action_weights(dual.residual, learner.weight, learner.divergence)

    def clone(params: Any) -> Array:
        return weighted_bc_loss(
            learner.log_prob_fn, params, batch, weights, learner.max_weight, axis_name=learner.axis_name
        )

    found = (*jax.value_and_grad(clone)(state.policy), jnp.sum(batch.shares(learner.axis_name) * weights))
    loss, by_policy, mean = found if learner.axis_name is None else jax.lax.psum(found, learner.axis_name)
    updates, value_state = learner.value_optimizer.update(gradient, state.value_state, state.value)
    value = optax.apply_updates(state.value, updates)
    updates, policy_state = learner.policy_optimizer.update(by_policy, state.policy_state, state.policy)
    policy = optax.apply_updates(state.policy, updates)
    target = polyak(state.target, value, learner.target_rate)
    return State(value, target, policy, value_state, policy_state, state.steps + 1), Report(dual, loss, mean)


def odice_imitation_step(learner: Learner, state: State, expert_batch: Transitions) -> tuple[State, Report]:
    r"""The step on an expert's records, with no reward, whatever the records say.

    Raises
    ------
    ValueError
        For :math:`\lambda \ge 1/2` with ``weight="relu"``: the mean residual is :math:`2 ((1 - \lambda) / \lambda - 1)`
        or less, and every weight may vanish. The paper's value is .4.
    """
    if learner.weight == "relu" and known(learner.lam) and np.any(np.asarray(learner.lam) >= 0.5):
        raise ValueError(
            f"lam must be below 0.5 in imitation with weight='relu', whose weights all vanish else: given "
            f"{learner.lam}. Take lam=0.4, or weight='conjugate'."
        )
    return odice_step(learner, state, replace(expert_batch, reward=jnp.zeros_like(expert_batch.reward)))
