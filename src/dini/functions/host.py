"""NumPy functions in JAX programs, whose numbers keep their precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..trees import Tree


def _to_bits(array: jax.Array) -> jax.Array:
    """Return the bits of float64 numbers as pairs of integers, other arrays as they are."""
    return jax.lax.bitcast_convert_type(array, jnp.uint32) if array.dtype == jnp.float64 else array


def call_on_host(fun: Callable[..., Tree], out: Tree, *given: Tree) -> Any:
    """Call a NumPy function of trees of arrays, of the lanes of a batch one by one.

    A callback runs in a thread of its own, which does not see ``jax.enable_x64`` around the program: JAX would
    round all that goes in and out to float32 there. So float64 numbers travel as bits.

    Parameters
    ----------
    fun
        Of NumPy arrays; it has no derivative and no side effects.
    out
        The shapes and types of what it returns, a tree of :class:`jax.ShapeDtypeStruct`.
    given
        Trees of arrays.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from dini.functions.host import call_on_host
    >>> x = jnp.array([3.0, 4.0])
    >>> like = jax.ShapeDtypeStruct((), x.dtype)
    >>> print(jax.jit(lambda x: call_on_host(lambda v: np.linalg.norm(v), like, x))(x))
    5.0
    """
    leaves, structure = jax.tree.flatten(given)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    types = [leaf.dtype for leaf in leaves]
    wanted, end = jax.tree.flatten(out)

    def run(*leaves: Any) -> list[np.ndarray]:
        arrays = [np.ascontiguousarray(leaf).reshape(np.shape(leaf)) for leaf in leaves]
        arrays = [
            array.view(np.float64)[..., 0] if dtype == np.float64 else array.astype(dtype, copy=False)
            for array, dtype in zip(arrays, types, strict=True)
        ]
        found = jax.tree.leaves(fun(*jax.tree.unflatten(structure, arrays)))
        found = [np.array(leaf, one.dtype).reshape(one.shape) for leaf, one in zip(found, wanted, strict=True)]
        return [leaf[..., None].view(np.uint32) if leaf.dtype == np.float64 else leaf for leaf in found]

    as_bits = [jax.ShapeDtypeStruct((*one.shape, 2), jnp.uint32) if one.dtype == jnp.float64 else one for one in wanted]
    found = jax.pure_callback(run, as_bits, *map(_to_bits, leaves), vmap_method="sequential")
    found = [
        jax.lax.bitcast_convert_type(bits, jnp.float64) if one.dtype == jnp.float64 else bits
        for bits, one in zip(found, wanted, strict=True)
    ]
    return jax.tree.unflatten(end, found)
