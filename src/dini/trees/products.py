"""Products of arrays in the full precision of their elements.

On GPUs and TPUs, JAX's default rounds the elements of single precision to ten or to seven bits before it multiplies
matrices: enough for a layer of a network, but a Newton step, a residual or a projection would have errors of a
thousandth that no test of convergence expects. A function of the user's is multiplied as the user says.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["dot", "inner_products", "largest", "squares", "summed", "tensordot", "vdot"]


def dot(a: Any, b: Any) -> Any:
    """Return the product of matrices and vectors, ``a @ b``; a sparse matrix of JAX's has one of its own."""
    if isinstance(a, jax.Array | np.ndarray) and isinstance(b, jax.Array | np.ndarray):
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    return a @ b


vdot = partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)
tensordot = partial(jnp.tensordot, precision=jax.lax.Precision.HIGHEST)

#: sums of up to this many numbers are one loop
_TREE = 32
#: up to so many numbers are added one by one: in a batch, that joins the arithmetic around it in one loop
_FEW = 8


def summed(v: jax.Array) -> jax.Array:
    """Return the sum of a vector."""
    return functools.reduce(jnp.add, list(v)) if 0 < v.size <= _FEW else jnp.sum(v)


def largest(v: jax.Array) -> jax.Array:
    """Return the largest element of a vector without negative ones, NaN where one is; zero of an empty one."""
    return functools.reduce(jnp.maximum, list(v)) if 0 < v.size <= _FEW else jnp.max(v, initial=0)


def inner_products(vectors: Sequence[jax.Array], v: jax.Array) -> list[jax.Array]:
    """Return the inner products of some real arrays with one of their shape.

    XLA sums more than 32 numbers in two loops, after one for their products, but leaves the product of a matrix with a
    vector to a library: that is half to compile and less to run. Shorter sums are one loop.
    """
    if v.size <= _TREE:
        return [vdot(u, v) for u in vectors]
    return list(tensordot(jnp.stack(vectors), v, v.ndim))


def squares(*vectors: jax.Array) -> list[jax.Array]:
    """Return the squared norms of some real arrays of one shape; see :func:`inner_products`."""
    if vectors[0].size <= _TREE:
        return [vdot(v, v) for v in vectors]
    # the product of a matrix of one row would be taken for an inner product
    rows = jnp.stack([*vectors, vectors[0]] if len(vectors) == 1 else vectors)
    return [tensordot(rows, v, v.ndim)[i] for i, v in enumerate(vectors)]
