"""The last factorization of a quadratic program, used for the linear system of its derivative."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...conditions._program import active_rows
from ...linear._protocol import Matvec, Structure
from ...trees import Tree
from ._own_factor import or_eliminated, own_factor, times
from ._scaled_program import Factor, Scaled


@record
class ActiveKKT:
    """The factorized system of the active rows, refined with the map that is to be solved.

    Where it is not that map's (the active set was never found, the system is singular, a multiplier is zero with its
    slack), the map's own matrix is factorized, and what is singular is seen. ``factor`` is that of the program in its
    own units, ``general`` a factorization by LU, with its row scales and whether it is singular.
    """

    data: Scaled
    factor: Factor
    known: Any
    general: Any = None

    def prepared(self, matvec: Matvec, like: Tree) -> ActiveKKT:
        """Return the solver with the map's own factorization where it is needed."""
        if self.general is not None:
            return self
        general = own_factor(self.known, self.data.units(like), matvec, like)
        return dataclasses.replace(self, general=general)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        del structure
        rounds = 2 if trees.real_dtype(b) == jnp.float64 else 6

        def refine(_: Any, w: Tree) -> Any:
            left = trees.sub(b, matvec(w))
            own = self.data.residual(left)
            step = self.factor.rough(self.data, own[:, None])[:, 0]
            return trees.add(w, self.data.step(step, left, self.factor.shares > 0))

        w = jax.lax.fori_loop(0, rounds, refine, trees.zeros_like(b))
        w = or_eliminated(self.known, self.general, self.data.units(b), b, w)
        return w, self.general[2] & ~self.known

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual beside the right-hand side, in the program's units."""
        return relative_size(self.data, left, b, w)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.5


def relative_size(data: Scaled, left: Any, b: Any, w: Tree) -> jax.Array:
    """Return the size of a residual beside the right-hand side, in the program's units, in which both have one.

    Rounding errors of a large solution count as none.
    """
    units = data.units(b)
    size = trees.max_abs(jax.tree.map(jnp.divide, w, units)) / data.objective
    size = jnp.maximum(trees.max_abs(times(units, b)), trees.eps(b) ** 0.5 * size)
    return trees.max_abs(times(units, left)) / jnp.where(size > 0, size, 1)


def held_alike(problem: Any, x: Tree, data: Scaled, active: jax.Array) -> jax.Array:
    """Return whether the rows that are active are those of the problem's condition."""
    of_condition = active_rows(problem, x)
    parts = [part for part in (of_condition.inequality,) if part is not None]
    for bound, part in ((problem.upper, of_condition.upper), (problem.lower, of_condition.lower)):
        parts += [] if bound is None else [part]
    if not parts:
        return jnp.asarray(True)
    theirs = jnp.concatenate(parts)
    return jnp.all(jnp.where(data.live[-theirs.size :], active[-theirs.size :] == theirs, True))
