"""The filter of a line search: pairs of a violation and an objective, of which a new point must improve one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

#: pairs that are kept; the oldest are forgotten first
SIZE = 64


def empty(dtype: Any) -> jax.Array:
    """Return the filter that holds nothing."""
    return jnp.full((SIZE, 2), jnp.inf, dtype)


def passes(pairs: jax.Array, violation: jax.Array, value: jax.Array) -> jax.Array:
    """Return whether a point is dominated by no pair of the filter."""
    return jnp.all((violation < pairs[:, 0]) | (value < pairs[:, 1]))


def added(pairs: jax.Array, violation: jax.Array, value: jax.Array) -> jax.Array:
    """Return the filter with one more pair."""
    return jnp.concatenate([jnp.stack([violation, value])[None], pairs[:-1]])
