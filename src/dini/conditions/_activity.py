"""Which inequalities hold with equality."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def active(multiplier: jax.Array, slack: Any, noise: Any = None, least: Any = 0) -> jax.Array:
    """Return which inequalities are active: their multipliers are larger than their slacks.

    Both are in units of the program: shares of the largest force, and of the size of the point. At a solution one of
    them is zero, so that no margin is needed: what is nearer to zero will be it. Where both vanish there is no
    derivative, and either choice gives a one-sided one.

    A multiplier that is all ``noise`` is zero, and what it belongs to is not active: were it, a program with many
    solutions would have the derivative of one of them. What a point violates by more than ``least`` is active whatever
    its multiplier, so that a residual has the violation. By default the noise is the square of the unit roundoff, below
    what a force of size one can leave.
    """
    noise = jnp.finfo(multiplier.dtype).eps ** 2 if noise is None else noise
    return (multiplier > slack) & ((multiplier > noise) | (slack < -least))
