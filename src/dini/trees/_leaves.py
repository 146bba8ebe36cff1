"""The leaves of pytrees: taken apart and put together, real and complex, compared, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: a pytree of arrays, seen as one vector: an unknown, a gradient, arguments
type Tree = Any
#: one real number as an array, of a solve or of each lane of a batch
type Scalar = jax.Array


def is_inexact(leaf: Any) -> bool:
    """Return whether a leaf is a floating-point or complex array or scalar."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) if _has_dtype(leaf) else isinstance(leaf, float | complex)


def parted(a: Tree, which: Callable[[Any], bool]) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """Return the leaves for which ``which`` holds, and a function that makes a tree like ``a`` of others for these."""
    leaves, treedef = jax.tree.flatten(a)
    some, merge = picked(leaves, [i for i, leaf in enumerate(leaves) if which(leaf)])
    return some, lambda some: jax.tree.unflatten(treedef, merge(some))


def picked(leaves: list[Any], places: list[int]) -> tuple[list[Any], Callable[[list[Any]], list[Any]]]:
    """Return the leaves at some places, and a function that puts others into these places."""

    def merge(some: list[Any]) -> list[Any]:
        full = list(leaves)
        for i, leaf in zip(places, some, strict=True):
            full[i] = leaf
        return full

    return [leaves[i] for i in places], merge


def tangents_of(args: Tree, tangents: Tree) -> list[jax.Array]:
    """Return the tangents of the leaves of ``args`` that are floating-point or complex, in their dtypes."""
    if jax.tree.structure(args) != jax.tree.structure(tangents):
        raise TypeError(
            f"tangents must have the structure of args: given {jax.tree.structure(tangents)}, "
            f"needed {jax.tree.structure(args)}."
        )
    pairs = zip(jax.tree.leaves(tangents), jax.tree.leaves(args), strict=True)
    return [jnp.asarray(t, jnp.asarray(leaf).dtype) for t, leaf in pairs if is_inexact(leaf)]


def _has_dtype(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


class _ComplexPair(NamedTuple):
    real: Any
    imag: Any


def has_complex(a: Tree) -> bool:
    """Return whether any leaf is complex."""
    return any(jnp.iscomplexobj(x) for x in jax.tree.leaves(a))


def to_real(a: Tree) -> Tree:
    """Replace each complex leaf by a pair of real ones; :func:`from_real` undoes it."""
    return jax.tree.map(lambda x: _ComplexPair(jnp.real(x), jnp.imag(x)) if jnp.iscomplexobj(x) else x, a)


def from_real(a: Tree) -> Tree:
    """Put the pairs made by :func:`to_real` together again."""
    return jax.tree.map(
        lambda x: jax.lax.complex(x.real, x.imag) if isinstance(x, _ComplexPair) else x,
        a,
        is_leaf=lambda x: isinstance(x, _ComplexPair),
    )


def describe(a: Tree) -> str:
    """Return the structure of a tree with shapes and dtypes, for messages."""

    def one(x: Any) -> str:
        return f"{jnp.result_type(x).name}{list(jnp.shape(x))}" if _has_dtype(x) else repr(x)

    return str(jax.tree.map(one, a)).replace("'", "")


def require_same(what: str, given: Tree, needed: Tree, needed_name: str) -> None:
    """Raise a ``TypeError`` unless two trees agree in structure, shapes and dtypes."""
    same = jax.tree.structure(given) == jax.tree.structure(needed) and all(
        jnp.shape(x) == jnp.shape(y) and jnp.result_type(x) == jnp.result_type(y)
        for x, y in zip(jax.tree.leaves(given), jax.tree.leaves(needed), strict=True)
    )
    if not same:
        raise TypeError(
            f"{what} must have the structure, shapes and dtypes of {needed_name}: "
            f"given {describe(given)}, needed {describe(needed)}."
        )
