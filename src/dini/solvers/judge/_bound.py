r"""The referee of the methods that minimize a bound of the function, and what rounding leaves of its test.

A step from ``y`` minimizes :math:`f(y) + \nabla f(y)^\top (x - y) + D(x, y) / \eta`, and is taken where that is above
the function at its end. Where values cannot tell, the next gradient does: see :func:`shortened`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Scalar, Tree
from . import _units
from ._margins import doubtful_difference, relative_rounding


class At(NamedTuple):
    """The function where a step begins, and what has happened since the last one began.

    ``value`` is ``None`` for steps of given length. ``apart`` and ``change`` are the differences of the points and of
    the gradients, ``rise`` their inner product, ``room`` and ``changed`` their squared norms; ``size`` and ``slope``
    the norms of the point and of the gradient.
    """

    y: Tree
    value: Any
    gradient: Tree
    apart: Tree
    change: Tree
    rise: Any
    room: Any
    changed: Any
    size: Any
    slope: Any
    first: Any

    @property
    def last(self) -> tuple[Tree, Tree]:
        """The point and its gradient, constants of differentiation."""
        return jax.lax.stop_gradient((self.y, self.gradient))

    def learned(self, scales: Any, accept: Any, error: Scalar, along: Any, each: Any = None) -> Any:
        """Return what is known of the units with the last pair of differences."""
        pair = self.room, self.changed
        eps = trees.eps(self.y)
        return _units.learned(scales, accept, *pair, self.size, error, eps, along, leaps=True, each=each)


def begun(problem: Any, y: Tree, last: tuple[Tree, Tree], first: Any, args: tuple[Tree, ...], *, valued: bool) -> At:
    """Evaluate the function where a step begins; ``last`` is where the one before began, with its gradient."""
    dtype = trees.real_dtype(y)
    value, gradient = problem.value_and_gradient(y, *args) if valued else (None, problem.gradient(y, *args))
    here = jax.lax.stop_gradient((y, gradient))
    apart, change = trees.sub(here, last)
    pairs = (apart, change), (apart, apart), (change, change)
    rise, room, changed = (trees.vdot(*pair).astype(dtype) for pair in pairs)
    size, slope = trees.norms(*here)
    return At(y, value, gradient, apart, change, rise, room, jnp.where(first, 0, changed), size, slope, first)


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
