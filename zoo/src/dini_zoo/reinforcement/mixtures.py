r"""Gaussian mixtures as policies, squashed into a box or not: every component's own sample, and exact log-densities.

A mixture of :math:`K` Gaussians with diagonal covariances, whose samples :math:`u` a hyperbolic tangent takes into the
box :math:`(-c, c)^d`:

.. math::

    \pi(a | s) = \sum_i w_i(s)\, p_i(a | s), \qquad
    \log p_i(a | s) = \log N(u; \mu_i, \sigma_i) - \sum_d \bigl[\log(1 - \tanh^2 u_d) + \log c\bigr],
    \qquad a = c \tanh u.

Sums over components are taken of logarithms, so that no density underflows. Where a sample is at hand its density is
that of :math:`u`: the action alone has lost what rounding took at the box's faces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, finite, positive, within

from .policies import drawn_log_density, log_normal, squash, squashed_log_density, unsquash


class Draws(NamedTuple):
    """One sample of each component."""

    action: Float[Array, "*axes K d"]
    latent: Float[Array, "*axes K d"]
    """Before squashing."""
    log_prob: Float[Array, "*axes K"]
    r""":math:`\log p_i(a_i)`, of each component's sample under that component alone."""


class Sample(NamedTuple):
    """One sample of the mixture."""

    action: Float[Array, "*axes d"]
    log_prob: Float[Array, "*axes"]
    """Under the mixture."""
    component_log_prob: Float[Array, "*axes"]
    """Under the component that it was drawn from."""
    component: Int[Array, "*axes"]


class Mixture(eqx.Module):
    r"""A mixture of diagonal Gaussians over actions, any number of states at once.

    Parameters
    ----------
    logits
        Of the weights, :math:`w = \mathrm{softmax}`, shape `(..., K)`.
    mean, log_std
        Of the components, shape `(..., K, d)`.
    scale
        :math:`c`, half of the box's edge; without it samples are not squashed.

    Raises
    ------
    ValueError
        If there is no component, shapes do not fit, a logit that is known is not finite, or the scale is not positive.
    """

    logits: Float[Array, "*axes K"]
    mean: Float[Array, "*axes K d"]
    log_std: Float[Array, "*axes K d"]
    scale: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if np.ndim(self.logits) < 1:
            raise ValueError("logits must have an axis for the components: given a number.")
        at_least("the number of components", np.shape(self.logits)[-1], 1)
        if np.shape(self.mean)[:-1] != np.shape(self.logits):
            raise ValueError(
                f"mean must have the shape of logits and an axis for actions: given {np.shape(self.mean)} for logits "
                f"of {np.shape(self.logits)}."
            )
        if np.shape(self.log_std) != np.shape(self.mean):
            raise ValueError(
                f"log_std must have the shape of mean, {np.shape(self.mean)}: given {np.shape(self.log_std)}."
            )
        if self.scale is not None:
            positive("scale", self.scale)
        finite("logits", self.logits)

    @property
    def log_weights(self) -> Float[Array, "*axes K"]:
        r""":math:`\log w`."""
        return jax.nn.log_softmax(self.logits, axis=-1)

    @property
    def weights(self) -> Float[Array, "*axes K"]:
        r""":math:`w`."""
        return jax.nn.softmax(self.logits, axis=-1)

    def squash(self, u: Float[Array, "*axes d"]) -> Float[Array, "*axes d"]:
        """The action of a latent."""
        return u if self.scale is None else squash(u, self.scale)

    def unsquash(self, action: Float[Array, "*axes d"]) -> Float[Array, "*axes d"]:
        """The latent of an action; of one at the box's face, or outside, that of an action `EDGE` within it."""
        return action if self.scale is None else unsquash(action, self.scale)

    def draw(self, key: Array) -> Draws:
        """One sample of each component, as a differentiable function of means and deviations."""
        z = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        u = self.mean + jnp.exp(self.log_std) * z
        return Draws(self.squash(u), u, jnp.sum(drawn_log_density(z, u, self.log_std, self.scale), axis=-1))

    def choose(self, key: Array) -> Int[Array, "*axes"]:
        """A component for each state, drawn by the weights."""
        return jax.random.categorical(key, self.logits, axis=-1)

    def sample(self, key: Array) -> Sample:
        """A component drawn by the weights, and its sample."""
        for_component, for_noise = jax.random.split(key)
        draws, index = self.draw(for_noise), self.choose(for_component)
        one = lambda values: jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
        return Sample(pick(draws.action, index), one(self.draws_log_prob(draws)), one(draws.log_prob), index)

    def draws_log_prob(self, draws: Draws, *, hold_weights: bool = False) -> Float[Array, "*axes K"]:
        """The mixture's log-density of each component's sample; weights may be held, so that no derivative has them."""
        each = (self.mean[..., None, :, :], self.log_std[..., None, :, :])
        under = _log_density(draws.latent[..., None, :], *each, self.scale)
        # a sample's own component knows it better: from the noise, and not from the latent's last digits
        own = np.eye(self.logits.shape[-1], dtype=bool)
        log_weights = jax.lax.stop_gradient(self.log_weights) if hold_weights else self.log_weights
        return jax.nn.logsumexp(log_weights[..., None, :] + jnp.where(own, draws.log_prob[..., None], under), axis=-1)

    def latent_component_log_prob(self, u: Float[Array, "*axes d"]) -> Float[Array, "*axes K"]:
        """The log-density of an action, given before squashing, under each component."""
        return _log_density(u[..., None, :], self.mean, self.log_std, self.scale)

    def latent_log_prob(self, u: Float[Array, "*axes d"]) -> Float[Array, "*axes"]:
        """The mixture's log-density of an action that is given before squashing."""
        return jax.nn.logsumexp(self.log_weights + self.latent_component_log_prob(u), axis=-1)

    def component_log_prob(self, action: Float[Array, "*axes d"]) -> Float[Array, "*axes K"]:
        """The log-density of an action under each component; see `unsquash` for actions at the box's face."""
        return self.latent_component_log_prob(self.unsquash(self._checked(action)))

    def log_prob(self, action: Float[Array, "*axes d"]) -> Float[Array, "*axes"]:
        """The mixture's log-density of an action; see `unsquash` for actions at the box's face."""
        return self.latent_log_prob(self.unsquash(self._checked(action)))

    def _checked(self, action: Any) -> Array:
        if np.ndim(action) < 1 or np.shape(action)[-1] != self.mean.shape[-1]:
            raise ValueError(
                f"action must have a last axis of length {self.mean.shape[-1]}, as the means have: given "
                f"{np.shape(action)}."
            )
        return jnp.asarray(action)

    def mode(self, key: Array | None = None) -> Float[Array, "*axes d"]:
        r""":math:`c \tanh \mu_i` of the component with the largest weight; with a key, of one drawn by the weights.

        It is the action of a component's mean, and not the point of largest density.
        """
        index = jnp.argmax(self.logits, axis=-1) if key is None else self.choose(key)
        return self.squash(pick(self.mean, index))


def _log_density(u: Array, mean: Array, log_std: Array, scale: float | None) -> Array:
    """Of actions given before squashing, summed over their entries."""
    found = log_normal(u, mean, log_std) if scale is None else squashed_log_density(u, mean, log_std, scale)
    return jnp.sum(found, axis=-1)


def pick(values: Float[Array, "*axes K d"], index: Int[Array, "*axes"]) -> Float[Array, "*axes d"]:
    """The entry of one component for each state; NaN where its index is traced, and none."""
    count = values.shape[-2]
    right = within("index", index, count)
    found = jnp.take_along_axis(values, index[..., None, None], axis=-2)[..., 0, :]
    return found if right is True else jnp.where(((index >= 0) & (index < count))[..., None], found, jnp.nan)


class GaussianMixturePolicy(eqx.Module):
    r"""A mixture of Gaussians whose weights, means and deviations are functions of the state.

    Parameters
    ----------
    trunk
        From a state to `2 K d` numbers, the means and the log-deviations; with `log_std` to `K d`, the means alone.
    gate
        From a state to the weights' logits, `K` numbers.
    components, action_size
        :math:`K` and :math:`d`.
    scale
        :math:`c`, half of the edge of the box of actions; without it they are not squashed.
    bounds
        Log-deviations are clipped to these, before their exponential is taken.
    log_std
        Log-deviations that do not depend on the state, shape `(K, d)`.

    Raises
    ------
    ValueError
        If there is no component or no action, the scale is not positive, bounds do not rise, or a network's output has
        another shape.
    """

    trunk: Callable[[Any], Any]
    gate: Callable[[Any], Any]
    log_std: Float[Array, "K d"] | None
    components: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    scale: float | None = eqx.field(static=True)
    bounds: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        trunk: Callable[[Any], Any],
        gate: Callable[[Any], Any],
        *,
        components: int,
        action_size: int,
        scale: float | None = 1.0,
        bounds: tuple[float, float] = (-20.0, 2.0),
        log_std: Any = None,
    ):
        at_least("components", components, 1)
        at_least("action_size", action_size, 1)
        if scale is not None:
            positive("scale", scale)
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds must rise: given {bounds}.")
        if log_std is not None and np.shape(log_std) != (components, action_size):
            raise ValueError(f"log_std must have shape {(components, action_size)}: given {np.shape(log_std)}.")
        self.trunk, self.gate, self.components, self.action_size = trunk, gate, components, action_size
        self.scale, self.bounds = scale, bounds
        self.log_std = None if log_std is None else jnp.asarray(log_std)

    def __call__(self, state: Float[Array, " s"]) -> Mixture:
        """The mixture at a state; `jax.vmap` gives those of many as one."""
        out, logits = self.trunk(state), self.gate(state)
        each = self.components * self.action_size
        self._expect("gate", logits, self.components)
        self._expect("trunk", out, each if self.log_std is not None else 2 * each)
        shape = (self.components, self.action_size)
        log_std = out[each:].reshape(shape) if self.log_std is None else self.log_std
        return Mixture(logits, out[:each].reshape(shape), jnp.clip(log_std, *self.bounds), self.scale)

    @staticmethod
    def _expect(name: str, given: Any, size: int) -> None:
        if np.shape(given) != (size,):
            raise ValueError(f"The {name} must return an array of shape {(size,)}: given {np.shape(given)}.")

    def sample_all(self, key: Array, state: Float[Array, " s"]) -> Draws:
        """One sample of each component; see `Mixture.draw`."""
        return self(state).draw(key)

    def sample(self, key: Array, state: Float[Array, " s"]) -> Sample:
        """One sample of the mixture."""
        return self(state).sample(key)

    def log_prob(self, state: Float[Array, " s"], action: Float[Array, " d"]) -> Float[Array, ""]:
        """The mixture's log-density of an action."""
        return self(state).log_prob(action)

    def mode(self, state: Float[Array, " s"], key: Array | None = None) -> Float[Array, " d"]:
        """The action of the mean of the component with the largest weight, or with a key of one that is drawn."""
        return self(state).mode(key)
