r"""A cone program in units of its own, and how far a point is from a solution.

As in :mod:`._scaled_program`: with :math:`x = \beta D \hat x`, rows times ``E`` (one number for the rows of a cone that
is not a product) and the objective times :math:`\varphi`, all powers of two,

.. math:: \hat P = \varphi \beta^2 D P D, \quad \hat c = \varphi \beta D c, \quad \hat A = E A D, \quad
          \hat b = E b / \beta, \quad y = E \hat y / (\varphi \beta) .
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...problems._composite import PrimalDual
from ...protocols import Conic
from ...trees.products import dot, vdot
from ._cone_layout import Layout
from ._program_tests import beside
from ._scaled_program import equilibrated, mean_size, power, terms_of

#: the share of the cost below which that of unknowns held by equations is left out
_OPEN = 1e-4
#: how many units in the last place of its terms an element of that cost may be off
_LAST = 64
#: from this power of the unit roundoff on, a share of the objective that violated rows move it by is an error
_WORTH = 0.375


class ScaledCones(NamedTuple):
    """The data in the program's own units, with the rows in the layout's order."""

    P: jax.Array
    c: jax.Array
    A: jax.Array
    b: jax.Array
    columns: jax.Array
    scales: jax.Array
    length: jax.Array
    objective: jax.Array
    #: rows that no point satisfies: their right-hand side is minus infinity
    impossible: jax.Array
    #: multipliers of the equations that determine a cost, which is left out
    multipliers: jax.Array

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return self.c.size

    def seen(self, x: jax.Array) -> jax.Array:
        """Return what the program sees of an unknown: where this is the same, so are slacks, forces and residuals."""
        return jnp.concatenate([dot(self.P, x), dot(self.A, x)])

    def point(self, layout: Layout, x: jax.Array, z: jax.Array) -> PrimalDual:
        """Return a point in the user's units."""
        units = self.units(layout)
        return PrimalDual(x * units[0], layout.outward(z * units[1] + self.multipliers))

    def units(self, layout: Layout) -> tuple[jax.Array, jax.Array]:
        """Return the units of the unknown and of the multipliers, in the layout's order."""
        del layout
        return self.columns * self.length, self.scales / (self.objective * self.length)


def scaled_cones(problem: Conic, layout: Layout) -> ScaledCones:
    """Return a program in its own units."""
    c, n, dtype = problem.c, problem.c.size, problem.c.dtype
    # of a row that is no constraint, or that no point satisfies, 0 <= 1 is solved
    used = problem.live & ~problem.impossible
    A, b = layout.inward(jnp.where(used[:, None], problem.A, 0)), layout.inward(jnp.where(used, problem.b, 0))
    blank = ~used[layout.order]
    P = jnp.zeros((n, n), dtype) if problem.P is None else 0.5 * (problem.P + problem.P.T)
    system = jnp.block([[P, A.T], [A, jnp.zeros((layout.size, layout.size), dtype)]])
    together = lambda sizes: jnp.concatenate([sizes[:n], layout.together(sizes[n:])])
    scales = equilibrated(terms_of(system), jnp.ones_like(system[0]), together)
    system = scales[:, None] * system * scales[None, :]
    D, E = scales[:n], scales[n:]
    P, A, b, c = system[:n, :n], system[n:, :n], E * b, D * c
    multipliers, c = _reduced_cost(A, c, layout)
    length, objective = _sizes(P, c, b, layout)
    b = jnp.where(blank, 1, b / length)
    impossible = problem.impossible[layout.order]
    P, c = objective * length**2 * P, objective * length * c
    return ScaledCones(P, c, A, b, D, E, length, objective, impossible, E * multipliers)


def _reduced_cost(A: jax.Array, c: jax.Array, layout: Layout) -> tuple[jax.Array, jax.Array]:
    r"""Return multipliers of the equations, or zero, and :math:`c + A^\top y`, the cost that these leave open.

    The cost of unknowns that equations hold is the same at all points. Where it is nearly all of the cost, errors that
    are small compared with it are not informative about the point. What is rounding of the cost is none: a ray would
    follow it.
    """
    equations = sum(group.count for group in layout.groups if group.cone is None)
    rows, eps = A[:equations], jnp.finfo(c.dtype).eps
    nothing = jnp.zeros(layout.size, c.dtype)
    if not equations:
        return nothing, c
    gram = dot(rows, rows.T) + eps**0.75 * jnp.eye(equations, dtype=c.dtype)
    factor = jnp.linalg.cholesky(gram), True
    solve = lambda r: jax.scipy.linalg.cho_solve(factor, r, check_finite=False)
    y = -solve(dot(rows, c))
    y = y - solve(dot(rows, c + dot(rows.T, y)))
    left = c + dot(rows.T, y)
    rounding = _LAST * eps * (jnp.abs(c) + dot(jnp.abs(rows).T, jnp.abs(y)))
    fixed = jnp.max(jnp.abs(left), initial=0) <= _OPEN * jnp.max(jnp.abs(c), initial=0)
    fixed = fixed & jnp.all(jnp.isfinite(left))
    open_cost = jnp.where(jnp.abs(left) <= rounding, 0, left)
    return nothing.at[:equations].set(jnp.where(fixed, y, 0)), jnp.where(fixed, open_cost, c)


def _sizes(P: jax.Array, c: jax.Array, b: jax.Array, layout: Layout) -> tuple[jax.Array, jax.Array]:
    """Return the size of the unknown, and what the objective is multiplied by.

    What is not in the cone at zero forces the unknown away from there, and shows its size. Where nothing does, it is
    that of a step along the gradient or, if that is less, of the right-hand sides.
    """
    largest = lambda v: jnp.max(jnp.abs(v), initial=0)
    forced = largest(layout.project(b) - b)
    away, slope, curved = mean_size(jnp.where(b == 0, jnp.inf, b)), largest(c), largest(P)
    step = jnp.where(curved > 0, slope / jnp.where(curved > 0, curved, 1), 0)
    step = jnp.where((step > 0) & ((away == 0) | (step < away)), step, away)
    length = power(jnp.where(forced > 0, jnp.maximum(forced, jnp.where(curved > 0, step, 0)), step))
    term = jnp.maximum(curved * length, slope)
    return length, power(1 / jnp.where(term > 0, term * length, 1))


class ConePoint(NamedTuple):
    """A point with its slacks, and products with it."""

    x: jax.Array
    z: jax.Array
    s: jax.Array
    curved: jax.Array
    forces: jax.Array
    rows: jax.Array

    @classmethod
    def of(cls, data: ScaledCones, x: jax.Array, z: jax.Array, s: jax.Array) -> ConePoint:
        """Evaluate a point."""
        return cls(x, z, s, dot(data.P, x), dot(data.A.T, z), dot(data.A, x))

    def error(self, data: ScaledCones, layout: Layout, scale: Any = 1) -> jax.Array:
        """Return the largest residual of the conditions, each relative to its terms, and the gap relative to the value.

        Slacks and multipliers are in their cones. ``scale`` is what the point is to be divided by.
        """
        x, z, s, curved, forces, rows = (part / scale for part in self)
        eps = jnp.finfo(x.dtype).eps
        largest = lambda v: jnp.max(jnp.abs(v), initial=0)
        left, broken = curved + data.c + forces, rows + s - data.b
        slope = jnp.maximum(jnp.maximum(largest(curved), largest(data.c)), largest(forces))
        many, reach = largest(z), largest(x)
        stationary = largest(left) / jnp.maximum(slope, eps**0.5 * jnp.maximum(1, many))
        sizes = jnp.abs(data.A)
        pulls = dot(sizes.T, jnp.abs(z)) + dot(jnp.abs(data.P), jnp.abs(x)) + jnp.abs(data.c)
        # slacks and multipliers come from their difference, and have its rounding: where all of a row's are zero, too
        lost = 16 * eps * layout.together(jnp.abs(s) + jnp.abs(z))
        least = eps**0.75
        rounding = jnp.minimum(dot(sizes.T, lost), least * slope)
        stationary = jnp.maximum(stationary, beside(left, slope, pulls, rounding))
        own = layout.together(jnp.maximum(dot(sizes, jnp.abs(x)), jnp.abs(data.b)))
        value = jnp.maximum(jnp.abs(vdot(x, curved)), jnp.abs(vdot(data.c, x)))
        gap = jnp.abs(vdot(s, z)) / jnp.maximum(value, eps**0.5)
        # what is no more than rounding of a row is worth something beside a multiplier that is large
        terms = vdot(jnp.abs(z), dot(sizes, jnp.abs(x)) + jnp.abs(data.b))
        moved = jnp.abs(vdot(z, broken)) / jnp.where(terms > 0, terms, 1)
        gap = jnp.maximum(gap, jnp.where(moved > eps**_WORTH, moved, 0))
        return jnp.maximum(jnp.maximum(stationary, beside(broken, reach, own, jnp.minimum(lost, least * reach))), gap)

    def natural(self, layout: Layout, scale: Any) -> jax.Array:
        r"""Return how far the slacks are from :math:`\Pi_K(s - z)`, beside the largest of what the point is made of."""
        s, z, rows = self.s / scale, self.z / scale, self.rows / scale
        size = jnp.max(jnp.abs(jnp.stack([s, rows])), initial=0)
        left = jnp.max(jnp.abs(s - layout.project(s - z)), initial=0)
        return left / jnp.where(size > 0, size, 1)

    def certificates(self, data: ScaledCones) -> tuple[jax.Array, jax.Array]:
        r"""Return how far ``z`` is from showing that no point is feasible, and ``x`` that there is no lower bound.

        The first has :math:`A^\top z = 0` and :math:`b^\top z < 0`, the second :math:`Px = 0`, :math:`-Ax \in K` and
        :math:`c^\top x < 0`: what should be zero is measured by the number that is negative.
        """
        largest = lambda v: jnp.max(jnp.abs(v), initial=0)
        below, falls = -vdot(data.b, self.z), -vdot(data.c, self.x)
        far = lambda left, ahead: jnp.where(ahead > 0, left / jnp.where(ahead > 0, ahead, 1), jnp.inf)
        broken = jnp.maximum(largest(self.curved), largest(self.rows + self.s))
        return far(largest(self.forces), below), far(broken, falls)
