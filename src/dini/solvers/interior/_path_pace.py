"""Whether the points of a central path converge, or diverge to an infimum that is not attained.

On the way to a solution a path slows down: from one e-fold of the complementarity to the next it moves by a share of
that complementarity, or at degenerate solutions of a root of it. On the way to an infimum at infinity, such as that of
``z`` over ``exp(x) <= z``, its moves do not shrink while gap and residuals become arbitrarily small. Moves
are measured in :math:`P x` and :math:`A x`, on which the program depends: where it depends only on the sum of some
unknowns, rounding errors move the unknowns themselves arbitrarily far.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._margins import SHRINKS

#: an element diverges that is no slower than this share of what it was when the error began to be small
_AS_FAST = 0.2
#: a step that takes less than this off the logarithm of the complementarity shows no pace of its own
_FOLD = 0.5


class Pace(NamedTuple):
    """The path's last point as it is seen, its complementarity, its last move, and the largest pace near a solution."""

    x: jax.Array
    mean: jax.Array
    move: jax.Array
    most: jax.Array
    #: whether an element diverges, and whether convergence has been refused for that
    drifts: jax.Array
    refused: jax.Array


def at_rest(x: jax.Array) -> Pace:
    """Return the pace before the first step."""
    no, far = jnp.zeros((), bool), jnp.full_like(x, jnp.inf)
    return Pace(x, jnp.full((), jnp.inf, x.dtype), far, far, no, no)


def _least(x: jax.Array) -> jax.Array:
    """Return the moves below which an element is at rest."""
    return jnp.finfo(x.dtype).eps ** 0.375 * jnp.max(jnp.abs(x), initial=0)


def paced(old: Pace, x: jax.Array, mean: jax.Array, near: jax.Array) -> Pace:
    """Return the pace at the next point of the path; ``near`` says whether its error is small."""
    new = mean != old.mean
    move = jnp.abs(x - old.x)
    fold = jnp.log(jnp.where(jnp.isfinite(old.mean) & (old.mean > 0), old.mean, mean) / jnp.where(mean > 0, mean, 1))
    rate = move / jnp.maximum(fold, _FOLD)
    known = jnp.isfinite(old.most)
    drifts = jnp.any(known & (rate >= _AS_FAST * old.most) & (rate > _least(x)))
    most = jnp.where(near, jnp.where(known, jnp.maximum(old.most, rate), rate), old.most)
    moved = Pace(x, mean, move, most, drifts, old.refused)
    return jax.tree.map(lambda a, b: jnp.where(new, a, b), moved, old)


def runs_on(step: jax.Array, last: jax.Array, x: jax.Array) -> Any:
    """Return whether a step of Newton's method to ``x`` is as long as the last one."""
    return jnp.any((jnp.abs(step) > _least(x)) & (jnp.abs(step) >= SHRINKS * jnp.abs(last)))
