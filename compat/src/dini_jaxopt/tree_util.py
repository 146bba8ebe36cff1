"""JAXopt's arithmetic on trees, by :mod:`dini.trees` where it means the same."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp

from dini import trees
from dini.trees import Tree
from dini.trees.products import tensordot, vdot

__all__ = [
    "broadcast_pytrees",
    "tree_add",
    "tree_add_scalar_mul",
    "tree_conj",
    "tree_div",
    "tree_dot",
    "tree_imag",
    "tree_inf_norm",
    "tree_l2_norm",
    "tree_map",
    "tree_mul",
    "tree_negative",
    "tree_ones_like",
    "tree_real",
    "tree_reduce",
    "tree_scalar_mul",
    "tree_sub",
    "tree_sum",
    "tree_vdot",
    "tree_vdot_real",
    "tree_where",
    "tree_zeros_like",
]

tree_map = jax.tree.map
tree_reduce = jax.tree.reduce


def broadcast_pytrees(*trees: Any) -> tuple[Any, ...]:
    """Return the trees with each one that is a single leaf spread over the structure of the others.

    Raises
    ------
    ValueError
        Where two of them, neither of which is a leaf, differ in structure.

    Examples
    --------
    >>> from dini_jaxopt import tree_util
    >>> tree_util.broadcast_pytrees(1.0, {"a": 2.0, "b": 3.0})
    ({'a': 1.0, 'b': 1.0}, {'a': 2.0, 'b': 3.0})
    """
    is_leaf = [jax.tree_util.treedef_is_leaf(jax.tree.structure(tree)) for tree in trees]
    whole = [tree for tree, leaf in zip(trees, is_leaf, strict=True) if not leaf]
    for tree in whole[1:]:
        if jax.tree.structure(tree) != jax.tree.structure(whole[0]):
            raise ValueError(
                "broadcast_pytrees needs trees of one structure beside single leaves: given "
                f"{jax.tree.structure(whole[0])} and {jax.tree.structure(tree)}."
            )
    if not whole:
        return trees
    spread = lambda leaf: jax.tree.map(lambda _: leaf, whole[0])
    return tuple(spread(tree) if leaf else tree for tree, leaf in zip(trees, is_leaf, strict=True))


def tree_add(tree_x: Tree, tree_y: Tree) -> Tree:
    """Return ``x + y``, leaf by leaf."""
    return jax.tree.map(operator.add, tree_x, tree_y)


def tree_sub(tree_x: Tree, tree_y: Tree) -> Tree:
    """Return ``x - y``, leaf by leaf."""
    return jax.tree.map(operator.sub, tree_x, tree_y)


def tree_mul(tree_x: Tree, tree_y: Tree) -> Tree:
    """Return ``x * y``, element by element."""
    return jax.tree.map(operator.mul, tree_x, tree_y)


def tree_div(tree_x: Tree, tree_y: Tree) -> Tree:
    """Return ``x / y``, element by element."""
    return jax.tree.map(operator.truediv, tree_x, tree_y)


def tree_scalar_mul(scalar: Any, tree_x: Tree) -> Tree:
    """Return ``scalar * x``."""
    return jax.tree.map(lambda x: scalar * x, tree_x)


def tree_add_scalar_mul(tree_x: Tree, scalar: Any, tree_y: Tree) -> Tree:
    """Return ``x + scalar * y``."""
    return jax.tree.map(lambda x, y: x + scalar * y, tree_x, tree_y)


def tree_vdot(tree_x: Tree, tree_y: Tree) -> jax.Array:
    """Return the inner product, complex for complex leaves.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import tree_util
    >>> print(tree_util.tree_vdot({"a": jnp.array([1.0, 2.0]), "b": 3.0}, {"a": jnp.ones(2), "b": 1.0}))
    6.0
    """
    return jax.tree.reduce(operator.add, jax.tree.map(lambda x, y: vdot(jnp.asarray(x), y), tree_x, tree_y))


def tree_vdot_real(tree_x: Tree, tree_y: Tree) -> jax.Array:
    """Return the real part of the inner product."""
    return jnp.real(tree_vdot(tree_x, tree_y))


def tree_dot(tree_x: Tree, tree_y: Tree) -> Tree:
    """Return the tree of the products of the leaves, as ``jnp.dot`` has them: a block diagonal map."""

    def one(x: Any, y: Any) -> jax.Array:
        x, y = jnp.asarray(x), jnp.asarray(y)
        if not x.ndim or not y.ndim:
            return x * y
        return tensordot(x, jnp.moveaxis(y, max(y.ndim - 2, 0), 0), 1)

    return jax.tree.map(one, tree_x, tree_y)


def tree_sum(tree_x: Tree) -> jax.Array:
    """Return the sum of all elements."""
    return jax.tree.reduce(operator.add, jax.tree.map(jnp.sum, tree_x))


def tree_l2_norm(tree_x: Tree, squared: bool = False) -> jax.Array:
    """Return the Euclidean norm, or its square. The derivative of the norm at zero is zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import tree_util
    >>> print(tree_util.tree_l2_norm([jnp.array([3.0]), jnp.array(4.0)]))
    5.0
    """
    tree_x = trees.inexact(tree_x)
    return trees.vdot(tree_x, tree_x) if squared else trees.norm(tree_x)


def tree_zeros_like(tree_x: Tree) -> Tree:
    """Return a tree of zeros like ``x``."""
    return trees.zeros_like(tree_x)


def tree_ones_like(tree_x: Tree) -> Tree:
    """Return a tree of ones like ``x``."""
    return jax.tree.map(jnp.ones_like, tree_x)


def tree_inf_norm(tree_x: Tree) -> jax.Array:
    """Return the largest absolute value, which is zero where there is no element."""
    largest = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree_x) if jnp.size(leaf)]
    return functools.reduce(jnp.maximum, largest) if largest else jnp.zeros(())


def tree_where(cond: Any, a: Any, b: Any) -> Any:
    """Return ``jnp.where(cond, a, b)`` leaf by leaf, with single leaves spread by :func:`broadcast_pytrees`.

    Examples
    --------
    >>> from dini_jaxopt import tree_util
    >>> print(tree_util.tree_where({"a": True, "b": False}, 1.0, 0.0)["a"])
    1.0
    """
    return jax.tree.map(jnp.where, *broadcast_pytrees(cond, a, b))


def tree_negative(tree: Tree) -> Tree:
    """Return ``-x``."""
    return tree_scalar_mul(-1, tree)


def tree_conj(tree: Tree) -> Tree:
    """Return the complex conjugate."""
    return jax.tree.map(jnp.conj, tree)


def tree_real(tree: Tree) -> Tree:
    """Return the real parts."""
    return jax.tree.map(jnp.real, tree)


def tree_imag(tree: Tree) -> Tree:
    """Return the imaginary parts."""
    return jax.tree.map(jnp.imag, tree)
