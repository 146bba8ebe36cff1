"""The factorized equations of a face of a quadratic program, used for the linear system of its derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...conditions._program import active_rows
from ...linear._protocol import Matvec, Structure
from ...trees import Tree
from ._active_kkt import held_alike, relative_size
from ._scaled_program import Factor, Scaled

#: rounds of refinement in double and in single precision, and where the system is not known to be regular
_ROUNDS, _ROUNDS_SINGLE, _MORE = 3, 6, 30
#: what is left of a fixed right-hand side where a system is taken for singular
_SINGULAR = 1e-3


@record
class FaceFactorKKT:
    """The factorized system of the rows that the program's condition takes for active, refined with the map itself.

    ``factor`` is that of the program in its own units. A system that is singular keeps a part of a right-hand side
    however often it is refined, and is seen by that.
    """

    data: Scaled
    factor: Factor
    known: Any

    @classmethod
    def at(cls, problem: Any, x: Tree, data: Scaled, factor: Factor, known: Any) -> FaceFactorKKT:
        """Return the solver at a point; the factor is made anew where it is not known, or not that of the condition."""
        known = known & held_alike(problem, x, data, factor.shares > 0)
        theirs = active_rows(problem, x)
        parts = [] if problem.G is None else [theirs.inequality]
        parts += [
            part for bound, part in ((problem.upper, theirs.upper), (problem.lower, theirs.lower)) if bound is not None
        ]
        rows = data.fixed
        if parts:
            held = jnp.concatenate(parts)
            last = jnp.where(data.live[-held.size :], held, rows[-held.size :])
            rows = jnp.concatenate([rows[: rows.size - held.size], last])
        weights = jnp.zeros_like(data.offset[data.n :])
        # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
        renew = lambda _: (jnp.asarray(True), Factor.of(data, weights, rows))
        factor = jax.lax.while_loop(lambda now: ~now[0], renew, (known, factor))[1]
        return cls(data, factor, known)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        del structure
        active = self.factor.shares > 0
        single = trees.eps(b) > jnp.finfo(jnp.float64).eps
        rounds = jnp.where(self.known, _ROUNDS_SINGLE if single else _ROUNDS, _MORE)

        def refine(_: Any, now: tuple[Tree, jax.Array]) -> Any:
            w, probe = now
            left = trees.sub(b, matvec(w))
            sides = jnp.stack([self.data.residual(left), probe], axis=1)
            steps = self.factor.rough(self.data, sides)
            w = trees.add(w, self.data.step(steps[:, 0], left, active))
            return w, self.factor.left(self.data, steps[:, 1])

        keep = jnp.concatenate([jnp.ones(self.data.n, bool), active])
        probe = jnp.where(keep, trees.varied(self.data.offset), 0)
        w, rest = jax.lax.fori_loop(0, rounds, refine, (trees.zeros_like(b), probe))
        singular = trees.max_abs(jnp.where(keep, rest, 0)) > _SINGULAR * trees.max_abs(probe)
        return w, singular & ~self.known

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual beside the right-hand side, in the program's units."""
        return relative_size(self.data, left, b, w)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.5
