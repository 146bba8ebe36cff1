"""Products and factorizations of small matrices, written out so that a batch of them is one vectorized program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import xla
from ..deferred import Array, Float
from ..trees.products import dot

#: Systems of up to this many unknowns are eliminated element by element: LAPACK, called for each matrix of a batch,
#: costs many times the arithmetic. The same is true of products of so few rows, with so many columns.
SMALL, COLUMNS = xla.up_to(8, "elimination"), 12

#: With a search for pivots, which is more to compile, up to this many.
PIVOTED = xla.up_to(4, "pivots")


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
    matrix: Float[Array, "n n"], least: float = 0.0
) -> tuple[Callable[[Float[Array, " n"]], Float[Array, " n"]], list[jax.Array]]:
    r"""Eliminate a small symmetric matrix, :math:`A = L D L^\top`; return the solver and the pivots.

    A pivot that is not above ``least`` is raised to it or, where that is zero, taken for one.
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
        inverse.append(1 / (jnp.maximum(pivot, least) if least else jnp.where(pivot > 0, pivot, 1)))
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


@jax.custom_jvp
def swept(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    r"""Return the inverse of a symmetric quasi-definite matrix, and the pivots.

    Such a matrix has blocks :math:`\begin{pmatrix} -E & G^\top \\ G & F \end{pmatrix}` with :math:`E` and the Schur
    complement of :math:`-E` positive definite, either of which may be empty. It can be eliminated without exchanges;
    pivots are those of :math:`L D L^\top`. Gauss and Jordan's sweeps of the whole matrix are one short loop: that
    compiles in a third of the time of LAPACK's factorization and solves, leaves a loop around it one compiled
    function, and takes a batch at once.

    References
    ----------
    Vanderbei, "Symmetric quasidefinite matrices", SIAM J. Optim. 1995.
    """
    n = len(matrix)
    places = jnp.arange(n)

    def sweep(k: Any, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, pivots = now
        here = places == k
        row, column, inverse = a[k] / a[k, k], a[:, k], 1 / a[k, k]
        rest = a - column[:, None] * row[None, :]
        edge = jnp.where(here[:, None], row[None, :], jnp.where(here[None, :], -inverse * column[:, None], rest))
        return jnp.where(here[:, None] & here[None, :], inverse, edge), jnp.where(here, column, pivots)

    return jax.lax.fori_loop(0, n, sweep, (matrix, jnp.ones_like(matrix[0])))


@swept.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    """Differentiate the inverse, not the elimination; the pivots are taken for constants."""
    inverse, pivots = swept(*primals)
    return (inverse, pivots), (-dot(inverse, dot(tangents[0], inverse)), jnp.zeros_like(pivots))


class Pivoted(NamedTuple):
    """A small matrix, eliminated with partial pivoting.

    Row ``k`` was exchanged with each later row that began with a larger element, as ``exchanged`` says in this order.
    """

    rows: list[list[jax.Array]]
    inverse: list[jax.Array]
    exchanged: list[tuple[int, int, jax.Array]]

    def solve(self, b: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the solution."""
        n = len(self.rows)
        x = [b[i] for i in range(n)]
        for k, i, swap in self.exchanged:
            x[k], x[i] = jnp.where(swap, x[i], x[k]), jnp.where(swap, x[k], x[i])
        for i in range(n):
            for k in range(i):
                x[i] = x[i] - self.rows[i][k] * x[k]
        for i in reversed(range(n)):
            for k in range(i + 1, n):
                x[i] = x[i] - self.rows[i][k] * x[k]
            x[i] = x[i] * self.inverse[i]
        return jnp.stack(x)

    def solve_transposed(self, b: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the solution with the transposed matrix."""
        n = len(self.rows)
        x = [b[i] for i in range(n)]
        for i in range(n):
            for k in range(i):
                x[i] = x[i] - self.rows[k][i] * x[k]
            x[i] = x[i] * self.inverse[i]
        for i in reversed(range(n)):
            for k in range(i + 1, n):
                x[i] = x[i] - self.rows[k][i] * x[k]
        for k, i, swap in reversed(self.exchanged):
            x[k], x[i] = jnp.where(swap, x[i], x[k]), jnp.where(swap, x[k], x[i])
        return jnp.stack(x)


def pivoted(matrix: Float[Array, "n n"]) -> Pivoted:
    """Eliminate a small matrix with partial pivoting; a pivot of zero makes solutions that are not finite."""
    n = matrix.shape[0]
    a = [[matrix[i, j] for j in range(n)] for i in range(n)]
    inverse, exchanged = [], []
    for k in range(n):
        for i in range(k + 1, n):
            swap = jnp.abs(a[i][k]) > jnp.abs(a[k][k])
            exchanged.append((k, i, swap))
            pairs = [(jnp.where(swap, y, x), jnp.where(swap, x, y)) for x, y in zip(a[k], a[i], strict=True)]
            a[k], a[i] = [x for x, _ in pairs], [y for _, y in pairs]
        inverse.append(1 / a[k][k])
        # below a pivot of zero there is nothing but zeros
        regular = jnp.where(a[k][k] != 0, inverse[k], 0)
        for i in range(k + 1, n):
            a[i][k] = a[i][k] * regular
            for j in range(k + 1, n):
                a[i][j] = a[i][j] - a[i][k] * a[k][j]
        # of more than three, XLA would compute the first columns again for each entry of the last
        a = xla.once(a, "pivots: columns") if n > 3 and k < n - 1 else a
    return Pivoted(a, inverse, exchanged)


def solve_pivoted(matrix: Float[Array, "n n"], b: Float[Array, " n"]) -> Float[Array, " n"]:
    """Solve a small system, its rows scaled to unit largest element; where it is singular, not finite.

    The derivative is that of the system, not of the elimination.
    """
    constant = jax.lax.stop_gradient(matrix)
    rows = jnp.max(jnp.abs(constant), axis=1)
    rows = jnp.where(rows > 0, rows, 1)
    factor = pivoted(constant / rows[:, None])
    return jax.lax.custom_linear_solve(
        lambda v: dot(matrix, v),
        b,
        lambda _, b: factor.solve(b / rows),
        lambda _, b: factor.solve_transposed(b) / rows,
    )


def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the inverse of a matrix; of one that is singular, what is not finite or very large."""
    if len(matrix) > PIVOTED:
        return jnp.linalg.inv(matrix)
    return jax.vmap(pivoted(matrix).solve, out_axes=1)(jnp.eye(len(matrix), dtype=matrix.dtype))
