"""Balls of norms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..numerics.separable import smallest
from ..trees import Tree
from ._base import Set, require_real
from ._scalar import norm, unit_and_size
from ._simplex import project_simplex, support_distances


def _check_radius(name: str, radius: Any) -> None:
    if jnp.ndim(radius) != 0:
        raise ValueError(f"{name}'s radius must be a scalar: given shape {jnp.shape(radius)}.")


def onto_ball(x: Tree, radius: Any) -> Any:
    """Return a tree shrunk to a Euclidean norm of at most the radius."""
    unit, top = unit_and_size(x)
    size = trees.norm(unit)
    outside = ~(top * size <= radius)
    # inside, the untaken branch is kept away from 0/0
    return trees.where(outside, trees.scale(radius / jnp.where(outside, size, 1), unit), x)


def project_l2_ball(x: Tree, radius: Any = 1.0) -> Any:
    r"""Return the projection of a tree onto :math:`\{\|y\|_2 \le r\}`, where the radius may be zero as well.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import project_l2_ball
    >>> print(project_l2_ball(jnp.array([3.0, 4.0]), 1.0).round(3), project_l2_ball(jnp.ones(2), 0.0))
    [0.6 0.8] [0. 0.]
    """
    require_positive("project_l2_ball's radius", radius, or_zero=True)
    return onto_ball(trees.inexact(x), positive(radius, or_zero=True))


@record
class L2Ball(Set):
    r"""The Euclidean ball :math:`\{x : \|x\|_2 \le r\}` of the whole unknown.

    Projection :math:`x \min(1, r / \|x\|)`; outside, with :math:`\hat x = x/\|x\|`, the derivative is
    :math:`(r/\|x\|)(t - \hat x \hat x^\top t)` in ``x`` and :math:`\hat x` in ``r``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import L2Ball
    >>> print(L2Ball(1.0).project(jnp.array([3.0, 4.0])).round(3))
    [0.6 0.8]
    """

    radius: Any = 1.0

    def __post_init__(self) -> None:
        require_positive("L2Ball's radius", self.radius)

    def project(self, x: Tree) -> Tree:
        """Shrink ``x`` to the radius."""
        return onto_ball(x, positive(self.radius))

    def kink_distance(self, x: Tree) -> jax.Array:
        r"""Return :math:`|\|x\| - r|`."""
        return jnp.abs(norm(x) - self.radius).astype(trees.real_dtype(x))

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`r \|d\|`."""
        return (self.radius * norm(direction)).astype(trees.real_dtype(direction))

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar."""
        del x
        _check_radius("L2Ball", self.radius)


def onto_l1_ball(x: Tree, radius: Any) -> Any:
    """Return a real tree soft-thresholded to a 1-norm of at most the radius."""
    flat, unravel = ravel_pytree(x)
    if not flat.size:
        return x
    sign = jax.lax.stop_gradient(jnp.sign(flat))
    size = sign * flat
    inside = jnp.sum(size) <= radius
    return unravel(jnp.where(inside, flat, sign * project_simplex(size, radius)))


@record
class L1Ball(Set):
    r"""The ball :math:`\{x : \|x\|_1 \le r\}` of the whole unknown.

    Outside, the projection is :math:`\mathrm{sign}(x) \circ \Pi_\Delta(|x|)` with the simplex of radius ``r``. On its
    support ``S``, with :math:`\sigma = \mathrm{sign}(x)`, the derivative is
    :math:`t_S - \sigma_S (\sigma_S \cdot t_S) / |S|` in ``x`` and :math:`\sigma_S / |S|` in ``r``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import L1Ball
    >>> print(L1Ball(1.0).project(jnp.array([2.0, -1.5])))
    [ 0.75 -0.25]
    """

    radius: Any = 1.0

    polyhedral = True

    def __post_init__(self) -> None:
        require_positive("L1Ball's radius", self.radius)

    def project(self, x: Tree) -> Tree:
        """Soft-threshold ``x`` to the radius."""
        return onto_l1_ball(x, positive(self.radius))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from the boundary and, outside, from where the support changes (exact)."""
        flat, _ = ravel_pytree(x)
        if not flat.size:
            return smallest((), x)
        size = jnp.abs(flat)
        excess = jnp.sum(size) - self.radius
        p = project_simplex(size, self.radius)
        # outside, tau falls to zero on the way to the boundary
        count = jnp.maximum(jnp.sum(p > 0), 1).astype(flat.dtype)
        tau = jnp.sum(jnp.where(p > 0, size - p, 0)) / count
        outside = jnp.minimum(jnp.min(support_distances(size, p)), tau * jnp.sqrt(count))
        return smallest(jnp.where(excess > 0, outside, -excess / jnp.sqrt(jnp.asarray(flat.size, flat.dtype))), x)

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`r \|d\|_\infty`."""
        return (self.radius * trees.max_abs(direction)).astype(trees.real_dtype(direction))

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and ``x`` is real."""
        require_real("L1Ball", x)
        _check_radius("L1Ball", self.radius)
