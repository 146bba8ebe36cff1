"""Factorizations of matrices of up to a few dozen rows, each a short loop of a program's own.

LAPACK is called from a program that XLA has compiled, and a loop with a call in it is compiled operation by operation:
that takes two or three times as long as one function for the loop as a whole, and the first call of LAPACK imports
SciPy. For a matrix of this size the loops below are as quick. A batch, a derivative of the factorization itself, and a
larger matrix have the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from .. import xla
from ..deferred import Array, Float, Int
from ..trees.products import dot

#: matrices of up to so many rows, and those that are eliminated with a search for pivots
ROLLED, PIVOTED = xla.up_to(32, "rolled"), xla.up_to(24, "rolled")


def _or_library(short: Callable[..., Any], library: Callable[..., Any], most: int = ROLLED) -> Callable[..., Any]:
    """Return the short loop for one matrix, and the library's program for a batch or a derivative."""
    one = custom_vmap(short)

    @one.def_vmap
    def _(size: int, batched: list[bool], *given: Any) -> tuple[Any, Any]:
        del size
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        out = jax.vmap(library, in_axes=axes)(*given)
        return out, jax.tree.map(lambda _: True, out)

    either = jax.custom_jvp(one)
    either.defjvp(lambda primals, tangents: jax.jvp(library, primals, tangents))

    def by_size(matrix: Any, *rest: Any) -> Any:
        small = matrix.shape[0] <= most and jax.default_backend() == "cpu"
        return (either if small else library)(matrix, *rest)

    return by_size


def _cholesky_library(matrix: jax.Array) -> jax.Array:
    return lax.linalg.cholesky(matrix, symmetrize_input=False)


def _cholesky(matrix: jax.Array) -> jax.Array:
    n = len(matrix)
    places = jnp.arange(n)

    def eliminate(k: Any, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, good = now
        column = matrix[:, k] - dot(rows[:, k], rows)
        root = jnp.sqrt(column[k])
        column = jnp.where(places >= k, column / root, 0)
        return lax.dynamic_update_index_in_dim(rows, column, k, 0), good & (root > 0)

    rows, good = lax.fori_loop(0, n, eliminate, (jnp.zeros_like(matrix), jnp.ones((), bool)))
    return jnp.where(good, rows.T, jnp.nan)


def _down_and_up(row: Callable[..., jax.Array], b: jax.Array) -> jax.Array:
    """Return what the rows make of a vector, from the first to the last and back, as one loop."""
    n = len(b)
    places = jnp.arange(n, dtype=jnp.int32)

    def one(i: Any, x: jax.Array) -> jax.Array:
        down = i < n
        return row(down, jnp.where(down, i, 2 * n - 1 - i), x, places)

    return lax.fori_loop(0, 2 * n, one, b)


def _lower_library(lower: jax.Array, b: jax.Array) -> jax.Array:
    return lax.linalg.triangular_solve(lower, b, left_side=True, lower=True)


def _lower(lower: jax.Array, b: jax.Array) -> jax.Array:
    def row(k: Any, x: jax.Array) -> jax.Array:
        left = b[k] - dot(lower[k], x)
        return lax.dynamic_update_index_in_dim(x, left / lower[k, k], k, 0)

    return lax.fori_loop(0, len(lower), row, jnp.zeros_like(b))


def _cholesky_solve_library(lower: jax.Array, b: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((lower, True), b, check_finite=False)


def _cholesky_solve(lower: jax.Array, b: jax.Array) -> jax.Array:
    def row(down: Any, k: Any, x: jax.Array, places: jax.Array) -> jax.Array:
        before = jnp.where(places < k, lower[k], 0)
        left = (x[k] - jnp.where(down, dot(before, x), 0)) / lower[k, k]
        return jnp.where(places == k, left, x - jnp.where(down, 0, left) * before)

    return _down_and_up(row, b)


def _lu_library(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    factors, _, order = lax.linalg.lu(matrix)
    return factors, order


def _lu(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    n = len(matrix)
    places = jnp.arange(n, dtype=jnp.int32)

    def eliminate(k: Any, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, order = now
        here, below = places == k, places > k
        size = jnp.where(places >= k, jnp.abs(a[:, k]), -1)
        # two sums over the column are quicker than one that looks for a place
        p = jnp.min(jnp.where(size == jnp.max(size), places, n - 1))
        row, other, there = a[p], a[k], places == p
        column = jnp.where(there, other[k], a[:, k])
        # below a pivot of zero there is nothing but zeros
        share = jnp.where(below, column * jnp.where(row[k] != 0, 1 / row[k], 0), 0)
        # by selects: an update in place could overwrite the row that it still reads (openxla/xla issue 49176)
        a = jnp.where(here[:, None], row, jnp.where(there[:, None], other, a))
        order = jnp.where(here, order[p], jnp.where(there, order[k], order))
        # the column itself becomes the share
        left = jnp.where(below, -row, jnp.where(here, 1, 0))[None, :]
        return jnp.where(below[:, None], jnp.where(here, 0, a) + share[:, None] * left, a), order

    return lax.fori_loop(0, n, eliminate, (matrix, places))


def _lu_solve_library(factors: jax.Array, order: jax.Array, b: jax.Array) -> jax.Array:
    solve = lambda b, **how: lax.linalg.triangular_solve(factors, b, left_side=True, **how)
    return solve(solve(b[order][:, None], lower=True, unit_diagonal=True))[:, 0]


def _lu_solve(factors: jax.Array, order: jax.Array, b: jax.Array) -> jax.Array:
    def row(down: Any, k: Any, x: jax.Array, places: jax.Array) -> jax.Array:
        others = jnp.where(jnp.where(down, places < k, places > k), factors[k], 0)
        return jnp.where(places == k, (x[k] - dot(others, x)) / jnp.where(down, 1, factors[k, k]), x)

    return _down_and_up(row, b[order])


def _lu_solve_transposed_library(factors: jax.Array, order: jax.Array, b: jax.Array) -> jax.Array:
    solve = lambda b, **how: lax.linalg.triangular_solve(factors, b, left_side=True, transpose_a=True, **how)
    return solve(solve(b[:, None]), lower=True, unit_diagonal=True)[:, 0][jnp.argsort(order)]


def _lu_solve_transposed(factors: jax.Array, order: jax.Array, b: jax.Array) -> jax.Array:
    def row(down: Any, k: Any, x: jax.Array, places: jax.Array) -> jax.Array:
        others = jnp.where(jnp.where(down, places > k, places < k), factors[k], 0)
        left = x[k] / jnp.where(down, factors[k, k], 1)
        return jnp.where(places == k, left, x - left * others)

    x = _down_and_up(row, b)
    return jnp.sum(jnp.where(order[:, None] == jnp.arange(len(b), dtype=order.dtype)[None, :], x[:, None], 0), axis=0)


_of_cholesky = _or_library(_cholesky, _cholesky_library)
_by_lower = _or_library(_lower, _lower_library)
_by_cholesky = _or_library(_cholesky_solve, _cholesky_solve_library)
_of_lu = _or_library(_lu, _lu_library, PIVOTED)
_by_lu = _or_library(_lu_solve, _lu_solve_library, PIVOTED)
_by_lu_transposed = _or_library(_lu_solve_transposed, _lu_solve_transposed_library, PIVOTED)


def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the lower Cholesky factor of a matrix whose lower triangle counts; NaN where it is not positive definite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear._rolled import cholesky, cholesky_solve
    >>> lower = cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> print(lower[1], cholesky_solve(lower, jnp.array([8.0, 12.0])))
    [1. 2.] [1. 2.]
    """
    return _of_cholesky(matrix)


def cholesky_solve(lower: Float[Array, "n n"], b: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return the solution of the system whose lower Cholesky factor is given."""
    return _by_cholesky(lower, b)


def lower_solve(lower: Float[Array, "n n"], b: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Return the solution with a lower triangle for some columns."""
    return _by_lower(lower, b)


def lu(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Int[Array, " n"]]:
    """Return both factors of LU with partial pivoting in one matrix, and the order of the rows."""
    return _of_lu(matrix)


def lu_solve(
    factors: tuple[Float[Array, "n n"], Int[Array, " n"]], b: Float[Array, " n"], *, transposed: bool = False
) -> Float[Array, " n"]:
    """Return the solution of the system whose factors are given, or of the transposed one."""
    return (_by_lu_transposed if transposed else _by_lu)(*factors, b)
