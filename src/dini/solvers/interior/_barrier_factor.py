r"""The last factorization of a nonlinear program, left for the linear system of its derivative.

In units of the start, the equations of :class:`dini.conditions.ActiveConstraints` have the derivative

.. math:: \begin{pmatrix} H & J^\top & I \\ J & 0 & 0 \\ I & 0 & 0 \end{pmatrix}

in the unknown, the multipliers of the active constraints and those of the active bounds. A step of Newton's method for
them factorizes the first two blocks, with the elements at their bounds held fixed and :math:`-\delta I` in place of
the second zero; what is left of the third block is one product. The error is proportional to :math:`\delta`, so that
each round of refinement with the map itself adds half of the digits.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...checks.records import record
from ...linear import Dense
from ...trees.products import dot
from ._kkt_system import Factor
from ._program_view import Derivatives


@record
class BarrierFactor:
    """The factor of the first two blocks, in units of the start.

    Parameters
    ----------
    at
        The derivatives at the solution, of which the factor is made.
    factor
        That of the first two blocks.
    keep, pins
        Which constraints are active, and which elements stand at their bounds.
    own
        What the equations make of the multipliers of the others, which they say are zero: in units of the start, that
        is a product of two units.
    """

    at: Derivatives
    factor: Factor
    keep: Any
    pins: Any
    own: Any
    otherwise = Dense("lu")

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution for a right-hand side, up to the share that the factor's constraints give."""
        at, keep, pins = self.at, self.keep, self.pins
        n, m = pins.size, keep.size
        r = r.astype(at.slopes.dtype)
        upper, lower, ends = jnp.split(r, [n, n + m])
        _, alone, free = jnp.split(r / self.own, [n, n + m])
        moves = jnp.where(pins, ends, 0) if ends.size else jnp.zeros_like(upper)
        first = jnp.where(pins, 0, upper - dot(at.hessian, moves))
        w = self.factor.solve(jnp.concatenate([first, jnp.where(keep, lower - dot(at.slopes, moves), 0)]))
        du, dy = jnp.where(pins, moves, w[:n]), jnp.where(keep, w[n:], 0)
        force = upper - dot(at.hessian, du) - dot(dy, at.slopes)
        ends = jnp.where(pins, force, free) if ends.size else ends
        return jnp.concatenate([du, jnp.where(keep, dy, alone), ends])
