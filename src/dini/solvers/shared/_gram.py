"""The inner products of a move, the change of the gradient, and the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from ... import trees
from ...trees import Tree
from ...trees.products import inner_products


class Gram(NamedTuple):
    """The inner products of the last move ``s``, the change of the gradient ``y`` and the gradient ``g``."""

    ss: Any
    sy: Any
    sg: Any
    yy: Any
    yg: Any
    gg: Any


def gram(s: Tree, y: Tree, g: Tree, dtype: Any) -> Gram:
    """Return the inner products of three vectors, each read once."""
    parts = []
    for leaves in zip(*(jax.tree.leaves(tree) for tree in (s, y, g)), strict=True):
        ss, sy, sg = inner_products(leaves, leaves[0])
        _, yy, yg = inner_products(leaves, leaves[1])
        parts.append((ss, sy, sg, yy, yg, inner_products(leaves, leaves[2])[2]))
    return Gram(*(trees.total(list(part)).astype(dtype) for part in zip(*parts, strict=True)))
