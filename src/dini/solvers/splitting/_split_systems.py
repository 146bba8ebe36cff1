"""The linear systems of the splitting: factorized in small programs, by conjugate gradients in large ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...trees.products import dot
from ..interior._scaled_program import Scaled
from ._split_rows import SIGMA, curved, squares

#: how exactly a step's system is solved beside how far its start is from the solution, and in how many steps at most
_FORCING, _LIMIT = 0.05, 100


class Factored(NamedTuple):
    """The inverse of Cholesky's factor of the matrix of a step."""

    inverse: jax.Array

    @classmethod
    def of(cls, data: Scaled, weights: jax.Array) -> Factored:
        """Factorize the matrix of the program's arrays."""
        first, n = data.matrix.shape[0], data.n
        matrix = data.quadratic + dot(data.matrix.T * weights[None, :first], data.matrix)
        own = SIGMA + (weights[first:] if data.signs else jnp.zeros(n, weights.dtype))
        factor = jax.lax.linalg.cholesky(matrix + jnp.diag(own), symmetrize_input=False)
        eye = jnp.eye(n, dtype=factor.dtype)
        return cls(jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True))

    def solve(self, data: Scaled, weights: jax.Array, right: jax.Array, start: jax.Array) -> jax.Array:
        """Solve for a right-hand side."""
        del data, weights, start
        return dot(self.inverse.T, dot(self.inverse, right))


class Iterated(NamedTuple):
    """The diagonal of the matrix of a step, by which conjugate gradients are preconditioned."""

    diagonal: jax.Array

    @classmethod
    def of(cls, data: Scaled, weights: jax.Array) -> Iterated:
        """Return the diagonal; of maps, an estimate."""
        own = squares(data, weights)
        return cls(jnp.where(own > 0, own, 1))

    def solve(self, data: Scaled, weights: jax.Array, right: jax.Array, start: jax.Array) -> jax.Array:
        """Solve for a right-hand side, from the last solution on.

        What is left is a share of what there was: as the steps of the splitting become small, so do the errors, whose
        sum is finite.
        """
        left = right - curved(data, weights, start)
        move = jax.scipy.sparse.linalg.cg(
            lambda v: curved(data, weights, v), left, tol=_FORCING, maxiter=_LIMIT, M=lambda r: r / self.diagonal
        )[0]
        return start + move


def system_of(data: Scaled, weights: jax.Array) -> Any:
    """Return the system of a step, factorized where the program is held in arrays."""
    return Iterated.of(data, weights) if data.base is None else Factored.of(data, weights)
