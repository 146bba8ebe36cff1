"""The matrix of a matrix-free linear map."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ..deferred import Array, Float, is_literal
from ..trees import Tree
from ._protocol import Matvec


def materialize(matvec: Matvec, like: Tree) -> tuple[Float[Array, "d d"], Float[Array, " d"], Any]:
    """Return the matrix of ``matvec`` (at least float32), ``like`` as a vector, and the way back to trees."""
    flat, unravel = jax.flatten_util.ravel_pytree(like)
    dtype = trees.single(flat.dtype)

    def column(e: jax.Array) -> jax.Array:
        return jax.flatten_util.ravel_pytree(matvec(unravel(e)))[0].astype(dtype)

    return images(column, flat).T, flat.astype(dtype), lambda w: unravel(w.astype(flat.dtype))


def images(fun: Callable[[jax.Array], jax.Array], like: Float[Array, " d"]) -> Float[Array, "d m"]:
    r"""Return what a linear function makes of the unit vectors, its matrix transposed, computed as one batch.

    What the function's program multiplies by a matrix first, as :math:`X^\top D X v` does in a generalized linear
    model, is that matrix itself in this batch: no product is computed for it.
    """
    eye = jnp.eye(like.size, dtype=like.dtype)
    closed = jax.make_jaxpr(fun)(like)
    jaxpr, consts = closed.jaxpr, closed.consts
    given = dict(zip(jaxpr.constvars, consts, strict=True))
    parts = {jaxpr.invars[0]: _Part(0, None)}
    known, found, rest = [], [], []
    for eqn in jaxpr.eqns:
        image = _image(eqn, parts, given, like.size)
        if image is None:
            rest.append(eqn)
            parts.update(_parts(eqn, parts, given))
            if eqn.primitive.name == "transpose" and eqn.invars[0] in given:
                given[eqn.outvars[0]] = jnp.transpose(given[eqn.invars[0]], eqn.params["permutation"])
        else:
            known += eqn.outvars
            found.append(image)
    if not found:
        return jax.vmap(fun)(eye)
    # the debug information counts the inputs
    left = jaxpr.replace(eqns=rest, invars=[*jaxpr.invars, *known], debug_info=jaxpr.debug_info.with_unknown_names())
    return jax.vmap(lambda *e: jax.core.eval_jaxpr(left, consts, *e)[0])(eye, *found)


class _Part(NamedTuple):
    """A vector that is a part of the input, from an element on, times numbers of its own (``None`` for one)."""

    start: int
    scale: Any


def _parts(eqn: Any, parts: dict[Any, _Part], given: dict[Any, Any]) -> dict[Any, _Part]:
    """Return which of an equation's outputs are parts of the input."""
    name = eqn.primitive.name
    known = [not is_literal(v) and v in parts for v in eqn.invars]
    if name == "split" and known[0]:
        start, scale = parts[eqn.invars[0]]
        if scale is None:
            starts = itertools.accumulate(eqn.params["sizes"], initial=start)
            return {var: _Part(at, None) for var, at in zip(eqn.outvars, starts, strict=False)}
    if name == "mul" and any(known) and not all(known):
        part, factor = (eqn.invars[i] for i in (known.index(True), known.index(False)))
        value = factor.val if is_literal(factor) else given.get(factor)
        start, scale = parts[part]
        if value is not None and (jnp.ndim(value) == 0 or jnp.shape(value) == part.aval.shape):
            return {eqn.outvars[0]: _Part(start, value if scale is None else value * scale)}
    return {}


def _image(eqn: Any, parts: dict[Any, _Part], given: dict[Any, Any], count: int) -> jax.Array | None:
    """Return what an equation makes of all unit vectors, if it multiplies a part of the input by a given matrix."""
    if eqn.primitive.name != "dot_general" or any(is_literal(v) for v in eqn.invars):
        return None
    contracted, batched = eqn.params["dimension_numbers"]
    which = next((i for i, v in enumerate(eqn.invars) if v in parts), None)
    if which is None or eqn.invars[1 - which] not in given or batched[0] or contracted[which] != (0,):
        return None
    start, scale = parts[eqn.invars[which]]
    (axis,) = contracted[1 - which]
    matrix = given[eqn.invars[1 - which]]
    # the batch's axis is that of the unit vectors, which are not sharded
    if getattr(jax.typeof(matrix), "sharding", None) is not None and jax.typeof(matrix).sharding.spec[axis] is not None:
        return None
    rows = jnp.moveaxis(matrix, axis, 0).astype(eqn.outvars[0].aval.dtype)
    if scale is not None:
        rows = jnp.reshape(scale, (-1, *[1] * (rows.ndim - 1))).astype(rows.dtype) * rows
    after = count - start - rows.shape[0]
    return jnp.pad(rows, [(start, after), *[(0, 0)] * (rows.ndim - 1)])
