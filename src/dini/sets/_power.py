"""The power cone: its projection by one scalar root."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import require_ordered, require_positive
from ..trees import Tree
from ._cones import VectorCone
from ._scalar import bracketed_root, largest, scaled

# The power cone. Outside of the cone, of its polar and of the plane z = 0, the projection is (x, y, sign(z0) k |z0|)
# with x (x - x0) = alpha m, y (y - y0) = (1 - alpha) m and m = k (1 - k) z0^2, on the boundary x^alpha y^(1-alpha) =
# k |z0|. In the logarithm of k / (1 - k) the logarithm of that equation is decreasing, and straight at both ends.


def _squares(level: jax.Array, v: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the logarithm of ``m``, and the square roots ``2 x - x0`` and ``2 y - y0``."""
    x, y, z = v
    m = 2 * jnp.log(z) + jax.nn.log_sigmoid(level) + jax.nn.log_sigmoid(-level)
    # far below rounding for a point of unit size, and yet enough that squares of the root do not underflow
    least = jnp.finfo(v.dtype).eps ** 3
    root = lambda u, weight: jnp.sqrt(u * u + 4 * weight * jnp.exp(m) + least)
    return m, root(x, alpha), root(y, 1 - alpha)


def _slope(level: jax.Array, v: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return minus the derivative of the equation in the level, positive; a sum of positive terms."""
    m, root_x, root_y = _squares(level, v, alpha)

    def parts(u: jax.Array, root: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return (root - u) / 2 root and (root + u) / 2 root."""
        small = 2 * weight * jnp.exp(m) / (root * (root + jnp.abs(u)))
        return jnp.where(u > 0, small, 0.5 * (1 - u / root)), jnp.where(u > 0, 0.5 * (1 + u / root), small)

    (x_less, x_more), (y_less, y_more) = parts(v[0], root_x, alpha), parts(v[1], root_y, 1 - alpha)
    less, more = alpha * x_less + (1 - alpha) * y_less, alpha * x_more + (1 - alpha) * y_more
    return more * jax.nn.sigmoid(-level) + less * jax.nn.sigmoid(level)


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
@jax.jit
def _power_root(v: jax.Array, alpha: jax.Array) -> jax.Array:
    def fun(level: jax.Array) -> tuple[jax.Array, jax.Array]:
        return -_power_equation(level, v, alpha), _slope(level, v, alpha)

    end = jnp.asarray(-jnp.log(jnp.finfo(v.dtype).tiny), v.dtype)
    return bracketed_root(fun, -end, end)


@_power_root.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    level = _power_root(*primals)
    _, moved = jax.jvp(lambda *point: _power_equation(level, *point), primals, tangents)
    slope = _slope(level, *primals)
    return level, moved / jnp.where(slope > 0, slope, 1)


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
    size = jax.lax.stop_gradient(scaled(v)[1])
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


@record
class Power(VectorCone):
    r"""The power cone :math:`\{(x, y, z) : x, y \ge 0,\; x^\alpha y^{1 - \alpha} \ge |z|\}`.

    Outside of the cone and of its polar the projection of :math:`(x_0, y_0, z_0)` solves

    .. math::
        \begin{aligned}
        x (x - x_0) &= \alpha m, & y (y - y_0) &= (1 - \alpha) m, \\
        z &= k z_0, & m &= k (1 - k) z_0^2, \\
        x^\alpha y^{1 - \alpha} &= k |z_0|,
        \end{aligned}

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
        If ``alpha`` is not between 0 and 1, the vectors do not have three elements, or the unknown has several axes
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

    def check(self, x: Tree) -> None:
        """Raise unless ``alpha`` is a scalar and ``x`` one array of vectors of three elements."""
        super().check(x)
        if jnp.ndim(self.alpha) != 0:
            raise ValueError(f"Power's alpha must be a scalar: given shape {jnp.shape(self.alpha)}.")

    def _project(self, v: jax.Array) -> jax.Array:
        alpha = jnp.asarray(self.alpha, v.dtype)
        possible = (alpha > 0) & (alpha < 1)
        return jnp.where(possible, _project_power(v, jnp.where(possible, alpha, 0.5)), jnp.nan)

    @jax.jit
    def _kink_distance(self, v: jax.Array) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        alpha = jnp.asarray(self.alpha, v.dtype)
        x, y, z = v

        def interior(x: jax.Array, y: jax.Array, scale: jax.Array) -> jax.Array:
            """Bound the distance of an inner point from the boundary by a box that fits around it."""
            fits = lambda d: (d < x) & (d < y) & (scale * _geometric(x - d, y - d, alpha) >= jnp.abs(z) + d)
            return largest(fits, jnp.maximum(jnp.minimum(x, y), 0))

        scale = (1 / alpha) ** alpha * (1 / (1 - alpha)) ** (1 - alpha)
        within = jnp.maximum(interior(x, y, jnp.ones_like(x)), interior(-x, -y, scale))
        p = _project_power(v, alpha)
        inside, polar = _power_cases(v, alpha)
        outside = jnp.minimum(jnp.linalg.norm(p), jnp.linalg.norm(v - p))
        return jnp.where(inside | polar, within, outside)
