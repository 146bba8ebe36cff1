"""Steps that a user takes one by one: outside of all traces they are compiled, as a solve is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import all_leaves

from ...functions.compiled import compiled
from ...functions.traces import untraced
from ...protocols import AnyProblem, Tolerant
from ...trees import Tree

_NUMBERS = jax.Array | np.ndarray | np.generic | bool | int | float | complex


def _strong(leaf: Any) -> Any:
    """Return a leaf without a weak type, with which the next step would be another program."""
    known = isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False)
    if known or not isinstance(leaf, _NUMBERS):
        return leaf
    array = jnp.asarray(leaf)
    return jax.lax.convert_element_type(array, array.dtype)


def by_hand(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a solver's ``init`` or ``step`` that is compiled where it is called outside of all traces.

    The program is kept as that of :func:`dini.solve` is: for equal solvers and problems and the same shapes. Inside of
    a trace the method is what it was. A solver that is no pytree, and a problem or arguments that hold what is none,
    cannot be handed to a program: with those it is called as it is.
    """

    @compiled
    def run(solver: Tolerant, *given: Any) -> Any:
        return jax.tree.map(_strong, plain(solver, *given))

    @functools.wraps(plain)
    def method(self: Any, problem: AnyProblem, x: Tree, *rest: Any) -> Any:
        if not untraced() or jax.config.jax_disable_jit or all_leaves((self,)):
            return plain(self, problem, x, *rest)
        given = (problem, jax.tree.map(_strong, x), *rest)
        try:
            return run(self, *given)
        except TypeError:
            if all(isinstance(leaf, _NUMBERS) for leaf in jax.tree.leaves((self, given))):
                raise
            return plain(self, *given)

    vars(method)["checked"] = True
    return method
