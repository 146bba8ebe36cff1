"""Sparsity patterns: coloring, and a matrix from a few products."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..deferred import Array, Float
from ..trees import Tree
from ._protocol import Matvec


def scipy_sparse() -> Any:
    """Return ``scipy.sparse``, imported when it is first used."""
    return importlib.import_module("scipy.sparse")


class Pattern:
    """Where a matrix may be nonzero: a static, hashable set of positions.

    Parameters
    ----------
    rows, columns
        Positions, in any order; repeated ones count once.
    shape
        Numbers of rows and of columns.

    Raises
    ------
    ValueError
        For positions outside the shape.

    Examples
    --------
    >>> from dini.linear import Pattern
    >>> pattern = Pattern.banded(5, 1, 1)
    >>> pattern.count, pattern.bandwidth, pattern.coloring[0]
    (13, (1, 1), 3)
    """

    def __init__(self, rows: Any, columns: Any, shape: tuple[int, int]):
        rows, columns = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
        self.shape = (int(shape[0]), int(shape[1]))
        if rows.size != columns.size:
            raise ValueError(f"Pattern needs as many rows as columns: given {rows.size} and {columns.size}.")
        inside = (rows >= 0) & (rows < self.shape[0]) & (columns >= 0) & (columns < self.shape[1])
        if not np.all(inside):
            raise ValueError(f"Pattern has positions outside the shape {self.shape}.")
        keys = np.unique(rows * max(self.shape[1], 1) + columns)
        self.rows, self.columns = np.divmod(keys, max(self.shape[1], 1))
        self.rows.setflags(write=False)
        self.columns.setflags(write=False)
        self._hash = hash((self.shape, self.rows.tobytes(), self.columns.tobytes()))

    @classmethod
    def of(cls, matrix: Any) -> Pattern:
        """Return the pattern of the nonzeros of a dense matrix, or of what a SciPy sparse matrix stores."""
        if hasattr(matrix, "tocoo"):
            stored = matrix.tocoo()
            return cls(stored.row, stored.col, stored.shape)
        dense = np.asarray(matrix)
        if dense.ndim != 2:
            raise ValueError(f"Pattern.of needs a matrix: given an array of shape {dense.shape}.")
        rows, columns = np.nonzero(dense)
        return cls(rows, columns, dense.shape)

    @classmethod
    def banded(cls, size: int, lower: int, upper: int) -> Pattern:
        """Return the pattern of a square banded matrix."""
        offsets = np.arange(-lower, upper + 1)
        rows = np.repeat(np.arange(size), offsets.size)
        columns = rows + np.tile(offsets, size)
        inside = (columns >= 0) & (columns < size)
        return cls(rows[inside], columns[inside], (size, size))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Pattern) or self._hash != other._hash or self.shape != other.shape:
            return False
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.columns, other.columns)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Pattern({self.count} nonzeros, shape={self.shape}, bandwidth={self.bandwidth})"

    @property
    def count(self) -> int:
        """Number of positions."""
        return int(self.rows.size)

    @property
    def transposed(self) -> Pattern:
        """The pattern of the transpose."""
        return Pattern(self.columns, self.rows, (self.shape[1], self.shape[0]))

    @functools.cached_property
    def bandwidth(self) -> tuple[int, int]:
        """Numbers of diagonals below and above the main one."""
        if not self.count:
            return 0, 0
        offsets = self.columns - self.rows
        return max(int(-offsets.min()), 0), max(int(offsets.max()), 0)

    @functools.cached_property
    def csr(self) -> Any:
        """The pattern as a SciPy matrix of ones."""
        sparse = scipy_sparse()
        return sparse.csr_matrix((np.ones(self.count, np.int8), (self.rows, self.columns)), self.shape)

    @functools.cached_property
    def coloring(self) -> tuple[int, np.ndarray]:
        """A number of colors, and a color for each column: columns of one color share no row.

        So one product with the sum of the columns of a color shows the nonzeros of all of them. A band of ``n``
        diagonals needs ``n`` colors, given in turns; any other pattern is colored greedily in the given order.
        """
        total = sum(self.bandwidth) + 1
        most = int(np.bincount(self.rows).max()) if self.count else 1
        colors = np.arange(self.shape[1]) % total
        if total > most:
            greedy = self._greedy()
            if greedy.max(initial=0) + 1 < total:
                colors = greedy
        return int(colors.max(initial=0)) + 1, colors

    def _greedy(self) -> np.ndarray:
        taken = [0] * self.shape[0]  # the colors that are in a row, as bits
        by_column = self.csr.tocsc()
        starts, rows = by_column.indptr.tolist(), by_column.indices.tolist()
        colors = np.zeros(self.shape[1], np.int64)
        for column in range(self.shape[1]):
            touched = rows[starts[column] : starts[column + 1]]
            bits = 0
            for row in touched:
                bits |= taken[row]
            free = ~bits & (bits + 1)  # the lowest bit that is not set
            colors[column] = free.bit_length() - 1
            for row in touched:
                taken[row] |= free
        return colors

    def compress(self, matvec: Matvec, like: Tree) -> Float[Array, "colors rows"]:
        """Return the products with the sums of the columns of each color, formed as one batch (at least float32)."""
        flat, unravel = jax.flatten_util.ravel_pytree(like)
        dtype = trees.single(flat.dtype)
        total, colors = self.coloring
        seeds = (jnp.asarray(colors, jnp.int32)[None, :] == jnp.arange(total, dtype=jnp.int32)[:, None]).astype(
            flat.dtype
        )
        return jax.vmap(lambda seed: jax.flatten_util.ravel_pytree(matvec(unravel(seed)))[0].astype(dtype))(seeds)

    def values(self, matvec: Matvec, like: Tree) -> Float[Array, " nonzeros"]:
        """Return the nonzeros of a linear map with this pattern, in the order of ``rows`` and ``columns``."""
        products = self.compress(matvec, like)
        places = self.coloring[1][self.columns] * self.shape[0] + self.rows
        return products.reshape(-1)[places]

    def explains(self, matvec: Matvec, like: Tree, values: jax.Array) -> jax.Array:
        """Return whether one more product is that of a matrix with these nonzeros: whether there are no others.

        A missed nonzero is counted to another column of its color, and multiplied by another element of the vector.
        """
        unravel = jax.flatten_util.ravel_pytree(like)[1]
        given = unravel(trees.scattered(jax.flatten_util.ravel_pytree(like)[0]))
        v = jax.flatten_util.ravel_pytree(given)[0]  # rounded as the leaves are
        image = jax.flatten_util.ravel_pytree(matvec(given))[0].astype(values.dtype)
        terms = values * v[self.columns].astype(values.dtype)
        total = lambda a: jnp.zeros(self.shape[0], values.dtype).at[self.rows].add(a)
        sizes = total(jnp.abs(terms))
        # the map may be a difference of larger ones, and of a row whose nonzeros are small compared with others,
        # rounding may be all that there is
        eps = max(jnp.finfo(leaf.dtype).eps for leaf in jax.tree.leaves(like))
        bound = eps**0.4 * sizes + 16 * eps * self.shape[1] ** 0.5 * jnp.max(sizes, initial=0)
        return jnp.all(jnp.abs(image - total(terms)) <= bound) | ~jnp.all(jnp.isfinite(image))

    def require_square(self, size: int, what: str) -> None:
        """Raise unless the pattern is that of a square matrix of this size."""
        if self.shape != (size, size):
            raise ValueError(f"{what} needs a pattern of shape {(size, size)}: given {self.shape}.")
