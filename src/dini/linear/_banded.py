"""Direct solution of banded systems, on any device.

A matrix with ``lower`` and ``upper`` diagonals is kept as bands: ``bands[k, i]`` is the element of row ``i`` in column
``i + k - lower``, and zero outside of the matrix. Tridiagonal systems go to JAX's own solver. Others are block
tridiagonal with blocks as large as the band is wide, and one scan over the blocks factorizes them: by Cholesky where
the matrix is positive definite, else by Gaussian elimination with partial pivoting, which two neighboring blocks of
rows confine.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..deferred import Array, Bool, Float
from ..trees.products import dot

_SMALLEST_BLOCK = 8  # below, the overhead of a scan's step costs more than the work in it (measured on CPU)

type Bands = Float[Array, "diagonals d"]
type Vector = Float[Array, " d"]


def solve_bands(bands: Bands, lower: int, upper: int, b: Vector, definite: bool) -> tuple[Vector, Bool[Array, ""]]:
    """Return the solution of a banded system and whether the matrix is singular to working precision.

    With ``definite``, a matrix that is not positive definite counts as singular.
    """
    rows = jnp.max(jnp.abs(bands), axis=0)
    rows = jnp.where(rows > 0, rows, 1)
    if lower == upper == 0:
        diagonal = bands[0]
        bad = ~(diagonal > 0) if definite else ~(jnp.abs(diagonal) > 0)
        return b / diagonal, jnp.any(bad)
    if definite:
        return _cholesky(bands, max(lower, upper), lower, upper, b)
    scaled, right = bands / rows[None], b / rows
    if max(lower, upper) == 1:
        return _tridiagonal(scaled, lower, upper, right)
    return _eliminate(scaled, lower, upper, right)


def _tridiagonal(bands: Bands, lower: int, upper: int, b: Vector) -> tuple[Vector, Bool[Array, ""]]:
    d = bands.shape[1]
    zero = jnp.zeros_like(b)
    below = bands[0].at[0].set(0) if lower else zero
    above = bands[-1].at[d - 1].set(0) if upper else zero
    middle = bands[lower]
    w = lax.linalg.tridiagonal_solve(below, middle, above, b[:, None])[:, 0]
    # Two solves of inverse iteration on a random vector find the smallest singular value where it matters: near zero.
    # They cost nothing where the flag is not looked at.
    probe = jnp.asarray(np.random.default_rng(0).standard_normal(d), b.dtype)
    first = lax.linalg.tridiagonal_solve(below, middle, above, probe[:, None])
    first = first / jnp.linalg.norm(first)
    transposed_below, transposed_above = jnp.roll(above, 1), jnp.roll(below, -1)
    second = lax.linalg.tridiagonal_solve(transposed_below, middle, transposed_above, first)
    return w, ~(jnp.linalg.norm(second) < 0.1 / jnp.finfo(b.dtype).eps)


def _blocks(bands: Bands, lower: int, upper: int, b: Vector, m: int) -> tuple[jax.Array, jax.Array]:
    """Return block rows (the block before the diagonal one, it, and the one after) and right-hand sides.

    The last block is filled up with rows of the identity.
    """
    d = b.size
    count = -(-d // m)
    fill = count * m - d
    bands = jnp.pad(bands, ((0, 0), (0, fill)))
    bands = bands.at[lower, d:].set(1).reshape(-1, count, m)
    inner, column = np.arange(m)[:, None], np.arange(3 * m)[None, :]
    offset = column - m - inner + lower
    inside = (offset >= 0) & (offset <= lower + upper)
    rows = jnp.moveaxis(bands[np.where(inside, offset, 0), :, inner], -1, 0)  # block, row, column
    return jnp.where(inside[None], rows, 0), jnp.pad(b, (0, fill)).reshape(count, m, 1)


def _lower_solve(factor: jax.Array, right: jax.Array, *, unit: bool = False, transpose: bool = False) -> jax.Array:
    return lax.linalg.triangular_solve(
        factor, right, left_side=True, lower=True, unit_diagonal=unit, transpose_a=transpose
    )


def _cholesky(bands: Bands, width: int, lower: int, upper: int, b: Vector) -> tuple[Vector, Bool[Array, ""]]:
    m = max(width, _SMALLEST_BLOCK)
    rows, right = _blocks(bands, lower, upper, b, m)

    def forward(carry: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]):
        schur, moved = carry
        row, r = block
        factor = lax.linalg.cholesky(row[:, m : 2 * m] - schur, symmetrize_input=False)
        # the block after the diagonal is the transpose of the one before it in the next row
        side = _lower_solve(factor, row[:, 2 * m :])
        y = _lower_solve(factor, r - moved)
        return (dot(side.T, side), dot(side.T, y)), (factor, side, y)

    def backward(after: jax.Array, block: tuple[jax.Array, jax.Array, jax.Array]):
        factor, side, y = block
        x = _lower_solve(factor, y - dot(side, after), transpose=True)
        return x, x

    nothing = jnp.zeros((m, m), b.dtype), jnp.zeros((m, 1), b.dtype)
    _, (factors, sides, ys) = lax.scan(forward, nothing, (rows, right))
    _, x = lax.scan(backward, nothing[1], (factors, sides, ys), reverse=True)
    left = jnp.square(jnp.diagonal(factors, axis1=1, axis2=2)).ravel()[: b.size] / bands[lower]
    return x.ravel()[: b.size], ~(jnp.min(left) > b.size * jnp.finfo(b.dtype).eps)


def _eliminate(bands: Bands, lower: int, upper: int, b: Vector) -> tuple[Vector, Bool[Array, ""]]:
    m = max(lower, upper, _SMALLEST_BLOCK)
    rows, right = _blocks(bands, lower, upper, b, m)
    # one row of the identity at the end, so that each step has a next block row
    end = jnp.concatenate([jnp.zeros((m, m)), jnp.eye(m), jnp.zeros((m, m))], 1)[None].astype(b.dtype)
    coming = jnp.concatenate([rows[1:], end]), jnp.concatenate([right[1:], jnp.zeros((1, m, 1), b.dtype)])

    def forward(carry: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]):
        # what is left of the block row (its columns: this block and the next), and the next block row
        (now, r), (row, r_next) = carry, block
        panel = jnp.concatenate([now[:, :m], row[:, :m]])
        rest = jnp.concatenate([jnp.pad(now[:, m:], ((0, 0), (0, m))), row[:, m:]])
        factor, _, order = lax.linalg.lu(panel)
        rest, r = rest[order], jnp.concatenate([r, r_next])[order]
        top = _lower_solve(factor[:m], rest[:m], unit=True)
        y = _lower_solve(factor[:m], r[:m], unit=True)
        left = rest[m:] - dot(factor[m:], top), r[m:] - dot(factor[m:], y)
        return left, (factor[:m], top, y)

    def backward(after: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array, jax.Array]):
        factor, top, y = block
        y = y - dot(top, jnp.concatenate(after))
        x = lax.linalg.triangular_solve(factor, y, left_side=True, lower=False)
        return (x, after[0]), x

    _, (factors, tops, ys) = lax.scan(forward, (rows[0, :, m:], right[0]), coming)
    nothing = jnp.zeros((m, 1), b.dtype)
    _, x = lax.scan(backward, (nothing, nothing), (factors, tops, ys), reverse=True)
    pivots = jnp.abs(jnp.diagonal(factors, axis1=1, axis2=2))
    floor = b.size * jnp.finfo(b.dtype).eps
    return x.ravel()[: b.size], ~(jnp.min(pivots) > floor * jnp.max(pivots))
