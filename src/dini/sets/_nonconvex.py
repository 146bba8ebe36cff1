"""Sets that are not convex: spheres, and the sparse members of the simplex.

Their projection is a nearest point, of which there may be several; one is taken. It is not nonexpansive, and a problem
over such a set has local solutions. ``convex`` is false, which code that needs convexity checks.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_count, require_positive
from ..numerics.separable import smallest
from ..trees import Tree
from ._base import Set, require_real
from ._scalar import norm, unit_and_size
from ._simplex import project_simplex, support_distances


def _require_radius(owner: str, radius: Any) -> None:
    if jnp.ndim(radius) != 0:
        raise ValueError(f"{owner}'s radius must be a scalar: given shape {jnp.shape(radius)}.")


def _require_elements(owner: str, x: Tree) -> None:
    if not trees.size(x):
        raise ValueError(f"{owner} of no elements is empty.")


@record
class L2Sphere(Set):
    r"""The sphere :math:`\{x : \|x\|_2 = r\}` of the whole unknown. Not convex.

    Projection :math:`r \hat x` with :math:`\hat x = x/\|x\|`; derivative :math:`(r/\|x\|)(t - \hat x \hat x^\top t)` in
    ``x`` and :math:`\hat x` in ``r``. At zero, where every point is nearest, it is the one with equal elements, and the
    derivative in ``x`` is taken as zero. The only kink is zero.

    Raises
    ------
    ValueError
        If ``radius`` is not positive or not a scalar, or the unknown has no elements.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import L2Sphere
    >>> print(L2Sphere(1.0).project(jnp.array([0.3, 0.4])).round(3))
    [0.6 0.8]
    """

    radius: Any = 1.0

    convex = False

    def __post_init__(self) -> None:
        require_positive("L2Sphere's radius", self.radius)

    def project(self, x: Tree) -> Tree:
        """Scale ``x`` to the radius."""
        unit, _ = unit_and_size(x)
        size = trees.norm(unit)
        some = size != 0  # NaN too
        anywhere = jnp.asarray(trees.size(x), size.dtype) ** -0.5
        return jax.tree.map(
            lambda u: (
                jnp.asarray(positive(self.radius), u.dtype)
                * jnp.where(some, u / jnp.where(some, size, 1).astype(u.dtype), anywhere.astype(u.dtype))
            ),
            unit,
        )

    def kink_distance(self, x: Tree) -> jax.Array:
        r"""Return :math:`\|x\|`."""
        return norm(x).astype(trees.real_dtype(x))

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and there are elements."""
        _require_radius("L2Sphere", self.radius)
        _require_elements("L2Sphere", x)


@record
class L1Sphere(Set):
    r"""The sphere :math:`\{x : \|x\|_1 = r\}` of the whole unknown. Not convex.

    Projection :math:`\sigma \circ \Pi_\Delta(|x|)` with the simplex of radius ``r`` and the signs
    :math:`\sigma` of ``x`` (plus for zero), inside the sphere as well as outside. Its derivative is that of
    :class:`L1Ball` outside.

    Raises
    ------
    ValueError
        If ``radius`` is not positive or not a scalar, or the unknown has no elements.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import L1Sphere
    >>> print(L1Sphere(1.0).project(jnp.array([0.5, -0.25])))
    [ 0.625 -0.375]
    """

    radius: Any = 1.0

    convex = False

    def __post_init__(self) -> None:
        require_positive("L1Sphere's radius", self.radius)

    def project(self, x: Tree) -> Tree:
        """Project the absolute values onto the simplex."""
        flat, unravel = ravel_pytree(x)
        sign = jax.lax.stop_gradient(jnp.where(flat < 0, -1, 1).astype(flat.dtype))
        return unravel(sign * project_simplex(sign * flat, positive(self.radius)))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where the support changes or, if all elements are in it, a sign (exact)."""
        flat, _ = ravel_pytree(x)
        size = jnp.abs(flat)
        p = project_simplex(size, self.radius)
        flips = jnp.where(jnp.all(p > 0), jnp.min(size), jnp.inf)
        return smallest((support_distances(size, p), flips), x)

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and ``x`` real, with elements."""
        require_real("L1Sphere", x)
        _require_radius("L1Sphere", self.radius)
        _require_elements("L1Sphere", x)


@record
class SparseSimplex(Set):
    r"""The members of the simplex with few nonzeros, :math:`\{x \ge 0, \sum_i x_i = s, \|x\|_0 \le k\}`. Not convex.

    The projection keeps the ``k`` largest elements and projects them onto the simplex. Its derivative is that of the
    simplex on the support.

    Parameters
    ----------
    nonzeros
        ``k``, an integer of at least one (static).
    radius
        ``s``, positive.

    Raises
    ------
    TypeError
        If ``nonzeros`` is not an integer.
    ValueError
        If ``nonzeros`` is less than one, ``radius`` not a positive scalar, or the unknown not one vector that has
        elements.

    References
    ----------
    Kyrillidis, Becker, Cevher and Koch, "Sparse projections onto the simplex", ICML 2013.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import SparseSimplex
    >>> print(SparseSimplex(2).project(jnp.array([0.5, 0.25, 0.5])))
    [0.5 0.  0.5]
    """

    nonzeros: int = field(metadata={"static": True})
    radius: Any = 1.0

    convex = False

    def __post_init__(self) -> None:
        require_count("SparseSimplex's nonzeros", self.nonzeros)
        require_positive("SparseSimplex's radius", self.radius)

    def _largest(self, x: jax.Array) -> jax.Array:
        """Return ``x`` with minus infinity in place of all but the largest elements."""
        if self.nonzeros >= x.shape[0]:
            return x
        _, places = jax.lax.top_k(jax.lax.stop_gradient(x), self.nonzeros)
        kept = jnp.zeros(x.shape, bool).at[places].set(True, unique_indices=True)
        return jnp.where(kept, x, -jnp.inf)

    def project(self, x: Tree) -> Tree:
        """Keep the largest elements and project them."""
        return project_simplex(self._largest(x), positive(self.radius))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where the support changes or an element overtakes another (exact)."""
        kept = self._largest(x)
        p = project_simplex(kept, self.radius)
        if self.nonzeros >= x.shape[0]:
            return smallest(support_distances(x, p), x)
        full = jnp.sum(p > 0) == self.nonzeros
        least = jnp.min(jnp.where(p > 0, x, jnp.inf))
        next_one = jnp.max(jnp.where(jnp.isfinite(kept), -jnp.inf, x))
        overtake = jnp.where(full, (least - next_one) / jnp.sqrt(2.0).astype(x.dtype), jnp.inf)
        # while fewer are left than may be, this is the projection onto the whole simplex
        distances = support_distances(x, p)
        changes = jnp.where(full & (p <= 0), jnp.inf, distances)
        return smallest((changes, overtake), x)

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and ``x`` one real vector of elements."""
        if not isinstance(x, jax.Array) or x.ndim != 1:
            raise ValueError(f"SparseSimplex needs an unknown that is one vector: given {trees.describe(x)}.")
        require_real("SparseSimplex", x)
        _require_radius("SparseSimplex", self.radius)
        _require_elements("SparseSimplex", x)
