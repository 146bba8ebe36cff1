"""JAXopt's arithmetic on trees, by :mod:`dini.trees` where it means the same."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dini.extend import tensordot, trees, vdot

from ._known import shows

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
tree_zeros_like = trees.zeros_like


def _leafwise(name: str, fun: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Return a function of leaves as one of trees."""

    def of_trees(tree_x: trees.Tree, *rest: trees.Tree) -> trees.Tree:
        return jax.tree.map(fun, tree_x, *rest)

    of_trees.__name__ = of_trees.__qualname__ = name
    of_trees.__doc__ = f"Return {what}, leaf by leaf."
    return of_trees


tree_add = _leafwise("tree_add", operator.add, "``x + y``")
tree_sub = _leafwise("tree_sub", operator.sub, "``x - y``")
tree_mul = _leafwise("tree_mul", operator.mul, "``x * y``")
tree_div = _leafwise("tree_div", operator.truediv, "``x / y``")
tree_negative = _leafwise("tree_negative", operator.neg, "``-x``")
tree_ones_like = _leafwise("tree_ones_like", jnp.ones_like, "ones like ``x``")
tree_conj = _leafwise("tree_conj", jnp.conj, "the complex conjugate")
tree_real = _leafwise("tree_real", jnp.real, "the real parts")
tree_imag = _leafwise("tree_imag", jnp.imag, "the imaginary parts")


def tree_scalar_mul(scalar: Any, tree_x: trees.Tree) -> trees.Tree:
    """Return ``scalar * x``."""
    return jax.tree.map(lambda x: scalar * x, tree_x)


def tree_add_scalar_mul(tree_x: trees.Tree, scalar: Any, tree_y: trees.Tree) -> trees.Tree:
    """Return ``x + scalar * y``."""
    return jax.tree.map(lambda x, y: x + scalar * y, tree_x, tree_y)


@shows("6.0", 'tree_util.tree_vdot({"a": jnp.array([1.0, 2.0]), "b": 3.0}, {"a": jnp.ones(2), "b": 1.0})')
def tree_vdot(tree_x: trees.Tree, tree_y: trees.Tree) -> jax.Array:
    """Return the inner product, complex for complex leaves."""
    return jax.tree.reduce(operator.add, jax.tree.map(lambda x, y: vdot(jnp.asarray(x), y), tree_x, tree_y))


def tree_vdot_real(tree_x: trees.Tree, tree_y: trees.Tree) -> jax.Array:
    """Return the real part of the inner product."""
    return jnp.real(tree_vdot(tree_x, tree_y))


def tree_dot(tree_x: trees.Tree, tree_y: trees.Tree) -> trees.Tree:
    """Return the tree of the products of the leaves, as ``jnp.dot`` has them: a block diagonal map."""

    def one(x: Any, y: Any) -> jax.Array:
        x, y = jnp.asarray(x), jnp.asarray(y)
        if not x.ndim or not y.ndim:
            return x * y
        return tensordot(x, jnp.moveaxis(y, max(y.ndim - 2, 0), 0), 1)

    return jax.tree.map(one, tree_x, tree_y)


def tree_sum(tree_x: trees.Tree) -> jax.Array:
    """Return the sum of all elements."""
    return jax.tree.reduce(operator.add, jax.tree.map(jnp.sum, tree_x))


@shows("5.0", "tree_util.tree_l2_norm([jnp.array([3.0]), jnp.array(4.0)])")
def tree_l2_norm(tree_x: trees.Tree, squared: bool = False) -> jax.Array:
    """Return the Euclidean norm, or its square. The derivative of the norm at zero is zero."""
    tree_x = trees.inexact(tree_x)
    return trees.vdot(tree_x, tree_x) if squared else trees.norm(tree_x)


def tree_inf_norm(tree_x: trees.Tree) -> jax.Array:
    """Return the largest absolute value, which is zero where there is no element."""
    largest = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree_x) if jnp.size(leaf)]
    return functools.reduce(jnp.maximum, largest) if largest else jnp.zeros(())


@shows("({'a': 1.0, 'b': 1.0}, {'a': 2.0, 'b': 3.0})", 'tree_util.broadcast_pytrees(1.0, {"a": 2.0, "b": 3.0})')
def broadcast_pytrees(*given: Any) -> tuple[Any, ...]:
    """Return trees with each one that is a single leaf spread over the structure of the others.

    Where two of them, neither of which is a leaf, differ in structure, it raises ``ValueError``.
    """
    is_leaf = [jax.tree_util.treedef_is_leaf(jax.tree.structure(tree)) for tree in given]
    whole = [tree for tree, leaf in zip(given, is_leaf, strict=True) if not leaf]
    for tree in whole[1:]:
        if jax.tree.structure(tree) != jax.tree.structure(whole[0]):
            raise ValueError(
                "broadcast_pytrees needs trees of one structure beside single leaves: given "
                f"{jax.tree.structure(whole[0])} and {jax.tree.structure(tree)}."
            )
    if not whole:
        return given
    spread = lambda leaf: jax.tree.map(lambda _: leaf, whole[0])
    return tuple(spread(tree) if leaf else tree for tree, leaf in zip(given, is_leaf, strict=True))


@shows("1.0", 'tree_util.tree_where({"a": True, "b": False}, 1.0, 0.0)["a"]')
def tree_where(cond: Any, a: Any, b: Any) -> Any:
    """Return ``jnp.where(cond, a, b)`` leaf by leaf, with single leaves spread by :func:`broadcast_pytrees`."""
    return jax.tree.map(jnp.where, *broadcast_pytrees(cond, a, b))
