r"""Reconstructions: a residual network, and a layer with tied weights, which has an energy."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, one_of, positive

from ..networks import normal_init

#: Nonlinearities, and a function of which each is the derivative.
ACTIVATIONS = {
    "sigmoid": (jax.nn.sigmoid, jax.nn.softplus),
    "tanh": (jnp.tanh, lambda z: jnp.logaddexp(z, -z) - jnp.log(2.0)),
}


class Residual(eqx.Module):
    r""":math:`r(x) = x + f(x)`, with two hidden layers of tanh in :math:`f`.

    Without the first term a network spends its accuracy on the identity, and the score, an error of which is divided by
    :math:`s^2`, is lost.

    Examples
    --------
    >>> Residual(2, width=8, key=jax.random.key(0))(jnp.zeros((5, 2))).shape
    (5, 2)
    """

    weights: tuple[Array, ...]
    offsets: tuple[Array, ...]

    def __init__(self, size: int, *, width: int = 128, key: Array):
        at_least("width", width, 1)
        one, other = jax.random.split(key)
        # at first a point is its own reconstruction: displacements are as small as the noise's variance
        self.weights = (normal_init(one, width, size), normal_init(other, width, width), jnp.zeros((size, width)))
        self.offsets = (jnp.zeros(width), jnp.zeros(width), jnp.zeros(size))

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Of points."""
        h = x
        for W, b in zip(self.weights[:-1], self.offsets[:-1], strict=True):
            h = jnp.tanh(h @ W.T + b)
        return x + h @ self.weights[-1].T + self.offsets[-1]


class TiedAutoencoder(eqx.Module):
    r""":math:`r(x) = W^\top h(W x + b) + c`, whose displacement is a gradient.

    .. math:: r(x) - x = -s^2 \nabla E(x), \qquad
              s^2 E(x) = \tfrac12 \|x\|^2 - c^\top x - \sum_k H\big((W x + b)_k\big), \quad H' = h.

    Parameters
    ----------
    size, hidden
        Of a point, and hidden units.
    activation
        `"sigmoid"` or `"tanh"`; `ValueError` else.
    key
        Of the weights.
    """

    W: Float[Array, "k d"]
    b: Float[Array, " k"]
    c: Float[Array, " d"]
    activation: str = eqx.field(static=True)

    def __init__(self, size: int, hidden: int, *, activation: str = "sigmoid", key: Array):
        one_of("activation", activation, tuple(ACTIVATIONS))
        self.W, self.b, self.c = normal_init(key, hidden, size), jnp.zeros(hidden), jnp.zeros(size)
        self.activation = activation

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Of points."""
        h, _ = ACTIVATIONS[self.activation]
        return h(x @ self.W.T + self.b) @ self.W + self.c

    def energy(self, x: Float[Array, "... d"], s: Any) -> Float[Array, ...]:
        r""":math:`E(x)`, minus the log density up to a constant; `ValueError` for an `s` that is not positive."""
        positive("s", s)
        _, H = ACTIVATIONS[self.activation]
        wells = jnp.sum(H(x @ self.W.T + self.b), axis=-1)
        return (0.5 * jnp.sum(x**2, axis=-1) - x @ self.c - wells) / s**2
