"""The factorized equations of the active rows of a quadratic program, left for its derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...checks.records import record
from ...linear import Dense
from ...linear._reused import Reused
from ...trees import Tree
from ._scaled_program import Factor, Scaled


@record
class FaceFactor:
    """The factor of the last step onto active rows, in the program's own units."""

    data: Scaled
    factor: Factor
    otherwise = Dense("lu")

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution of the regularized equations."""
        v = self.factor.rough(self.data, self.data.joined(r)[:, None])[:, 0]
        return self.data.parted(v, r, self.factor.shares > 0)


def left_behind(data: Scaled, x: Tree, factor: Any, known: Any) -> Reused:
    """Return the linear solver of the derivative that works by a factor of a program's rows."""
    right = data.units(x)
    return Reused(factor, known, right, jax.tree.map(lambda unit: data.objective * jnp.asarray(unit), right))
