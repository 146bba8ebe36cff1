"""Geometries of mirror descent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..functions import as_function


@register_dataclass
@dataclass(frozen=True)
class KL:
    r"""The entropy geometry on products of simplices, :math:`\varphi(x) = \sum_i x_i \log x_i`.

    A mirror step is the multiplicative update :math:`x_i \mapsto s\, x_i e^{-\eta g_i} / \sum_j x_j e^{-\eta g_j}`
    along ``axis``, ``s`` being the sum of ``x``. It is computed without logarithms, so exact zeros (which other solvers
    return) stay zero and keep finite derivatives.
    """

    axis: int = field(default=-1, metadata={"static": True})

    def step(self, x: Any, g: Any, step_size: Any) -> Any:
        """Return the mirror step from ``x`` along ``-g``."""

        def one(x: jax.Array, g: jax.Array) -> jax.Array:
            if x.ndim == 0:
                raise ValueError(
                    "KL needs an unknown with at least one axis, the one along which it sums to a constant."
                )
            exponent = -jnp.asarray(step_size, x.dtype) * g
            # the shift is a constant: it cancels between numerator and denominator
            top = jnp.max(jnp.where(x > 0, exponent, -jnp.inf), axis=self.axis, keepdims=True)
            shift = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
            # where x is zero, the exponent may be anything: keep it from overflowing into 0 * inf
            weight = x * jnp.exp(jnp.minimum(exponent - shift, jnp.where(x > 0, jnp.inf, 0.0).astype(x.dtype)))
            total = jnp.sum(x, axis=self.axis, keepdims=True)
            return total * weight / jnp.sum(weight, axis=self.axis, keepdims=True)

        return jax.tree.map(one, x, g)

    def divergence(self, x: Any, y: Any) -> jax.Array:
        r"""Return the Bregman divergence :math:`\sum_i x_i \log(x_i / y_i) - x_i + y_i`."""

        def one(x: jax.Array, y: jax.Array) -> jax.Array:
            both = (x > 0) & (y > 0)
            ratio = jnp.where(both, x, 1) / jnp.where(both, y, 1)
            return jnp.sum(jnp.where(both, x * jnp.log(ratio), 0) - x + y)

        return sum(jax.tree.leaves(jax.tree.map(one, x, y)), jnp.zeros((), trees.real_dtype(x)))


@register_dataclass
@dataclass(frozen=True)
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

    def step(self, x: Any, g: Any, step_size: Any) -> Any:
        """Return the mirror step from ``x`` along ``-g``."""
        return self.projection(trees.axpy(-jnp.asarray(step_size), g, self.mirror_map(x)))

    def divergence(self, x: Any, y: Any) -> jax.Array:
        """Return the Bregman divergence."""
        if self.bregman is None:
            raise ValueError(
                "An adaptive step size needs the geometry's Bregman divergence: give Geometry(bregman=...), or give "
                "MirrorDescent a step_size."
            )
        return self.bregman(x, y)
