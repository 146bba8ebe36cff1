"""The matrix of a composite objective, with its products."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dini.extend import dot

__all__ = ["LinearOperator"]


class LinearOperator:
    """A matrix ``A`` with the products that coordinate methods ask for.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt.base import LinearOperator
    >>> A = LinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> print(A.matvec(jnp.ones(2)), A.rmatvec(jnp.ones(2)), A.column_l2_norms(squared=True))
    [3. 7.] [4. 6.] [10. 20.]
    """

    def __init__(self, A: Any):
        self.A = A if hasattr(A, "todense") else jnp.asarray(A)

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the matrix."""
        return self.A.shape

    def matvec(self, x: Any) -> Any:
        """Return ``A x``."""
        return dot(self.A, jnp.asarray(x))

    def matvec_element(self, x: Any, idx: Any) -> Any:
        """Return the element (the row) of ``A x`` at an index."""
        return dot(self.A[idx], jnp.asarray(x))

    def rmatvec(self, x: Any) -> Any:
        """Return ``A.T x``."""
        return dot(self.A.T, jnp.asarray(x))

    def rmatvec_element(self, x: Any, idx: Any) -> Any:
        """Return the element (the row) of ``A.T x`` at an index."""
        return dot(self.A[:, idx], jnp.asarray(x))

    def update_matvec(self, Ax: jax.Array, delta: Any, idx: Any) -> jax.Array:
        """Return ``A x`` after ``delta`` is added to ``x[idx]``."""
        if Ax.ndim not in (1, 2):
            raise ValueError(f"update_matvec's Ax must be a vector or a matrix: given shape {Ax.shape}.")
        column = self.A[:, idx]
        return Ax + (delta * column if Ax.ndim == 1 else jnp.outer(column, delta))

    def update_rmatvec(self, ATx: jax.Array, delta: Any, idx: Any) -> jax.Array:
        """Return ``A.T x`` after ``delta`` is added to ``x[idx]``."""
        if ATx.ndim not in (1, 2):
            raise ValueError(f"update_rmatvec's ATx must be a vector or a matrix: given shape {ATx.shape}.")
        return ATx + (delta * self.A[idx] if ATx.ndim == 1 else jnp.outer(self.A[idx], delta))

    def column_l2_norms(self, squared: bool = False) -> jax.Array:
        """Return the norms of the columns, or their squares."""
        sums = jnp.sum(self.A**2, axis=0)
        return sums if squared else jnp.sqrt(sums)


jax.tree_util.register_pytree_node(LinearOperator, lambda A: ((A.A,), None), lambda _, children: _of(*children))


def _of(A: Any) -> LinearOperator:
    """Return an operator of whatever JAX puts in place of a matrix."""
    operator = object.__new__(LinearOperator)
    operator.A = A
    return operator
