"""Dense factorization of a matrix-free linear map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import trees
from ..products import dot
from ..settings import require_choice
from ._materialize import materialize
from ._protocol import Matvec, Structure
from ._small import PIVOTED, Pivoted, eliminated, pivoted, product


def _diagonal(matrix: Float[Array, "d d"]) -> Float[Array, " d"]:
    """Return the diagonal, by a slice: XLA fuses that with what follows, unlike the gather of ``jnp.diagonal``."""
    d = matrix.shape[0]
    return jax.lax.slice(matrix.reshape(-1), (0,), (d * d,), (d + 1,))


def lost_pivots(factor: Float[Array, "d d"], diagonal: Float[Array, " d"]) -> jax.Array:
    """Return whether elimination has left nothing but rounding errors of a diagonal element of a Cholesky factor."""
    # no scaling of the unknowns changes the ratio
    left = jnp.square(_diagonal(factor)) / diagonal
    return ~(jnp.min(left) > factor.shape[0] * jnp.finfo(factor.dtype).eps)


class Cholesky(NamedTuple):
    """The Cholesky factor of a positive definite matrix."""

    factor: Float[Array, "d d"]

    symmetric = True

    def solve(self, b: Float[Array, " d"], transposed: bool) -> Float[Array, " d"]:
        """Return the solution."""
        del transposed
        return jax.scipy.linalg.cho_solve((self.factor, True), b, check_finite=False)

    def singular(self, matrix: Float[Array, "d d"]) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        return lost_pivots(self.factor, _diagonal(matrix))


class LU(NamedTuple):
    """The factors of a matrix whose rows were divided by numbers."""

    factor: tuple[jax.Array, jax.Array]
    rows: Float[Array, " d"]

    symmetric = False

    def solve(self, b: Float[Array, " d"], transposed: bool) -> Float[Array, " d"]:
        """Return the solution, of the transposed system if asked for."""
        if transposed:
            return jax.scipy.linalg.lu_solve(self.factor, b, trans=1, check_finite=False) / self.rows
        return jax.scipy.linalg.lu_solve(self.factor, b / self.rows, check_finite=False)

    def singular(self, matrix: Float[Array, "d d"]) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        del matrix
        return _small_pivot(jnp.abs(_diagonal(self.factor[0])))


class SmallDefinite(NamedTuple):
    """The elimination of a small positive definite matrix."""

    back: Callable[[jax.Array], jax.Array]
    pivots: list[jax.Array]

    symmetric = True

    def solve(self, b: Float[Array, " d"], transposed: bool) -> Float[Array, " d"]:
        """Return the solution."""
        del transposed
        return jnp.where(jnp.min(jnp.stack(self.pivots)) > 0, self.back(b), jnp.nan)

    def singular(self, matrix: Float[Array, "d d"]) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        pivots = jnp.stack(self.pivots)
        left = jnp.where(pivots > 0, pivots / _diagonal(matrix), 0)
        return ~(jnp.min(left) > len(self.pivots) * jnp.finfo(left.dtype).eps)


class SmallLU(NamedTuple):
    """The elimination of a small matrix whose rows were divided by numbers."""

    factor: Pivoted
    rows: Float[Array, " d"]

    symmetric = False

    def solve(self, b: Float[Array, " d"], transposed: bool) -> Float[Array, " d"]:
        """Return the solution, of the transposed system if asked for."""
        return self.factor.solve_transposed(b) / self.rows if transposed else self.factor.solve(b / self.rows)

    def singular(self, matrix: Float[Array, "d d"]) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        del matrix
        return _small_pivot(self.factor.pivots)


def _small_pivot(pivots: Float[Array, " d"]) -> jax.Array:
    return ~(jnp.min(pivots) > pivots.size * jnp.finfo(pivots.dtype).eps * jnp.max(pivots))


@dataclass(frozen=True)
class DenseFactor:
    """A factorized matrix, or its transpose: solves, products, and what the pivots tell."""

    matrix: Float[Array, "d d"]
    factor: Cholesky | LU | SmallDefinite | SmallLU
    unravel: Callable[[jax.Array], Any]
    flipped: bool = False

    @property
    def transposed(self) -> DenseFactor:
        """The factor of the transposed matrix."""
        return self if self.factor.symmetric else dataclasses.replace(self, flipped=not self.flipped)

    def flat(self, b: Any) -> jax.Array:
        """Return a tree as a vector."""
        return jax.flatten_util.ravel_pytree(b)[0].astype(self.matrix.dtype)

    def solve(self, b: Any) -> Any:
        """Return the solution."""
        return self.unravel(self.factor.solve(self.flat(b), self.flipped))

    def product(self, w: Any) -> Any:
        """Return the product."""
        w = self.flat(w)
        if len(w) <= PIVOTED:
            return self.unravel(product(self.matrix.T if self.flipped else self.matrix, w))
        # the columns lie one after another: of a symmetric matrix they are the rows
        return self.unravel(dot(w, self.matrix) if self.flipped or self.factor.symmetric else dot(self.matrix, w))

    @property
    def singular(self) -> jax.Array:
        """Whether a pivot is zero to working precision."""
        return self.factor.singular(self.matrix)


@trees.register
@dataclass(frozen=True)
class Dense:
    """Factorization of the materialized matrix: Cholesky where it is positive definite, else LU with partial pivoting.

    The matrix costs ``d`` products, formed as one batch, and ``d**2`` numbers of memory. Before LU the rows are scaled
    to unit largest element. The solve is called failed when a pivot is zero to working precision: after Cholesky,
    when less than ``d * eps`` of a diagonal element is left (a matrix that is not positive definite is one such case);
    after LU, when the smallest pivot is below ``d * eps`` times the largest.

    Parameters
    ----------
    factorization
        ``"auto"``, ``"cholesky"`` (the user vouches for definiteness) or ``"lu"`` (for a stationary point that is no
        minimum, say).
    """

    factorization: Literal["auto", "cholesky", "lu"] = field(default="auto", metadata={"static": True})

    def __post_init__(self) -> None:
        require_choice("Dense's factorization", self.factorization, ("auto", "cholesky", "lu"))

    def factorize(self, matvec: Matvec, like: Any, structure: Structure) -> DenseFactor:
        """Return the factorized matrix of a map from trees like ``like`` to such trees."""
        matrix, _, unravel = materialize(matvec, like)
        # XLA would put the matrix together again, and turn it, in each product with it
        matrix = jax.lax.optimization_barrier(matrix.T).T
        small = len(matrix) <= PIVOTED
        factor: Cholesky | LU | SmallDefinite | SmallLU
        if self.factorization == "cholesky" or (self.factorization == "auto" and structure == "positive definite"):
            # JAX factorizes the lower triangle only, and differentiates it as that of a symmetric matrix
            cholesky = jax.lax.linalg.cholesky
            factor = SmallDefinite(*eliminated(matrix)) if small else Cholesky(cholesky(matrix, symmetrize_input=False))
            return DenseFactor(matrix, factor, unravel)
        rows = jnp.max(jnp.abs(matrix), axis=1)
        rows = jnp.where(rows > 0, rows, 1)
        scaled = matrix / rows[:, None]
        factor = (
            SmallLU(pivoted(scaled), rows)
            if small
            else LU(jax.scipy.linalg.lu_factor(scaled, check_finite=False), rows)
        )
        return DenseFactor(matrix, factor, unravel)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        factor = self.factorize(matvec, b, structure)
        return factor.solve(b), factor.singular

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375
