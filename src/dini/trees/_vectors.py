"""Pytrees as vectors: sums, inner products, norms, and their numbers."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import products
from ._leaves import Tree, to_real


def add(a: Tree, b: Tree) -> Tree:
    """Return ``a + b``."""
    return jax.tree.map(jnp.add, a, b)


def sub(a: Tree, b: Tree) -> Tree:
    """Return ``a - b``."""
    return jax.tree.map(jnp.subtract, a, b)


def neg(a: Tree) -> Tree:
    """Return ``-a``."""
    return jax.tree.map(jnp.negative, a)


def scale(factor: Any, a: Tree) -> Tree:
    """Return ``factor * a`` in the dtypes of ``a``."""
    return jax.tree.map(lambda x: jnp.asarray(factor).astype(x.dtype) * x, a)


def axpy(factor: Any, x: Tree, y: Tree) -> Tree:
    """Return ``y + factor * x`` in the dtypes of ``y``."""
    return jax.tree.map(lambda u, v: v + jnp.asarray(factor).astype(v.dtype) * u, x, y)


def zeros_like(a: Tree) -> Tree:
    """Return the zero vector of the space of ``a``."""
    return jax.tree.map(jnp.zeros_like, a)


def varied(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` that is no eigenvector of anything: a start for power iterations."""
    return jax.tree.map(lambda x: jnp.sin(1.0 + jnp.arange(x.size, dtype=float)).reshape(x.shape).astype(x.dtype), a)


def signs(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` of plus and minus ones without a visible pattern."""

    def one(x: Any) -> jax.Array:
        i = np.arange(1, x.size + 1)
        # the golden ratio's multiples of squares are spread evenly and do not repeat
        return jnp.asarray(np.where((0.61803398875 * i * i) % 1 < 0.5, 1.0, -1.0).reshape(x.shape), x.dtype)

    return jax.tree.map(one, a)


def scattered(a: Tree) -> Tree:
    """Return a fixed vector like ``a`` whose elements, between one and two in size, are in no simple relation."""

    def one(x: Any, sign: jax.Array) -> jax.Array:
        sizes = 1 + (np.sqrt(2) * np.arange(1, x.size + 1)) % 1
        return sign * jnp.asarray(sizes.reshape(x.shape), x.dtype)

    return jax.tree.map(one, a, signs(a))


def where(condition: Any, a: Tree, b: Tree) -> Tree:
    """Return ``a`` where the scalar ``condition`` holds and ``b`` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(a):
        return products.vdot(a, b).real
    return products.vdot(a, b)


def vdot(a: Tree, b: Tree) -> jax.Array:
    """Return the real inner product of two trees."""
    products = [_dot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return total(products) if products else jnp.zeros(())


def total(parts: list[jax.Array]) -> jax.Array:
    """Return the sum of a list of at least one array."""
    return functools.reduce(jnp.add, parts)


def linked(tree: Tree) -> Tree:
    """Return a tree with every leaf a linear function of all.

    JAX transposes a linear system only if all of its right-hand side depends on what is differentiated, and the
    derivative of its transpose only if all of its solution is used. A row of a condition that holds no parameters
    (complementarity, say) does not, nor does a loss of some leaves use the others: these parts are the constant zero.
    """
    leaves, treedef = jax.tree.flatten(tree)
    if len(leaves) < 2:
        return tree
    # the sum of no elements: it hands on no NaN either
    nothing = [jnp.sum(leaf.ravel()[:0]) for leaf in leaves]
    return jax.tree.unflatten(treedef, [sum((n.astype(leaf.dtype) for n in nothing), leaf) for leaf in leaves])


def norm(a: Tree) -> jax.Array:
    """Return the Euclidean norm of a tree.

    The derivative at zero is zero (a subgradient), not NaN; the norm of a tree with a NaN is NaN.
    """
    return sqrt(vdot(a, a))


def sized_norm(a: Tree) -> jax.Array:
    """Return the norm of a tree whose squares may be no numbers of its type: too large, or too small."""
    top = max_abs(a)
    unit = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return unit * norm(jax.tree.map(lambda leaf: leaf / unit.astype(leaf.real.dtype), a))


def norms(*vectors: Tree) -> list[jax.Array]:
    """Return the norms of some trees of one kind, in a program that is quicker to compile than one for each.

    Where a norm is part of longer arithmetic, :func:`norm` joins it.
    """
    leaves = list(zip(*(jax.tree.leaves(v) for v in vectors), strict=True))
    if any(jnp.iscomplexobj(leaf) for leaf, *_ in leaves):
        return [norm(v) for v in vectors]
    parts = [products.squares(*leaf) for leaf in leaves]
    return [sqrt(total(list(part))) for part in zip(*parts, strict=True)]


def sqrt(squared: jax.Array) -> jax.Array:
    """Return the square root, with the derivative zero at zero."""
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def max_abs(a: Tree) -> jax.Array:
    """Return the largest absolute value in a tree (zero for a tree without elements)."""
    tops = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(a) if x.size]
    return functools.reduce(jnp.maximum, tops) if tops else jnp.zeros((), real_dtype(a))


def all_finite(a: Tree) -> jax.Array:
    """Return whether every element is finite."""
    # the largest of some numbers compiles faster than the conjunction of as many tests; it is NaN if one is
    return jnp.isfinite(max_abs(jax.lax.stop_gradient(to_real(a))))


def size(a: Tree) -> int:
    """Return the number of real degrees of freedom."""
    return sum(math.prod(jnp.shape(x)) * (2 if jnp.iscomplexobj(x) else 1) for x in jax.tree.leaves(a))


def real_dtype(a: Tree) -> np.dtype:
    """Return the real dtype in which scalars that belong to ``a`` (errors, step sizes) are kept: at least float32."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(a)]
    inexact = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)] or [jnp.result_type(float)]
    # by hand: JAX may have been asked to promote nothing
    return np.dtype(np.float64 if any(jnp.finfo(dtype).bits == 64 for dtype in inexact) else np.float32)


def single(dtype: Any) -> Any:
    """Return a dtype of at least single precision."""
    short = not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32
    return np.dtype(np.float32) if short else np.dtype(dtype)


def eps(a: Tree) -> float:
    """Return the unit roundoff of the coarsest leaf of ``a``."""
    return max((float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(a)), default=float(jnp.finfo(float).eps))


def strong(a: Tree) -> Tree:
    """Return ``a`` as arrays without weak types, so that loops keep one type."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), a)


def inexact(a: Tree) -> Tree:
    """Return ``a`` with floating-point numbers in place of integers and booleans."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        array = jnp.asarray(leaf)
        return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(float)

    return jax.tree.map(one, a)
