r"""Newton's method for equations and fixed points: the part of :class:`dini.Newton` that knows no objective.

.. math:: x \leftarrow x - [\partial F(x)]^{-1} F(x) \qquad (1)

where that step reduces :math:`\|F\|`; elsewhere Powell's dogleg, in ``judge/_equations.py``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import linear, trees
from ..linear._materialize import materialize
from ..linear._small import PIVOTED, solve_pivoted
from ..linear._solve import solve_known
from ..trees import Tree
from .judge import _equations


def start(x: Tree) -> _equations.State:
    """Return the state before the first step."""
    return _equations.start(x, None)


def advance(solver: Any, problem: Any, x: Tree, state: _equations.State, args: tuple[Tree, ...]) -> tuple[Any, Any]:
    """Try one step of a solver, whose ``linear_solver`` takes the linear equations."""

    def direct(event: _equations.Event, direction: Tree, memory: Any) -> tuple[Any, Any, Any, Any]:
        no = jnp.asarray(False)
        renew = lambda _: newton_direction(problem, event.x, event.residual, args, solver.linear_solver)
        direction, fresh = jax.lax.cond(event.needed, renew, lambda _: (direction, no), None)
        return direction, memory, no, fresh

    return _equations.advance(solver, problem, x, state, args, direct)


def newton_direction(
    problem: Any, x: Tree, residual: Tree, args: tuple[Tree, ...], linear_solver: Any
) -> tuple[Any, jax.Array]:
    r"""Return :math:`-[\partial F(x)]^{-1} F(x)`, and whether it solves the linear equations."""
    matvec = linear.Linearized(lambda u: problem.residual(u, *args), x)
    if linear_solver is None and trees.size(x) <= PIVOTED:
        jacobian, flat, unravel = materialize(matvec, residual)
        # (1)
        return unravel(solve_pivoted(jacobian, -flat)), jnp.asarray(True)
    # (1)
    structure = problem.structure
    direction = solve_known(matvec, trees.neg(residual), structure=structure, solver=linear_solver, on_failure="ignore")
    # an iterative solver makes nothing of a residual that is orthogonal to the range
    left = trees.norm(jax.lax.stop_gradient(trees.add(matvec(direction), residual)))
    return direction, left <= 0.5 * trees.norm(jax.lax.stop_gradient(residual))
