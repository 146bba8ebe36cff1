r"""Vector quantization: each feature is replaced by the nearest row of a codebook, whose number is its code.

.. math::
    z = \arg\min_k \|h - Z_k\|^2, \qquad q = Z_z, \qquad
    L = \|\mathrm{sg}(h) - q\|^2 + \beta\, \|h - \mathrm{sg}(q)\|^2 .

What follows is given :math:`h + \mathrm{sg}(q - h)`: its value is :math:`q`, its derivative goes straight through to
the features. The codebook learns by the first term of the loss alone, so an entry that no feature is nearest to never
moves: watch `codebook_usage`.

References
----------
van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017 (arXiv 1711.00937).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, within


class Losses(NamedTuple):
    """Means over all numbers of the features."""

    codebook: Float[Array, ""]
    """Moves the codebook to the features."""
    commitment: Float[Array, ""]
    """Moves the features to the codebook."""


class Quantized(NamedTuple):
    """What features became."""

    indices: Int[Array, "*n"]
    """Their codes; -1 for a feature that is not finite."""
    quantized: Float[Array, "*n d"]
    """The nearest entries, with derivatives in the features."""
    losses: Losses


def nearest(h: Float[Array, "*n d"], codebook: Float[Array, "K d"]) -> Int[Array, "*n"]:
    """The number of the nearest entry, the first of equal ones; -1 for a feature without a finite distance."""
    # of differences: products of matrices cancel near distances where some entry is far away
    distances = jnp.sum((h[..., None, :] - codebook) ** 2, axis=-1)
    return jnp.where(jnp.all(jnp.isfinite(distances), axis=-1), jnp.argmin(distances, axis=-1), -1)


def vector_quantize(h: Float[Array, "*n d"], codebook: Float[Array, "K d"]) -> Quantized:
    """The nearest entries of a codebook, with straight-through derivatives, and both losses.

    Raises `ValueError` for features and a codebook of different lengths.

    Examples
    --------
    >>> found = vector_quantize(jnp.array([[0.9, 0.2], [0.1, 0.8]]), jnp.eye(2))
    >>> print(found.indices, found.losses.codebook.round(3))
    [0 1] 0.025
    """
    if codebook.ndim != 2 or h.shape[-1:] != codebook.shape[1:]:
        raise ValueError(
            f"codebook must be of shape (K, d), with features (..., d): given {codebook.shape} and {h.shape}."
        )
    indices = nearest(jax.lax.stop_gradient(h), jax.lax.stop_gradient(codebook))
    q = codebook[indices]
    fixed = jax.lax.stop_gradient
    losses = Losses(jnp.mean((fixed(h) - q) ** 2), jnp.mean((h - fixed(q)) ** 2))
    return Quantized(indices, h + fixed(q - h), losses)


def code_counts(indices: Int[Array, "*n"], codes: int) -> Int[Array, " K"]:
    """How often each code occurs; raises `ValueError` for indices that are known and no codes."""
    at_least("codes", codes, 1)
    within("indices", indices, codes)
    return jnp.bincount(jnp.ravel(jnp.asarray(indices)), length=codes)


def codebook_usage(indices: Int[Array, "*n"], codes: int, min_count: int = 10) -> Float[Array, ""]:
    """The share of codes that occur `min_count` times or more.

    Examples
    --------
    >>> print(codebook_usage(jnp.array([0, 0, 1, 3, 3, 3]), 4, min_count=2))
    0.5
    """
    at_least("min_count", min_count, 1)
    return jnp.mean(code_counts(indices, codes) >= min_count)


def perplexity(indices: Int[Array, "*n"], codes: int) -> Any:
    """The exponential of the entropy of the codes' frequencies: so many codes, used alike, would tell as much."""
    counts = code_counts(indices, codes)
    p = counts / jnp.sum(counts)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(p, p)))
