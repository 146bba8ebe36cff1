"""Dense factorization of a matrix-free linear map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from ._protocol import Matvec, Structure


def materialize(matvec: Matvec, like: Any) -> tuple[Float[Array, "d d"], Float[Array, " d"], Any]:
    """Return the matrix of ``matvec`` (at least float32), ``like`` as a vector, and the way back to trees."""
    flat, unravel = jax.flatten_util.ravel_pytree(like)
    dtype = jnp.promote_types(flat.dtype, jnp.float32)

    def column(e: jax.Array) -> jax.Array:
        return jax.flatten_util.ravel_pytree(matvec(unravel(e)))[0].astype(dtype)

    matrix = jax.vmap(column, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))
    return matrix, flat.astype(dtype), lambda w: unravel(w.astype(flat.dtype))


@register_dataclass
@dataclass(frozen=True)
class Dense:
    """LU factorization with partial pivoting of the materialized matrix.

    The matrix costs ``d`` products, formed as one batch, and ``d**2`` numbers of memory. The rows are scaled to unit
    largest element first. The solve is called failed when a pivot is zero to working precision, that is when the
    smallest pivot is below ``d * eps`` times the largest.
    """

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        del structure
        matrix, rhs, unravel = materialize(matvec, b)
        if not rhs.size:
            return b, jnp.asarray(False)
        rows = jnp.max(jnp.abs(matrix), axis=1)
        rows = jnp.where(rows > 0, rows, 1)
        factor = jax.scipy.linalg.lu_factor(matrix / rows[:, None], check_finite=False)
        w = jax.scipy.linalg.lu_solve(factor, rhs / rows, check_finite=False)
        pivots = jnp.abs(jnp.diagonal(factor[0]))
        regular = jnp.min(pivots) > rhs.size * jnp.finfo(rhs.dtype).eps * jnp.max(pivots)
        return unravel(w), ~regular

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375
