r"""Steps of the interior point method for quadratic programs, along its central path and onto an active set.

With :math:`\xi = x / \tau`, weights :math:`W = s / w` and :math:`K = S - \mathrm{diag}(0, W)` (see
:mod:`._scaled_program`), a Newton step for the residuals ``r`` times :math:`1 - \sigma` and the complementarity
:math:`d_s, d_\kappa` is

.. math::
    \begin{aligned}
    K v_1 &= -(1 - \sigma) r + (0, d_s / w), \qquad K v_2 = (-c, h), \\
    \Delta\tau &= \frac{(1 - \sigma) r_\tau - d_\kappa / \tau + (2 Q \xi + c, h)^\top v_1}
    {\kappa / \tau + \|x_2 - \xi\|_Q^2 + \|w_2\|_W^2}, \qquad \Delta v = v_1 + \Delta\tau\, v_2,
    \end{aligned}

:math:`\Delta s = -(d_s + s \Delta w) / w` and :math:`\Delta\kappa = -(d_\kappa + \kappa \Delta\tau) / \tau`. The
denominator is written as a sum of squares, so that it is positive whatever rounding does.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Tree
from ...trees.products import dot, vdot
from ._margins import STAY
from ._program_tests import Point
from ._scaled_program import Factor, Scaled


class Central(NamedTuple):
    """A point of the homogeneous embedding, with positive slacks and multipliers where rows are live."""

    v: Tree
    s: Any
    tau: Any
    kappa: Any


class Aim(NamedTuple):
    """What a direction aims at: residuals times ``sigma``, and products of slacks and multipliers to remove."""

    sigma: Any
    products: Any
    last: Any


class Newton(NamedTuple):
    """Where a step along the central path starts."""

    data: Scaled
    at: Central
    curved: Any
    #: the weights :math:`s / w`, and multipliers that may be divided by
    ratio: Any
    w: Tree
    residual: Tree
    last: Any

    @classmethod
    def of(cls, data: Scaled, at: Central, point: Point) -> Newton:
        """Prepare a step from a central point, with its products."""
        n = data.n
        left = point.image - at.tau * data.offset
        rows = jnp.where(data.used, left[n:] + jnp.where(data.live, at.s, 0), 0)
        last = at.kappa + vdot(at.v[:n], point.curved) / at.tau + vdot(_ends(data), at.v)
        w = jnp.where(data.live, at.v[n:], 1)
        ratio = jnp.where(data.live, at.s / w, 0)
        return cls(data, at, point.curved, ratio, w, jnp.concatenate([left[:n], rows]), last)

    def aim(self) -> Aim:
        """Return what the predictor aims at: the end of the path, with all residuals zero."""
        at, zero = self.at, jnp.zeros((), self.last.dtype)
        return Aim(zero, jnp.where(self.data.live, at.s * self.w, 0), at.tau * at.kappa)

    def right(self, aim: Aim) -> Any:
        """Return the right-hand sides of the direction to an aim, and of the constant part, side by side."""
        data, n = self.data, self.data.n
        push = jnp.concatenate([jnp.zeros_like(self.curved), aim.products / self.w])
        constant = jnp.concatenate([data.offset[:n], jnp.where(data.used, data.offset[n:], 0)])
        return jnp.stack([push - (1 - aim.sigma) * self.residual, constant], axis=1)

    def direction(self, aim: Aim, v: Tree, left: Any) -> Central:
        """Return the direction that belongs to a solved system, and to what that leaves."""
        data, at, n = self.data, self.at, self.data.n
        constant = v[:, 1]
        apart = constant[:n] - at.v[:n] / at.tau
        curvature = vdot(apart, dot(data.quadratic, apart)) + vdot(constant[n:], self.ratio * constant[n:])
        # of a program without a solution, the constant part may have none: what it misses counts as well
        missed = vdot(constant[:n], left[:n, 1]) - vdot(constant[n:], left[n:, 1])
        curvature = curvature + jnp.maximum(missed, 0)
        along = vdot(_ends(data), v[:, 0]) + 2 * vdot(self.curved, v[:n, 0]) / at.tau
        dtau = ((1 - aim.sigma) * self.last - aim.last / at.tau + along) / (at.kappa / at.tau + curvature)
        dv = v[:, 0] + dtau * constant
        ds = jnp.where(data.live, -aim.products / self.w - self.ratio * dv[n:], 0)
        return Central(dv, ds, dtau, -(aim.last + at.kappa * dtau) / at.tau)

    def corrected(self, to: Central, reach: Any) -> Aim:
        """Return what the corrector aims at, after a predictor that reaches so far."""
        data, at = self.data, self.at
        predicted = self.aim()
        sigma = (1 - jnp.minimum(reach, 1)) ** 3
        center = sigma * (jnp.sum(predicted.products) + predicted.last) / (jnp.sum(data.live) + 1)
        # of a predictor that cannot be followed, the second-order term would lead away from the path
        share = jnp.minimum(reach, 1) ** 2
        products = predicted.products + share * to.s * to.v[data.n :] - center
        last = at.tau * at.kappa + share * to.tau * to.kappa - center
        return Aim(sigma, jnp.where(data.live, products, 0), last)

    def reach(self, to: Central) -> Any:
        """Return how far positive numbers stay positive."""
        data, at, n = self.data, self.at, self.data.n
        falls = jnp.stack([to.s / jnp.where(data.live, at.s, 1), to.v[n:] / self.w])
        falls = jnp.max(jnp.where(data.live[None, :], -falls, 0), initial=0)
        return 1 / functools.reduce(jnp.maximum, (falls, -to.tau / at.tau, -to.kappa / at.kappa, 1e-3))

    def moved(self, to: Central, reach: Any) -> Central:
        """Return the next point."""
        far = jnp.minimum(STAY * reach, 1)
        new = jax.tree.map(lambda u, du: u + far * du, self.at, to)
        # any multiple is as good; so that none overflows
        return trees.scale(1 / jnp.maximum(new.tau, new.kappa), new)


def _ends(data: Scaled) -> Any:
    """Return ``(c, h)``, with zero for dead rows."""
    n = data.n
    return jnp.concatenate([-data.offset[:n], jnp.where(data.used, data.offset[n:], 0)])


def solved(newton: Newton, factor: Factor, face: Any, side: Any, rounds: int) -> tuple[Central, Any, Any]:
    """Return the direction of predictor and corrector, how far it reaches, and the solution for another column.

    This ``side`` takes the place of the right-hand sides where ``face`` says so: in two passes of one loop, which
    compile once, there is first a solve and then one for what the regularization has left. Each pass takes ``rounds``
    of refinement.
    """
    data = newton.data

    def one(_: Any, now: Any) -> Any:
        aim, _, _, left, total = now
        right = jnp.where(face, left, newton.right(aim))
        v = factor.rough(data, right)
        left = factor.left(data, v)
        for _ in range(rounds):
            more = factor.rough(data, left)
            v, left = v + more, factor.left(data, more)
        to = newton.direction(aim, v, left)
        reach = newton.reach(to)
        return newton.corrected(to, reach), to, reach, left, total + v

    sides = jnp.stack([side, jnp.zeros_like(side)], axis=1)
    start = newton.aim(), jax.tree.map(jnp.zeros_like, newton.at), newton.last, sides, jnp.zeros_like(sides)
    _, to, reach, _, total = jax.lax.fori_loop(0, 2, one, start)
    return to, reach, total[:, 0]
