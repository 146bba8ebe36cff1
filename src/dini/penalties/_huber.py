"""The Huber function as a penalty."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import positive, require_all_positive
from ..numerics.separable import map_with, smallest
from ..trees import Tree
from ._base import Penalty, gap_at, prox_map, require_broadcast, total


@record
class Huber(Penalty):
    r"""The Huber function :math:`\sum_i \lambda_i h_{\delta_i}(x_i)`, a smooth :class:`L1`.

    :math:`h_\delta(u) = u^2 / 2\delta` for :math:`|u| \le \delta` and :math:`|u| - \delta/2` beyond, the Moreau
    envelope of the absolute value. (optax's ``huber_loss`` is :math:`\delta h_\delta`.)

    Proximal operator: :math:`x - \eta\lambda\,\mathrm{clip}(x / (\eta\lambda + \delta), -1, 1)`; derivative
    :math:`\delta / (\eta\lambda + \delta)` for :math:`|x| < \eta\lambda + \delta`, one beyond.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, as in :class:`L1`.
    delta
        :math:`\delta > 0`, likewise: where the quadratic ends.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import Huber
    >>> print(Huber(1.0, delta=1.0).prox(jnp.array([1.0, -4.0]), 1.0))
    [ 0.5 -3. ]
    """

    strength: Any = 1.0
    delta: Any = 1.0

    elementwise = True
    monotone = True

    def __post_init__(self) -> None:
        require_all_positive("Huber's strength", self.strength, or_zero=True)
        require_all_positive("Huber's delta", self.delta)

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty."""

        def one(u: jax.Array, s: jax.Array, delta: jax.Array) -> jax.Array:
            size = jnp.abs(u)
            return s * jnp.where(size <= delta, u * u / (2 * delta), size - delta / 2)

        return total(map_with(one, x, self.strength, self.delta), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` shrunk, by a constant at most."""

        def one(u: jax.Array, s: jax.Array, delta: jax.Array, eta: jax.Array) -> jax.Array:
            edge = eta * s + delta
            return jnp.where(jnp.abs(u) < edge, u * (delta / edge), u - eta * s * jnp.sign(u))

        return prox_map(one, x, positive(self.strength, or_zero=True), positive(self.delta), step_size=step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from where its quadratic ends (exact)."""

        def one(u: jax.Array, s: jax.Array, delta: jax.Array, eta: jax.Array) -> jax.Array:
            return jnp.where(s > 0, gap_at(jnp.abs(u), eta * s + delta), jnp.inf)

        return smallest(map_with(one, x, self.strength, self.delta, step_size), x)

    def check(self, x: Tree) -> None:
        """Raise unless the parameters broadcast against ``x``."""
        require_broadcast("Huber", "strength", self.strength, x)
        require_broadcast("Huber", "delta", self.delta, x)
