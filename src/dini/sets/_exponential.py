"""The exponential cone: its projection by one scalar root."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..trees import Tree
from ..trees.products import dot
from ._cones import VectorCone
from ._scalar import bracketed_root, largest, scaled

# The exponential cone. A point v that is outside of the cone K and of its polar, and not over the face y = 0, is
# v = a p + b q with a, b > 0, where p = (c, 1, e^c) spans a ray of the boundary of K and q = (1, 1 - c, -e^-c) the
# orthogonal ray of the polar's. The first two equations give a and b, and the third is increasing in c.


def _exponentials(c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``e^c``, ``e^-c`` and 1, each times ``e^-|c|``, so that nothing overflows."""
    size = jnp.abs(c)
    return jnp.exp(c - size), jnp.exp(-c - size), jnp.exp(-size)


def _multipliers(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    r, s, _ = v
    scale = c * c - c + 1
    return (s + (c - 1) * r) / scale, (r - c * s) / scale, scale


def _multipliers_at_root(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``a`` and ``b`` at the solution, where the third equation has more digits of the smaller one."""
    a, b, _ = _multipliers(c, v)
    a, b, small = jnp.maximum(a, 0), jnp.maximum(b, 0), jnp.exp(-jnp.abs(c))
    third = small * jnp.maximum(jnp.where(c > 0, v[2] + b * small, a * small - v[2]), 0)
    return jnp.where(c > 0, third, a), jnp.where(c > 0, b, third)


def _bends(c: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return how fast ``a p`` and ``b q`` turn with ``c``, along their common normal; both nonnegative."""
    up, down, _ = _exponentials(c)
    return a * (down + up * (c * c - 2 * c + 2)), b * (up + down * (c * c + 1))


def _rays(c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the orthonormal vectors along ``p``, along ``q`` and normal to both."""
    shrink, grow = jnp.exp(-jnp.maximum(c, 0)), jnp.exp(jnp.minimum(c, 0))
    p = jnp.stack([c * shrink, shrink, jnp.exp(jnp.minimum(c, 0))])
    q = jnp.stack([grow, (1 - c) * grow, -jnp.exp(-jnp.maximum(c, 0))])
    p, q = scaled(p)[0], scaled(q)[0]
    p, q = p / jnp.sqrt(jnp.sum(p * p)), q / jnp.sqrt(jnp.sum(q * q))
    return p, q, jnp.cross(p, q)


@jax.custom_jvp
@jax.jit
def _exponential_root(v: jax.Array) -> jax.Array:
    r, s, t = v

    def fun(c: jax.Array) -> tuple[jax.Array, jax.Array]:
        up, down, both = _exponentials(c)
        a, b, scale = _multipliers(c, v)
        first, second = _bends(c, a, b)
        return a * up - b * down - t * both, (first + second) / scale

    # a > 0 above 1 - s/r where r > 0, b > 0 below r/s where s > 0; where these are open or far, the sign is known a few
    # logarithms away, since e^x / (x^2 + x + 1) > e^(x/2) / 3 for positive x
    a_zero, b_zero = 1 - s / jnp.where(r > 0, r, 1), r / jnp.where(s > 0, s, 1)
    most = 3 * jnp.sum(jnp.abs(v))
    below = jnp.minimum(jnp.minimum(b_zero - 1, 0), -2 * jnp.log(most / jnp.where(s > 0, s, 1)))
    above = jnp.maximum(jnp.maximum(a_zero + 1, 1), 2 * jnp.log(most / jnp.where(r > 0, r, 1)))
    low = jnp.where(r > 0, jnp.where(s > 0, jnp.maximum(a_zero, below), a_zero), below)
    high = jnp.where(s > 0, jnp.where(r > 0, jnp.minimum(b_zero, above), b_zero), above)
    return bracketed_root(fun, low, high)


@_exponential_root.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    (v,), (dv,) = primals, tangents
    c = _exponential_root(v)
    up, down, both = _exponentials(c)
    normal = jnp.stack([down + (1 - c) * up, -up - c * down, (c * c - c + 1) * both])
    turn = sum(_bends(c, *_multipliers_at_root(c, v)))
    return c, dot(normal, dv) / jnp.where(turn > 0, turn, 1)


def _exponential_cases(v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return whether ``v`` is in the cone, in its polar, over the face ``y = 0``, and ``v`` or a finite replacement."""
    r, s, t = v
    inside = (s > 0) & (s * jnp.exp(r / jnp.where(s > 0, s, 1)) <= t)
    polar = (r > 0) & (r * jnp.exp(s / jnp.where(r > 0, r, 1)) <= -jnp.e * t)
    face = (r <= 0) & (s <= 0)
    other = inside | polar | face
    return inside, polar, face, jnp.where(other, jnp.array([1, 1, 0], v.dtype), v)


@jax.custom_jvp
def _project_exponential(v: jax.Array) -> jax.Array:
    v, size = scaled(v)
    r, _, t = v
    inside, polar, face, w = _exponential_cases(v)
    c = _exponential_root(w)
    a, b = _multipliers_at_root(c, w)
    # the last element by the exponential that is not large
    last = jnp.where(c > 0, w[2] + b * jnp.exp(-jnp.abs(c)), a * jnp.exp(-jnp.abs(c)))
    p = jnp.stack([a * c, a, jnp.maximum(last, 0)])
    p = jnp.where(face, jnp.stack([r, jnp.zeros_like(r), jnp.maximum(t, 0)]), p)
    return size * jnp.where(inside, v, jnp.where(polar, 0, p))


@_project_exponential.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    (v,), (dv,) = primals, tangents
    unit, _ = scaled(v)
    inside, polar, face, w = _exponential_cases(unit)
    c = _exponential_root(w)
    p, _, normal = _rays(c)
    first, second = _bends(c, *_multipliers_at_root(c, w))
    turn = first + second
    kept = first / jnp.where(turn > 0, turn, 1)
    between = p * dot(p, dv) + kept * normal * dot(normal, dv)
    on_face = dv * jnp.stack([v[0] < 0, jnp.asarray(False), v[2] > 0]).astype(dv.dtype)
    tangent = jnp.where(face, on_face, between)
    return _project_exponential(v), jnp.where(inside, dv, jnp.where(polar, 0, tangent))


@record
class Exponential(VectorCone):
    r"""The exponential cone, the closure of :math:`\{(x, y, z) : y > 0,\; y e^{x/y} \le z\}`.

    A point outside of the cone and of its polar (and not over the face :math:`y = 0`) is :math:`a p + b q` with
    :math:`p = (c, 1, e^c)` on the boundary of the cone and :math:`q = (1, 1 - c, -e^{-c})` on the polar's, orthogonal
    for every ``c``. The projection is :math:`a p`; the scalar ``c`` is found by a safeguarded Newton method. With ``n``
    the unit vector normal to both rays, the Jacobian is

    .. math:: \hat p \hat p^\top + \kappa\, n n^\top, \qquad
              \kappa = \frac{a\, p' \cdot n}{a\, p' \cdot n + b\, q' \cdot n} \in [0, 1].

    Parameters
    ----------
    axis
        Each slice along this axis, of three elements, is in a cone. May be left out for a one-dimensional unknown.

    Raises
    ------
    ValueError
        If the vectors do not have three elements, or the unknown has several axes and ``axis`` is not given.

    References
    ----------
    Friberg, "Projection onto the exponential cone: a univariate root-finding problem", Optimization Methods and
    Software, 2023.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Exponential
    >>> print(Exponential().project(jnp.array([-1.0, 1.0, -1.0])).round(2))
    [-1.14  0.57  0.08]
    """

    axis: int | None = field(default=None, metadata={"static": True})

    length = 3

    def _project(self, v: jax.Array) -> jax.Array:
        return _project_exponential(v)

    @jax.jit
    def _kink_distance(self, v: jax.Array) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        r, s, t = v

        def interior(x: jax.Array, y: jax.Array, z: jax.Array, stretch: float) -> jax.Array:
            """Bound the distance of an inner point from the boundary by a box that fits around it."""

            def fits(d: jax.Array) -> jax.Array:
                front = x + stretch * d
                height = lambda y: y * jnp.exp(front / y)
                return (d < y) & (jnp.maximum(height(y + d), height(y - d)) <= z - d)

            return largest(fits, jnp.maximum(jnp.minimum(y, z), 0))

        within = jnp.maximum(interior(r, s, t, 1.0), interior(s - r, r, -t, 1.5))
        p = _project_exponential(v)
        right, up = jnp.maximum(r, 0), jnp.maximum(s, 0)
        distances = [jnp.linalg.norm(p), jnp.linalg.norm(v - p), jnp.hypot(s, right), jnp.hypot(r, up)]
        distances.append(jnp.sqrt(right**2 + up**2 + t**2))
        outside = jnp.min(jnp.stack(distances))
        inside, polar, _, _ = _exponential_cases(v)
        return jnp.where(inside | polar, within, outside)
