r"""Steps of the interior point method for cone programs: along the central path, and onto the solution.

Both solve systems with the matrix

.. math:: K(E, G) = \begin{pmatrix} P & A^\top E \\ A & -G \end{pmatrix} .

Along the path, with the scaling ``H`` of slacks and multipliers (:mod:`._symmetric_cones`, :mod:`._barrier_cones`),
:math:`E = (I + H)^{-1}` and :math:`G = I - E = H E`, so that no element is large however unlike the two are, and
:math:`\Delta z = E u`. For residuals ``r`` times :math:`1 - \sigma` and the complementarity :math:`d_s,
d_\kappa`, with :math:`\xi = x/\tau`,

.. math::
    \begin{aligned}
    K (x_1, u_1) &= -(1 - \sigma) r + (0, d_s), \qquad K (x_2, u_2) = (-c, b), \\
    \Delta\tau &= \frac{(1 - \sigma) r_\tau - d_\kappa / \tau + (2 P \xi + c, b)^\top v_1}
    {\kappa / \tau + \|x_2 - \xi\|_P^2 + z_2^\top G u_2}, \qquad \Delta v = v_1 + \Delta\tau\, v_2,
    \end{aligned}

with :math:`v_i = (x_i, E u_i)`, :math:`\Delta s = -d_s - G \Delta u` and
:math:`\Delta\kappa = -(d_\kappa + \kappa \Delta\tau) / \tau`.

Onto the solution, a step is Newton's for the natural map, in :math:`v = s - z` with :math:`s = \Pi(v)`: with
:math:`D = \Pi'(v)`, :math:`E = I - D` and :math:`G = D`, the system is as regular as the program, and the step
quadratically convergent where the projection has a derivative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees.products import dot, vdot
from ._cone_layout import Layout
from ._margins import STAY
from ._scaled_cones import ConePoint, ScaledCones

#: of cones without a formula for the boundary, so many steps are tried, each shorter than the one before
_TRIALS, _SHORTER = 40, 0.85
#: how far off the central path the complementarity of one cone may be
_NEAR = 1e-3


class Central(NamedTuple):
    """A point of the homogeneous embedding, with slacks and multipliers inside of their cones."""

    x: Any
    z: Any
    s: Any
    tau: Any
    kappa: Any


class System(NamedTuple):
    """A factorized matrix :math:`K(E, G)`."""

    E: jax.Array
    G: jax.Array
    matrix: jax.Array
    factor: Any
    rows: jax.Array

    @classmethod
    def of(cls, data: ScaledCones, E: jax.Array, G: jax.Array, shift: Any) -> System:
        """Factorize the matrix, whose diagonal blocks are moved apart by ``shift``."""
        n, m = data.n, data.b.size
        matrix = jnp.block([[data.P, dot(data.A.T, E)], [data.A, -G]])
        moved = matrix + jnp.diag(jnp.concatenate([jnp.full(n, shift), jnp.full(m, -shift)]))
        rows = jnp.max(jnp.abs(moved), axis=1, initial=0)
        rows = jnp.where(rows > 0, rows, 1)
        return cls(E, G, matrix, jax.scipy.linalg.lu_factor(moved / rows[:, None], check_finite=False), rows)

    def solve(self, right: jax.Array, rounds: int) -> tuple[jax.Array, jax.Array]:
        """Return the solutions for some columns after rounds of refinement, and what they leave."""

        def refine(now: tuple[jax.Array, jax.Array], _: Any) -> tuple[Any, None]:
            v, left = now
            step = jax.scipy.linalg.lu_solve(self.factor, left / self.rows[:, None], check_finite=False)
            new = v + step
            after = right - dot(self.matrix, new)
            # of a singular matrix, a solution that grows is no better; columns may be of unlike sizes
            better = jnp.max(jnp.abs(after), axis=0) < jnp.max(jnp.abs(left), axis=0)
            return (jnp.where(better, new, v), jnp.where(better, after, left)), None

        start = jnp.zeros_like(right), right
        (v, left), _ = jax.lax.scan(refine, start, None, length=1 + rounds)
        return v, left


class Aim(NamedTuple):
    """What a direction aims at: residuals times ``sigma``, and the complementarity to remove."""

    sigma: Any
    slacks: Any
    last: Any


class Newton(NamedTuple):
    """Where a step along the central path starts: the residuals, and the scaling of each group of cones."""

    data: ScaledCones
    at: Central
    curved: Any
    scalings: Any
    residual: Any
    last: Any

    @classmethod
    def of(cls, data: ScaledCones, layout: Layout, at: Central, point: ConePoint) -> Newton:
        """Prepare a step from a central point, with its products."""
        scalings = [
            group.each(group.cone.scaling, group.of(at.s), group.of(at.z)) if group.cone is not None else None
            for group in layout.groups
        ]
        residual = jnp.concatenate([point.curved + point.forces + at.tau * data.c, point.rows + at.s - at.tau * data.b])
        last = at.kappa + vdot(at.x, point.curved) / at.tau + vdot(data.c, at.x) + vdot(data.b, at.z)
        return cls(data, at, point.curved, scalings, residual, last)

    def blocks(self, layout: Layout) -> list[jax.Array]:
        """Return the blocks of ``E``; one for equations."""
        dtype, parts = self.at.x.dtype, list[jax.Array]()
        for group, scaling in zip(layout.groups, self.scalings, strict=True):
            moved = jnp.broadcast_to(jnp.eye(group.size, dtype=dtype), (group.count, group.size, group.size))
            moved = moved if scaling is None else moved + scaling.matrix
            inverse = 1 / moved if group.size == 1 else jnp.linalg.inv(moved)
            parts.append(0.5 * (inverse + jnp.swapaxes(inverse, 1, 2)))
        return parts

    def aim(self) -> Aim:
        """Return what the predictor aims at: the end of the path."""
        at = self.at
        return Aim(jnp.zeros_like(at.tau), at.s, at.tau * at.kappa)

    def right(self, aim: Aim) -> jax.Array:
        """Return the right-hand sides of the direction to an aim, and of the constant part, side by side."""
        n = self.data.n
        first = -(1 - aim.sigma) * self.residual
        return jnp.stack([first.at[n:].add(aim.slacks), jnp.concatenate([-self.data.c, self.data.b])], axis=1)

    def direction(self, aim: Aim, system: System, v: jax.Array, left: jax.Array) -> Central:
        """Return the direction that belongs to a solved system, and to what that leaves."""
        data, at, n = self.data, self.at, self.data.n
        duals = dot(system.E, v[n:])
        x, z = v[:n, 1], duals[:, 1]
        apart = x - at.x / at.tau
        # of a program without a solution, the constant part may have none: what it misses counts as well
        missed = vdot(x, left[:n, 1]) - vdot(z, left[n:, 1])
        curvature = vdot(apart, dot(data.P, apart)) + vdot(z, dot(system.G, v[n:, 1])) + jnp.maximum(missed, 0)
        along = vdot(data.c, v[:n, 0]) + vdot(data.b, duals[:, 0]) + 2 * vdot(self.curved, v[:n, 0]) / at.tau
        dtau = ((1 - aim.sigma) * self.last - aim.last / at.tau + along) / (at.kappa / at.tau + curvature)
        dv = v[:, 0] + dtau * v[:, 1]
        ds = -aim.slacks - dot(system.G, dv[n:])
        return Central(dv[:n], duals[:, 0] + dtau * z, ds, dtau, -(aim.last + at.kappa * dtau) / at.tau)

    def corrected(self, layout: Layout, to: Central, reach: jax.Array) -> Aim:
        """Return what the corrector aims at, after a predictor that reaches so far."""
        at = self.at
        sigma = (1 - reach) ** 3
        center = sigma * (vdot(at.s, at.z) + at.tau * at.kappa) / (layout.degree + 1)
        # of a predictor that cannot be followed, the second-order term would lead away from the path
        share = reach**2
        parts: list[jax.Array] = []
        for group, scaling in zip(layout.groups, self.scalings, strict=True):
            s = group.of(at.s)
            if scaling is None:
                parts.append(jnp.zeros_like(s))
                continue
            args = [group.of(v) for v in (at.s, at.z, to.s, to.z)]
            term = group.each(group.cone.correction, scaling, *args)
            parts.append(s + share * term - center * scaling.inverse)
        last = at.tau * at.kappa + share * to.tau * to.kappa - center
        return Aim(sigma, layout.join(parts, at.s), last)

    def reach(self, layout: Layout, to: Central, stay: float) -> jax.Array:
        """Return how far a direction can be followed, at most by one; ``stay`` of the way to the boundary.

        The cones without a formula stay near the central path, also on the predictor's way: where that leads too far
        away, the corrector centers more.
        """
        at = self.at
        fall = jnp.maximum(jnp.maximum(-to.tau / at.tau, -to.kappa / at.kappa), 1e-3)
        for group, scaling in zip(layout.groups, self.scalings, strict=True):
            if scaling is not None and group.cone.symmetric:
                args = [group.of(v) for v in (at.s, at.z, to.s, to.z)]
                fall = jnp.maximum(fall, jnp.max(jax.vmap(group.cone.reach)(scaling, *args)))
        far = jnp.minimum(stay / fall, 1)
        others = [group for group in layout.cones if not group.cone.symmetric]
        if not others:
            return far

        def allowed(length: jax.Array) -> jax.Array:
            new = jax.tree.map(lambda u, du: u + length * du, at, to)
            mean = (vdot(new.s, new.z) + new.tau * new.kappa) / (layout.degree + 1)
            good = jnp.asarray(True)
            for group in others:
                inside, own = group.each(group.cone.near, group.of(new.s), group.of(new.z))
                good = good & jnp.all(inside & (own >= _NEAR * mean))
            return good

        lengths = far * _SHORTER ** jnp.arange(_TRIALS, dtype=far.dtype)
        good = jax.vmap(allowed)(lengths)
        return jnp.where(jnp.any(good), lengths[jnp.argmax(good)], 0)

    def step(self, layout: Layout, system: System, rounds: int) -> tuple[Central, jax.Array]:
        """Return the next point, and how far the step went: a predictor, and a corrector with the same matrix."""

        def one(_: Any, now: Any) -> Any:
            aim, *_ = now
            v, left = system.solve(self.right(aim), rounds)
            to = self.direction(aim, system, v, left)
            reach = self.reach(layout, to, 1)
            return self.corrected(layout, to, reach), to

        start = self.aim(), jax.tree.map(jnp.zeros_like, self.at)
        _, to = jax.lax.fori_loop(0, 2, one, start)
        reach = self.reach(layout, to, STAY)
        new = jax.tree.map(lambda u, du: u + reach * du, self.at, to)
        # any multiple is as good; so that none overflows
        return trees.scale(1 / jnp.maximum(new.tau, new.kappa), new), reach
