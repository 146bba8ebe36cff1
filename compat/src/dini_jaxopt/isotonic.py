"""JAXopt's isotonic regression, by :func:`dini.sets.isotonic_regression`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dini import sets

from ._known import shows

__all__ = ["isotonic_l2_pav"]


@shows("[1.  2.5 2.5 3. ]", "isotonic.isotonic_l2_pav(jnp.array([1.0, 3.0, 2.0, 4.0]), y_max=3.0)")
def isotonic_l2_pav(y: jax.Array, y_min: Any = -jnp.inf, y_max: Any = jnp.inf, increasing: bool = True) -> jax.Array:
    r"""Return the monotone sequence nearest to ``y``, :math:`\arg\min_{l \le v_1 \le \dots \le v_n \le u} \|v - y\|^2`.

    See :func:`dini.sets.isotonic_regression`; ``y_min`` and ``y_max`` are ``l`` and ``u``, to which the unbounded
    solution is clipped. With ``increasing=False`` it falls. It runs on the device, without numba.
    """
    return sets.Box(y_min, y_max).project(sets.isotonic_regression(y, increasing=increasing))
