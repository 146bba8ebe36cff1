"""Geometries of mirror descent."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..functions import as_function
from ..sets import NonNegative, Product, Set, Simplex
from ..trees import Tree


@record
class KL:
    r"""The entropy geometry, :math:`\varphi(x) = \sum_i x_i \log x_i`, on sets of nonnegative numbers.

    On a :class:`dini.sets.Simplex` of radius ``s`` a mirror step is the multiplicative update
    :math:`x_i \mapsto s\, x_i e^{-\eta g_i} / \sum_j x_j e^{-\eta g_j}` along the simplex's axis; on
    :class:`dini.sets.NonNegative` it is not normalized. A :class:`dini.sets.Product` of the two is taken part by part.
    These updates are computed without logarithms, so exact zeros (which other solvers return) stay zero and keep finite
    derivatives. On other sets with an entropy projection (``project_kl``: transportation polytopes, boxes, ...) it is
    :math:`x \mapsto \mathrm{proj}^\varphi_C(x e^{-\eta g})`, where elements that are not positive count as tiny ones.
    """

    def step(self, x: Tree, g: Any, step_size: Any, constraint: Any) -> Any:
        """Return the mirror step from ``x`` along ``-g`` within the constraint."""
        if isinstance(constraint, Product):
            parts = lambda node: isinstance(node, Set)
            return jax.tree.map(
                lambda part, u, v: self.step(u, v, step_size, part), constraint.sets, x, g, is_leaf=parts
            )
        if isinstance(constraint, NonNegative):
            return jax.tree.map(lambda u, v: u * jnp.exp(-jnp.asarray(step_size, u.dtype) * v), x, g)
        if not isinstance(constraint, Simplex):
            # a start need not be positive; NaN stays what it is
            logarithm = lambda u: jnp.log(jnp.where(u <= 0, jnp.finfo(u.dtype).tiny, u))
            logits = jax.tree.map(lambda u, v: logarithm(u) - jnp.asarray(step_size, u.dtype) * v, x, g)
            try:
                return (Set() if constraint is None else constraint).project_kl(logits)
            except NotImplementedError as error:
                name = "no constraint" if constraint is None else constraint.name
                raise TypeError(
                    "The KL geometry needs a set that has an entropy projection, `project_kl`, such as Simplex, "
                    f"NonNegative and TransportationPolytope: given {name}. Use dini.conditions.Geometry for another "
                    "set, or ProjectedGradient."
                ) from error
        axis = -1 if constraint.axis is None else constraint.axis
        exponent = -jnp.asarray(step_size, x.dtype) * g
        # the shift is a constant: it cancels between numerator and denominator
        top = jnp.max(jnp.where(x > 0, exponent, -jnp.inf), axis=axis, keepdims=True)
        shift = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
        # where x is zero, the exponent may be anything: keep it from overflowing into 0 * inf
        limit = jnp.where(x > 0, jnp.inf, 0.0).astype(x.dtype)
        weight = x * jnp.exp(jnp.minimum(exponent - shift, limit))
        radius = jnp.asarray(constraint.radius, x.dtype)
        return radius * weight / jnp.sum(weight, axis=axis, keepdims=True)

    def divergence(self, x: Tree, y: Any) -> jax.Array:
        r"""Return the Bregman divergence :math:`\sum_i x_i \log(x_i / y_i) - x_i + y_i`."""

        def one(x: jax.Array, y: jax.Array) -> jax.Array:
            both = (x > 0) & (y > 0)
            far = jnp.where(both, x, 1) / jnp.where(both, y, 1)
            near = both & (jnp.abs(y - x) < 0.1 * x)
            t = jnp.where(near, y - x, 0) / jnp.where(near, x, 1)
            return jnp.sum(jnp.where(near, x * _excess(t), jnp.where(both, x * jnp.log(far), 0) - x + y))

        return sum(jax.tree.leaves(jax.tree.map(one, x, y)), jnp.zeros((), trees.real_dtype(x)))


def _excess(t: jax.Array) -> jax.Array:
    r"""Return :math:`t - \log(1 + t)` for ``t`` of up to a tenth, where the two cancel.

    With :math:`s = t / (2 + t)` it is :math:`s t - 2 (s^3/3 + s^5/5 + \dots)`.
    """
    s = t / (2 + t)
    return s * t - 2 * s**3 * sum(s ** (2 * k) / (2 * k + 3) for k in range(6))


@record
class Geometry:
    r"""A user's own geometry: a mirror map and a Bregman projection.

    Parameters
    ----------
    mirror_map
        :math:`\nabla\varphi(x)`, a tree like ``x``.
    projection
        Returns the Bregman projection onto the constraint set of the point whose mirror image is given.
    bregman
        Optional: :math:`D_\varphi(x, y)`, which the adaptive step size of :class:`dini.MirrorDescent` needs.
    """

    mirror_map: Any
    projection: Any
    bregman: Any = None

    def __post_init__(self) -> None:
        for name in ("mirror_map", "projection", "bregman"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), f"Geometry's {name}"))

    def step(self, x: Tree, g: Any, step_size: Any, constraint: Any) -> Any:
        """Return the mirror step from ``x`` along ``-g``; the projection knows the constraint itself."""
        del constraint
        return self.projection(trees.axpy(-jnp.asarray(step_size), g, self.mirror_map(x)))

    def divergence(self, x: Tree, y: Any) -> jax.Array:
        """Return the Bregman divergence."""
        if self.bregman is None:
            raise ValueError(
                "An adaptive step size needs the geometry's Bregman divergence: give Geometry(bregman=...), or give "
                "MirrorDescent a step_size."
            )
        return self.bregman(x, y)
