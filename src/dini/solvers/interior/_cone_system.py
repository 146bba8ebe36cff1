"""The linear system of a cone program's derivative, in the program's own units."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ...checks.records import record
from ...linear import Dense
from ...linear._protocol import Matvec, Structure
from ...linear._reused import Reused, relative_size
from ...protocols import Conic
from ...trees.products import dot
from ._cone_layout import Layout
from ._scaled_cones import scaled_cones


@record
class ShortestSolution:
    r"""Elimination, or the shortest solution where rows that are tight depend on one another, or ``x`` is not unique.

    The matrix is singular there. As :math:`0 \preceq D \preceq I`, the null space is that of the transpose,

    .. math:: \{\dot x: P \dot x = 0,\, A \dot x = 0\} \times \{\dot y: A^\top \dot y = 0,\, D \dot y = 0\} .

    In forward mode, the derivative of ``x`` is well defined if the first factor is zero and the right-hand side is in
    the range, which it is along a change of the data that leaves all of these rows tight. That of the multipliers is
    taken to be the shortest. In reverse mode the range tells whether a loss depends on what is not unique. Where it
    does not, all adjoints give the same derivative along every change that forward mode accepts; the shortest one is
    taken. (Where one of two equal rows moves alone, the solution has a kink. Of the right-hand sides forward mode alone
    sees that, and the certificate tells that the matrix is singular.) What is out of the range is called singular, by a
    singular value decomposition.
    """

    #: how many unknowns come before the multipliers, and whether the system is the transposed one
    size: int = field(metadata={"static": True})
    reverse: bool = field(default=False, metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether there is none, or in forward mode many for ``x``."""
        del structure
        factor = Dense("lu").factorize(matvec, b, None)
        w = factor.solve(b)
        w = w + factor.solve(b - matvec(w))
        matrix = factor.matrix
        pivots = jnp.abs(jnp.diagonal(factor.factor[0]))
        # what rounding leaves of a dependent row is larger than what a factorization calls zero
        loose = factor.singular | ~(jnp.min(pivots) > jnp.finfo(matrix.dtype).eps ** 0.75 * jnp.max(pivots))

        def shortest(_: Any) -> Any:
            made, many = _shortest(matrix, factor.flat(b), self.size)
            return jnp.asarray(False), factor.unravel(made), many & (not self.reverse)

        # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
        needed = loose & jnp.all(jnp.isfinite(matrix))
        start = needed, w, loose & ~needed
        _, w, many = jax.lax.while_loop(lambda now: now[0], shortest, start)
        missed = relative_size(matvec(w) - b, b, w)
        return w, many | (loose & ~(missed <= jnp.finfo(b.dtype).eps ** 0.375))


@record
class NoFactor:
    """What a cone program leaves: nothing but its units, in which its system is solved."""

    otherwise: ShortestSolution

    def transposed(self) -> NoFactor:
        """Return the same for the transposed system."""
        return NoFactor(ShortestSolution(self.otherwise.size, not self.otherwise.reverse))


def cone_solver(problem: Conic) -> Reused:
    """Return the linear solver of the derivative of a cone program, in its own units."""
    layout = Layout(problem.cone, problem.b.size)
    data = scaled_cones(problem, layout)
    x, z = data.units(layout)
    start = problem.start()
    spread = lambda v: jnp.ones(layout.given, v.dtype).at[layout.order].set(v)
    right, left = (
        type(start)(share * x, spread(share * z)) for share in (jnp.ones_like(data.objective), data.objective)
    )
    return Reused(NoFactor(ShortestSolution(data.n)), None, right, left)


def _shortest(matrix: jax.Array, b: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Return the shortest solution with the least residual, and whether the first ``n`` are not unique."""
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    kept = values > matrix.shape[0] * jnp.finfo(matrix.dtype).eps * values[0]
    w = dot(right.T, jnp.where(kept, 1 / jnp.where(kept, values, 1), 0) * dot(left.T, b))
    # rounding leaves the root of this
    share = jnp.sum(jnp.where(kept, 0, jnp.sum(jnp.square(right[:, :n]), axis=1)))
    return w, share > jnp.finfo(matrix.dtype).eps ** 0.5
