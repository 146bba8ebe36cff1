"""A step onto the face of a quadratic program: some of its rows are taken for equations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...linear._rolled import cholesky
from ._scaled_program import Factor, Scaled

#: a point whose error is below so many units in the last place is exact
EXACT = 1e4
#: a round of refinement that is no shorter than this share of the last one is one of rounding
_FALLS = 0.9


def by_factor(data: Scaled, active: jax.Array, base: jax.Array, rounds: tuple[int, int]) -> tuple[Factor, jax.Array]:
    """Return the factorized equations of the active rows, and their solution.

    It is refined as long as that changes something, in at most so many ``rounds``: those of double and of single
    precision. An unknown whose curvature is small compared with the regularization takes some.
    """
    n = data.n
    keep = jnp.concatenate([jnp.ones(n, bool), active])
    factor = Factor.of(data, jnp.zeros_like(data.offset[n:]), active)
    left = jnp.where(keep, data.offset - data.product(base), 0)
    solve = lambda r: factor.rough(data, r[:, None])[:, 0]
    many, eps = rounds[base.dtype != jnp.float64], jnp.finfo(base.dtype).eps

    def going(now: tuple[Any, jax.Array, Any, Any]) -> jax.Array:
        count, move, step, last = now
        return (count < many) & (step > eps * trees.max_abs(base + move)) & (step < _FALLS * last)

    def refine(now: tuple[Any, jax.Array, Any, Any]) -> tuple[Any, jax.Array, Any, Any]:
        count, move, last, _ = now
        step = solve(left - factor.product(data, move))
        return count + 1, move + step, trees.max_abs(step), last

    first = solve(left)
    start = (jnp.zeros((), jnp.int32), first, trees.max_abs(first), jnp.full((), jnp.inf, base.dtype))
    return factor, base + jax.lax.while_loop(going, refine, start)[1]


def on_bounds(data: Scaled, active: jax.Array, v: jax.Array) -> jax.Array:
    """Return a point with its unknowns exactly on their active bounds."""
    n = data.n
    for sign, first in zip(data.signs, data.ends[:-1], strict=True):
        here = active[first : first + n]
        v = v.at[:n].set(jnp.where(here, sign * data.offset[n + first : 2 * n + first], v[:n]))
    return v


def exact_enough(miss: jax.Array, late: jax.Array, tol: jax.Array) -> jax.Array:
    """Return whether a point on a face is the end: exact or, where the one before is ``late``, to the tolerance."""
    eps = jnp.finfo(miss.dtype).eps
    return miss <= jnp.where(late, tol, jnp.minimum(EXACT * eps, tol))


def convex_up_to_rounding(quadratic: jax.Array) -> Any:
    """Return whether a quadratic term is positive semidefinite; what is not finite is seen elsewhere."""
    shift = jnp.finfo(quadratic.dtype).eps ** 0.75 * jnp.eye(len(quadratic), dtype=quadratic.dtype)
    factor = cholesky(quadratic + shift)
    return jnp.all(jnp.isfinite(factor)) | ~jnp.all(jnp.isfinite(quadratic))
