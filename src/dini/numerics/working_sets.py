"""Some coordinates of an unknown at a time, although shapes are static: working sets of a few fixed sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..protocols import AnyProblem
from ..trees import Tree
from .separable import map_with

#: The smallest working set, and the ratio of one to the next: each size is a program to compile.
SMALLEST = 128
_BETWEEN = 384
#: The largest one for a derivative: above, conjugate gradients take over, which need no matrix.
LARGEST = 1024


def sizes(total: int, largest: int = LARGEST) -> list[int]:
    """Return the sizes of working sets of ``total`` coordinates: 128, 256, 384, 512, 1024, ..., at most ``largest``.

    One that is more than two thirds of the largest would save less than it takes to compile.

    Examples
    --------
    >>> from dini.numerics.working_sets import sizes
    >>> sizes(300), sizes(10), sizes(1000)
    ([128, 300], [10], [128, 256, 384, 512, 1000])
    """
    top = min(total, largest)
    found = [size for size in (SMALLEST << i for i in range(top.bit_length())) if size < top]
    if top > _BETWEEN:
        found = sorted([*found, _BETWEEN])
    return [*(size for size in found if 1.5 * size <= top), top]


def dispatch(choices: list[int], count: Any, fun: Callable[..., Any], *operands: Any) -> Any:
    """Return ``fun(k, *operands)`` for the smallest of the sizes ``k`` that holds ``count`` (the largest if none)."""
    if len(choices) == 1:
        return fun(choices[0], *operands)
    index = jnp.searchsorted(jnp.asarray(choices), count).astype(jnp.int32)
    branches = [lambda *given, k=k: fun(k, *given) for k in choices]
    return jax.lax.switch(jnp.minimum(index, len(choices) - 1), branches, *operands)


class Elements:
    """An elementwise constraint or penalty (or none) of a problem, on the unknown as one vector.

    ``rows(index)`` is the same for some of the coordinates: parameters with an entry for each element are taken apart,
    scalars are kept.
    """

    def __init__(self, part: Any, constrained: bool):
        self.part, self.constrained = part, constrained

    @property
    def convex(self) -> bool:
        """Whether the part is convex."""
        return getattr(self.part, "convex", True)

    @classmethod
    def of(cls, problem: AnyProblem, x: Tree) -> Elements:
        """Return the part of a problem with unknown ``x``."""
        constraint, penalty = problem.constraint, problem.penalty
        part = penalty if constraint is None else constraint
        structure = jax.tree.structure(x)
        is_tree = lambda node: jax.tree.structure(node) == structure and not jax.tree_util.treedef_is_leaf(structure)

        def spread(parameter: Any) -> Any:
            if not is_tree(parameter) and jnp.ndim(parameter) == 0:
                return parameter
            full = map_with(lambda leaf, given: jnp.broadcast_to(given, leaf.shape), x, parameter)
            return ravel_pytree(full)[0]

        return cls(jax.tree.map(spread, part, is_leaf=is_tree), constraint is not None)

    def rows(self, index: jax.Array) -> Elements:
        """Return the part that acts on some coordinates."""
        take = lambda parameter: parameter[index] if jnp.ndim(parameter) else parameter
        return Elements(jax.tree.map(take, self.part), self.constrained)

    def prox(self, x: jax.Array, step_size: Any) -> jax.Array:
        """Return the proximal point; step sizes may differ from element to element."""
        if self.part is None:
            return x
        return self.part.project(x) if self.constrained else self.part.prox(x, step_size)

    def slope(self, x: jax.Array, step_size: Any) -> tuple[jax.Array, jax.Array]:
        """Return the proximal point and its derivative, one number an element."""
        return jax.jvp(lambda u: self.prox(u, step_size), (x,), (jnp.ones_like(x),))

    def value(self, x: jax.Array) -> jax.Array:
        """Return the penalty; for a set infinity outside of it."""
        if self.part is None:
            return jnp.zeros((), x.dtype)
        if self.constrained:
            return jnp.where(jnp.all(self.part.project(x) == x), 0, jnp.inf).astype(x.dtype)
        return self.part.value(x)

    def clip(self, x: jax.Array, side: jax.Array) -> jax.Array:
        """Return ``x`` stopped at the kink on the way: at the bounds, or at zero for elements that left their side."""
        if self.part is None:
            return x
        if self.constrained:
            return self.part.project(x)
        within = getattr(self.part, "within", None)
        return jnp.where(x * side >= 0, x, 0) if within is None else within(jnp.where(x * side >= 0, x, 0))
