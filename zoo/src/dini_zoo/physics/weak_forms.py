r"""Residuals of partial differential equations in weak form, against test functions on small balls.

A test function :math:`v_j(x) = v((x - x_j) / R)` vanishes where :math:`|x - x_j| \ge R`, so that an integration by
parts has no boundary, and an equation :math:`-\nabla\!\cdot s = f` becomes :math:`\langle s \cdot \nabla v_j \rangle =
\langle f v_j \rangle`: a derivative less, which is what a coefficient with jumps needs. :math:`\langle \cdot \rangle`
is a mean over the ball, by a :class:`BallRule`.

A rule is not exact: on a grid :math:`-\sum y \cdot \nabla v \ne d \sum v`, and what is solved is the equation with a
source that is off by this ratio, whatever the training. It is the rule's `kappa`, and belongs before :math:`\langle f
v_j \rangle`.

References ---------- Zang and Koutsourelakis, "DGenNO", J. Comput. Phys. 538 (2025), arXiv 2502.06250. Zang et al.,
"ParticleWNN", 2023 (arXiv 2305.12433), for test functions on balls. Wendland, "Piecewise polynomial, positive definite
and compactly supported radial functions of minimal degree", Adv. Comput. Math. 1995.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, known, positive


def _radius(y: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Of what is differentiated, zero has the derivative zero and not NaN."""
    square = jnp.sum(y**2, axis=-1)
    center = square == 0
    return jnp.where(center, 0.0, jnp.sqrt(jnp.where(center, 1.0, square)))


@jax.custom_jvp
def wendland(y: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    r"""Wendland's function of four continuous derivatives on the unit ball, zero outside.

    .. math:: v(y) = \tfrac13 (1 - r)_+^{l + 2} \bigl((l^2 + 4 l + 3) r^2 + (3 l + 6) r + 3\bigr), \qquad
        r = |y|, \quad l = \lfloor d / 2 \rfloor + 3 .

    Its derivative is :func:`wendland_slope`, which holds at zero as well.

    Examples
    --------
    >>> wendland(jnp.zeros((2, 3))).tolist(), wendland(jnp.ones(2)).tolist()
    ([1.0, 1.0], 0.0)
    """
    r, l = _radius(y), y.shape[-1] // 2 + 3
    return jnp.maximum(1 - r, 0.0) ** (l + 2) * ((l**2 + 4 * l + 3) * r**2 + (3 * l + 6) * r + 3) / 3


def wendland_slope(y: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    r"""The gradient of :func:`wendland`.

    .. math:: \nabla v(y) = -\tfrac13\, y\, (1 - r)_+^{l + 1} \bigl((l + 1)(l + 3)(l + 4)\, r + (l + 3)(l + 4)\bigr)
    """
    r, l = _radius(y), y.shape[-1] // 2 + 3
    along = jnp.maximum(1 - r, 0.0) ** (l + 1) * (l + 3) * (l + 4) * ((l + 1) * r + 1) / 3
    return -y * along[..., None]


@wendland.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (y,), (dy,) = primals, tangents
    return wendland(y), jnp.sum(wendland_slope(y) * dy, axis=-1)


def bump(y: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    r""":math:`\exp(1 - 1 / (1 - r^2))` on the unit ball, zero outside: smooth, and flat near the sphere."""
    gap = 1 - jnp.sum(y**2, axis=-1)
    outside = gap <= 0
    return jnp.where(outside, 0.0, jnp.exp(1 - 1 / jnp.where(outside, 1.0, gap)))


#: A function `(*n, d) -> (*n,)` on the unit ball that vanishes on the sphere.
TestFunction = Callable[[Float[Array, "*n d"]], Float[Array, "*n"]]


@functools.partial(jax.jit, static_argnums=2)
def _tested(nodes: Array, weights: Array, test: TestFunction) -> tuple[Array, Array, Array]:
    """The test function, its gradient, and what the rule makes of their identity."""
    v, slope = jax.vmap(jax.value_and_grad(test))(nodes)
    return v, slope, -(weights @ jnp.sum(nodes * slope, axis=-1)) / (nodes.shape[-1] * (weights @ v))


class BallRule(eqx.Module):
    """Nodes in the unit ball with weights that sum to one, and a test function with its gradient there."""

    nodes: Float[Array, "k d"]
    weights: Float[Array, " k"]
    v: Float[Array, " k"]
    slope: Float[Array, "k d"]
    kappa: Float[Array, ""]
    r""":math:`-\langle y \cdot \nabla v \rangle / (d \langle v \rangle)`: one, but for the rule's error."""

    def __init__(self, nodes: Any, weights: Any, test: TestFunction = wendland):
        self.nodes = jnp.asarray(nodes, float)
        self.weights = jnp.asarray(np.asarray(weights) / np.sum(weights), float)
        self.v, self.slope, self.kappa = _tested(self.nodes, self.weights, test)

    @property
    def dim(self) -> int:
        """The ball's dimension."""
        return self.nodes.shape[-1]

    def mean(self, values: Float[Array, "*n k"]) -> Float[Array, "*n"]:
        """The mean over the ball of what was evaluated at the nodes."""
        return values @ self.weights


def grid_rule(count: int, dim: int, test: TestFunction = wendland) -> BallRule:
    """A grid of `count` numbers from -1 to 1 along each axis: those of its points that lie inside, with equal weights.

    Examples
    --------
    >>> rule = grid_rule(7, 2)
    >>> rule.nodes.shape, f"{rule.kappa:.4f}"
    ((25, 2), '0.9876')
    """
    at_least("count", count, 3)
    at_least("dim", dim, 1)
    axis = np.linspace(-1.0, 1.0, count)
    points = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    # a point of the sphere, up to rounding, has no part in it
    inside = points[np.linalg.norm(points, axis=1) < 1 - 1e-9]
    return BallRule(inside, np.ones(len(inside)), test)


def gauss_rule(count: int, dim: int, test: TestFunction = wendland) -> BallRule:
    """Gauss's rule of `count` radii, times one for the sphere: exact for Wendland's function with six radii or more.

    The sphere is two points for `dim` 1, `2 count` equal angles for 2, and for 3 these times `count` heights.

    Examples
    --------
    >>> print(gauss_rule(8, 2).nodes.shape, abs(gauss_rule(8, 2).kappa - 1) < 1e-5)
    (128, 2) True
    """
    at_least("count", count, 1)
    if dim not in (1, 2, 3):
        raise ValueError(f"dim must be 1, 2 or 3: given {dim}.")
    x, w = np.polynomial.legendre.leggauss(count)
    radii, radial = (x + 1) / 2, w * ((x + 1) / 2) ** (dim - 1)
    angles = np.pi * np.arange(2 * count) / count
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if dim == 1:
        sphere, around = np.array([[1.0], [-1.0]]), np.ones(2)
    elif dim == 2:
        sphere, around = circle, np.ones(2 * count)
    else:
        flat = np.sqrt(1 - x**2)[:, None, None] * circle
        heights = np.broadcast_to(x[:, None, None], (count, 2 * count, 1))
        sphere, around = np.concatenate([flat, heights], axis=-1).reshape(-1, 3), np.repeat(w, 2 * count)
    nodes = radii[:, None, None] * sphere
    return BallRule(nodes.reshape(-1, dim), np.outer(radial, around).ravel(), test)


def sample_centers(
    key: Array, count: int, radius: float, low: Any = (0.0,), high: Any = (1.0,)
) -> Float[Array, "count d"]:
    """Centers of balls that lie inside a box, by a Latin hypercube: along each axis one in each of `count` strata.

    Parameters
    ----------
    key
        Of the draw.
    count
        How many.
    radius
        Of the balls, in the box's units: no center is nearer to its faces.
    low, high
        The box's corners, `d` numbers each.

    Raises
    ------
    ValueError
        Where the balls do not fit into the box.

    Examples
    --------
    >>> x = sample_centers(jax.random.key(0), 5, 0.1, (0.0, 0.0), (1.0, 2.0))
    >>> x.shape, jnp.floor((x[:, 0].sort() - 0.1) / 0.8 * 5).tolist()
    ((5, 2), [0.0, 1.0, 2.0, 3.0, 4.0])
    """
    at_least("count", count, 1)
    positive("radius", radius)
    corners = jnp.asarray(low, float), jnp.asarray(high, float)
    if corners[0].ndim != 1 or corners[0].shape != corners[1].shape:
        raise ValueError(
            f"low and high must be corners of a box, as long as each other: given shapes {corners[0].shape} and "
            f"{corners[1].shape}."
        )
    room = corners[1] - corners[0] - 2 * radius
    if known(room) and np.any(np.asarray(room) <= 0):
        raise ValueError(
            f"radius must be less than half of each side of the box: given {radius} and sides "
            f"{np.asarray(corners[1] - corners[0])}."
        )
    dim = len(corners[0])
    for_order, for_place = jax.random.split(key)
    strata = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(for_order, dim)).T
    place = (strata + jax.random.uniform(for_place, (count, dim))) / count
    return corners[0] + radius + room * place


def ball_points(centers: Float[Array, "j d"], radius: Any, rule: BallRule) -> Float[Array, "j k d"]:
    """The rule's nodes in each ball."""
    if centers.ndim != 2 or centers.shape[-1] != rule.dim:
        raise ValueError(f"centers must have shape (j, {rule.dim}), as the rule has: given {centers.shape}.")
    return centers[:, None] + radius * rule.nodes


def weak_residual(
    integrand: Callable[[Array, Array, Array], Array],
    centers: Float[Array, "j d"],
    radius: Any,
    rule: BallRule,
) -> Float[Array, "*n j"]:
    r"""The means :math:`\langle F(x, v_j, \nabla v_j) \rangle` over balls.

    Parameters
    ----------
    integrand
        :math:`F`: a function of points `(j, k, d)`, of the test function `(k,)` and its gradient `(k, d)` there, that
        returns `(*n, j, k)`, with axes in front where there are several fields.
    centers
        Of the balls, `(j, d)`.
    radius
        Of the balls, in the units of `x`: the gradient is one over it times the rule's.
    rule
        Nodes and the test function.

    Examples
    --------
    Of :math:`s = -x / d` the divergence is -1, whatever the ball, once the source has the rule's `kappa` before it:

    >>> rule = grid_rule(7, 2)
    >>> flux = lambda x, v, dv: jnp.sum(-x / 2 * dv, axis=-1) - rule.kappa * v
    >>> print(jnp.abs(weak_residual(flux, jnp.array([[0.3, 0.4]]), 0.1, rule)) < 1e-5)
    [ True]
    """
    positive("radius", radius)
    found = integrand(ball_points(centers, radius, rule), rule.v, rule.slope / radius)
    expected = (len(centers), len(rule.v))
    if found.shape[-2:] != expected:
        raise ValueError(f"integrand must return values at {expected} points as its last axes: given {found.shape}.")
    return rule.mean(found)


def value_and_slope(fun: Callable[[Array], Array], x: Float[Array, "*p d"]) -> tuple[Array, Float[Array, "... d"]]:
    """Values of a field at points, and its gradient there, as a last axis.

    `fun` maps points `(*p, d)` to values, each of which depends on one point alone, such as
    `lambda x: net.grid(x, beta)` with an axis of codes in front: then one derivative along each axis, forward, is the
    gradient at all points.
    """
    directions = jnp.eye(x.shape[-1], dtype=x.dtype)
    value, push = jax.linearize(fun, x)
    slopes = [push(jnp.broadcast_to(e, x.shape)) for e in directions]
    return value, jnp.stack(slopes, axis=-1)
