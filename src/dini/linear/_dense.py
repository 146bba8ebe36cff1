"""Dense factorization of a matrix-free linear map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.flatten_util
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import require_choice
from ..deferred import Array, Float
from ..trees import Tree
from ..trees.products import dot
from ._materialize import materialize
from ._protocol import Matvec, Structure
from ._rolled import cholesky, cholesky_solve, lu, lu_solve

#: passes of equilibration after the first, which leave less than one of 24 digits
_PASSES = 4


def _diagonal(matrix: Float[Array, "d d"]) -> Float[Array, " d"]:
    """Return the diagonal, by a slice: XLA fuses that with what follows, unlike the gather of ``jnp.diagonal``."""
    d = matrix.shape[0]
    return jax.lax.slice(matrix.reshape(-1), (0,), (d * d,), (d + 1,))


def _sizes(matrix: Float[Array, "d d"]) -> Float[Array, " d"]:
    """Return the largest elements of the rows, one for a row of zeros."""
    rows = jnp.max(jnp.abs(matrix), axis=1)
    return jnp.where(rows > 0, rows, 1)


def symmetric_scales(matrix: Float[Array, "d d"]) -> Float[Array, " d"]:
    """Return what rows and columns of a symmetric matrix are divided by to have largest elements near one."""
    size = jnp.abs(matrix)
    return even_scales(lambda t: jnp.max(size * t[None, :], axis=1, initial=0), jnp.ones(len(matrix), matrix.dtype))


def even_scales(largest: Callable[[jax.Array], jax.Array], ones: Float[Array, " d"]) -> Float[Array, " d"]:
    """Return :func:`symmetric_scales` by the function of the largest elements of rows, with weights of the columns.

    Each pass halves the number of digits by which they differ (Ruiz 2001).
    """
    less = lambda size: jnp.where(size > 0, jax.lax.rsqrt(size), 1)
    return 1 / jax.lax.fori_loop(0, _PASSES, lambda _, t: t * less(t * largest(t)), less(largest(ones)))


def lost_pivots(factor: Float[Array, "d d"], diagonal: Float[Array, " d"]) -> jax.Array:
    """Return whether elimination has left nothing but rounding errors of a diagonal element of a Cholesky factor."""
    # no scaling of the unknowns changes the ratio
    left = jnp.square(_diagonal(factor)) / diagonal
    return ~(jnp.min(left) > factor.shape[0] * jnp.finfo(factor.dtype).eps)


@dataclass(frozen=True)
class DenseFactor:
    """A factorized matrix, or its transpose: solves, products, and what the pivots tell.

    ``rows`` is ``None`` after Cholesky; after LU it holds what the rows were divided by, and ``columns`` what the
    columns were.
    """

    matrix: Float[Array, "d d"]
    factor: Any
    rows: Any
    unravel: Callable[[jax.Array], Any]
    flipped: bool = False
    columns: Any = None

    @property
    def transposed(self) -> DenseFactor:
        """The factor of the transposed matrix."""
        return self if self.rows is None else dataclasses.replace(self, flipped=not self.flipped)

    def flat(self, b: Any) -> jax.Array:
        """Return a tree as a vector."""
        return jax.flatten_util.ravel_pytree(b)[0].astype(self.matrix.dtype)

    def solve(self, b: Any) -> Any:
        """Return the solution."""
        rhs = self.flat(b)
        if self.rows is None:
            return self.unravel(cholesky_solve(self.factor, rhs))
        if self.flipped:
            return self.unravel(lu_solve(self.factor, rhs / self.columns, transposed=True) / self.rows)
        return self.unravel(lu_solve(self.factor, rhs / self.rows) / self.columns)

    def product(self, w: Tree) -> Any:
        """Return the product."""
        w = self.flat(w)
        # the columns lie one after another: of a symmetric matrix they are the rows
        return self.unravel(dot(w, self.matrix) if self.flipped or self.rows is None else dot(self.matrix, w))

    def residual(self, w: Tree, b: Any) -> jax.Array:
        """Return the largest residual of an equation, relative to the largest right-hand side.

        Each equation is divided by its size: in units of their own, the rounding errors of one are larger than another.
        """
        if self.rows is None:
            # by the matrix's own diagonal, as its equations and its unknowns have the same units
            root = jnp.sqrt(_diagonal(self.matrix))
            sizes = jnp.where(root > 0, root, 1)
        else:
            sizes = self.columns if self.flipped else self.rows
        rhs = self.flat(b) / sizes
        left = jnp.max(jnp.abs(self.flat(self.product(w)) / sizes - rhs), initial=0)
        top = jnp.max(jnp.abs(rhs), initial=0)
        return left / jnp.where(top > 0, top, 1)

    @property
    def singular(self) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        if self.rows is None:
            return lost_pivots(self.factor, _diagonal(self.matrix))
        floor = self.matrix.shape[0] * jnp.finfo(self.matrix.dtype).eps
        pivots = jnp.abs(_diagonal(self.factor[0]))
        return ~(jnp.min(pivots) > floor * jnp.max(pivots))


@record
class Dense:
    """Factorization of the materialized matrix: Cholesky where it is positive definite, else LU with partial pivoting.

    The matrix costs ``d`` products, formed as one batch, and ``d**2`` numbers of memory. Before LU the rows are scaled
    to unit largest element and then the columns, those of a symmetric matrix together. The solve is called failed when
    a pivot is zero to working precision: after Cholesky, when less than ``d * eps`` of a diagonal element is left (a
    matrix that is not positive definite is one such case); after LU, when the smallest pivot is below ``d * eps`` times
    the largest.

    Parameters
    ----------
    factorization
        ``"auto"``, ``"cholesky"`` (the matrix must be definite) or ``"lu"`` (for a stationary point that is no
        minimum, say).
    """

    factorization: Literal["auto", "cholesky", "lu"] = field(default="auto", metadata={"static": True})

    def __post_init__(self) -> None:
        require_choice("Dense's factorization", self.factorization, ("auto", "cholesky", "lu"))

    def factorize(self, matvec: Matvec, like: Tree, structure: Structure) -> DenseFactor:
        """Return the factorized matrix of a map from trees like ``like`` to such trees."""
        matrix, _, unravel = materialize(matvec, like)
        if self.factorization == "cholesky" or (self.factorization == "auto" and structure == "positive definite"):
            # JAX factorizes the lower triangle only, and differentiates it as that of a symmetric matrix
            return DenseFactor(matrix, cholesky(matrix), None, unravel)
        if structure == "symmetric":
            # blocks of unlike units, as of a Hessian and constraints, by one scale of a row and its column
            rows = columns = symmetric_scales(matrix)
        else:
            rows = _sizes(matrix)
            # powers of two, which leave the pivots and the rounding errors as they are
            columns = jnp.exp2(jnp.round(jnp.log2(_sizes((matrix / rows[:, None]).T))))
        return DenseFactor(matrix, lu(matrix / rows[:, None] / columns[None, :]), rows, unravel, columns=columns)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        factor = self.factorize(matvec, b, structure)
        return factor.solve(b), factor.singular

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375
