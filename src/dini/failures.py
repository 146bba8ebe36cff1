"""What becomes of a failed solve: an exception, a warning, NaN, or nothing, as the caller asks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from . import trees
from .differentiation._guards import refused
from .loop import Outcome
from .protocols import AnyProblem, AnySolver
from .reports import without_tangent
from .solution import Solution, failure
from .status import DerivativeError, OnFailure, Report, SolveWarning, Status, guard

#: how a solve may end, where nothing is raised
_NO_FAILURE = (Status.CONVERGED, Status.STOPPED)


def has_failed(figures: Any) -> bool:
    """Return whether a solve has failed, by its figures, which are known."""
    return int(np.asarray(figures)[0]) not in _NO_FAILURE


def dealt_with(solution: Solution, problem: AnyProblem, solver: AnySolver, on_failure: OnFailure) -> Solution:
    """Return the solution of a solve that may have failed, or raise."""
    figures = solution.figures
    if isinstance(figures, jax.core.Tracer):
        # of a derivative outside of jit they are known: what is traced is the value's own derivative
        figures = without_tangent(figures)
    if isinstance(figures, jax.core.Tracer):
        return _guarded(solution, problem, solver, on_failure)
    return _failed(solution, problem, solver, on_failure) if has_failed(figures) else solution


def _failed(solution: Solution, problem: AnyProblem, solver: AnySolver, on_failure: OnFailure) -> Solution:
    """Deal with a failed solve whose figures are known."""
    if on_failure == "nan":
        # a product, so that a derivative that is being taken becomes NaN with the value
        lost = lambda u: u * jnp.asarray(jnp.nan, u.dtype) if trees.is_inexact(u) else u
        x, aux = jax.tree.map(lost, (solution.x, solution.aux))
        return replace(solution, x=x, aux=aux, figures=solution.figures.at[4].mul(jnp.nan))
    error = failure(without_tangent(solution.figures), problem=problem.name, solver=solver.name)
    if on_failure == "raise":
        raise error
    warnings.warn(str(error), SolveWarning, stacklevel=5)
    return solution


@dataclass(frozen=True)
class _Failure(Report):
    problem: str
    solver: str

    def __call__(self, *figures: Any) -> Exception:
        return failure(figures[0], problem=self.problem, solver=self.solver)


def _guarded(solution: Solution, problem: AnyProblem, solver: AnySolver, on_failure: OnFailure) -> Solution:
    """Deal with a failure that will show at run time only."""
    report = _Failure(problem.name, solver.name)
    # under vmap the lane is marked by its status and keeps its last point, unless NaN was asked for
    figures, mark = solution.figures, on_failure == "nan"
    failed = (figures[0] != Status.CONVERGED) & (figures[0] != Status.STOPPED)
    guarded = guard((solution.x, solution.aux, figures[4]), failed, report, (figures,), on_failure, mark=mark)
    return replace(solution, x=guarded[0], aux=guarded[1], figures=figures.at[4].set(guarded[2]))


def stopped(outcome: Outcome, monitor: Any, problem: AnyProblem, on_failure: OnFailure) -> Outcome:
    """Return the outcome, whose point has a derivative unless a callback has stopped the solve."""
    if not monitor.stops:
        return outcome
    name = problem.name

    def report(_: Any) -> DerivativeError:
        return DerivativeError(
            f"The derivative of the solution of {name} was requested, but a callback stopped the solve: its point "
            "may not be a solution. Let the solve run to its stopping test, differentiate the steps with "
            'Unrolled(steps=...), or, if a derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.STOPPED,
        )

    return outcome._replace(x=refused(outcome.x, outcome.status == Status.STOPPED, report, on_failure))
