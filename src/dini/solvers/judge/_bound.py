"""When a step by a quadratic upper bound is taken, and what rounding leaves of that test."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...trees import Scalar, Tree
from ._margins import doubtful_difference, relative_rounding


def accepted_by_bound(excess: Any, gap: Any, value: Any, first: Any) -> tuple[Any, Any]:
    """Return whether to accept a step by its quadratic upper bound, and whether rounding left that test its meaning.

    ``excess`` is what the new value has over the bound, ``gap`` the bound's last term. A test that drowns in rounding
    is passed, except by the first step, whose length is a guess; :func:`shortened` has to look at what follows.
    """
    slack = relative_rounding(value)
    tested = (excess <= slack) & (gap > slack)
    return (excess <= slack) | (~first & (excess <= doubtful_difference(value))), tested


def shortened(step_size: Scalar, unsure: Any, rise: Any, room: Any) -> tuple[Any, Any]:
    """Return the step size after a step of which values could not tell whether it was too long, and whether it was.

    It was where the gradient's change along it, ``rise``, is more than ``room`` over the step size: the squared length
    of the move, or what stands for it in another geometry.
    """
    steep = unsure & (step_size * rise > room)
    fits = room / jnp.where(steep, rise, 1)
    return jnp.where(steep, jnp.clip(fits, 1e-3 * step_size, 0.5 * step_size), step_size), steep


def unmoved(x: Tree, forward: Any, new: Any, gradient: Tree) -> Any:
    r"""Return the part of a gradient that rounding has kept from moving the point, zero elsewhere.

    A gradient step, ``forward``, that is short beside the rounding error of ``x`` leaves elements as they are, or as
    they are after the proximal step to ``new``; an error that is measured by the move, :math:`\|\Delta x\| / \eta`,
    would be zero there. A proximal operator is nonexpansive, so that at most that part of the gradient is missing.
    """

    def one(u: jax.Array, v: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        short = jnp.abs(v - u) <= 2 * jnp.finfo(u.dtype).eps * jnp.abs(u)
        return jnp.where(short & ((v == u) | (w == u)), g, 0)

    return jax.tree.map(one, x, forward, new, gradient)
