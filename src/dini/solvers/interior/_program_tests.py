"""How far a point is from a solution of a quadratic program in its own units, and whether there is one."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...linear._matrices import absolute
from ...status import Status
from ...trees import Tree
from ...trees.products import dot, vdot
from ._scaled_program import Scaled

#: a certificate is believed at this share of the root of the unit roundoff
_CERTIFIES = 0.1


class Point(NamedTuple):
    r"""A point ``v`` with slacks ``s``, the product :math:`S v` and that of ``Q`` with ``x``."""

    v: Tree
    s: Any
    image: Any
    curved: Any

    @classmethod
    def of(cls, data: Scaled, v: Tree, s: Any) -> Point:
        """Evaluate a point."""
        n = data.n
        curved = dot(data.quadratic, v[:n])
        return cls(v, s, jnp.concatenate([curved + data.back(v[n:]), data.rows(v[:n])]), curved)

    def error(self, data: Scaled, scale: Any = 1) -> Any:
        """Return the largest residual of the conditions, relative to its terms, and the gap relative to the value.

        ``scale`` is what the point is to be divided by.
        """
        n, eps = data.n, jnp.finfo(self.v.dtype).eps
        v, s, image, curved = (part / scale for part in self)
        x, w = v[:n], jnp.where(data.used, v[n:], 0)
        left = image - data.offset
        rows = jnp.where(data.used, left[n:] + s, 0)
        sizes = jnp.stack([left[:n], curved, data.offset[:n], image[:n] - curved, x])
        stationary, *terms, reach = _largest(sizes)
        many, negative = _largest(jnp.stack([w, jnp.where(data.live, jnp.minimum(w, 0), 0)]))
        # multipliers that cancel leave rounding errors of their own
        slope = functools.reduce(jnp.maximum, terms)
        stationary = stationary / jnp.maximum(slope, eps**0.5 * jnp.maximum(1, many))
        pulls = absolute(data.matrix.T, w[: data.matrix.shape[0]])
        pulls = pulls + sum((jnp.abs(w[i : i + n]) for i in data.ends[:-1]), jnp.zeros_like(x))
        pulls = pulls + absolute(data.quadratic, x) + jnp.abs(data.offset[:n])
        stationary = jnp.maximum(stationary, beside(left[:n], slope, pulls))
        own = jnp.concatenate([absolute(data.matrix, x), *(jnp.abs(x) for _ in data.signs)])
        own = jnp.maximum(own, jnp.abs(data.offset[n:]))
        broken = beside(rows, reach, own)
        value = jnp.maximum(jnp.abs(vdot(x, curved)), jnp.abs(vdot(data.offset[:n], x)))
        gap = jnp.abs(vdot(jnp.where(data.live, s, 0), w)) / jnp.maximum(value, eps**0.5)
        wrong = negative / jnp.maximum(jnp.maximum(slope, many), eps**0.5)
        pushes = jnp.where(data.live, jnp.minimum(w, 0), 0)
        for first in data.ends[:-1]:
            wrong = jnp.maximum(wrong, beside(pushes[first : first + n], slope, pulls))
        return jnp.maximum(jnp.maximum(stationary, broken), jnp.maximum(gap, wrong))


def beside(rows: jax.Array, noise: Any, own: jax.Array, rounding: Any = 0) -> jax.Array:
    """Return the largest residual of some rows, each relative to its own terms (Oettli and Prager 1964).

    ``noise`` is the largest number of which rounding errors come, ``rounding`` are others that are known of each row.
    """
    eps = jnp.finfo(rows.dtype).eps
    left = jnp.maximum(jnp.abs(rows) - 4 * eps * noise - rounding, 0)
    return jnp.max(left / jnp.where(own > 0, jnp.maximum(own, eps * jnp.maximum(noise, eps**0.5)), 1), initial=0)


def _largest(rows: Any) -> Any:
    return jnp.max(jnp.abs(rows), axis=1, initial=0)


def certificates(data: Scaled, at: Point) -> tuple[Any, Any]:
    r"""Return how far ``w`` is from showing that no point is feasible, and ``x`` that the objective has no lower bound.

    The first has :math:`C^\top w = 0` and :math:`h^\top w < 0`, the second is a ray, :math:`Qx = 0` and
    :math:`Cx \le 0` (zero for equalities), with :math:`c^\top x < 0`: what should be zero is measured by the number
    that is negative, and infinitely far where that is not.
    """
    n = data.n
    rows = at.image[n:]
    rows = jnp.where(data.live, jnp.maximum(rows, 0), jnp.where(data.fixed, rows, 0))
    forces, curved = _largest(jnp.stack([at.image[:n] - at.curved, at.curved]))
    broken = jnp.maximum(curved, jnp.max(jnp.abs(rows), initial=0))
    ahead = jnp.stack([-vdot(jnp.where(data.used, data.offset[n:], 0), at.v[n:]), vdot(data.offset[:n], at.v[:n])])
    far = jnp.where(ahead > 0, jnp.stack([forces, broken]) / jnp.where(ahead > 0, ahead, 1), jnp.inf)
    return far[0], far[1]


def certified(status: Any, where: Any, distances: tuple[Any, Any]) -> Any:
    """Return the status where a certificate is near: that no point is feasible, or that there is no lower bound."""
    empty, unbounded = distances
    least = _CERTIFIES * jnp.finfo(empty.dtype).eps ** 0.5
    status = jnp.where(where & (unbounded <= least), Status.DUAL_INFEASIBLE, status)
    return jnp.where(where & (empty <= least), Status.PRIMAL_INFEASIBLE, status)


class Verdict(NamedTuple):
    """Whether a point is accepted, its reported error, and the status."""

    exact: Any
    inside: Any
    error: Any
    status: Any


def verdict(data: Any, convex: Any, exact: Any, inside: Any, errors: tuple[Any, Any], tol: Any, status: Any) -> Verdict:
    """Return the result of a step that found an ``exact`` point, or whose other one is ``inside`` the tolerance.

    ``errors`` are those of the two; ``status`` is the status where neither is accepted. A row that no point satisfies
    outweighs all.
    """
    alone = jnp.any(data.impossible)
    status = jnp.where(convex, status, Status.NOT_CONVEX)
    status = jnp.where(exact | inside, Status.RUNNING, status)
    status = jnp.where(alone, Status.PRIMAL_INFEASIBLE, status).astype(jnp.int32)
    exact, inside = exact & ~alone, inside & ~alone
    miss, away = errors
    return Verdict(exact, inside, jnp.where(exact, miss, jnp.where(inside, away, jnp.maximum(away, 2 * tol))), status)


def or_certificate(data: Scaled, v: Tree, proof: Tree, status: Any) -> Any:
    """Return the point to show, with multipliers of the right sign; a certificate where there is no solution."""
    primal, dual = status == Status.PRIMAL_INFEASIBLE, status == Status.DUAL_INFEASIBLE
    # a row that no point satisfies is the proof alone
    alone = data.impossible.astype(proof.dtype)
    w = jnp.where(jnp.any(data.impossible), alone, jnp.where(data.used, proof[data.n :], 0))
    shown = jnp.concatenate([jnp.where(dual, proof[: data.n], 0), jnp.where(primal, w, 0)])
    top = trees.max_abs(shown)
    return jnp.where(primal | dual, shown / jnp.where(top > 0, top, 1), data.signed(v))
