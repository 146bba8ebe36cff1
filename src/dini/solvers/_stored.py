"""A few vectors of the unknown's space kept together: trees whose leaves have a leading axis."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees


def empty(count: int, x: Any) -> Any:
    """Return so many zero vectors."""
    return jax.tree.map(lambda u: jnp.zeros((count, *u.shape), u.dtype), x)


def _rows(store: Any) -> list[Any]:
    return [rows.reshape(rows.shape[0], -1) for rows in jax.tree.leaves(store)]


def products(store: Any, tree: Any) -> Any:
    """Return the inner products of the vectors with one vector."""
    flat = [leaf.reshape(-1) for leaf in jax.tree.leaves(tree)]
    parts = [rows @ leaf for rows, leaf in zip(_rows(store), flat, strict=True)]
    return trees.total(parts).astype(trees.real_dtype(tree))


def gram(one: Any, other: Any) -> Any:
    """Return the inner products of the vectors of two stores, ``one`` along the rows."""
    parts = [a @ b.T for a, b in zip(_rows(one), _rows(other), strict=True)]
    return trees.total(parts).astype(trees.real_dtype(one))


def combine(store: Any, weights: Any) -> Any:
    """Return the sum of the vectors with weights."""
    return jax.tree.map(lambda rows: jnp.tensordot(weights.astype(rows.dtype), rows, 1), store)


def put(store: Any, slot: Any, tree: Any, condition: Any = True) -> Any:
    """Return the store with a vector in a slot where the condition holds."""
    return jax.tree.map(lambda rows, row: rows.at[slot].set(jnp.where(condition, row, rows[slot])), store, tree)
