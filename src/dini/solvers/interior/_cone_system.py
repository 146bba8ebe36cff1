"""The linear system of a cone program's derivative, in the program's own units."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...linear import Dense
from ...linear._protocol import Matvec, Structure
from ...trees import Tree
from ._cone_layout import Layout
from ._scaled_cones import scaled_cones


@record
class ConeSystem:
    """Factorization by LU with rows and columns in the units in which all of a program is of size one.

    ``right`` are the units of the unknown, ``left`` what residuals are multiplied by; ``transposed`` exchanges them.
    """

    right: Any
    left: Any
    factor: Any = None

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
        return dataclasses.replace(self, right=self.left, left=self.right, factor=None)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        del structure
        product = lambda v: _times(self.left, matvec(_times(self.right, v)))
        factor = Dense("lu").factorize(product, b, None)
        w = factor.solve(_times(self.left, b))
        w = trees.add(w, factor.solve(trees.sub(_times(self.left, b), product(w))))
        return _times(self.right, w), factor.singular

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


def _times(units: Any, tree: Tree) -> Any:
    return jax.tree.map(jnp.multiply, units, tree)
