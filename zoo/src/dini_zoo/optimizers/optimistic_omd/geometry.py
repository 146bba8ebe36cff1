r"""Mirror maps beside those of dini: the Euclidean one, and that of a quadratic norm.

A geometry has a mirror step, :math:`\arg\min_{x \in C} \; \eta \langle g, x \rangle + D(x, c)` from a center
:math:`c`, as `step(c, g, eta, constraint)`, and its divergence :math:`D`, as `divergence(x, c)`: what
`dini.MirrorDescent` asks for, so that its geometries and these serve in one another's place.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

import dini


def inside(constraint: Any, x: Any) -> Any:
    """The Euclidean projection of a point onto a set of dini; the point itself if there is no set."""
    return x if constraint is None else constraint.project(x)


class Euclidean(eqx.Module):
    r"""The geometry of :math:`\tfrac12 \|x\|^2`: a gradient step, projected."""

    def step(self, x: Any, g: Any, step_size: Any, constraint: Any) -> Any:
        """The projection of a gradient step onto a set of dini, or onto nothing if it is `None`."""
        return inside(constraint, jax.tree.map(lambda u, v: u - jnp.asarray(step_size, u.dtype) * v, x, g))

    def divergence(self, x: Any, y: Any) -> Float[Array, ""]:
        """Half of the squared distance."""
        return 0.5 * optax.tree.norm(optax.tree.sub(x, y), squared=True)


class QuadraticNorm(eqx.Module):
    r"""The geometry of :math:`\tfrac12 x^\top H x`, with a symmetric and positive definite :math:`H`.

    Parameters
    ----------
    matrix
        :math:`H`, for the unknown as one vector.
    inverse
        :math:`H^{-1}`, if it is known.
    """

    matrix: Float[Array, "d d"]
    inverse: Float[Array, "d d"] | None = None

    def step(self, x: Any, g: Any, step_size: Any, constraint: Any) -> Any:
        r"""The projection of :math:`x - \eta H^{-1} g` in the norm of :math:`H`."""
        at, back = ravel_pytree(x)
        slope = step_size * ravel_pytree(g)[0]
        move = jnp.linalg.solve(self.matrix, slope) if self.inverse is None else self.inverse @ slope
        return project_in_norm(self.matrix, back(at - move), constraint)

    def divergence(self, x: Any, y: Any) -> Float[Array, ""]:
        """Half of the squared distance in this norm."""
        apart = ravel_pytree(optax.tree.sub(x, y))[0]
        return 0.5 * apart @ self.matrix @ apart


def project_in_norm(H: Float[Array, "d d"], y: Any, constraint: Any) -> Any:
    r"""The projection in a quadratic norm, :math:`\arg\min_{x \in C} \tfrac12 (x - y)^\top H (x - y)`.

    Onto a Euclidean ball of radius :math:`r` it is :math:`(H + \lambda I)^{-1} H y`, with the :math:`\lambda > 0` for
    which that has the norm :math:`r` where :math:`y` lies outside: in the basis of the eigenvectors of :math:`H`, dini
    finds the root of :math:`1/r - 1/\|x(\lambda)\|`, which is nearly a straight line. Onto any other set dini solves
    the quadratic program. Both are differentiated by the implicit function theorem, in :math:`y`, :math:`H` and the
    set's own parameters.

    Parameters
    ----------
    H
        Symmetric and positive definite, for the unknown as one vector.
    y
        A tree.
    constraint
        A convex set of dini, or `None`.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> H, y = jnp.diag(jnp.array([1.0, 3.0])), jnp.array([0.0, 2.0])
    >>> print(project_in_norm(H, y, dini.sets.L2Ball(1.0)).round(3))
    [0. 1.]
    >>> print(project_in_norm(H, y, dini.sets.Simplex()).round(3))
    [0. 1.]
    """
    if constraint is None:
        return y
    if not isinstance(constraint, dini.sets.L2Ball):
        return dini.minimize(_quadratic, constraint.project(y), H, y, constraint=constraint).x
    at, back = ravel_pytree(y)
    radius = jnp.asarray(constraint.radius, at.dtype)
    length = jnp.linalg.norm(at)
    outside = length > radius
    # what is not taken must not be NaN, nor its derivative
    away = jnp.where(outside, at, 2 * radius / jnp.sqrt(at.size))
    p, _ = _onto_sphere((away, jnp.zeros_like(radius)), away, H, radius)
    return back(jnp.where(outside, p, at))


def _quadratic(x: Any, H: Float[Array, "d d"], y: Any) -> Float[Array, ""]:
    apart = ravel_pytree(optax.tree.sub(x, y))[0]
    return 0.5 * apart @ H @ apart


def _stationary(both: tuple[Array, Array], y: Array, H: Array, radius: Array) -> tuple[Array, Array]:
    """What vanishes at the nearest point of a sphere, and its multiplier."""
    p, multiplier = both
    return H @ (p - y) + multiplier * p, 0.5 * (p @ p - radius**2)


@dini.custom_root(_stationary)
def _onto_sphere(init: Any, y: Array, H: Array, radius: Array) -> tuple[Array, Array]:
    del init
    h, vectors = jnp.linalg.eigh(H)
    z = vectors.T @ y

    def excess(multiplier: Array, h: Array, z: Array, radius: Array) -> Array:
        return 1 / radius - 1 / jnp.linalg.norm(h * z / (h + multiplier))

    # between these the point comes from outside of the sphere to its inside
    far = jnp.linalg.norm(y) / radius - 1
    low, high = 0.999 * h[0] * far, 1.001 * h[-1] * far
    solver = dini.Chandrupatla(low, high)
    multiplier = dini.root(excess, 0.5 * (low + high), h, z, radius, solver=solver).x
    return vectors @ (h * z / (h + multiplier)), multiplier
