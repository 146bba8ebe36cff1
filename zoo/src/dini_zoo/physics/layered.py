r"""A layered medium: :math:`-(a u')' = f` on (0, 1) with :math:`u(0) = u(1) = 0`, solved exactly.

:math:`a` has one value in each of `n` equal cells and :math:`f` is a constant: the flux :math:`s = a u'` is
:math:`c - f x`, and :math:`u` is its integral over :math:`a`, with :math:`c` such that :math:`u(1) = 0`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import finite, positive, same_shape


class Layered(NamedTuple):
    """The solution at the `n + 1` ends of cells, and the flux's constant."""

    u: Float[Array, "*m n+1"]
    c: Float[Array, "*m"]


def solve_layered(a: Float[Array, "*m n"], f: Any = 1.0) -> Layered:
    """The exact solution for each medium, differentiable in both.

    Examples
    --------
    >>> solve_layered(jnp.ones(4), 8.0).u.tolist()
    [0.0, 0.75, 1.0, 0.75, 0.0]
    """
    positive("a", a)
    finite("f", f)
    if np.ndim(f):
        same_shape("f", f, "a", jnp.shape(a))
    n = a.shape[-1]
    ends = jnp.linspace(0.0, 1.0, n + 1, dtype=a.dtype)
    length, moment = ends[1:] - ends[:-1], (ends[1:] ** 2 - ends[:-1] ** 2) / 2
    c = jnp.sum(f * moment / a, axis=-1) / jnp.sum(length / a, axis=-1)
    rise = (c[..., None] * length - f * moment) / a
    inner = jnp.cumsum(rise, axis=-1)[..., :-1]
    zero = jnp.zeros_like(c)[..., None]
    return Layered(jnp.concatenate([zero, inner, zero], axis=-1), c)
