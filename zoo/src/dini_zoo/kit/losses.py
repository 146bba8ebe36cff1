"""Losses that systems train with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cross_entropy(scores: Float[Array, "m k"], Y: Float[Array, "m k"]) -> Float[Array, ""]:
    r"""The mean of :math:`-\log \operatorname{softmax}(S_i)_{y_i}`; the rows of `Y` are those of the identity."""
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(scores), axis=1))
