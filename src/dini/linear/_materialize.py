"""The matrix of a matrix-free linear map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.flatten_util
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array, Float

from ._protocol import Matvec

_SMALL = 16  # up to which products with the identity are cheaper than looking for a way around them


def materialize(matvec: Matvec, like: Any) -> tuple[Float[Array, "d d"], Float[Array, " d"], Any]:
    """Return the matrix of ``matvec`` (at least float32), ``like`` as a vector, and the way back to trees."""
    flat, unravel = jax.flatten_util.ravel_pytree(like)
    dtype = jnp.promote_types(flat.dtype, jnp.float32)

    def column(e: jax.Array) -> jax.Array:
        return jax.flatten_util.ravel_pytree(matvec(unravel(e)))[0].astype(dtype)

    return columns(column, flat), flat.astype(dtype), lambda w: unravel(w.astype(flat.dtype))


def columns(fun: Callable[[jax.Array], jax.Array], like: Float[Array, " d"]) -> Float[Array, "m d"]:
    r"""Return the matrix of a linear function of a vector like ``like``.

    Its columns are the images of the unit vectors, computed as one batch. What the function's program multiplies by a
    matrix first, as :math:`X^\top D X v` does in a generalized linear model, is that matrix itself in this batch: no
    product is computed for it.
    """
    eye = jnp.eye(like.size, dtype=like.dtype)
    if like.size <= _SMALL:
        return jax.vmap(fun, out_axes=1)(eye)
    closed = jax.make_jaxpr(fun)(like)
    jaxpr, consts = closed.jaxpr, closed.consts
    given = dict(zip(jaxpr.constvars, consts, strict=True))
    offsets = {jaxpr.invars[0]: 0}
    known, images, rest = [], [], []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "split" and eqn.invars[0] in offsets:
            start = offsets[eqn.invars[0]]
            for var in eqn.outvars:
                offsets[var] = start
                start += var.aval.size
        image = _image(eqn, offsets, given, like.size)
        if image is None:
            rest.append(eqn)
        else:
            known += eqn.outvars
            images.append(image)
    if not images:
        return jax.vmap(fun, out_axes=1)(eye)
    # the debug information counts the inputs
    left = jaxpr.replace(eqns=rest, invars=[*jaxpr.invars, *known], debug_info=jaxpr.debug_info.with_unknown_names())
    return jax.vmap(lambda *e: jax.core.eval_jaxpr(left, consts, *e)[0], out_axes=1)(eye, *images)


def _image(eqn: Any, offsets: dict[Any, int], given: dict[Any, Any], count: int) -> jax.Array | None:
    """Return what an equation makes of all unit vectors, if it multiplies the vector (or a part) by a given matrix."""
    if eqn.primitive.name != "dot_general" or any(isinstance(v, Literal) for v in eqn.invars):
        return None
    contracted, batched = eqn.params["dimension_numbers"]
    which = next((i for i, v in enumerate(eqn.invars) if v in offsets), None)
    if which is None or eqn.invars[1 - which] not in given or batched[0] or contracted[which] != (0,):
        return None
    matrix = given[eqn.invars[1 - which]]
    (axis,) = contracted[1 - which]
    rows = jnp.moveaxis(matrix, axis, 0).astype(eqn.outvars[0].aval.dtype)
    before = offsets[eqn.invars[which]]
    after = count - before - rows.shape[0]
    return jnp.pad(rows, [(before, after), *[(0, 0)] * (rows.ndim - 1)])
