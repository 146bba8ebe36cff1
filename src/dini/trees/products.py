"""Products of arrays in the full precision of their elements.

On GPUs and TPUs, JAX's default rounds the elements of single precision to ten or to seven bits before it multiplies
matrices: enough for a layer of a network, but a Newton step, a residual or a projection would have errors of a
thousandth that no test of convergence expects. A function of the user's is multiplied as the user says.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["dot", "inner_products", "largest", "squares", "summed", "tensordot", "vdot"]


def _spec(array: Any) -> tuple[Any, ...] | None:
    """Return over which axes of an explicit mesh an array's dimensions are split; ``None`` where over none."""
    sharding = getattr(jax.typeof(array), "sharding", None)
    spec = tuple(getattr(sharding, "spec", ()))
    return (*spec, *[None] * (np.ndim(array) - len(spec))) if any(spec) else None


def _contracted(a: Any, b: Any, first: Sequence[int], second: Sequence[int]) -> dict[str, Any]:
    """Return what says how a product is split, where explicit axes leave that to us: as what is left of its factors.

    The sum over a dimension that is split is one sum on each device and one over the devices: nothing is gathered.
    """
    specs = _spec(a), _spec(b)
    if specs == (None, None):
        return {}
    left, right = (
        (None,) * np.ndim(array) if spec is None else spec for array, spec in zip((a, b), specs, strict=True)
    )
    if not any((*(left[i] for i in first), *(right[i] for i in second))):
        return {}
    kept = [s for i, s in enumerate(left) if i not in first], [s for i, s in enumerate(right) if i not in second]
    return {"out_sharding": jax.sharding.PartitionSpec(*kept[0], *kept[1])}


def dot(a: Any, b: Any) -> Any:
    """Return the product of matrices and vectors, ``a @ b``; a sparse matrix of JAX's has one of its own."""
    if isinstance(a, jax.Array | np.ndarray) and isinstance(b, jax.Array | np.ndarray):
        flat = np.ndim(a) <= 2 and np.ndim(b) <= 2
        split = _contracted(a, b, [np.ndim(a) - 1], [max(np.ndim(b) - 2, 0)]) if flat else {}
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST, **split)
    return a @ b


def vdot(a: Any, b: Any) -> jax.Array:
    """Return the inner product of two arrays, the first conjugated."""
    if _spec(a) is not None or _spec(b) is not None:
        return tensordot(jnp.conj(a), b, np.ndim(a))
    return jnp.vdot(a, b, precision=jax.lax.Precision.HIGHEST)


def tensordot(a: Any, b: Any, axes: int | tuple[Sequence[int], Sequence[int]]) -> jax.Array:
    """Return the sum over the last ``axes`` dimensions of ``a`` and the first of ``b``, or over named pairs."""
    pairs = (range(np.ndim(a) - axes, np.ndim(a)), range(axes)) if isinstance(axes, int) else axes
    split = _contracted(a, b, *pairs)
    return jnp.tensordot(a, b, axes, precision=jax.lax.Precision.HIGHEST, **split)


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
