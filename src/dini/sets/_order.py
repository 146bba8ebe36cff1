"""Sets of ordered vectors: the isotonic cone, and the permutahedron."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..deferred import Array, Float
from ..numerics.isotonic import block_means, isotonic_regression
from ..numerics.separable import smallest
from ..trees import Tree
from ..trees.products import dot
from ._base import Set, hold_arrays, require_real


def _require_vector(owner: str, x: Tree) -> None:
    if not isinstance(x, jax.Array) or x.ndim != 1:
        raise ValueError(f"{owner} needs an unknown that is one vector: given {trees.describe(x)}.")
    require_real(owner, x)


def block_distance(y: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, ""]:
    r"""Return how far ``y`` is from where the blocks of its isotonic regression ``v`` change.

    Neighboring blocks of ``m`` and ``n`` elements merge where their levels meet; the gap has a gradient of norm
    :math:`\sqrt{1/m + 1/n}`. A block of ``n`` splits behind its first ``m`` elements where their sum
    :math:`\sum (y_i - v_i)` is zero, which has a gradient of norm :math:`\sqrt{m (n - m) / n}`.
    """
    n = y.shape[0]
    if n < 2:
        return jnp.full((), jnp.inf, y.dtype)
    place, border = jnp.arange(n), v[1:] != v[:-1]
    start = jax.lax.cummax(jnp.where(jnp.pad(border, (1, 0), constant_values=True), place, 0))
    end = jax.lax.cummin(jnp.where(jnp.pad(border, (0, 1), constant_values=True), place, n), reverse=True)
    size = (end - start + 1).astype(y.dtype)
    merge = jnp.abs(v[1:] - v[:-1]) / jnp.sqrt(1 / size[1:] + 1 / size[:-1])
    before, whole = (place - start + 1)[:-1].astype(y.dtype), size[:-1]
    squared = jnp.where(border, 1, before * (whole - before) / whole)
    split = jnp.abs(jnp.cumsum(y - v)[:-1]) / jnp.sqrt(squared)
    return jnp.min(jnp.where(border, merge, split))


def onto_permutahedron(z: Float[Array, " n"], w: Float[Array, " n"]) -> jax.Array:
    r"""Return the projection of ``z`` onto the convex hull of the permutations of ``w``; both fall.

    With the decreasing isotonic regression ``v`` of their difference the projection is :math:`z - v`. On the
    blocks of ``v`` that is :math:`z - \mathrm{mean}(z) + \mathrm{mean}(w)`, in which a constant in ``z`` has no part.
    So far from zero the values are moved closer together first, without a change of the blocks: by how much two
    neighbors are apart does not matter beyond what all others could make up for. Otherwise ``w`` would be lost in
    comparison with ``z``.
    """
    fixed, vertex = jax.lax.stop_gradient((z, w))
    lead = (fixed[:-1] - fixed[1:]) - (vertex[:-1] - vertex[1:])
    spread = vertex[0] - vertex[-1]
    limit = 2 * jnp.sum(jnp.maximum(-lead, 0)) + jnp.where(spread > 0, spread, 1)
    steps = jnp.where(lead > limit, limit, lead)
    together = jnp.append(jnp.cumsum(steps[::-1])[::-1], jnp.zeros((), steps.dtype))
    near = jnp.max(jnp.abs(fixed)) <= 16 * jnp.max(jnp.abs(vertex))
    y = jnp.where(near, fixed - vertex, together)
    means = block_means(jax.lax.stop_gradient(isotonic_regression(y, increasing=False)), jnp.ones_like(y))
    place = jnp.where(near, fixed, together + vertex) + (z - fixed)
    return place - means(place) + means(w)


@record
class IsotonicCone(Set):
    r"""The cone of monotone vectors, :math:`\{x : x_1 \le x_2 \le \dots \le x_n\}`.

    The projection is isotonic regression (:func:`dini.sets.isotonic_regression`), constant on blocks of neighbors,
    where it is the mean. The derivative replaces ``t`` by its block means.

    Parameters
    ----------
    increasing
        Whether the members rise (or fall).

    Raises
    ------
    ValueError
        If the unknown is not one vector.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import IsotonicCone
    >>> print(IsotonicCone().project(jnp.array([1.0, 3.0, 2.0])))
    [1.  2.5 2.5]
    """

    increasing: bool = field(default=True, metadata={"static": True})

    polyhedral = True

    def project(self, x: Tree) -> Tree:
        """Return the isotonic regression."""
        return isotonic_regression(x, increasing=self.increasing)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where blocks merge or split (exact)."""
        return smallest(block_distance(x, self.project(x)), x)

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one real vector."""
        _require_vector("IsotonicCone", x)


@record
class Permutahedron(Set):
    r"""The permutahedron of ``w``: the convex hull of all permutations of the vector.

    With the permutation :math:`\pi` that sorts ``x`` from large to small, and ``w`` sorted likewise, the projection is
    :math:`x - v_{\pi^{-1}}`, where ``v`` is the decreasing isotonic regression of :math:`x_\pi - w`. In sorted order
    its derivative is ``t`` minus its block means, plus the block means of :math:`\dot w`. Cost: sorting, and one
    isotonic regression. Projections of a scaled vector onto it are soft ranks and soft sorts.

    Parameters
    ----------
    vertex
        ``w``, a vector like ``x``.

    Raises
    ------
    ValueError
        If the unknown is not one vector, or ``vertex`` does not have its shape.

    References
    ----------
    Blondel, Teboul, Berthet and Djolonga, "Fast differentiable sorting and ranking", ICML 2020, proposition 3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Permutahedron
    >>> print(Permutahedron(jnp.array([3.0, 2.0, 1.0])).project(jnp.array([0.0, 9.0, 4.0])))
    [1. 3. 2.]
    """

    vertex: Any

    polyhedral = True

    def __post_init__(self) -> None:
        hold_arrays(self, "vertex")

    def _falling(self, dtype: Any) -> jax.Array:
        w = jnp.asarray(self.vertex, dtype)
        return w[jnp.argsort(-jax.lax.stop_gradient(w))]

    def project(self, x: Tree) -> Tree:
        """Subtract the isotonic regression in sorted order."""
        order = jnp.argsort(-jax.lax.stop_gradient(x))
        p = onto_permutahedron(x[order], self._falling(x.dtype))
        return jnp.zeros_like(p).at[order].set(p, unique_indices=True)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where blocks merge or split (exact).

        A change of order is no kink: two elements that become equal are in one block before they do.
        """
        y = jnp.sort(x, descending=True) - self._falling(x.dtype)
        return smallest(block_distance(y, isotonic_regression(y, increasing=False)), x)

    def support(self, direction: Tree) -> jax.Array:
        """Return the inner product of both, sorted."""
        return dot(self._falling(direction.dtype), jnp.sort(direction, descending=True)).astype(
            trees.real_dtype(direction)
        )

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one real vector and the vertex has its shape."""
        _require_vector("Permutahedron", x)
        if jnp.shape(self.vertex) != x.shape:
            raise ValueError(
                f"Permutahedron's vertex must have the shape of x: given {jnp.shape(self.vertex)}, needed {x.shape}."
            )
