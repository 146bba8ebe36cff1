"""Barriers of the nonnegative orthant: the logarithm and the entropy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from ..checks.records import record
from ..checks.settings import positive, require_all_positive
from ..numerics.separable import map_with
from ..trees import Tree
from ._base import Penalty, prox_map, require_broadcast, total, unbounded


class _Smooth(Penalty):
    """A penalty whose proximal operator has a derivative everywhere."""

    elementwise = True

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return infinity: the operator is smooth."""
        del step_size
        return unbounded(x)


@record
class LogBarrier(_Smooth):
    r"""The logarithmic barrier :math:`-\sum_i \lambda_i \log x_i`, infinite where some :math:`x_i \le 0`.

    Proximal operator: the positive root of :math:`p^2 - xp - \eta\lambda = 0`, :math:`p = \tfrac12 (x + \sqrt{x^2 +
    4\eta\lambda})`, evaluated without cancellation for negative ``x``. Its derivative is :math:`p^2 / (p^2 +
    \eta\lambda)` in ``x`` and :math:`\eta p / (p^2 + \eta\lambda)` in :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda > 0`, as in :class:`L1`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import LogBarrier
    >>> print(LogBarrier(1.0).prox(jnp.array([0.0, 1.5]), 1.0))
    [1. 2.]
    """

    strength: Any = 1.0

    def __post_init__(self) -> None:
        require_all_positive("LogBarrier's strength", self.strength)

    def value(self, x: Tree) -> jax.Array:
        """Return the barrier."""

        def one(u: jax.Array, s: jax.Array) -> jax.Array:
            inside = u > 0
            return jnp.where(inside, -s * jnp.log(jnp.where(inside, u, 1)), jnp.inf)

        return total(map_with(one, x, self.strength), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the positive root."""

        def one(u: jax.Array, s: jax.Array, eta: jax.Array) -> jax.Array:
            root = jnp.hypot(u / 2, jnp.sqrt(eta * s))
            positive = u >= 0
            # each branch adds numbers of one sign only; the other is kept away from 0/0
            return jnp.where(positive, u / 2 + root, eta * s / (root - jnp.where(positive, 0, u) / 2))

        return prox_map(one, x, positive(self.strength, or_zero=True), step_size=step_size)

    def check(self, x: Tree) -> None:
        """Raise unless the strength broadcasts against ``x``."""
        require_broadcast("LogBarrier", "strength", self.strength, x)


@jax.custom_jvp
def _wright_omega(z: jax.Array) -> jax.Array:
    r"""Return the solution of :math:`w + \log w = z`, which is :math:`W(e^z)`.

    Newton's method on the convex increasing function :math:`e^l + l - z` of :math:`l = \log w`, from a point right of
    the root, converges monotonically; six steps reach float64.
    """
    large = z > 1
    log = jnp.where(large, jnp.log(jnp.where(large, z, 1)), z)
    for _ in range(6):
        exp = jnp.exp(log)
        log = log - (exp + log - z) / (exp + 1)
    # a large w is known to more digits as a difference than as an exponential
    return jnp.where(large, z - log, jnp.exp(log))


@_wright_omega.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    w = _wright_omega(primals[0])
    return w, w / (1 + w) * tangents[0]


@record
class Entropy(_Smooth):
    r"""The negative entropy :math:`\sum_i \lambda_i x_i \log x_i` (zero at zero), infinite where some :math:`x_i < 0`.

    Proximal operator: :math:`p = \eta\lambda\, \omega(x / \eta\lambda - 1 - \log \eta\lambda)` with the Wright function
    :math:`\omega(z) = W(e^z)`, the solution of :math:`\omega + \log\omega = z`, found in the domain of the logarithm.
    Its derivative is :math:`p / (p + \eta\lambda)` in ``x`` and :math:`-\eta p (1 + \log p) / (p + \eta\lambda)` in
    :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda > 0`, as in :class:`L1`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import Entropy
    >>> print(Entropy(1.0).prox(jnp.array([2.0]), 1.0))
    [1.]
    """

    strength: Any = 1.0

    def __post_init__(self) -> None:
        require_all_positive("Entropy's strength", self.strength)

    def value(self, x: Tree) -> jax.Array:
        """Return the negative entropy."""

        def one(u: jax.Array, s: jax.Array) -> jax.Array:
            inside = u >= 0
            v = jnp.where(inside, u, 1)
            return jnp.where(inside, s * xlogy(v, v), jnp.inf)

        return total(map_with(one, x, self.strength), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the root, by the Wright function."""

        def one(u: jax.Array, s: jax.Array, eta: jax.Array) -> jax.Array:
            scale = eta * s
            return scale * _wright_omega(u / scale - 1 - jnp.log(scale))

        return prox_map(one, x, positive(self.strength, or_zero=True), step_size=step_size)

    def check(self, x: Tree) -> None:
        """Raise unless the strength broadcasts against ``x``."""
        require_broadcast("Entropy", "strength", self.strength, x)
