"""How sharp the minimum is that training is in: the largest curvature, and how far a step along the gradient climbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive

Tree = Any


def hessian_top_eigenvalue(loss: Callable[[Tree], Array], w: Tree, key: Array, *, iterations: int = 20) -> Array:
    """The eigenvalue of the Hessian that is largest in size, by power iterations from a random start.

    Examples
    --------
    >>> curvature = jnp.array([1.0, -2.0, 7.0])
    >>> found = hessian_top_eigenvalue(lambda w: 0.5 * jnp.sum(curvature * w**2), jnp.ones(3), jax.random.key(0))
    >>> print(f"{found:.3f}")
    7.000
    """
    at_least("iterations", iterations, 1)
    flat, restore = ravel_pytree(w)
    slope = jax.grad(lambda flat: loss(restore(flat)))
    start = jax.random.normal(key, flat.shape, flat.dtype)

    def step(v: Array, _: None) -> tuple[Array, Array]:
        Hv = jax.jvp(slope, (flat,), (v,))[1]
        norm = jnp.linalg.norm(Hv)
        return Hv / jnp.where(norm > 0, norm, 1), jnp.vdot(v, Hv)

    _, values = jax.lax.scan(step, start / jnp.linalg.norm(start), length=iterations)
    return values[-1]


def sharpness(loss: Callable[[Tree], Array], w: Tree, radius: Any) -> Float[Array, ""]:
    r"""The climb :math:`L(w + \rho \, g / \|g\|) - L(w)` along the gradient.

    Examples
    --------
    >>> print(sharpness(lambda w: jnp.sum(w**2), jnp.array([3.0, 4.0]), 1.0))
    11.0
    """
    positive("radius", radius)
    flat, restore = ravel_pytree(w)
    value, slope = jax.value_and_grad(lambda flat: loss(restore(flat)))(flat)
    norm = jnp.linalg.norm(slope)
    return loss(restore(flat + radius * slope / jnp.where(norm > 0, norm, 1))) - value
