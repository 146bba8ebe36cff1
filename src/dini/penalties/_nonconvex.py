"""Penalties that are not convex: the count of nonzeros, MCP and SCAD.

Their proximal operators are global minimizers, one of them where there are several. They may expand distances and
jump, and a problem with such a penalty has local solutions; what a solver returns depends on where it starts. The
derivative of a solution is that of the fixed point that was found, exact away from kinks and jumps.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import positive, require_all_above, require_all_positive
from ..numerics.separable import map_with, smallest
from ..trees import Tree
from ._base import Penalty, gap_at, prox_map, require_broadcast, total


@record
class L0(Penalty):
    r"""The count of nonzero elements, :math:`\sum_i \lambda_i 1[x_i \ne 0]`. Not convex.

    Proximal operator: hard thresholding, :math:`x` where :math:`|x| > \sqrt{2\eta\lambda}` and zero elsewhere. Its
    derivative is :math:`1[|x| > \sqrt{2\eta\lambda}]` in ``x`` and zero in :math:`\lambda`, on which it depends by
    jumps only.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, as in :class:`L1`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L0
    >>> print(L0(0.5).prox(jnp.array([3.0, -0.9]), 1.0))
    [3. 0.]
    """

    strength: Any = 1.0

    elementwise = True
    monotone = True
    convex = False

    def __post_init__(self) -> None:
        require_all_positive("L0's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the weighted count."""
        return total(map_with(lambda u, s: jnp.where(u == 0, 0, s), x, self.strength), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the hard-thresholded ``x``."""

        def one(u: jax.Array, s: jax.Array, eta: jax.Array) -> jax.Array:
            return jnp.where(jnp.abs(u) <= _root(2 * eta * s), jnp.zeros((), u.dtype), u)

        return prox_map(one, x, positive(self.strength, or_zero=True), step_size=step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from its jump (exact)."""
        gaps = map_with(lambda u, s, eta: gap_at(jnp.abs(u), _root(2 * eta * s)), x, self.strength, step_size)
        return smallest(gaps, x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength broadcasts against ``x``."""
        require_broadcast("L0", "strength", self.strength, x)


def _root(square: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(jnp.sqrt(square))


@record
class MCP(Penalty):
    r"""The minimax concave penalty (Zhang 2010), :math:`\sum_i g(|x_i|)`. Not convex.

    :math:`g(u) = \lambda u - u^2 / 2\gamma` for :math:`u \le \gamma\lambda` and :math:`\gamma\lambda^2/2` beyond: as
    sparse as :class:`L1`, with no bias on large elements.

    Proximal operator for :math:`\eta < \gamma` (firm thresholding): :math:`\max(|x| - \eta\lambda, 0) / (1 -
    \eta/\gamma)` up to :math:`|x| = \gamma\lambda`, :math:`|x|` beyond, with the sign of ``x``. For
    :math:`\eta \ge \gamma`, hard thresholding at :math:`\lambda\sqrt{\eta\gamma}`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, as in :class:`L1`.
    gamma
        :math:`\gamma > 0`, likewise; the smaller, the more concave.

    References
    ----------
    Zhang, "Nearly unbiased variable selection under minimax concave penalty", Annals of Statistics 2010.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import MCP
    >>> print(MCP(1.0, gamma=2.0).prox(jnp.array([3.0, 1.5, 0.5]), 1.0))
    [3. 1. 0.]
    """

    strength: Any = 1.0
    gamma: Any = 3.0

    elementwise = True
    monotone = True
    convex = False

    def __post_init__(self) -> None:
        require_all_positive("MCP's strength", self.strength, or_zero=True)
        require_all_positive("MCP's gamma", self.gamma)

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array) -> jax.Array:
            size = jnp.abs(u)
            return jnp.where(size <= g * s, s * size - u * u / (2 * g), g * s * s / 2)

        return total(map_with(one, x, self.strength, self.gamma), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the firmly thresholded ``x``."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array, eta: jax.Array) -> jax.Array:
            size, firm = jnp.abs(u), eta < g
            slope = jnp.where(firm, 1 - eta / g, 1)
            between = jnp.where(firm & (size > eta * s), jnp.sign(u) * (size - eta * s) / slope, 0)
            return jnp.where(size <= jnp.where(firm, g * s, _root(eta * g) * s), between, u)

        return prox_map(one, x, positive(self.strength, or_zero=True), positive(self.gamma), step_size=step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from a kink or jump (exact)."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array, eta: jax.Array) -> jax.Array:
            size = jnp.abs(u)
            firm = jnp.minimum(gap_at(size, eta * s), gap_at(size, g * s))
            return jnp.where(eta < g, firm, gap_at(size, _root(eta * g) * s))

        return smallest(map_with(one, x, self.strength, self.gamma, step_size), x)

    def check(self, x: Tree) -> None:
        """Raise unless the parameters broadcast against ``x``."""
        require_broadcast("MCP", "strength", self.strength, x)
        require_broadcast("MCP", "gamma", self.gamma, x)


@record
class SCAD(Penalty):
    r"""The smoothly clipped absolute deviation (Fan and Li 2001), :math:`\sum_i g(|x_i|)`. Not convex.

    :math:`g(0) = 0` and :math:`g'(u) = \lambda` for :math:`u \le \lambda`, :math:`(\gamma\lambda - u)/(\gamma - 1)` up
    to :math:`\gamma\lambda`, zero beyond.

    Proximal operator for :math:`\eta < \gamma - 1`, with the sign of ``x``: soft thresholding up to :math:`|x| =
    \lambda(1 + \eta)`, :math:`((\gamma - 1)|x| - \eta\gamma\lambda)/(\gamma - 1 - \eta)` up to
    :math:`\gamma\lambda`, :math:`|x|` beyond. For larger :math:`\eta`, soft thresholding up to a jump, :math:`|x|`
    beyond.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, as in :class:`L1`.
    gamma
        :math:`\gamma > 1`, likewise; the smaller, the more concave.

    References
    ----------
    Fan and Li, "Variable selection via nonconcave penalized likelihood and its oracle properties", JASA 2001.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import SCAD
    >>> print(SCAD(1.0, gamma=4.0).prox(jnp.array([5.0, 3.0, 1.5, 0.5]), 1.0))
    [5.  2.5 0.5 0. ]
    """

    strength: Any = 1.0
    gamma: Any = 3.7

    elementwise = True
    monotone = True
    convex = False

    def __post_init__(self) -> None:
        require_all_positive("SCAD's strength", self.strength, or_zero=True)
        require_all_above("SCAD's gamma", self.gamma, 1)

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array) -> jax.Array:
            size = jnp.abs(u)
            middle = (2 * g * s * size - u * u - s * s) / (2 * (g - 1))
            return jnp.where(size <= s, s * size, jnp.where(size <= g * s, middle, s * s * (g + 1) / 2))

        return total(map_with(one, x, self.strength, self.gamma), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the thresholded ``x``."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array, eta: jax.Array) -> jax.Array:
            size, smooth = jnp.abs(u), eta < g - 1
            soft = jnp.where(size > eta * s, size - eta * s, 0)
            middle = ((g - 1) * size - eta * g * s) / jnp.where(smooth, g - 1 - eta, 1)
            near = jnp.where(smooth & (size > s * (1 + eta)), middle, soft)
            return jnp.sign(u) * jnp.where(size > _scad_end(s, g, eta), size, near)

        # above one, not only above zero
        gamma = jax.tree.map(lambda g: positive(g - 1) + 1, self.gamma)
        return prox_map(one, x, positive(self.strength, or_zero=True), gamma, step_size=step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from a kink or jump (exact)."""

        def one(u: jax.Array, s: jax.Array, g: jax.Array, eta: jax.Array) -> jax.Array:
            size, end = jnp.abs(u), _scad_end(s, g, eta)
            # a threshold beyond the jump is none
            soft = jnp.where(eta * s < end, gap_at(size, eta * s), jnp.inf)
            middle = jnp.where(eta < g - 1, gap_at(size, s * (1 + eta)), jnp.inf)
            return jnp.minimum(jnp.minimum(soft, middle), gap_at(size, end))

        return smallest(map_with(one, x, self.strength, self.gamma, step_size), x)

    def check(self, x: Tree) -> None:
        """Raise unless the parameters broadcast against ``x``."""
        require_broadcast("SCAD", "strength", self.strength, x)
        require_broadcast("SCAD", "gamma", self.gamma, x)


def _scad_end(s: jax.Array, g: jax.Array, eta: jax.Array) -> jax.Array:
    r"""Return the size beyond which SCAD leaves ``x`` alone.

    For a step below :math:`\gamma - 1` it is :math:`\gamma\lambda`. Above, the objective is concave between
    :math:`\lambda` and :math:`\gamma\lambda`, and its value at :math:`|x|`, :math:`\eta\lambda^2(\gamma + 1)/2`, is
    compared with that at the soft threshold: the value at zero, :math:`x^2/2`, if the threshold is not passed there
    (:math:`\eta \ge \gamma + 1`), else :math:`\eta\lambda|x| - \eta^2\lambda^2/2`.
    """
    jump = jnp.where(eta >= g + 1, jnp.sqrt(eta * (g + 1)), (g + 1 + eta) / 2)
    return jax.lax.stop_gradient(jnp.where(eta < g - 1, g, jump)) * s
