"""When a step is accepted, and when a method has stalled: values beside their rounding errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...trees import Scalar, Tree

#: accepted steps without gain after which a method has stalled
PATIENCE = 50


def lost_patience(idle: Scalar, steps: Scalar) -> Any:
    """Return whether a method without second derivatives has stalled, after so many steps without gain.

    On an ill-conditioned function its gradients rise and fall, near a solution by amounts that values no longer show:
    hundreds of steps may go by between two gains. A quarter of all steps is what they may take.
    """
    return (idle >= PATIENCE) & (4 * idle >= steps)


def relative_rounding(value: Any) -> Any:
    """Return a few units of rounding error of a function's value: smaller differences between values mean nothing."""
    return 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def hidden_difference(value: Any) -> Any:
    """Return the difference from a function's value below which its slopes say more than its values do.

    That is more than :func:`relative_rounding`: a value that is small by cancellation, such as a sum of squares whose
    residuals are small beside the data, has lost further digits, which slopes have not. Hager and Zhang ("A new
    conjugate gradient method with guaranteed descent and an efficient line search", 2005) take a millionth; this is
    what double precision needs where the data are some 100,000 times the residuals.
    """
    return jnp.maximum(relative_rounding(value), 1e-2 * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value))


def doubtful_difference(value: Any) -> Any:
    """Return the difference from a function's value below which a test of values gives way to one of gradients.

    That may be more than :func:`hidden_difference`, which must keep a line search from climbing by itself: a step that
    was too long shows in the next gradient, at any size.
    """
    return jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value)


def shown_by_gradients(value: Any, new: Any, promised: Any, error: Scalar, size: Any) -> Any:
    """Return whether gradients show that a step is good whose values drown in rounding.

    What it promised and what came of it, ``value`` less ``new``, are below :func:`doubtful_difference`, and the
    gradient falls from ``error`` to ``size``: to half where the value rises by more than rounding.
    """
    doubtful, rises = doubtful_difference(value), new - value > relative_rounding(value)
    return (promised <= doubtful) & (new - value <= doubtful) & (size < jnp.where(rises, 0.5, 1) * error)


def kept_value(value: Any, new: Any, hidden: Any) -> Any:
    """Return the value that stands for an accepted point, of the last one and its own.

    It is the smaller one, so that rises by rounding, up to ``hidden``, do not add up. One that is larger, which
    :func:`shown_by_gradients` has allowed, is where the point is: beside the last value no step from there would do.
    """
    return jnp.where(new > value + hidden, new, jnp.minimum(value, new))


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
