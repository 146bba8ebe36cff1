"""Changes of a splitting's iterates that tell that a program has no solution, made exact."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...trees.products import dot
from ..interior._program_tests import Point, certificates
from ..interior._scaled_program import Scaled

#: a change is worth the effort where it is as near to a certificate as this
_NEAR = 0.2
#: rows along which a ray moves by less than this share of the largest one are taken for level
_LEVEL = 1e-2
#: steps of conjugate gradients, and how often what they leave is taken up again
_STEPS, _ROUNDS = 200, 2


def _nearest(apply: Any, back: Any, v: jax.Array, going: jax.Array) -> jax.Array:
    """Return the nearest vector to ``v`` that a linear map takes to zero, where that is asked for."""
    tol = float(jnp.finfo(v.dtype).eps)

    def one(now: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        count, v = now
        # of the consistent normal equations, conjugate gradients find the shortest solution
        move = jax.scipy.sparse.linalg.cg(lambda t: back(apply(t)), back(apply(v)), tol=tol, maxiter=_STEPS)[0]
        return count + 1, v - jnp.where(jnp.isfinite(move), move, 0)

    return jax.lax.while_loop(lambda now: going & (now[0] < _ROUNDS), one, (jnp.zeros((), jnp.int32), v))[1]


def proofs(data: Scaled, change: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Return a ray and multipliers near those of a change, and how far each is from a certificate.

    The multipliers are those nearby of the rows that have some whose forces cancel, :math:`C^\top w = 0`; the ray is
    that nearby on which the objective is linear and the rows that hardly move do not move. What they prove is checked
    afterwards as if they came from anywhere.
    """
    n = data.n
    x, w = change[:n], change[n:]
    unit = lambda v: v / jnp.where(trees.max_abs(v) > 0, trees.max_abs(v), 1)
    x, w = unit(x), unit(w)
    raw = certificates(data, Point.of(data, jnp.concatenate([x, w]), jnp.zeros_like(w)))

    held = jnp.where(data.fixed, True, w > 0) & data.used
    masked = lambda w: jnp.where(held, w, 0)
    forces, spread = lambda w: data.back(masked(w)), lambda x: masked(data.rows(x))
    sharp_w = masked(_nearest(forces, spread, w, raw[0] <= _NEAR))
    sharp_w = unit(jnp.where(data.live, jnp.maximum(sharp_w, 0), sharp_w))

    rows = data.rows(x)
    level = data.used & (data.fixed | (rows > -_LEVEL * trees.max_abs(rows)))
    both = lambda x: (dot(data.quadratic, x), jnp.where(level, data.rows(x), 0))
    joined = lambda parts: dot(data.quadratic, parts[0]) + data.back(parts[1])
    sharp_x = unit(_nearest(both, joined, x, raw[1] <= _NEAR))

    sharp = certificates(data, Point.of(data, jnp.concatenate([sharp_x, sharp_w]), jnp.zeros_like(w)))
    better = [new < old for new, old in zip(sharp, raw, strict=True)]
    shown = jnp.concatenate([jnp.where(better[1], sharp_x, x), jnp.where(better[0], sharp_w, w)])
    return shown, jnp.minimum(sharp[0], raw[0]), jnp.minimum(sharp[1], raw[1])
