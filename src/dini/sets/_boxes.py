"""Which sets are boxes, and their bounds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..trees import Tree
from ._base import Product, Set


def has_bounds(constraint: Any) -> bool:
    """Return whether a constraint is a box: bounds on each element, or a product of such sets."""
    if isinstance(constraint, Product):
        return all(map(has_bounds, jax.tree.leaves(constraint.sets, is_leaf=lambda node: isinstance(node, Set))))
    return hasattr(constraint, "bounds")


def bounds_of(constraint: Any, x: Tree) -> tuple[Any, Any]:
    """Return lower and upper bounds as two trees like ``x``."""
    if constraint is None:
        full = lambda value: jax.tree.map(lambda u: jnp.full_like(u, value), x)
        return full(-jnp.inf), full(jnp.inf)
    if isinstance(constraint, Product):
        is_set = lambda node: isinstance(node, Set)
        side = lambda i: jax.tree.map(lambda part, u: bounds_of(part, u)[i], constraint.sets, x, is_leaf=is_set)
        return side(0), side(1)
    return constraint.bounds(x)
