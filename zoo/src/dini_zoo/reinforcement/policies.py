"""Policies: networks of a stated initialization, and Gaussians that are squashed into a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dini_zoo.kit.checking import at_least, not_negative, positive

EDGE = 1e-6
"""How far from the edge of the box, in parts of its half width, an action is taken to be when its density is asked
for: on the edge itself the density of a squashed variable is 0 · ∞."""


class Network(eqx.Module):
    r"""A multilayer perceptron whose weights begin as He et al. (2015) say, with zero biases.

    .. math:: W_l \sim \mathcal N(0, 2 / n_{l-1}), \qquad W_L \sim \mathcal N(0, s^2 / n_{L-1})

    where `s` is `last_scale`; None for He's own, `√2`.

    Parameters
    ----------
    sizes
        The entries of the input, of each hidden layer and of the output.
    key
        For the weights.
    activation
        Of the hidden layers.
    last_scale
        `s`: a small one begins near the zero function, which policies and discriminators need.

    Raises
    ------
    ValueError
        For fewer than two sizes, or a size below one.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network = Network([3, 16, 2], jax.random.key(0), last_scale=1e-2)
    >>> network(jnp.ones(3)).shape
    (2,)
    """

    layers: list[eqx.nn.Linear]
    activation: Callable[[Array], Array]

    def __init__(
        self,
        sizes: Sequence[int],
        key: Key[Array, ""],
        *,
        activation: Callable[[Array], Array] = jax.nn.relu,
        last_scale: float | None = None,
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold the entries of input and output at least: given {tuple(sizes)}.")
        for size in sizes:
            at_least("sizes", size, 1)
        if last_scale is not None:
            not_negative("last_scale", last_scale)
        keys = jax.random.split(key, len(sizes) - 1)
        self.activation = activation
        self.layers = []
        for number, (inputs, outputs, one) in enumerate(zip(sizes[:-1], sizes[1:], keys, strict=True)):
            scale = np.sqrt(2.0) if last_scale is None or number < len(sizes) - 2 else last_scale
            weight = scale / np.sqrt(inputs) * jax.random.normal(one, (outputs, inputs))
            blank = eqx.nn.Linear(inputs, outputs, key=one)
            made = eqx.tree_at(lambda layer: (layer.weight, layer.bias), blank, (weight, jnp.zeros(outputs)))
            self.layers.append(made)

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        """The output for one input."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def log_normal(x: Array, mean: Array, log_deviation: Array) -> Array:
    """The logarithm of a normal density, entry by entry."""
    return -0.5 * ((x - mean) * jnp.exp(-log_deviation)) ** 2 - log_deviation - 0.5 * np.log(2 * np.pi)


def log_slope(u: Array) -> Array:
    r"""`log(1 - tanh(u)^2)`, exact where the plain formula has lost all digits (from `|u|` of about 9 in single).

    .. math:: \log(1 - \tanh^2 u) = 2 (\log 2 - u - \operatorname{softplus}(-2u))
    """
    return 2.0 * (np.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def squash(u: Array, bound: float | Array = 1.0) -> Array:
    """`bound · tanh(u)`."""
    positive("bound", bound)
    return bound * jnp.tanh(u)


def unsquash(action: Array, bound: float | Array = 1.0) -> Array:
    """The `u` of an action. One on the edge of the box, where there is none, is taken to be `EDGE` within it."""
    return jnp.arctanh(jnp.clip(action / bound, -1.0 + EDGE, 1.0 - EDGE))


def squashed_log_density(u: Array, mean: Array, log_deviation: Array, bound: float | Array = 1.0) -> Array:
    r"""The log-density of `a = c tanh(u)`, `u` normal, entry by entry.

    .. math:: \log p(a) = \log\mathcal N(u; \mu, \sigma^2) - \log(1 - \tanh^2 u) - \log c
    """
    return log_normal(u, mean, log_deviation) - log_slope(u) - jnp.log(bound)


def drawn_log_density(z: Array, u: Array, log_deviation: Array, bound: float | Array | None = 1.0) -> Array:
    r"""As `squashed_log_density` for a sample `u = μ + σ z`, from `z` itself; without a bound, of `u`.

    Where `σ` is below the last digits of `μ`, as single precision has it for `μ = 1` and `σ = 1e-8`, `z` cannot be had
    back from `u`.
    """
    density = log_normal(z, jnp.zeros_like(z), jnp.zeros_like(z)) - log_deviation
    return density if bound is None else density - log_slope(u) - jnp.log(bound)


class SquashedGaussian(eqx.Module):
    r"""A Gaussian policy that is squashed into the box `[-c, c]`.

    .. math:: a = c \tanh(\mu(s) + \sigma(s) z), \qquad z \sim \mathcal N(0, I)

    Parameters
    ----------
    network
        From an observation to the means and the logarithms of the deviations, `2 d` entries.
    bound
        `c`.
    limits
        Between which the logarithms of deviations are clipped.

    Raises
    ------
    ValueError
        For a bound that is not positive.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> policy = SquashedGaussian(Network([2, 16, 2], jax.random.key(0), last_scale=1e-2), bound=2.0)
    >>> action, density = policy.sample(jax.random.key(1), jnp.ones(2))
    >>> bool(jnp.allclose(density, policy.log_probability(jnp.ones(2), action), atol=1e-4))
    True
    """

    network: Callable[[Array], Array]
    bound: float = eqx.field(static=True, default=1.0)
    limits: tuple[float, float] = eqx.field(static=True, default=(-20.0, 2.0))

    def __check_init__(self) -> None:
        positive("bound", self.bound)

    def moments(self, observation: Float[Array, " n"]) -> tuple[Array, Array]:
        """The means and the logarithms of the deviations, before the squashing."""
        mean, log_deviation = jnp.split(self.network(observation), 2)
        return mean, jnp.clip(log_deviation, *self.limits)

    def sample(self, key: Key[Array, ""], observation: Float[Array, " n"]) -> tuple[Array, Array]:
        """An action, differentiable in the parameters, and its log-density."""
        mean, log_deviation = self.moments(observation)
        z = jax.random.normal(key, mean.shape, mean.dtype)
        u = mean + jnp.exp(log_deviation) * z
        return squash(u, self.bound), jnp.sum(drawn_log_density(z, u, log_deviation, self.bound))

    def log_probability(self, observation: Float[Array, " n"], action: Float[Array, " d"]) -> Float[Array, ""]:
        """The log-density of an action; on the edge of the box, of one `EDGE` within it."""
        return jnp.sum(squashed_log_density(unsquash(action, self.bound), *self.moments(observation), self.bound))

    def mode(self, observation: Float[Array, " n"]) -> Float[Array, " d"]:
        """The squashed mean: the action of an evaluation without noise."""
        return squash(self.moments(observation)[0], self.bound)


def polyak[T](target: T, source: T, rate: float | Array) -> T:
    """`(1 - rate) target + rate source` in all arrays of two trees: what target networks follow."""

    def follow(old: Any, new: Any) -> Any:
        return old + rate * (new - old) if eqx.is_inexact_array(old) else old

    return jax.tree.map(follow, target, source)
