r"""Stopping tests for equations and residuals that do not depend on units: a Newton step estimates the error.

Let ``p`` be the Newton step, or the Gauss-Newton step, from ``x``. Close to a solution it is the error of ``x``, so
that the test is

.. math:: \max_i |p_i| / X_i \le \text{rtol},

element by element, since unknowns may be in different units. The size of an unknown is

.. math:: X_i = \max(|x_i|, \epsilon^{1/4} \max_k |x_i^{(k)}|),

with the maximum over the iterates. The size of an unknown that is negligible compared with the others is at least
:math:`\epsilon^{1/2}` times the largest one. Where the columns of the Jacobian are known, it is instead the size that
changes the residuals by :math:`\epsilon^{1/4}` of the change by the other unknowns. The scale of :class:`dini.Solver`
is the error divided by the left side: an estimate of the error of a point that is wrong by its own size.

**One factorization less**: where a step ``s`` to ``x`` has reduced the error by a factor :math:`\theta`, the remaining
error is about :math:`\theta\,|s|`. Where that and the square of the relative step, which is the error after a step of
Newton's method, both meet the test, no step from ``x`` is needed.

**Points that are no solutions**: Newton steps are long where residuals tend to a constant, and where the Jacobian at a
minimum of :math:`\|F\|` that is no root is nearly singular. So neither of these points meets the test.

**Rounding**: ``10 eps`` times the terms of the error. These are the size of the unknown times that of the Jacobian,
and the residuals of a least-squares problem. An error below this counts as zero if the step is short.

**Divergence**: the iterates diverge where the error is negligible compared with the largest one so far, while an
unknown with its largest value so far has made a long step and its next step is about as long.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Scalar, Tree
from ._margins import LONG, WORKED


def no_sizes(x: Tree) -> Any:
    """Return the largest sizes of elements before the first point: zeros."""
    return jax.tree.map(lambda u: jnp.zeros(u.shape, jnp.finfo(u.dtype).dtype), x)


def extended(extent: Any, x: Tree, accept: Any) -> Any:
    """Return the largest size so far of each element, including those of another point if it is accepted."""
    x = jax.lax.stop_gradient(x)
    return jax.tree.map(lambda e, u: jnp.where(accept, jnp.maximum(e, jnp.abs(u).astype(e.dtype)), e), extent, x)


def sizes(x: Tree, extent: Any, eps: Any) -> Any:
    """Return the size of each element for relative errors."""
    x = jax.lax.stop_gradient(x)
    share = eps**0.5 * trees.max_abs(x)
    return jax.tree.map(lambda u, e: jnp.maximum(jnp.maximum(jnp.abs(u), eps**0.25 * e), share), x, extent)


def longest(step: Any, size: Any) -> Any:
    """Return the largest relative element of a step; infinity where an element of size zero moves."""

    def one(p: Any, unit: Any) -> Any:
        p = jnp.abs(p)
        # NaN passes
        return jnp.max(jnp.where(unit > 0, p / jnp.where(unit > 0, unit, 1), jnp.where(p == 0, 0, jnp.inf)), initial=0)

    parts = jax.tree.leaves(jax.tree.map(one, jax.lax.stop_gradient(step), size))
    return functools.reduce(jnp.maximum, parts) if parts else jnp.zeros(())


def diverging(x: Tree, extent: Any, last: Any, ahead: Any) -> Any:
    """Return whether an element with its largest value so far has made a long step, and its next step is about as long.

    Steps to a singular solution decrease by a fixed factor, and are not such steps.
    """

    def one(u: Tree, e: Any, s: Any, p: Any) -> Any:
        u, s, p = (jnp.abs(v) for v in (u, s, p))
        return jnp.any((u > 0) & (u >= 0.99 * e) & (s > LONG * u) & (p > LONG * u) & (p >= 0.85 * s))

    x, last, ahead = jax.lax.stop_gradient((x, last, ahead))
    parts = jax.tree.leaves(jax.tree.map(one, x, extent, last, ahead))
    return functools.reduce(jnp.logical_or, parts) if parts else jnp.zeros((), bool)


def relative_length(move: Tree, size: Any, wanted: Any) -> Any:
    """Return the relative length of a trial step; from a point of size zero, relative to the full step ``wanted``."""
    wanted = trees.norm(jax.lax.stop_gradient(wanted))
    share = trees.norm(jax.lax.stop_gradient(move)) / jnp.where(wanted > 0, wanted, 1)
    return jnp.where(trees.max_abs(size) > 0, longest(move, size), share)


def leaps(move: Tree, x: Tree, extent: Any, eps: Any) -> Any:
    """Return whether a step from a point is longer than the size of that point, if it is not zero."""
    size = sizes(x, extent, eps)
    return (longest(move, size) > 1) & (trees.max_abs(size) > 0)


def scale_of(error: Scalar, measure: Any, eps: Any) -> Any:
    """Return the scale by which ``error`` is a relative error of ``measure``; zero where nothing is known."""
    return jnp.where(jnp.isfinite(measure), error / jnp.maximum(measure, eps**2), 0)


def left_after(moved: Any, ratio: Any, *, each: bool = True) -> Any:
    """Return the relative error after a step of relative length ``moved`` that multiplied the error by ``ratio``.

    It is infinity where the step was not successful. Without ``each`` all elements of the error have the same units, so
    that ``ratio`` alone determines the remaining error after a step that was not long.
    """
    left = jnp.maximum(moved**2, ratio * moved) if each else jnp.where(moved <= LONG, ratio * moved, jnp.inf)
    return jnp.where(ratio <= WORKED, left, jnp.inf)


def relative_error(measure: Any, rest_error: Any, eps: Any) -> Any:
    """Return the relative error of a point; infinity where that of eliminated unknowns is above rounding."""
    return jnp.where(rest_error <= eps**0.5, measure, jnp.inf)
