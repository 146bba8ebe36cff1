"""JAXopt's linear operator: a matrix with products by its columns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...checks.records import record
from ...trees.products import dot


@record(init=False)
class LinearOperator:
    """The map of a matrix ``A``.

    Examples
    --------
    >>> import dini.compat.jaxopt as jaxopt, jax.numpy as jnp
    >>> print(jaxopt.base.LinearOperator(jnp.array([[1.0, 2.0], [0.0, 1.0]])).rmatvec(jnp.ones(2)))
    [1. 3.]
    """

    A: Any

    def __init__(self, A: Any) -> None:  # noqa: N803
        object.__setattr__(self, "A", jnp.asarray(A))

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the matrix."""
        return self.A.shape

    def matvec(self, x: jax.Array) -> jax.Array:
        """Return ``A @ x``."""
        return dot(self.A, x)

    def matvec_element(self, x: jax.Array, idx: Any) -> jax.Array:
        """Return element (or row) ``idx`` of ``A @ x``."""
        return dot(self.A[idx], x)

    def rmatvec(self, x: jax.Array) -> jax.Array:
        """Return ``A.T @ x``."""
        return dot(self.A.T, x)

    def rmatvec_element(self, x: jax.Array, idx: Any) -> jax.Array:
        """Return element (or row) ``idx`` of ``A.T @ x``."""
        return dot(self.A[:, idx], x)

    def update_matvec(self, Ax: jax.Array, delta: Any, idx: Any) -> jax.Array:  # noqa: N803
        """Return ``A @ x`` after ``x[idx] += delta``."""
        if Ax.ndim not in (1, 2):
            raise ValueError(f"Ax must be a vector or a matrix: given shape {Ax.shape}.")
        column = self.A[:, idx]
        return Ax + (delta * column if Ax.ndim == 1 else jnp.outer(column, delta))

    def update_rmatvec(self, ATx: jax.Array, delta: Any, idx: Any) -> jax.Array:  # noqa: N803
        """Return ``A.T @ x`` after ``x[idx] += delta``."""
        if ATx.ndim not in (1, 2):
            raise ValueError(f"ATx must be a vector or a matrix: given shape {ATx.shape}.")
        row = self.A[idx]
        return ATx + (delta * row if ATx.ndim == 1 else jnp.outer(row, delta))

    def column_l2_norms(self, squared: bool = False) -> jax.Array:
        """Return the norms of the columns, or their squares."""
        squares = jnp.sum(self.A**2, axis=0)
        return squares if squared else jnp.sqrt(squares)
