r"""What a Newton-like step says of the point that it leaves: stopping tests without units for equations and residuals.

Let ``p`` be the step of Newton, or of Gauss and Newton, from ``x``. Close to a solution it is the error of ``x``, so
that the test is

.. math:: \max_i |p_i| / X_i \le \text{rtol},

element by element, since unknowns may be measured in different units. The size of an unknown is

.. math:: X_i = \max(|x_i|, \epsilon^{1/4} \max_k |x_i^{(k)}|),

with the points so far, and of one that is zero beside the others a share of theirs: :math:`\epsilon^{1/2}` of the
largest, or, where the columns of the Jacobian are known, what changes the residuals by :math:`\epsilon^{1/4}` of what
the others make of them. The scale of :class:`dini.Solver` is then the error
over the left side, an estimate of the error at a point that is off by its own size.

**A factorization less**: where a step ``s`` has been taken to ``x`` with which the error fell by a factor
:math:`\theta`, what is left is about :math:`\theta\,|s|`. Where that and the square of the relative step, by which
Newton's method would go on, meet the test, no step from ``x`` is needed.

**No success**: the steps of Newton lead away from where residuals level off, and are long where a Jacobian that is
nearly singular keeps :math:`\|F\|` from falling. So neither a plateau nor a minimum of :math:`\|F\|` that is no root
meets the test.

**The floor of rounding**: ``10 eps`` times what the error is made of, the size of the unknown times that of the
Jacobian, and the residuals of a least-squares problem. What is below counts as zero if the step is short.

**No minimum**: where the error has vanished beside the largest one so far, and yet an unknown that has never been
larger has made a long step and wants to make another one about as long, the iterates run away.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Scalar, Tree
from ._margins import LONG, WORKED


def nowhere(x: Tree) -> Any:
    """Return the largest sizes before the first point."""
    return jax.tree.map(lambda u: jnp.zeros(u.shape, jnp.finfo(u.dtype).dtype), x)


def extended(extent: Any, x: Tree, accept: Any) -> Any:
    """Return the largest size so far of each element, with those of another point that is taken."""
    x = jax.lax.stop_gradient(x)
    return jax.tree.map(lambda e, u: jnp.where(accept, jnp.maximum(e, jnp.abs(u).astype(e.dtype)), e), extent, x)


def sizes(x: Tree, extent: Any, eps: Any) -> Any:
    """Return what counts as the size of each element."""
    x = jax.lax.stop_gradient(x)
    share = eps**0.5 * trees.max_abs(x)
    return jax.tree.map(lambda u, e: jnp.maximum(jnp.maximum(jnp.abs(u), eps**0.25 * e), share), x, extent)


def longest(step: Any, size: Any) -> Any:
    """Return the largest relative element of a step; infinity where something of no size moves."""

    def one(p: Any, unit: Any) -> Any:
        p = jnp.abs(p)
        # NaN passes
        return jnp.max(jnp.where(unit > 0, p / jnp.where(unit > 0, unit, 1), jnp.where(p == 0, 0, jnp.inf)), initial=0)

    parts = jax.tree.leaves(jax.tree.map(one, jax.lax.stop_gradient(step), size))
    return functools.reduce(jnp.maximum, parts) if parts else jnp.zeros(())


def run_away(x: Tree, extent: Any, last: Any, ahead: Any) -> Any:
    """Return whether an element that has never been larger has moved far, and wants to move about as far again.

    The steps to a singular solution get shorter, by a fixed factor.
    """

    def one(u: Tree, e: Any, s: Any, p: Any) -> Any:
        u, s, p = (jnp.abs(v) for v in (u, s, p))
        return jnp.any((u > 0) & (u >= 0.99 * e) & (s > LONG * u) & (p > LONG * u) & (p >= 0.85 * s))

    x, last, ahead = jax.lax.stop_gradient((x, last, ahead))
    parts = jax.tree.leaves(jax.tree.map(one, x, extent, last, ahead))
    return functools.reduce(jnp.logical_or, parts) if parts else jnp.zeros((), bool)


def beside(move: Tree, size: Any, wanted: Any) -> Any:
    """Return the relative length of a trial step; from a point of no size, beside the step that was ``wanted``."""
    wanted = trees.norm(jax.lax.stop_gradient(wanted))
    share = trees.norm(jax.lax.stop_gradient(move)) / jnp.where(wanted > 0, wanted, 1)
    return jnp.where(trees.max_abs(size) > 0, longest(move, size), share)


def leaps(move: Tree, x: Tree, extent: Any, eps: Any) -> Any:
    """Return whether a step is longer than the point from which it leads, if that is not zero."""
    size = sizes(x, extent, eps)
    return (longest(move, size) > 1) & (trees.max_abs(size) > 0)


def scale_of(error: Scalar, measure: Any, eps: Any) -> Any:
    """Return the scale at which a relative error of ``measure`` shows as ``error``; zero where nothing is known."""
    return jnp.where(jnp.isfinite(measure), error / jnp.maximum(measure, eps**2), 0)


def left_after(moved: Any, ratio: Any, *, each: bool = True) -> Any:
    """Return the relative error after a step of the relative length ``moved``, by which the error fell to ``ratio``.

    Infinity where the step has not worked. Without ``each`` the elements of the error have one unit, so that it alone
    tells what is left after a step that was not long.
    """
    left = jnp.maximum(moved**2, ratio * moved) if each else jnp.where(moved <= LONG, ratio * moved, jnp.inf)
    return jnp.where(ratio <= WORKED, left, jnp.inf)


def told(measure: Any, astray: Any, eps: Any) -> Any:
    """Return the relative error of a point, infinity where the rest of the unknown is astray by more than rounding."""
    return jnp.where(astray <= eps**0.5, measure, jnp.inf)
