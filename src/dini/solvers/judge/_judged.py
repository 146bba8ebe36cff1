"""The test of a point that dini's own steps have not computed, by the condition of the problem."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...loop import Outcome
from ...problems import ConeProgram, NonlinearProgram, QuadraticProgram
from ...protocols import AnyProblem, Tolerant
from ...status import Status
from ...trees import Tree
from ...verification import _equations
from ...verification._minimum import MISSED
from ._units import slope_of_elements

#: for these problems the error of the condition is relative to its own terms
_RELATIVE = (QuadraticProgram, ConeProgram, NonlinearProgram)


def judged(
    solver: Tolerant,
    problem: AnyProblem,
    x: Tree,
    start: Tree,
    args: tuple[Tree, ...],
    steps: Any = 1,
    status: Any = None,
) -> Outcome:
    """Return the outcome of a solve whose result is ``x``.

    The norm of the condition's residual must be at most ``rtol`` times that at a point at a distance of the size of
    ``x`` (the size of ``start`` where ``x`` is zero, one where both are zero). Ten times the norm at a tenth of this
    distance is used in place of that, if it is smaller. Where the residual is a gradient, the decrease of the function
    where elements move by their own size is tested as well, which does not depend on units (see ``_units.py``). A
    residual of ``atol`` is always sufficient. Finally, where Newton's method converges from ``x``, its solution must
    differ in no element by more than ten times ``rtol``, relative to the size of that element. ``status`` is the reason
    why the solver failed, if it did: it is returned where the condition does not hold.
    """
    error = problem.condition.error(problem, x, *args)
    scale = 1.0 if isinstance(problem, _RELATIVE) else _scale(problem, x, start, args, error)
    rtol = solver.rtol
    if rtol is None:
        rtol = trees.eps(start) ** 0.25 if solver.atol is None else 0.0
    tol = rtol * scale + (0.0 if solver.atol is None else solver.atol)
    status = jnp.asarray(Status.RUNNING if status is None else status)
    end = jnp.where(status == Status.RUNNING, Status.CONDITION, status)
    # a residual that is not finite explains more than that the solver stalled
    unexplained = (status == Status.RUNNING) | (status == Status.STALLED)
    end = jnp.where(unexplained & ~jnp.isfinite(error), Status.NONFINITE, end)
    holds = error <= tol
    if not isinstance(problem, _RELATIVE) and _equations.can_follow(x):
        condition = problem.condition.at(problem, x, *args)
        asked = holds & (rtol > 0) & ~(error <= (0.0 if solver.atol is None else solver.atol))
        relative = _equations.followed(lambda u: condition(problem, u, *args), x, asked).error
        holds &= ~(relative > MISSED * rtol)
    end = jnp.where(holds, Status.CONVERGED, end).astype(jnp.int32)
    return Outcome(x, (), jnp.asarray(steps, jnp.int32), end, error, tol=tol)


def _scale(problem: AnyProblem, x: Tree, start: Tree, args: tuple[Tree, ...], error: Any) -> Any:
    """Return the residual of a point that is wrong by its own size, less where elements are in different units."""
    away, size, first = trees.varied(start), trees.sized_norm(x), trees.sized_norm(start)
    size = jnp.where(size > 0, size, jnp.where(first > 0, first, 1)) / jnp.maximum(trees.norm(away), trees.eps(start))
    far, near = (problem.condition.error(problem, trees.axpy(share * size, away, x), *args) for share in (1, 0.1))
    # a point where the residual has overflowed gives no scale
    scale = jnp.minimum(*(jnp.where(jnp.isfinite(each), each, jnp.inf) for each in (far, 10 * near)))
    scale = jnp.where(jnp.isfinite(scale), scale, 0)
    own = jax.tree.map(lambda u, s: jnp.abs(u) * s, x, trees.varied(x))
    losses, condition = [], problem.condition.at(problem, x, *args)
    for share in (0, 1, 0.1):
        forces = condition.forces(problem, trees.axpy(share, own, x), *args)
        if forces is None:
            return scale
        losses.append(slope_of_elements(x, forces))
    loss, far, near = losses
    work = jnp.minimum(*(jnp.where(jnp.isfinite(each), each, jnp.inf) for each in (far, 10 * near)))
    return jnp.where((loss > 0) & (work > 0), jnp.minimum(scale, work / jnp.where(loss > 0, loss, 1) * error), scale)
