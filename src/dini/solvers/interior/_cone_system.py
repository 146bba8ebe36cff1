"""The linear system of a cone program's derivative, in the program's own units."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...linear import Dense
from ...linear._protocol import Matvec, Structure
from ...trees import Tree
from ...trees.products import dot
from ._cone_layout import Layout
from ._scaled_cones import scaled_cones


@record
class ConeSystem:
    r"""Factorization by LU with rows and columns in the units in which all of a program is of size one.

    ``right`` are the units of the unknown, ``left`` what residuals are multiplied by; ``transposed`` exchanges them.

    Where rows that are tight depend on one another, multipliers are not unique and the matrix is singular; so it is
    where the solution is not unique. As :math:`0 \preceq D \preceq I`, the null space is that of the transpose,

    .. math:: \{\dot x: P \dot x = 0,\, A \dot x = 0\} \times \{\dot y: A^\top \dot y = 0,\, D \dot y = 0\} .

    In forward mode, the derivative of ``x`` is well defined if the first factor is zero and the right-hand side is in
    the range, which it is along a change of the data that leaves all of these rows tight. That of the multipliers is
    taken to be the shortest. In reverse mode the range tells whether a loss depends on what is not unique. Where it
    does not, all adjoints give the same derivative along every change that forward mode accepts; the shortest one is
    taken. (Where one of two equal rows moves alone, the solution has a kink. Of the right-hand sides forward mode alone
    sees that, and the certificate tells that the matrix is singular.) What is out of the range is called singular, by a
    singular value decomposition.
    """

    right: Any
    left: Any
    reverse: bool = field(default=False, metadata={"static": True})

    @classmethod
    def of(cls, problem: Any) -> ConeSystem:
        """Return the solver for a program."""
        layout = Layout(problem.cone, problem.b.size)
        data = scaled_cones(problem, layout)
        x, z = data.units(layout)
        start = problem.start()
        spread = lambda v: jnp.ones(layout.given, v.dtype).at[layout.order].set(v)
        right = type(start)(x, spread(z))
        left = type(start)(data.objective * x, spread(data.scales / data.length))
        return cls(right, left)

    def transposed(self) -> ConeSystem:
        """Return the solver for the transposed system."""
        return dataclasses.replace(self, right=self.left, left=self.right, reverse=not self.reverse)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether there is none, or in forward mode many for ``x``."""
        del structure
        product = lambda v: _times(self.left, matvec(_times(self.right, v)))
        factor = Dense("lu").factorize(product, b, None)
        own = _times(self.left, b)
        w = factor.solve(own)
        w = trees.add(w, factor.solve(trees.sub(own, product(w))))
        matrix = factor.matrix
        pivots = jnp.abs(jnp.diagonal(factor.factor[0]))
        # what rounding leaves of a dependent row is larger than what a factorization calls zero
        loose = factor.singular | ~(jnp.min(pivots) > jnp.finfo(matrix.dtype).eps ** 0.75 * jnp.max(pivots))

        def shortest(_: Any) -> Any:
            made, many = _shortest(matrix, factor.flat(own), jnp.size(b.primal))
            return jnp.asarray(False), factor.unravel(made), many & (not self.reverse)

        # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
        needed = loose & jnp.all(jnp.isfinite(matrix))
        start = needed, w, loose & ~needed
        _, w, many = jax.lax.while_loop(lambda now: now[0], shortest, start)
        w = _times(self.right, w)
        missed = self.relative(trees.sub(matvec(w), b), b, w)
        return w, many | (loose & ~(missed <= self.accept(trees.eps(b))))

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual beside the right-hand side, in the program's units.

        Rounding errors of a large solution count as none.
        """
        size = trees.eps(b) ** 0.5 * trees.max_abs(jax.tree.map(jnp.divide, w, self.right))
        size = jnp.maximum(trees.max_abs(_times(self.left, b)), size)
        return trees.max_abs(_times(self.left, left)) / jnp.where(size > 0, size, 1)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def _shortest(matrix: jax.Array, b: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Return the shortest solution with the least residual, and whether the first ``n`` are not unique."""
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    kept = values > matrix.shape[0] * jnp.finfo(matrix.dtype).eps * values[0]
    w = dot(right.T, jnp.where(kept, 1 / jnp.where(kept, values, 1), 0) * dot(left.T, b))
    # rounding leaves the root of this
    share = jnp.sum(jnp.where(kept, 0, jnp.sum(jnp.square(right[:, :n]), axis=1)))
    return w, share > jnp.finfo(matrix.dtype).eps ** 0.5


def _times(units: Any, tree: Tree) -> Any:
    return jax.tree.map(jnp.multiply, units, tree)
