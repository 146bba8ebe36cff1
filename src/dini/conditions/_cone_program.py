"""The Karush-Kuhn-Tucker conditions of a cone program, by the projection onto its cone."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..protocols import Conic
from ..sets._blocks import block_of_rows
from ..trees import Tree
from ..trees.products import dot
from ._base import Condition


class Shares(NamedTuple):
    """What multipliers are multiplied by to be like slacks, and what both are divided by to be like ``x``.

    ``room`` are the slacks of inequalities that are none.
    """

    force: Any
    rows: Any
    room: Any


def _slacks(problem: Conic, x: Tree, share: Shares) -> jax.Array:
    # an infinite right-hand side would spoil derivatives
    finite = jnp.where(problem.live, problem.b, 0)
    return jnp.where(problem.live, finite - dot(problem.A, x.primal), share.room)


def natural_argument(problem: Conic, x: Tree, share: Shares) -> jax.Array:
    """Return the slacks less the multipliers in the units of ``x``, the argument of the projection."""
    return (_slacks(problem, x, share) - share.force * x.dual) / share.rows


@record
class ConeKKT(Condition):
    r"""The KKT conditions of a :class:`dini.ConeProgram`.

    The unknown is the pair of ``x`` and the multipliers ``y``. With :math:`s = b - Ax` and any
    :math:`\rho > 0`, the slacks and multipliers are in the cone and its dual, and orthogonal, if and only if
    :math:`s = \Pi_K(s - \rho y)` (Moreau):

    .. math:: F = \begin{pmatrix} P x + c + A^\top y \\ s - \Pi_K(s - \rho y) \end{pmatrix}, \qquad
              \partial F = \begin{pmatrix} P & A^\top \\ -(I - D) A & \rho D \end{pmatrix}, \quad D = \Pi_K'(s - \rho y)

    The derivative does not depend on :math:`\rho`, one number for each elementary cone, which is fixed at ``x`` by
    what is large in the program. The system is regular where the solution is unique, and strictly complementary: the
    projection has a derivative there.

    Parameters
    ----------
    step_size
        :math:`\rho` and the unit of each row; left open, they are fixed at the solution.

    References
    ----------
    Busseti, Moursi, Boyd, "Solution refinement at regular points of conic problems", Computational Optimization and
    Applications, 2019. Facchinei and Pang, "Finite-dimensional variational inequalities and complementarity problems",
    2003, section 1.5 (the natural map).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import NonNegative
    >>> problem = dini.ConeProgram(c=jnp.ones(1), A=-jnp.ones((1, 1)), b=-jnp.ones(1) * 2, cone=NonNegative())
    >>> x = dini.PrimalDual(jnp.array([2.0]), jnp.array([1.0]))
    >>> print(*dini.conditions.ConeKKT()(problem, x))
    [0.] [0.]
    """

    step_size: Any = None

    def at(self, problem: Conic, x: Tree, *args: Tree) -> ConeKKT:
        """Return the condition with the units of multipliers fixed at ``x``."""
        del args
        if self.step_size is not None:
            return self
        _, _, share = _units(*jax.lax.stop_gradient((problem, x)))
        return dataclasses.replace(self, step_size=share)

    def settled_like(self, other: ConeKKT) -> ConeKKT:
        """Return this condition with the units of ``other``."""
        return dataclasses.replace(self, step_size=other.step_size)

    def __call__(self, problem: Conic, x: Tree, *args: Tree) -> Tree:
        """Return the residual, a pair like ``x``."""
        fixed = self.at(problem, x, *args)
        share = fixed.step_size
        stationary = problem.gradient(x.primal) + dot(problem.A.T, x.dual)
        slacks = _slacks(problem, x, share)
        return type(x)(stationary, slacks - share.rows * problem.cone.project(natural_argument(problem, x, share)))

    def error(self, problem: Conic, x: Tree, *args: Tree) -> jax.Array:
        """Return the largest residual, of stationarity beside the gradient's terms and of the others beside ``x``."""
        stationary, slacks = self(problem, x, *args)
        length, slope, share = _units(problem, x)
        return jnp.maximum(trees.max_abs(stationary) / slope, trees.max_abs(slacks / share.rows) / length)


def _units(problem: Conic, x: Tree) -> tuple[jax.Array, jax.Array, Shares]:
    """Return what is large in the unknown and in the gradient's terms, and the units of the rows."""
    point, y = x
    m = y.size
    ids = block_of_rows(problem.cone, m)
    live = problem.live
    rows = jnp.where(live, jnp.max(jnp.abs(problem.A), axis=1, initial=0), 0)
    # vectors of a cone have one unit
    together = lambda v: jax.ops.segment_max(v, ids, int(ids[-1]) + 1)[ids] if m else v
    one = lambda size: jnp.where(size > 0, size, 1)
    rows = one(together(rows))
    slope = jnp.maximum(
        trees.max_abs((problem.gradient(jnp.zeros_like(point)), problem.gradient(point))),
        jnp.max(rows * jnp.abs(y), initial=0),
    )
    length = trees.max_abs(point)
    own = jnp.where(live & (problem.b != 0), jnp.abs(problem.b), jnp.inf) / rows
    least = jnp.min(own, initial=jnp.inf)
    length = jnp.where(length > 0, length, jnp.where(jnp.isfinite(least), least, 0))
    length, slope = one(length), one(slope)
    return length, slope, Shares(rows**2 * length / slope, rows, jnp.where(live, 0, length * rows))
