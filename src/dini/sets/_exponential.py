"""The exponential cone and the power cone: projections by one scalar root each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from ..separable import register
from ..settings import require_ordered, require_positive
from ._cones import VectorCone

_STEPS = 200  # bisection alone needs about 110 in float64; Newton's method takes a handful


def _bracketed_root(
    fun: Callable[[jax.Array], tuple[jax.Array, jax.Array]], low: jax.Array, high: jax.Array
) -> jax.Array:
    """Return the root of an increasing function, given with its derivative, between ``low`` and ``high``.

    Newton's method; the midpoint of the bracket wherever its step leaves the bracket or does not halve the step before.
    """
    eps = jnp.finfo(low.dtype).eps

    def body(carry: Any) -> Any:
        k, low, high, x, last, _ = carry
        value, slope = fun(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        step = -value / slope
        newton = (x + step > low) & (x + step < high) & (jnp.abs(step) <= 0.5 * jnp.abs(last))
        new = jnp.where(newton, x + step, 0.5 * (low + high))
        done = (value == 0) | (jnp.abs(new - x) <= 2 * eps * jnp.abs(x)) | (high - low <= 2 * eps * jnp.abs(x))
        return k + 1, low, high, jnp.where(value == 0, x, new), new - x, done

    start = (0, low, high, 0.5 * (low + high), high - low, jnp.asarray(False))
    return jax.lax.while_loop(lambda carry: (carry[0] < _STEPS) & ~carry[5], body, start)[3]


def _largest(inside: Callable[[jax.Array], jax.Array], high: jax.Array) -> jax.Array:
    """Return, by bisection, the largest number up to ``high`` with a property that holds of all smaller ones."""

    def body(_: Any, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        good = inside(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    return jax.lax.fori_loop(0, 30, body, (jnp.zeros_like(high), high))[0]


def _scaled(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``v`` over its largest element, and that element."""
    size = jnp.max(jnp.abs(v))
    size = jnp.where(size > 0, size, 1)
    return v / size, size


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


def _bends(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return how fast ``a p`` and ``b q`` turn with ``c``, along their common normal; both nonnegative."""
    up, down, _ = _exponentials(c)
    a, b, _ = _multipliers(c, v)
    return a * (down + up * (c * c - 2 * c + 2)), b * (up + down * (c * c + 1))


def _rays(c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the orthonormal vectors along ``p``, along ``q`` and normal to both."""
    shrink, grow = jnp.exp(-jnp.maximum(c, 0)), jnp.exp(jnp.minimum(c, 0))
    p = jnp.stack([c * shrink, shrink, jnp.exp(jnp.minimum(c, 0))])
    q = jnp.stack([grow, (1 - c) * grow, -jnp.exp(-jnp.maximum(c, 0))])
    p, q = _scaled(p)[0], _scaled(q)[0]
    p, q = p / jnp.sqrt(jnp.sum(p * p)), q / jnp.sqrt(jnp.sum(q * q))
    return p, q, jnp.cross(p, q)


@jax.custom_jvp
def _exponential_root(v: jax.Array) -> jax.Array:
    r, s, t = v

    def fun(c: jax.Array) -> tuple[jax.Array, jax.Array]:
        up, down, both = _exponentials(c)
        a, b, scale = _multipliers(c, v)
        first, second = _bends(c, v)
        return a * up - b * down - t * both, (first + second) / scale

    # a > 0 above 1 - s/r where r > 0, b > 0 below r/s where s > 0; where an end is open, e^x/(x^2+x+1) > e^(x/2)/3
    a_zero, b_zero = 1 - s / jnp.where(r > 0, r, 1), r / jnp.where(s > 0, s, 1)
    most = 3 * jnp.sum(jnp.abs(v))
    low = jnp.where(r > 0, a_zero, jnp.minimum(b_zero - 1, -2 * jnp.log(most / jnp.where(s > 0, s, 1))))
    high = jnp.where(s > 0, b_zero, jnp.maximum(a_zero + 1, 2 * jnp.log(most / jnp.where(r > 0, r, 1))))
    return _bracketed_root(fun, low, high)


@_exponential_root.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    c = _exponential_root(v)
    up, down, both = _exponentials(c)
    normal = jnp.stack([down + (1 - c) * up, -up - c * down, (c * c - c + 1) * both])
    first, second = _bends(c, v)
    return c, jnp.dot(normal, dv) / (first + second)


def _exponential_cases(v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return whether ``v`` is in the cone, in its polar, over the face ``y = 0``, and ``v`` or a harmless stand-in."""
    r, s, t = v
    inside = (s > 0) & (s * jnp.exp(r / jnp.where(s > 0, s, 1)) <= t)
    polar = (r > 0) & (r * jnp.exp(s / jnp.where(r > 0, r, 1)) <= -jnp.e * t)
    face = (r <= 0) & (s <= 0)
    other = inside | polar | face
    return inside, polar, face, jnp.where(other, jnp.array([1, 1, 0], v.dtype), v)


@jax.custom_jvp
def _project_exponential(v: jax.Array) -> jax.Array:
    v, size = _scaled(v)
    r, _, t = v
    inside, polar, face, w = _exponential_cases(v)
    c = _exponential_root(w)
    a, b, _ = _multipliers(c, w)
    a, b = jnp.maximum(a, 0), jnp.maximum(b, 0)
    # the last element by the exponential that is not large
    last = jnp.where(c > 0, w[2] + b * jnp.exp(-jnp.abs(c)), a * jnp.exp(-jnp.abs(c)))
    p = jnp.stack([a * c, a, jnp.maximum(last, 0)])
    p = jnp.where(face, jnp.stack([r, jnp.zeros_like(r), jnp.maximum(t, 0)]), p)
    return size * jnp.where(inside, v, jnp.where(polar, 0, p))


@_project_exponential.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    unit, _ = _scaled(v)
    inside, polar, face, w = _exponential_cases(unit)
    c = _exponential_root(w)
    p, _, normal = _rays(c)
    first, second = _bends(c, w)
    kept = first / (first + second)
    between = p * jnp.dot(p, dv) + kept * normal * jnp.dot(normal, dv)
    on_face = dv * jnp.stack([v[0] < 0, jnp.asarray(False), v[2] > 0]).astype(dv.dtype)
    tangent = jnp.where(face, on_face, between)
    return _project_exponential(v), jnp.where(inside, dv, jnp.where(polar, 0, tangent))


@register
@dataclass(frozen=True)
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
        Where the vectors do not have three elements, or the unknown has several axes and ``axis`` is not given.

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

    def _kink_distance(self, v: jax.Array) -> jax.Array:
        r, s, t = v

        def interior(x: jax.Array, y: jax.Array, z: jax.Array, stretch: float) -> jax.Array:
            """Bound the distance of an inner point from the boundary by a box that fits around it."""

            def fits(d: jax.Array) -> jax.Array:
                front = x + stretch * d
                height = lambda y: y * jnp.exp(front / y)
                return (d < y) & (jnp.maximum(height(y + d), height(y - d)) <= z - d)

            return _largest(fits, jnp.maximum(jnp.minimum(y, z), 0))

        within = jnp.maximum(interior(r, s, t, 1.0), interior(s - r, r, -t, 1.5))
        p = _project_exponential(v)
        right, up = jnp.maximum(r, 0), jnp.maximum(s, 0)
        distances = [jnp.linalg.norm(p), jnp.linalg.norm(v - p), jnp.hypot(s, right), jnp.hypot(r, up)]
        distances.append(jnp.sqrt(right**2 + up**2 + t**2))
        outside = jnp.min(jnp.stack(distances))
        inside, polar, _, _ = _exponential_cases(v)
        return jnp.where(inside | polar, within, outside)


# The power cone. Outside of the cone, of its polar and of the plane z = 0, the projection is (x, y, sign(z0) k |z0|)
# with x (x - x0) = alpha m, y (y - y0) = (1 - alpha) m and m = k (1 - k) z0^2, on the boundary x^alpha y^(1-alpha) =
# k |z0|. In the logarithm of k / (1 - k) the logarithm of that equation is decreasing, and straight at both ends.


def _squares(level: jax.Array, v: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the logarithm of ``m``, and the square roots ``2 x - x0`` and ``2 y - y0``."""
    x, y, z = v
    m = 2 * jnp.log(z) + jax.nn.log_sigmoid(level) + jax.nn.log_sigmoid(-level)
    root = lambda u, weight: jnp.sqrt(u * u + jnp.maximum(4 * weight * jnp.exp(m), jnp.finfo(v.dtype).tiny))
    return m, root(x, alpha), root(y, 1 - alpha)


def _power_equation(level: jax.Array, v: jax.Array, alpha: jax.Array) -> jax.Array:
    x, y, z = v
    m, root_x, root_y = _squares(level, v, alpha)

    def log(u: jax.Array, root: jax.Array, weight: jax.Array) -> jax.Array:
        negative = u < 0
        direct = jnp.log(0.5 * (jnp.where(negative, 0, u) + root))
        return jnp.where(negative, jnp.log(2 * weight) + m - jnp.log(root - jnp.where(negative, u, 0)), direct)

    return (
        alpha * log(x, root_x, alpha) + (1 - alpha) * log(y, root_y, 1 - alpha) - jnp.log(z) - jax.nn.log_sigmoid(level)
    )


@jax.custom_jvp
def _power_root(v: jax.Array, alpha: jax.Array) -> jax.Array:
    x, y, _ = v

    def fun(level: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, root_x, root_y = _squares(level, v, alpha)
        k = jax.nn.sigmoid(level)
        mix = 0.5 * (alpha * (1 - x / root_x) + (1 - alpha) * (1 - y / root_y))
        return -_power_equation(level, v, alpha), (1 - mix) * (1 - k) + mix * k

    end = jnp.asarray(-jnp.log(jnp.finfo(v.dtype).tiny), v.dtype)
    return _bracketed_root(fun, -end, end)


@_power_root.defjvp
def _(primals: Any, tangents: Any) -> Any:
    level = _power_root(*primals)
    _, moved = jax.jvp(lambda *point: _power_equation(level, *point), primals, tangents)
    _, slope = jax.jvp(lambda level: _power_equation(level, *primals), (level,), (jnp.ones_like(level),))
    return level, -moved / slope


def _geometric(x: jax.Array, y: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return ``x^alpha y^(1-alpha)`` for nonnegative numbers; a constant of differentiation."""
    x, y, alpha = jax.lax.stop_gradient((x, y, alpha))
    return jnp.maximum(x, 0) ** alpha * jnp.maximum(y, 0) ** (1 - alpha)


def _power_cases(v: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, y, z = jax.lax.stop_gradient(v)
    inside = (x >= 0) & (y >= 0) & (_geometric(x, y, alpha) >= jnp.abs(z))
    polar = (x <= 0) & (y <= 0) & (_geometric(-x / alpha, -y / (1 - alpha), alpha) >= jnp.abs(z))
    return inside, polar


def _project_power(v: jax.Array, alpha: jax.Array) -> jax.Array:
    size = jax.lax.stop_gradient(_scaled(v)[1])
    v = v / size
    inside, polar = _power_cases(v, alpha)
    x, y, z = jnp.where(inside | polar, jnp.array([-1, 1, 1], v.dtype), v)
    # the plane z = 0 as the limit from above, by a number whose square is not zero
    least = 1e3 * jnp.sqrt(jnp.finfo(v.dtype).tiny)
    sign = jnp.where(z < 0, -1, 1).astype(v.dtype)
    z = sign * z + jnp.where(jnp.abs(z) < least, least, 0)
    w = jnp.stack([x, y, z])
    level = _power_root(w, alpha)
    m, root_x, root_y = _squares(level, w, alpha)

    def solved(u: jax.Array, root: jax.Array, weight: jax.Array) -> jax.Array:
        negative = u < 0
        small = 2 * weight * jnp.exp(m) / jnp.where(negative, root - u, 1)
        return jnp.where(negative, small, 0.5 * (u + root))

    p = jnp.stack([solved(x, root_x, alpha), solved(y, root_y, 1 - alpha), sign * z * jax.nn.sigmoid(level)])
    return size * jnp.where(inside, v, jnp.where(polar, 0, p))


@register
@dataclass(frozen=True)
class Power(VectorCone):
    r"""The power cone :math:`\{(x, y, z) : x, y \ge 0,\; x^\alpha y^{1 - \alpha} \ge |z|\}`.

    Outside of the cone and of its polar the projection of :math:`(x_0, y_0, z_0)` solves

    .. math:: x (x - x_0) = \alpha m, \quad y (y - y_0) = (1 - \alpha) m, \quad z = k z_0, \quad m = k (1 - k) z_0^2,
              \quad x^\alpha y^{1 - \alpha} = k |z_0|,

    one equation in :math:`k \in (0, 1)`, solved by a safeguarded Newton method on :math:`\log(k / (1 - k))`. The
    derivative, also in :math:`\alpha`, is that of this root by the implicit function theorem.

    Parameters
    ----------
    alpha
        The exponent, between 0 and 1.
    axis
        Each slice along this axis, of three elements, is in a cone. May be left out for a one-dimensional unknown.

    Raises
    ------
    ValueError
        Where ``alpha`` is not between 0 and 1, the vectors do not have three elements, or the unknown has several axes
        and ``axis`` is not given.

    References
    ----------
    Hien, "Differential properties of Euclidean projection onto power cone", Mathematical Methods of Operations
    Research, 2015.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Power
    >>> print(Power(0.5).project(jnp.array([0.0, 0.0, 3.0])).round(3))
    [1. 1. 1.]
    """

    alpha: Any
    axis: int | None = field(default=None, metadata={"static": True})

    length = 3

    def __post_init__(self) -> None:
        require_positive("Power's alpha", self.alpha)
        require_ordered("Power's alpha", self.alpha, "1 (exclusive)", 1 - 1e-7)

    def check(self, x: Any) -> None:
        """Raise unless ``alpha`` is a scalar and ``x`` one array of vectors of three elements."""
        super().check(x)
        if jnp.ndim(self.alpha) != 0:
            raise ValueError(f"Power's alpha must be a scalar: given shape {jnp.shape(self.alpha)}.")

    def _project(self, v: jax.Array) -> jax.Array:
        return _project_power(v, jnp.asarray(self.alpha, v.dtype))

    def _kink_distance(self, v: jax.Array) -> jax.Array:
        alpha = jnp.asarray(self.alpha, v.dtype)
        x, y, z = v

        def interior(x: jax.Array, y: jax.Array, scale: jax.Array) -> jax.Array:
            """Bound the distance of an inner point from the boundary by a box that fits around it."""
            fits = lambda d: (d < x) & (d < y) & (scale * _geometric(x - d, y - d, alpha) >= jnp.abs(z) + d)
            return _largest(fits, jnp.maximum(jnp.minimum(x, y), 0))

        scale = (1 / alpha) ** alpha * (1 / (1 - alpha)) ** (1 - alpha)
        within = jnp.maximum(interior(x, y, jnp.ones_like(x)), interior(-x, -y, scale))
        p = _project_power(v, alpha)
        inside, polar = _power_cases(v, alpha)
        outside = jnp.minimum(jnp.linalg.norm(p), jnp.linalg.norm(v - p))
        return jnp.where(inside | polar, within, outside)
