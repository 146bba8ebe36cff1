"""Which inequalities hold with equality."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def active(multiplier: jax.Array, slack: Any, noise: Any = None) -> jax.Array:
    """Return whether inequalities are active: multipliers that are larger than their slacks, and than rounding.

    Both are in units of the program: shares of the largest force, and of the size of the point. At a solution one of
    them is zero, so that no margin is needed; what is nearer to zero than to the other is the one that will be. Where
    both vanish there is no derivative, and either choice gives a one-sided one. ``noise`` is what rounding leaves of a
    multiplier that is zero: by default the square of the unit roundoff, below what any of size one can leave.
    """
    noise = jnp.finfo(multiplier.dtype).eps ** 2 if noise is None else noise
    return multiplier > jnp.maximum(slack, noise)
