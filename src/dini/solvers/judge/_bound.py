r"""The acceptance test of methods that minimize an upper bound of the function.

A step from ``y`` minimizes :math:`f(y) + \nabla f(y)^\top (x - y) + D(x, y) / \eta`. It is accepted where this is an
upper bound of the function at the new point. Where rounding makes that test meaningless, the next gradient shows
whether the step was too long: see :func:`shortened`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...protocols import Minimization
from ...trees import Scalar, Tree
from . import _units
from ._margins import doubtful_difference, relative_rounding


class At(NamedTuple):
    """The function at the first point of a step, and the differences from the first point of the last step.

    ``value`` is ``None`` for steps of given length. ``apart`` and ``change`` are the differences of the points and of
    the gradients. ``rise`` is their inner product; ``room`` and ``changed`` are their squared norms. ``size`` and
    ``slope`` are the norms of the point and of the gradient.
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
        """Return the estimates of the scales, updated by the last pair of differences."""
        pair = self.room, self.changed
        eps = trees.eps(self.y)
        return _units.learned(scales, accept, *pair, self.size, error, eps, along, leaps=True, each=each)


def begun(
    problem: Minimization, y: Tree, last: tuple[Tree, Tree], first: Any, args: tuple[Tree, ...], *, valued: bool
) -> At:
    """Evaluate the function at the first point of a step; ``last`` is that of the last step, with its gradient."""
    dtype = trees.real_dtype(y)
    value, gradient = problem.value_and_gradient(y, *args) if valued else (None, problem.gradient(y, *args))
    here = jax.lax.stop_gradient((y, gradient))
    apart, change = trees.sub(here, last)
    pairs = (apart, change), (apart, apart), (change, change)
    rise, room, changed = (trees.vdot(*pair).astype(dtype) for pair in pairs)
    size, slope = trees.norms(*here)
    return At(y, value, gradient, apart, change, rise, room, jnp.where(first, 0, changed), size, slope, first)


def accepted_by_bound(excess: Any, gap: Any, value: Any, first: Any) -> tuple[Any, Any]:
    """Return whether a step is accepted by its quadratic upper bound, and whether that test is above rounding.

    ``excess`` is the new value minus the bound, ``gap`` the last term of the bound. A step whose test is below rounding
    is accepted, and :func:`shortened` has to test its length afterwards. The first step is an exception, since its
    length is a guess.
    """
    slack = relative_rounding(value)
    tested = (excess <= slack) & (gap > slack)
    return (excess <= slack) | (~first & (excess <= doubtful_difference(value))), tested


def shortened(step_size: Scalar, unsure: Any, rise: Any, room: Any) -> tuple[Any, Any]:
    """Return the next step size after a step that values could not test, and whether that step was too long.

    It was too long where ``rise``, the change of the gradient along the step, is larger than ``room`` divided by the
    step size. ``room`` is the squared length of the move, or the corresponding number in another geometry.
    """
    steep = unsure & (step_size * rise > room)
    fits = room / jnp.where(steep, rise, 1)
    return jnp.where(steep, jnp.clip(fits, 1e-3 * step_size, 0.5 * step_size), step_size), steep


def unmoved(x: Tree, forward: Any, new: Any, gradient: Tree) -> Any:
    r"""Return the part of a gradient that did not move the point because of rounding, zero elsewhere.

    A gradient step to ``forward`` that is smaller than the rounding error of ``x`` does not change some elements of
    ``x``, or of the point ``new`` after the proximal step. An error that is measured by the move,
    :math:`\|\Delta x\| / \eta`, would be zero there. Since a proximal operator is nonexpansive, that error lacks at
    most this part of the gradient.
    """

    def one(u: jax.Array, v: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        short = jnp.abs(v - u) <= 2 * jnp.finfo(u.dtype).eps * jnp.abs(u)
        return jnp.where(short & ((v == u) | (w == u)), g, 0)

    return jax.tree.map(one, x, forward, new, gradient)
