"""Symmetric matrices taken for positive definite: where one is not, the absolute values of its eigenvalues are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ..linear._small import SMALL, eliminated
from ..products import dot


class Factor(NamedTuple):
    """The Cholesky factor of a matrix, and whether that is positive definite."""

    cholesky: jax.Array
    known: jax.Array


def solve_positive(matrix: jax.Array, b: jax.Array) -> tuple[jax.Array, Factor | None]:
    """Solve with a symmetric matrix; return its factor as well, where that was made by LAPACK."""
    matrix = 0.5 * (matrix + matrix.T)
    definite, solve, factor = _factorized(matrix)

    def modified(_: Any) -> jax.Array:
        size, vectors = _absolute_eigenvalues(~definite, matrix)
        return dot(vectors, dot(vectors.T, b) / size)

    return jax.lax.cond(definite, lambda _: solve(b), modified, None), factor


def inverse_positive(matrix: jax.Array) -> jax.Array:
    """Return the inverse of a symmetric matrix."""
    matrix = 0.5 * (matrix + matrix.T)
    definite = _definite(jnp.linalg.cholesky(jax.lax.stop_gradient(matrix), symmetrize_input=False))
    # of a branch that is not taken, a derivative must not become NaN
    safe = jnp.where(definite, matrix, jnp.eye(len(matrix), dtype=matrix.dtype))
    factor = jnp.linalg.cholesky(safe, symmetrize_input=False)

    def plain(_: Any) -> jax.Array:
        half = jax.scipy.linalg.solve_triangular(factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype), lower=True)
        return dot(half.T, half)

    def modified(_: Any) -> jax.Array:
        size, vectors = _absolute_eigenvalues(~definite, matrix)
        return dot(vectors / size[None, :], vectors.T)

    inverse = jax.lax.cond(definite, plain, modified, None)
    return 0.5 * (inverse + inverse.T)


def model_positive(matrix: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a symmetric matrix, changed where it is not positive definite, and what it maps to ``b``."""
    matrix = 0.5 * (matrix + matrix.T)
    definite, solve, _ = _factorized(matrix)

    def modified(_: Any) -> tuple[jax.Array, jax.Array]:
        size, vectors = _absolute_eigenvalues(~definite, matrix)
        return dot(vectors * size[None, :], vectors.T), dot(vectors, dot(vectors.T, b) / size)

    return jax.lax.cond(definite, lambda _: (matrix, solve(b)), modified, None)


def _factorized(matrix: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array], Factor | None]:
    """Return whether a matrix is positive definite, a solver that needs it to be, and the Cholesky factor, if any."""
    if len(matrix) <= SMALL:
        solve, pivots = eliminated(matrix)
        stacked = jnp.stack(pivots)
        return jnp.all((stacked > 0) & jnp.isfinite(stacked)), solve, None
    cholesky = jnp.linalg.cholesky(jax.lax.stop_gradient(matrix), symmetrize_input=False)
    definite = _definite(cholesky)
    # a batch differentiates the branch that is not taken as well, where a NaN times zero would be one
    safe = jnp.where(definite, cholesky, jnp.eye(len(matrix), dtype=matrix.dtype))
    backwards = lambda _, b: jax.scipy.linalg.cho_solve((safe, True), b)
    solve = lambda b: jax.lax.custom_linear_solve(lambda v: dot(matrix, v), b, backwards, symmetric=True)
    return definite, solve, Factor(cholesky, definite)


def _definite(cholesky: jax.Array) -> jax.Array:
    """Return whether a Cholesky factorization has succeeded."""
    # each entry of a row goes into its diagonal element, NaN and infinity as well
    return jnp.all(jnp.isfinite(jnp.diagonal(cholesky)))


def _absolute_eigenvalues(needed: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the absolute eigenvalues, none near zero, and the eigenvectors, as constants.

    Far from a solution only is a matrix indefinite: what a direction is there does not matter to a derivative. A batch
    pays for them where one of its members needs them.
    """
    return _eigen(jax.lax.stop_gradient(needed), jax.lax.stop_gradient(matrix))


def _spectra(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    size = jnp.abs(values)
    largest = jnp.max(size, axis=-1, keepdims=True)
    floor = jnp.finfo(size.dtype).eps ** 0.5 * jnp.maximum(largest, jnp.finfo(size.dtype).tiny)
    return jnp.maximum(size, floor), vectors


@custom_vmap
def _eigen(needed: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    # without a batch, the caller's condition has asked already
    if needed.ndim == 0:
        return _spectra(matrix)
    nothing = lambda m: (jnp.ones_like(m[..., 0]), jnp.zeros_like(m))
    return jax.lax.cond(jnp.any(needed), _spectra, nothing, matrix)


@_eigen.def_vmap
def _(
    size: int, batched: list[bool], needed: jax.Array, matrix: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[bool, bool]]:
    spread = lambda array, is_batched: array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
    return _eigen(spread(needed, batched[0]), spread(matrix, batched[1])), (True, True)
