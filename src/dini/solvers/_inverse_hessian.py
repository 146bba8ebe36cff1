"""The inverse Hessian of a quasi-Newton method, kept as a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..products import dot, inner_products
from ._quasi_newton import Gram


class Inverse(NamedTuple):
    """The approximate inverse Hessian of the unknown as one vector, and the number of pairs that made it.

    A true Hessian counts as a pair.
    """

    matrix: Any
    count: Any


def empty(x: Any, dtype: Any) -> Inverse:
    """Return the identity."""
    return Inverse(jnp.eye(trees.size(x), dtype=dtype), jnp.zeros((), jnp.int32))


def forget(model: Inverse, where: Any) -> Inverse:
    """Return the identity where that is asked for."""
    eye = jnp.eye(model.matrix.shape[0], dtype=model.matrix.dtype)
    return Inverse(jnp.where(where, eye, model.matrix), jnp.where(where, 0, model.count))


def renew(model: Inverse, s: Any, y: Any, g: Any, old: Any, gram: Gram, keep: Any) -> tuple[Inverse, Any, Any]:
    r"""Update the matrix and its product with ``g``; see :meth:`QuasiNewton._renew`.

    The only product with the matrix is :math:`Hg`: with the last one, :math:`Hy = Hg - Hg_{\text{old}}`.
    """
    dtype = model.matrix.dtype
    flat_g, unravel = ravel_pytree(g)
    s, y, flat, old = (ravel_pytree(v)[0].astype(dtype) for v in (s, y, g, old))
    rho = jnp.where(keep, 1 / jnp.where(keep, gram.sy, 1), 0)
    scale = jnp.where(keep & (model.count == 0), gram.sy / jnp.where(gram.yy > 0, gram.yy, 1), 1)
    # behind barriers, or each element of the matrix computes them again
    rho, scale = jax.lax.optimization_barrier((rho, scale))
    hg = scale * dot(model.matrix, flat)
    hg, hy = jax.lax.optimization_barrier((hg, hg + scale * old))
    with_g_and_y = lambda v: inner_products([flat, y], v)
    weight = rho * (1 + rho * with_g_and_y(hy)[1])
    cross = rho * (hy[:, None] * s[None, :])
    # H - u s' - s u' with the vector u below would be shorter, but fused multiply-adds make it unsymmetric: in
    # single precision that costs many a solution
    matrix = scale * model.matrix - cross - cross.T + weight * (s[:, None] * s[None, :])
    # the same update applied to the product with g
    u = rho * hy - weight / 2 * s
    product = hg - gram.sg * u - with_g_and_y(u)[0] * s
    direction = unravel(-product.astype(flat_g.dtype))
    return Inverse(matrix, model.count + keep.astype(jnp.int32)), direction, -with_g_and_y(product)[0]
