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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..products import dot, vdot
from ._program_tests import Point
from ._scaled_program import Factor, Scaled

#: how much of the way to the boundary a step may go
_STAY = 0.995


class Central(NamedTuple):
    """A point of the homogeneous embedding, with positive slacks and multipliers where rows are live."""

    v: Any
    s: Any
    tau: Any
    kappa: Any


class Newton(NamedTuple):
    """A step along the central path: predictor, then corrector."""

    data: Scaled
    at: Central
    curved: Any
    ratio: Any
    residual: Any
    last_residual: Any
    #: what is known after the first solve
    constant: Any = None
    curvature: Any = None
    sigma: Any = None
    complementarity: Any = None
    last: Any = None

    @classmethod
    def of(cls, data: Scaled, at: Central, point: Point) -> Newton:
        """Prepare a step from a central point, with its products."""
        n = data.n
        slack = jnp.where(data.live, at.s, 0)
        residual = point.left(data, at.tau) + jnp.concatenate([jnp.zeros_like(at.v[:n]), slack])
        last = at.kappa + vdot(at.v[:n], point.curved) / at.tau + vdot(_ends(data), at.v)
        ratio = jnp.where(data.live, at.s / jnp.where(data.live, at.v[n:], 1), 0)
        return cls(data, at, point.curved, ratio, residual, last)

    def first(self) -> Any:
        """Return the right-hand sides of the predictor and of the constant part, side by side."""
        data, n = self.data, self.data.n
        slack = jnp.where(data.live, self.at.s, 0)
        predictor = jnp.concatenate([-self.residual[:n], slack - self.residual[n:]])
        constant = jnp.concatenate([data.offset[:n], jnp.where(data.used, data.offset[n:], 0)])
        return jnp.stack([predictor, constant], axis=1)

    def _direction(self, v: Any, d_s: Any, d_kappa: Any, sigma: Any) -> Central:
        """Return the direction that belongs to a solved system."""
        data, at, n = self.data, self.at, self.data.n
        along = vdot(_ends(data), v) + 2 * vdot(self.curved, v[:n]) / at.tau
        dtau = ((1 - sigma) * self.last_residual - d_kappa / at.tau + along) / self.curvature
        dv = v + dtau * self.constant
        ds = jnp.where(data.live, -d_s / self._multipliers - self.ratio * dv[n:], 0)
        return Central(dv, ds, dtau, -(d_kappa + at.kappa * dtau) / at.tau)

    @property
    def _multipliers(self) -> Any:
        return jnp.where(self.data.live, self.at.v[self.data.n :], 1)

    def predicted(self, v: Any) -> Newton:
        """Return the step with its predictor known, which says how much to center."""
        data, at, n = self.data, self.at, self.data.n
        constant = v[:, 1]
        apart, multipliers = constant[:n] - at.v[:n] / at.tau, constant[n:]
        curvature = vdot(apart, dot(data.system[:n, :n], apart)) + vdot(multipliers, self.ratio * multipliers)
        known = self._replace(constant=constant, curvature=at.kappa / at.tau + curvature)
        products, tau_kappa = jnp.where(data.live, at.s * at.v[n:], 0), at.tau * at.kappa
        affine = known._direction(v[:, 0], products, tau_kappa, 0.0)
        sigma = (1 - jnp.minimum(self._reach(affine), 1)) ** 3
        center = sigma * (jnp.sum(products) + tau_kappa) / (jnp.sum(data.live) + 1)
        complementarity = jnp.where(data.live, products + affine.s * affine.v[n:] - center, 0)
        last = tau_kappa + affine.tau * affine.kappa - center
        return known._replace(sigma=sigma, complementarity=complementarity, last=last)

    def second(self) -> Any:
        """Return the right-hand side of the corrector."""
        push = jnp.concatenate([jnp.zeros_like(self.curved), self.complementarity / self._multipliers])
        return (push - (1 - self.sigma) * self.residual)[:, None]

    def moved(self, v: Any) -> Central:
        """Return the next point."""
        to = self._direction(v[:, 0], self.complementarity, self.last, self.sigma)
        far = jnp.minimum(_STAY * self._reach(to), 1)
        new = jax.tree.map(lambda u, du: u + far * du, self.at, to)
        # any multiple is as good; so that none overflows
        return trees.scale(1 / jnp.maximum(new.tau, new.kappa), new)

    def _reach(self, to: Central) -> Any:
        """Return how far positive numbers stay positive."""
        data, at, n = self.data, self.at, self.data.n
        shrink = jnp.maximum(-to.tau / at.tau, -to.kappa / at.kappa)
        for value, change in ((at.s, to.s), (at.v[n:], to.v[n:])):
            ratio = jnp.where(data.live, -change / jnp.where(data.live, value, 1), 0)
            shrink = jnp.maximum(shrink, jnp.max(ratio, initial=0))
        return 1 / jnp.maximum(shrink, 1e-3)


def _ends(data: Scaled) -> Any:
    """Return ``(c, h)``, with zero for dead rows."""
    n = data.n
    return jnp.concatenate([-data.offset[:n], jnp.where(data.used, data.offset[n:], 0)])


class Onto(NamedTuple):
    """A step onto the face where some rows hold with equality, in two halves."""

    data: Scaled
    active: Any
    v: Any
    left: Any
    probe: Any

    @classmethod
    def of(cls, data: Scaled, active: Any, point: Point) -> Onto:
        """Prepare a step from a point whose other multipliers are zero."""
        return cls(data, active, point.v, cls._masked(data, active, -point.left(data)), cls._masked(data, active, trees.varied(point.v)))

    @staticmethod
    def _masked(data: Scaled, active: Any, v: Any) -> Any:
        return jnp.concatenate([v[: data.n], jnp.where(active, v[data.n :], 0)])

    def first(self, factor: Factor) -> Any:
        """Return the right-hand side, and beside it one whose solution is known."""
        return jnp.stack([self.left, factor.product(self.data, self.probe[:, None])[:, 0]], axis=1)

    def moved(self, factor: Factor, v: Any) -> Onto:
        """Return the step from the point after a solve."""
        left = self.left - factor.product(self.data, v[:, :1])[:, 0]
        return self._replace(v=self.v + v[:, 0], left=left)

    def second(self) -> Any:
        """Return the right-hand side for what the first half has left."""
        return self.left[:, None]

    def regular(self, v: Any) -> Any:
        """Return whether the known solution was found: in a direction that a singular system has lost it is not."""
        return trees.max_abs(v[:, 1] - self.probe) <= 1e-3
