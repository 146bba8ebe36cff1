"""From a point that another solver has found of a program to the one on its active constraints."""

from __future__ import annotations

from typing import Any

from .. import trees
from ..linear import DENSE_LIMIT
from ..linear._matrices import is_dense
from ..linear._solve import solve_known
from ..problems import PrimalDual, QuadraticProgram
from ..protocols import AnyProblem
from ..solvers.interior._scaled_program import scaled
from ..solvers.splitting import _face
from ..trees import Tree


def _large(problem: QuadraticProgram) -> bool:
    """Return whether the equations of the active constraints are better not made one array."""
    if problem.c.size <= DENSE_LIMIT:
        return False
    return not all(is_dense(part) for part in (problem.Q, problem.A, problem.G) if part is not None)


def on_face(problem: AnyProblem, point: PrimalDual, *args: Tree) -> PrimalDual:
    """Return the point after one step of Newton's method for the equations of the active constraints, if it is better.

    Of a quadratic program these are linear, and hold after the step.
    """
    condition = problem.condition.at(problem, point, *args)
    error = lambda at: problem.condition.error(problem, at, *args)
    matvec = condition.linearize(problem, point, *args)[0]
    right = trees.neg(condition(problem, point, *args))
    if isinstance(problem, QuadraticProgram) and _large(problem):
        step = _face.face_solver(problem, point, scaled(problem))(matvec, right, "symmetric")[0]
    else:
        step = solve_known(matvec, right, structure="symmetric", on_failure="ignore")
    moved = trees.add(point, step)
    return trees.where(error(moved) < error(point), moved, point)


def face_solver(problem: QuadraticProgram, point: PrimalDual) -> Any:
    """Return the linear solver of the derivative of a large program."""
    return _face.face_solver(problem, point, scaled(problem)) if _large(problem) else None
