"""Products and factorizations of small matrices, written out so that a batch of them is one vectorized program."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..products import dot

#: Systems of up to this many unknowns are eliminated element by element: LAPACK, called for each matrix of a batch,
#: costs many times the arithmetic. The same is true of products of so few rows, with so many columns.
SMALL, COLUMNS = 8, 12


def product(matrix: Float[Array, "n m"], right: jax.Array) -> jax.Array:
    """Return ``matrix @ right``, for a vector or a matrix."""
    n, m = matrix.shape
    if not (0 < n <= SMALL and 0 < m <= COLUMNS and right.shape[1:] <= (SMALL,)):
        return dot(matrix, right)

    def row(i: int) -> jax.Array:
        total = matrix[i, 0] * right[0]
        for k in range(1, m):
            total = total + matrix[i, k] * right[k]
        return total

    return jnp.stack([row(i) for i in range(n)])


def positive_definite_solver(matrix: Float[Array, "n n"]) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """Factorize a symmetric positive definite matrix of unit size by Cholesky and return the solver.

    Of small matrices (up to ``SMALL`` unknowns) a pivot below rounding is raised to it; of larger ones, a
    matrix that is not positive definite gives NaN.
    """
    n = matrix.shape[0]
    if n > SMALL:
        factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
        return lambda b: jax.scipy.linalg.cho_solve((factor, True), b, check_finite=False)
    solve, _ = eliminated(matrix, n * float(jnp.finfo(matrix.dtype).eps))
    return solve


def eliminated(
    matrix: Float[Array, "n n"], floor: float = 0.0
) -> tuple[Callable[[Float[Array, " n"]], Float[Array, " n"]], list[jax.Array]]:
    r"""Eliminate a small symmetric matrix, :math:`A = L D L^\top`; return the solver and the pivots.

    A pivot that is not above ``floor`` is raised to it or, where that is zero, taken for one.
    """
    n = matrix.shape[0]
    # without square roots, unit diagonal in L
    lower: list[list[jax.Array]] = []
    inverse: list[jax.Array] = []
    pivots: list[jax.Array] = []
    for i in range(n):
        scaled: list[jax.Array] = []  # row i of L D
        row: list[jax.Array] = []  # row i of L
        for j in range(i):
            left = matrix[i, j]
            for k in range(j):
                left = left - scaled[k] * lower[j][k]
            scaled.append(left)
            row.append(left * inverse[j])
        pivot = matrix[i, i]
        for k in range(i):
            pivot = pivot - scaled[k] * row[k]
        pivots.append(pivot)
        inverse.append(1 / (jnp.maximum(pivot, floor) if floor else jnp.where(pivot > 0, pivot, 1)))
        lower.append(row)

    def solve(b: Float[Array, " n"]) -> Float[Array, " n"]:
        x: list[jax.Array] = []
        for i in range(n):
            left = b[i]
            for k in range(i):
                left = left - lower[i][k] * x[k]
            x.append(left)
        x = [x[i] * inverse[i] for i in range(n)]
        for i in reversed(range(n)):
            for k in range(i + 1, n):
                x[i] = x[i] - lower[k][i] * x[k]
        return jnp.stack(x)

    return solve, pivots
