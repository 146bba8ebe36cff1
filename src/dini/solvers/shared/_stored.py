"""A few vectors of the unknown's space kept together: trees whose leaves are matrices, a vector in each row.

The rows are flat: were they of the unknown's shape, XLA would copy the whole store wherever a product looks at it as a
matrix, several times a step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Tree
from ...trees.products import dot


def empty(count: int, x: Tree) -> Any:
    """Return so many zero vectors."""
    return jax.tree.map(lambda u: jnp.zeros((count, u.size), u.dtype), x)


def take(store: Any, slot: Any, like: Tree) -> Any:
    """Return the vector in a slot, a tree like ``like``."""
    return jax.tree.map(lambda rows, u: rows[slot].reshape(u.shape), store, like)


def products(store: Any, tree: Tree) -> Any:
    """Return the inner products of the vectors with one vector."""
    flat = [leaf.reshape(-1) for leaf in jax.tree.leaves(tree)]
    parts = [dot(rows, leaf) for rows, leaf in zip(jax.tree.leaves(store), flat, strict=True)]
    return trees.total(parts).astype(trees.real_dtype(tree))


def combine(store: Any, weights: Any, like: Tree) -> Any:
    """Return the sum of the vectors with weights, a tree like ``like``."""
    return jax.tree.map(lambda rows, u: dot(weights.astype(rows.dtype), rows).reshape(u.shape), store, like)


def put(store: Any, slot: Any, tree: Tree, condition: Any = True) -> Any:
    """Return the store with a vector in a slot where the condition holds."""
    return jax.tree.map(
        lambda rows, row: rows.at[slot].set(jnp.where(condition, row.reshape(-1), rows[slot])), store, tree
    )
