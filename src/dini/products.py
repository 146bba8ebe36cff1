"""Products of arrays in the full precision of their elements.

On GPUs and TPUs, JAX's default rounds the elements of single precision to ten or to seven bits before it multiplies
matrices: enough for a layer of a network, but a Newton step, a residual or a projection would have errors of a
thousandth that no test of convergence expects. A function of the user's is multiplied as the user says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

__all__ = ["dot", "inner_products", "tensordot", "vdot"]

#: the product of matrices and vectors, ``a @ b``
dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
vdot = partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)
tensordot = partial(jnp.tensordot, precision=jax.lax.Precision.HIGHEST)

#: sums of up to this many numbers are one loop
_TREE = 32


def inner_products(vectors: Sequence[jax.Array], v: jax.Array) -> list[jax.Array]:
    """Return the inner products of some real arrays with one of their shape.

    XLA sums more than 32 numbers in two loops, after one for their products, but leaves the product of a matrix with a
    vector to a library: that is half to compile and less to run. Shorter sums are one loop.
    """
    if v.size <= _TREE:
        return [vdot(u, v) for u in vectors]
    return list(tensordot(jnp.stack(vectors), v, v.ndim))
