r"""Variational autoencoders: images in a few normal numbers, and the bound they are trained by.

.. math::
    \min\; E \Big[ \|x - D(z)\|^2 + \beta\, \mathrm{KL}\big(N(m, \mathrm{diag}\, e^{l}) \,\|\, N(0, I)\big) \Big],
    \qquad (m, l) = E(x), \quad z = m + e^{l / 2} n,

with sums over numbers: the squares are those of a normal law of variance 1/2.

References
----------
Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014 (arXiv 1312.6114). Higgins and others, "beta-VAE",
ICLR 2017, for :math:`\beta`.
"""

from __future__ import annotations

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, not_negative


class Autoencoder(Protocol):
    """What a loss asks of a variational autoencoder, of any form."""

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Means and log variances `(n, k)` of the codes of data `(n, ...)`."""
        ...

    def decode(self, z: Array) -> Array:
        """Data of codes `(n, k)`."""
        ...


class VAE(eqx.Module):
    r"""A variational autoencoder of vectors in [0, 1]: layers with silu, and a sigmoid at the end.

    Parameters
    ----------
    size
        Numbers in a point.
    latent
        Numbers in a code.
    widths
        Of the encoder's hidden layers; the decoder has them in reverse.
    key
        Of the weights.

    Examples
    --------
    >>> vae = VAE(64, 8, key=jax.random.key(0))
    >>> mean, log_variance = vae.encode(jnp.zeros((5, 64)))
    >>> mean.shape, vae.decode(mean).shape
    ((5, 8), (5, 64))
    """

    encoder: tuple[eqx.nn.Linear, ...]
    decoder: tuple[eqx.nn.Linear, ...]

    def __init__(self, size: int, latent: int, *, widths: tuple[int, ...] = (128,), key: Array):
        at_least("latent", latent, 1)
        inward, outward = (size, *widths, 2 * latent), (latent, *reversed(widths), size)
        keys = jax.random.split(key, 2 * (len(widths) + 1)).reshape(2, -1)
        self.encoder, self.decoder = (
            tuple(eqx.nn.Linear(n, m, key=key) for n, m, key in zip(sizes[:-1], sizes[1:], row, strict=True))
            for sizes, row in zip((inward, outward), keys, strict=True)
        )

    def encode(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
        """Means and log variances of the codes."""
        mean, log_variance = jnp.split(_through(self.encoder, x), 2, axis=-1)
        return mean, log_variance

    def decode(self, z: Float[Array, "n k"]) -> Float[Array, "n d"]:
        """Data of codes; raises `ValueError` where they have another number of numbers."""
        latent = self.decoder[0].weight.shape[1]
        if z.shape[-1] != latent:
            raise ValueError(f"z must have {latent} numbers a code: given shape {z.shape}.")
        return jax.nn.sigmoid(_through(self.decoder, z))


def _through(layers: tuple[eqx.nn.Linear, ...], h: Array) -> Array:
    for layer in layers[:-1]:
        h = jax.nn.silu(h @ layer.weight.T + layer.bias)
    return h @ layers[-1].weight.T + layers[-1].bias


def sample_code(key: Array, mean: Float[Array, "n k"], log_variance: Float[Array, "n k"]) -> Float[Array, "n k"]:
    r""":math:`m + e^{l/2} n`, with derivatives in both."""
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


def normal_kl(mean: Float[Array, "n k"], log_variance: Float[Array, "n k"]) -> Float[Array, " n"]:
    r""":math:`\mathrm{KL}(N(m, \mathrm{diag}\, e^l) \| N(0, I)) = \tfrac12 \sum (m^2 + e^l - 1 - l)` of each point."""
    # e^l - 1 - l as it is would cancel near l = 0
    return 0.5 * jnp.sum(mean**2 + jnp.expm1(log_variance) - log_variance, axis=-1)


def vae_loss(model: Autoencoder, x: Float[Array, "n ..."], key: Array, *, beta: float = 1.0) -> Float[Array, ""]:
    r"""Squared errors of the reconstruction plus :math:`\beta` times the divergence: sums, and a mean over points.

    Raises `ValueError` for a negative `beta`, and a reconstruction that has another shape than `x`.
    """
    not_negative("beta", beta)
    mean, log_variance = model.encode(x)
    again = model.decode(sample_code(key, mean, log_variance))
    if again.shape != x.shape:
        raise ValueError(f"The reconstruction must have the shape of x, {x.shape}: given {again.shape}.")
    errors = jnp.sum(((x - again) ** 2).reshape(len(x), -1), axis=1)
    return jnp.mean(errors + beta * normal_kl(mean, log_variance))
