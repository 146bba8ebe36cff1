r"""The last factorization of a nonlinear program, used for the linear system of its derivative.

In units of the start, the equations of :class:`dini.conditions.ActiveConstraints` have the derivative

.. math:: \begin{pmatrix} H & J^\top & I \\ J & 0 & 0 \\ I & 0 & 0 \end{pmatrix}

in the unknown, the multipliers of the active constraints and those of the active bounds. A step of Newton's method for
them factorizes the first two blocks, with the elements at their bounds held fixed and :math:`-\delta I` in place of
the second zero; what is left of the third block is one product. The error is proportional to :math:`\delta`, so that
each round of refinement with the map itself adds half of the digits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import trees
from ...checks.records import record
from ...linear._protocol import Matvec, Structure
from ...problems import Multipliers, PrimalDual
from ...trees import Tree
from ...trees.products import dot
from ._kkt_system import Factor
from ._own_factor import or_eliminated, own_factor, times
from ._program_view import Derivatives, Units

#: with how many products a factor is tested
_PRODUCTS = 3


@record
class LastKKT:
    """The factorized system of the active constraints, refined with the map that is to be solved.

    Parameters
    ----------
    at
        The derivatives at the solution, of which the factor is made.
    factor
        That of the first two blocks.
    keep, pins
        Which constraints are active, and which elements stand at their bounds.
    units
        The units of all that.
    known
        Whether ``factor`` is the one of these equations. It is believed where the map is the same up to little, by a
        power iteration: where other constraints are active, or the map is singular, the map's own is factorized.
    general
        The map's own factorization by LU.
    """

    at: Derivatives
    factor: Factor
    keep: Any
    pins: Any
    units: Units
    known: Any
    general: Any = None

    def _scales(self, like: Tree) -> Any:
        """Return the units of the unknowns, a tree like ``like``."""
        length, objective, constraints = self.units
        equalities = ravel_pytree(like.dual.equality)[0].size
        rows = constraints / objective, 1 / (objective * length)
        fill = lambda part, value: ravel_pytree(part)[1](
            jnp.broadcast_to(value, ravel_pytree(part)[0].shape).astype(ravel_pytree(part)[0].dtype)
        )
        dual = Multipliers(
            fill(like.dual.equality, rows[0][:equalities]),
            fill(like.dual.inequality, rows[0][equalities:]),
            fill(like.dual.bounds, rows[1]),
        )
        return PrimalDual(fill(like.primal, length), dual)

    def prepared(self, matvec: Matvec, like: Tree) -> LastKKT:
        """Return the solver with the map's own factorization where it is needed."""
        if self.general is not None:
            return self
        scales = self._scales(like)
        known = self.known & self._near(matvec, scales, like)
        return dataclasses.replace(self, known=known, general=own_factor(known, scales, matvec, like))

    def _near(self, matvec: Matvec, scales: Any, like: Tree) -> jax.Array:
        """Return whether what one round of refinement leaves of an error is little."""

        def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            p, size = carry
            p = trees.scale(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), p)
            v = times(scales, p)
            p = jax.tree.map(jnp.divide, trees.sub(v, self._rough(matvec(v))), scales)
            return p, trees.norm(p)

        # a loop, which compiles one product
        start = trees.varied(like)
        return jax.lax.fori_loop(0, _PRODUCTS, step, (start, trees.norm(start)))[1] < 0.1

    def _rough(self, r: Tree) -> Any:
        """Return the solution for a right-hand side, up to the share that the factor's constraints give."""
        length, objective, constraints = self.units
        dtype = self.at.slopes.dtype
        flat = lambda part: ravel_pytree(part)[0].astype(dtype)
        upper = flat(r.primal) * (objective * length)
        lower = jnp.concatenate([flat(r.dual.equality), flat(r.dual.inequality)])
        ends = flat(r.dual.bounds)
        n, keep, pins = upper.size, self.keep, self.pins
        moves = jnp.where(pins, ends / length, 0) if ends.size else jnp.zeros_like(upper)
        first = jnp.where(pins, 0, upper - dot(self.at.hessian, moves))
        second = jnp.where(keep, lower * constraints - dot(self.at.slopes, moves), 0)
        w = self.factor.solve(jnp.concatenate([first, second]))
        du = jnp.where(pins, moves, w[:n])
        dy = jnp.where(keep, w[n:], 0)
        force = upper - dot(self.at.hessian, du) - dot(dy, self.at.slopes)
        dy = jnp.where(keep, dy * constraints / objective, lower)
        dw = jnp.where(pins, force / (objective * length), ends) if ends.size else ends
        equalities = flat(r.dual.equality).size
        parts = dy[:equalities], dy[equalities:], dw
        back = lambda part, v: ravel_pytree(part)[1](v.astype(ravel_pytree(part)[0].dtype))
        dual = Multipliers(*(back(part, v) for part, v in zip(r.dual, parts, strict=True)))
        return PrimalDual(back(r.primal, length * du), dual)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        del structure
        rounds = 3 if trees.real_dtype(b) == jnp.float64 else 5
        refine = lambda _, w: trees.add(w, self._rough(trees.sub(b, matvec(w))))
        w = jax.lax.fori_loop(0, rounds, refine, trees.zeros_like(b))
        w = or_eliminated(self.known, self.general, self._scales(b), b, w)
        return w, self.general[2] & ~self.known

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375
