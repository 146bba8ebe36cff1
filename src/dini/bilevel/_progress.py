"""How far a bilevel loop is: residuals that no length of a step changes, and whether the unknowns diverge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..trees import Tree

#: steps whose largest numbers tell what is large
_FIRST = 10


def visible(tree: Tree, direction: Tree) -> Any:
    """Return what a projection has made of a step, and NaN where the direction was not finite.

    A projection may make a finite point of a step that is not. (No product with NaN, which in reverse mode would meet
    the zero cotangent of the branch that is not taken.)
    """
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), tree)
    return trees.where(trees.all_finite(direction), tree, lost)


def residual(
    prox: Callable[[Any, Any], Any] | None, point: Tree, direction: Tree, moved: Tree, length: Any, *, penalized: bool
) -> Any:
    r"""Return the norm of a gradient, or of its proximal map, in the gradient's units.

    .. math:: \|\theta - \mathrm{prox}_{t r}(\theta - t D)\| / t

    falls as ``t`` grows, since a set is no longer than it is, and grows to the norm of the projected gradient as ``t``
    goes to zero. So ``t`` is as small as rounding allows: a move by the square root of the unit roundoff times the size
    of the point, whatever the length of the steps. ``moved``, where the step has led, tells the units of a point that
    is zero, and ``length`` is where the search for ``t`` begins with a penalty, whose slope is not known. It is a
    constant of differentiation.
    """
    point, direction, moved, length = jax.lax.stop_gradient((point, direction, moved, length))
    slope = trees.sized_norm(direction)
    if prox is None:
        return slope
    size, farther = trees.sized_norm(point), trees.sized_norm(moved)
    size = jnp.where(size > 0, size, jnp.where(farther > 0, farther, 1))
    reach = trees.eps(point) ** 0.5 * size

    def mapped(t: Any) -> Any:
        there = prox(trees.axpy(-t, direction, point), t)
        return trees.sized_norm(trees.sub(there, point)) / t

    def aimed(t: Any, slope: Any) -> Any:
        return jnp.where(slope > 0, reach / jnp.where(slope > 0, slope, 1), t)

    # a projection moves no farther than its argument; the slope of a penalty shows where the move is as short as asked
    t = aimed(jnp.asarray(length if penalized else 1, slope.dtype), slope)
    for _ in range(3 * penalized):
        t = aimed(t, mapped(t))
    return visible(mapped(t) if penalized else jnp.minimum(mapped(t), slope), direction)


class Reach(NamedTuple):
    r"""What shows that the unknowns of a user's own loop diverge: the largest numbers of its first steps.

    An unknown has diverged where the largest element of its gradient has grown, since the first ten steps, by more than
    one over the unit roundoff, and its own by more than the root of that. Steps that are too long for a
    curvature get there long before numbers overflow; a set that holds one unknown does not hide another one.

    Attributes
    ----------
    largest
        A row for each unknown: the largest elements of its gradient and of itself.
    count
        How many steps were looked at.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> x = jnp.ones(2)
    >>> reach = dini.bilevel.Reach.start(x)
    >>> for _ in range(80):
    ...     slope = 3 * x
    ...     x = x - slope
    ...     reach, diverged = reach.after((slope, x))
    >>> print(diverged, jnp.isfinite(x).all())
    True True
    """

    largest: Any
    count: Any

    @classmethod
    def start(cls, *unknowns: Tree) -> Reach:
        """Return what is known before the first step."""
        largest = jnp.stack([jnp.stack([jnp.zeros_like(trees.max_abs(u)), trees.max_abs(u)]) for u in unknowns])
        return cls(largest, jnp.zeros((), jnp.int32))

    def after(self, *pairs: tuple[Any, Tree]) -> tuple[Reach, Any]:
        """Return what is known after a step, of each unknown's gradient and value, and whether one diverged."""
        pairs = jax.lax.stop_gradient(pairs)
        rows = [jnp.stack([trees.max_abs(slope), trees.max_abs(u)]) for slope, u in pairs]
        now = jnp.stack(rows).astype(self.largest.dtype)
        early = self.count < _FIRST
        # a step along which nothing has a slope tells nothing
        count = self.count + (early & jnp.any(now[:, 0] > 0)).astype(jnp.int32)
        eps = jnp.finfo(now.dtype).eps
        gone = (now[:, 0] * eps > self.largest[:, 0]) & (now[:, 1] * eps**0.5 > self.largest[:, 1])
        largest = jnp.where(early, jnp.maximum(self.largest, now), self.largest)
        return Reach(largest, count), ~early & jnp.any(gone)
