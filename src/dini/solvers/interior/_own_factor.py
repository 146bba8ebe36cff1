"""A factorization of the map that is to be solved, made where the one that a solver has left behind is another's."""

from __future__ import annotations

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from ...linear import Dense
from ...linear._protocol import Matvec
from ...trees import Tree


def times(units: Any, tree: Tree) -> Any:
    """Return the elements of a tree times units."""
    return jax.tree.map(jnp.multiply, units, tree)


def own_factor(known: Any, units: Any, matvec: Matvec, like: Tree) -> Any:
    """Return the map's LU factor in given units, its row scales and whether it is singular; where ``known``, zeros."""

    def factorize(_: Any) -> Any:
        made = Dense("lu").factorize(lambda v: times(units, matvec(times(units, v))), like, None)
        return jnp.asarray(True), made.factor, made.rows, made.singular

    nothing = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(factorize, 0))
    # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
    return jax.lax.while_loop(lambda now: ~now[0], factorize, (known, *nothing[1:]))[1:]


def or_eliminated(known: Any, general: Any, units: Any, b: Any, otherwise: Tree) -> Any:
    """Return the solution by :func:`own_factor`, or ``otherwise`` where ``known``."""
    factor, rows, _ = general
    flat, unravel = jax.flatten_util.ravel_pytree(times(units, b))

    def eliminate(_: Any) -> Any:
        w = jax.scipy.linalg.lu_solve(factor, flat / rows, check_finite=False)
        return jnp.asarray(True), times(units, unravel(w))

    return jax.lax.while_loop(lambda now: ~now[0], eliminate, (known, otherwise))[1]
