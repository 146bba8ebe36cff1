r"""Ways between two latent points: straight ones, and arcs on which normal noise stays as long as it is.

References
----------
Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985. White, "Sampling generative networks", 2016
(arXiv 1609.04468), for arcs between latent points.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import one_of, same_shape

KINDS = ("slerp", "lerp")

#: Above this cosine an arc is a straight line: the sine of its angle is less than 0.032.
STRAIGHT = 0.9995


def lerp(z0: Float[Array, "n ..."], z1: Float[Array, "n ..."], ratio: Any) -> Float[Array, "... n ..."]:
    r""":math:`(1 - r) z_0 + r z_1`, in the form of :func:`slerp`."""
    return interpolate(z0, z1, ratio, "lerp")


def slerp(z0: Float[Array, "n ..."], z1: Float[Array, "n ..."], ratio: Any) -> Float[Array, "... n ..."]:
    r"""On the arc from one latent point to another.

    .. math::
        \frac{\sin((1 - r) \omega)\, z_0 + \sin(r \omega)\, z_1}{\sin \omega}, \qquad
        \cos \omega = \frac{\langle z_0, z_1 \rangle}{\|z_0\| \|z_1\|}.

    The straight line where :math:`|\cos \omega| > 0.9995`, and where a point is zero: there the arc's plane is not
    known. Differentiable in all three.

    Parameters
    ----------
    z0, z1
        Points, the batch in front; each is taken as one vector, whatever its shape.
    ratio
        A number for one point of each arc, or an array of them, whose axes come in front.

    Raises
    ------
    ValueError
        For ends of different shapes.

    Examples
    --------
    >>> slerp(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]), jnp.array([0.0, 0.5, 1.0])).round(3)
    Array([[[1.   , 0.   ]],
    <BLANKLINE>
           [[0.707, 1.414]],
    <BLANKLINE>
           [[0.   , 2.   ]]], dtype=float32)
    """
    return interpolate(z0, z1, ratio, "slerp")


def interpolate(z0: Float[Array, "n ..."], z1: Float[Array, "n ..."], ratio: Any, kind: str = "slerp") -> Array:
    """By :func:`slerp` or :func:`lerp`, as `kind` says; raises `ValueError` for another one."""
    one_of("kind", kind, KINDS)
    z0, z1 = jnp.asarray(z0), jnp.asarray(z1)
    same_shape("z1", z1, "z0", z0.shape)
    dtype = jnp.result_type(z0, z1)
    # axes of the ratios, then a batch, then one axis for each of a point's
    r = jnp.asarray(ratio, dtype)
    r = r.reshape(r.shape + (1,) * max(z0.ndim, 1))
    straight = (1 - r) * z0 + r * z1
    if kind == "lerp":
        return straight
    rest = tuple(range(1, z0.ndim))
    longest = lambda z: jnp.max(jnp.abs(z), axis=rest, keepdims=True)
    lengths = [longest(z) for z in (z0, z1)]
    # in units of the largest entry, so that no square is too small or too large for single precision
    u0, u1 = (z / jnp.where(length > 0, length, 1.0) for z, length in zip((z0, z1), lengths, strict=True))
    inner = lambda a, b: jnp.sum(a * b, axis=rest, keepdims=True)
    squares = inner(u0, u0) * inner(u1, u1)
    cos = inner(u0, u1) / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    flat = (jnp.abs(cos) > STRAIGHT) | (squares == 0)
    # a right angle in place of what is not used, so that its derivative is finite
    omega = jnp.arccos(jnp.where(flat, 0.0, cos))
    arc = (jnp.sin((1 - r) * omega) * z0 + jnp.sin(r * omega) * z1) / jnp.sin(omega)
    return jnp.where(flat, straight, arc)
