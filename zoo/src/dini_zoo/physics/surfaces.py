r"""Solid obstacles by their signed distances: negative inside, positive outside, the gradient is the outward normal.

A surface is a function of one point. :func:`distance_and_normal` works for any such function, so a surface of one's
own needs nothing but its distance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import positive

type Surface = Callable[[Float[Array, " 3"]], Float[Array, ""]]


def safe_norm(a: Array, axis: int = -1) -> Array:
    """The Euclidean norm along an axis, whose derivative at zero is zero."""
    square = jnp.sum(a * a, axis=axis)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


class Sphere(eqx.Module):
    """A ball of a radius around a center."""

    center: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)
    radius: Any

    def __check_init__(self) -> None:
        positive("radius", self.radius)

    def __call__(self, point: Float[Array, " 3"]) -> Float[Array, ""]:
        """The signed distance of a point."""
        return safe_norm(point - self.center) - self.radius


class Plane(eqx.Module):
    """The half space below a plane through ``point``, with the outward ``normal``, of any length."""

    point: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)
    normal: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)

    def __call__(self, point: Float[Array, " 3"]) -> Float[Array, ""]:
        """The signed distance of a point."""
        return jnp.sum((point - self.point) * self.normal) / safe_norm(self.normal)


class Box(eqx.Module):
    """A box along the axes, by its center and half of its sides."""

    center: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)
    half: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)

    def __call__(self, point: Float[Array, " 3"]) -> Float[Array, ""]:
        """The signed distance of a point."""
        beyond = jnp.abs(point - self.center) - self.half
        return safe_norm(jnp.maximum(beyond, 0)) + jnp.minimum(jnp.max(beyond), 0)


class Capsule(eqx.Module):
    """All points within a radius of the segment between two points."""

    start: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)
    end: Float[Array, " 3"] = eqx.field(converter=jnp.asarray)
    radius: Any

    def __call__(self, point: Float[Array, " 3"]) -> Float[Array, ""]:
        """The signed distance of a point."""
        axis, along = self.end - self.start, point - self.start
        square = jnp.sum(axis * axis)
        place = jnp.clip(jnp.sum(along * axis) / jnp.where(square > 0, square, 1), 0, 1)
        return safe_norm(along - place * axis) - self.radius


def distance_and_normal(
    surface: Surface, points: Float[Array, "points 3"]
) -> tuple[Float[Array, " points"], Float[Array, "points 3"]]:
    """Signed distances of points, and their gradients."""
    return jax.vmap(jax.value_and_grad(surface))(points)
