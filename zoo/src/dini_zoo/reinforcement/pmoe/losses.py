r"""Losses of a mixture policy: by frequencies, and by the estimators of the gate's gradient that it replaces.

All have one form: `loss(policy, q_fn, key, states, alpha)` returns the mean over states, of shape `(n, s)`, and figures
beside it. `q_fn(state, action)` is the value of one action; its own parameters are no part of what the loss is
differentiated by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import one_of, positive, returned

from ..mixtures import Draws, GaussianMixturePolicy, Mixture, pick
from .gates import GateLoss, frequency_gate_loss, win_shares

type Values = Callable[[Any, Any], Any]
Backprop = Literal["max", "all"]
Entropy = Literal["component", "mixture"]


class PolicyFigures(NamedTuple):
    """What a loss tells beside its value."""

    log_prob: Float[Array, " n"]
    """Of the actions whose entropy counts, for a temperature's step."""
    weights: Float[Array, " K"]
    """The gate's, averaged over states."""
    wins: Float[Array, " K"]
    """How often each component's sample was the best one; zeros where samples are not compared."""
    gate_loss: Float[Array, ""]
    """By frequencies; zero for other estimators."""


def _drawn(policy: GaussianMixturePolicy, key: Array, states: Any) -> tuple[Mixture, Draws]:
    """The mixtures of all states, and a sample of each component; each state has a key of its own."""
    mixture = jax.vmap(policy)(states)
    return mixture, jax.vmap(Mixture.draw)(mixture, jax.random.split(key, len(states)))


def _figures(mixture: Mixture, log_prob: Any, wins: Any = None, gate_loss: Any = 0.0) -> PolicyFigures:
    weights = jnp.mean(mixture.weights, axis=0)
    wins = jnp.zeros_like(weights) if wins is None else jnp.mean(wins, axis=0)
    return jax.lax.stop_gradient(PolicyFigures(log_prob, weights, wins, jnp.asarray(gate_loss)))


def _log_probs(mixture: Mixture, draws: Draws, entropy: Entropy) -> Float[Array, "*axes K"]:
    """Of each component's sample: under that component, or under the mixture with its weights held."""
    one_of("entropy", entropy, ("component", "mixture"))
    return draws.log_prob if entropy == "component" else mixture.draws_log_prob(draws, hold_weights=True)


def _scalar(q_fn: Values) -> Values:
    """The same, with an error where it returns no number but an array, which would broadcast."""
    return lambda state, action: returned("q_fn", q_fn(state, action), ())


def mixture_policy_loss(
    policy: GaussianMixturePolicy,
    q_fn: Values,
    key: Array,
    states: Float[Array, "n s"],
    alpha: Any,
    *,
    backprop: Backprop = "max",
    entropy: Entropy = "component",
    gate: GateLoss = "squared",
) -> tuple[Float[Array, ""], PolicyFigures]:
    r"""The loss of a mixture of experts by frequencies.

    One sample :math:`a_i` of each component, ranked by :math:`Q`; :math:`v_i` is one for the best. With
    `backprop="max"` the winner alone learns, with `"all"` every component does:

    .. math::

        L = \mathrm{mean}_s \sum_i v_i\, [\alpha \log p(a_i) - Q(s, a_i)]
            + \mathrm{mean}_s \frac1K \sum_i (w_i - v_i)^2,

    or the first sum without :math:`v_i`. The gate's gradient is the second term's alone. Samples that tie share the
    win. With one component this is the policy's loss of SAC.

    Parameters
    ----------
    policy
        The mixture.
    q_fn
        :math:`Q`, for twin critics their minimum.
    key
        For the samples.
    states
        Of shape `(n, s)`.
    alpha
        :math:`\alpha`, the temperature.
    backprop
        Which components learn.
    entropy
        :math:`p` is the density of the sample's own component, as in the published code, or the `"mixture"`'s, which
        is the soft objective proper: entropy is else under-counted, by at most :math:`\log K`. The weights in the
        mixture's density are held.
    gate
        The gate's loss, as in `frequency_gate_loss`.

    Returns
    -------
    loss
        A number.
    figures
        The winners' log-densities, weights, shares of wins, the gate's loss.

    Raises
    ------
    ValueError
        If a setting has another name.
    """
    one_of("backprop", backprop, ("max", "all"))
    mixture, draws = _drawn(policy, key, states)
    q_values = jax.vmap(jax.vmap(_scalar(q_fn), (None, 0)))(states, draws.action)
    log_probs = _log_probs(mixture, draws, entropy)
    wins = win_shares(q_values)
    costs = alpha * log_probs - q_values
    components = jnp.mean(jnp.sum(wins * costs if backprop == "max" else costs, axis=-1))
    by_frequency = frequency_gate_loss(mixture.logits, q_values, kind=gate)
    winners = jnp.sum(wins * log_probs, axis=-1)
    return components + by_frequency, _figures(mixture, winners, wins, by_frequency)


def gumbel_policy_loss(
    policy: GaussianMixturePolicy,
    q_fn: Values,
    key: Array,
    states: Float[Array, "n s"],
    alpha: Any,
    *,
    temperature: float = 1.0,
) -> tuple[Float[Array, ""], PolicyFigures]:
    r"""The loss with Gumbel-Softmax, straight through: a component is drawn, its derivative is a softened draw's.

    :math:`y = \mathrm{softmax}((\log w + G) / \tau)` is replaced by its largest entry's indicator in the value and kept
    in the derivative; :math:`a = \sum_i y_i a_i`, :math:`\log p = \sum_i y_i \log p_i(a_i)`.
    """
    positive("temperature", temperature)
    for_noise, for_gate = jax.random.split(key)
    mixture, draws = _drawn(policy, for_noise, states)
    gumbel = jax.random.gumbel(for_gate, mixture.logits.shape, mixture.logits.dtype)
    soft = jax.nn.softmax((mixture.log_weights + gumbel) / temperature, axis=-1)
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    y = jax.lax.stop_gradient(hard - soft) + soft
    log_prob = jnp.sum(y * draws.log_prob, axis=-1)
    q_values = jax.vmap(_scalar(q_fn))(states, jnp.sum(y[..., None] * draws.action, axis=-2))
    return jnp.mean(alpha * log_prob - q_values), _figures(mixture, log_prob)


def reinforce_policy_loss(
    policy: GaussianMixturePolicy, q_fn: Values, key: Array, states: Float[Array, "n s"], alpha: Any
) -> tuple[Float[Array, ""], PolicyFigures]:
    r"""REINFORCE, for all parameters: :math:`-\log \pi(a | s)\, [Q - \alpha \log \pi - b]` with the action held.

    :math:`b` is the mean over states of what stands before it.
    """
    for_noise, for_gate = jax.random.split(key)
    mixture, draws = _drawn(policy, for_noise, states)
    latent = jax.lax.stop_gradient(pick(draws.latent, mixture.choose(for_gate)))
    log_prob = mixture.latent_log_prob(latent)
    advantage = _centered(jax.vmap(_scalar(q_fn))(states, mixture.squash(latent)) - alpha * log_prob)
    return -jnp.mean(advantage * log_prob), _figures(mixture, log_prob)


def score_ratio_policy_loss(
    policy: GaussianMixturePolicy, q_fn: Values, key: Array, states: Float[Array, "n s"], alpha: Any
) -> tuple[Float[Array, ""], PolicyFigures]:
    r"""The gate by ratios of densities, components by their samples' derivatives.

    .. math:: \frac{\partial}{\partial w_i} E_\pi[Q] = E_{a \sim \pi}\Bigl[\frac{p_i(a)}{\pi(a)}\, Q(s, a)\Bigr],

    since :math:`\partial \pi / \partial w_i = p_i`; a constant may be taken from Q, for all ratios have mean one. The
    component that was drawn learns as in SAC. This is a reading of the paper's name for an estimator that it compares
    with, whose definition was not available.
    """
    for_noise, for_gate = jax.random.split(key)
    mixture, draws = _drawn(policy, for_noise, states)
    index = mixture.choose(for_gate)
    own = jnp.take_along_axis(draws.log_prob, index[:, None], axis=-1)[:, 0]
    q_values = jax.vmap(_scalar(q_fn))(states, pick(draws.action, index))
    latent = jax.lax.stop_gradient(pick(draws.latent, index))
    log_prob = mixture.latent_log_prob(latent)
    ratios = jnp.exp(mixture.latent_component_log_prob(latent) - log_prob[..., None])
    advantage = _centered(q_values - alpha * log_prob)
    gate = -jnp.mean(jnp.sum(mixture.weights * jax.lax.stop_gradient(ratios) * advantage[..., None], axis=-1))
    return jnp.mean(alpha * own - q_values) + gate, _figures(mixture, log_prob)


def blended_policy_loss(
    policy: GaussianMixturePolicy, q_fn: Values, key: Array, states: Float[Array, "n s"], alpha: Any
) -> tuple[Float[Array, ""], PolicyFigures]:
    r"""A plain mixture of experts: the action is the blend :math:`\sum_i w_i a_i`, whose density has one mode.

    The blend's density has no closed form: entropy counts as :math:`-\sum_i w_i \log p_i(a_i)`.
    """
    mixture, draws = _drawn(policy, key, states)
    log_prob = jnp.sum(mixture.weights * draws.log_prob, axis=-1)
    q_values = jax.vmap(_scalar(q_fn))(states, blend(mixture, draws.action))
    return jnp.mean(alpha * log_prob - q_values), _figures(mixture, log_prob)


def blend(mixture: Mixture, actions: Float[Array, "*axes K d"]) -> Float[Array, "*axes d"]:
    """One action for each component, averaged by the gate.

    Examples
    --------
    >>> mixture = Mixture(jnp.zeros(2), jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    >>> print(blend(mixture, jnp.array([[0.0], [1.0]])))
    [0.5]
    """
    return jnp.sum(mixture.weights[..., None] * actions, axis=-2)


def _centered(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """Less their mean, without a derivative."""
    return jax.lax.stop_gradient(values - jnp.mean(values))
