"""A primal-dual interior point method for nonlinear programs."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..linear._reused import Reused
from ..loop import threshold
from ..problems import NonlinearProgram
from ..protocols import AnyProblem, Constrained
from ..trees import Tree
from ._base import Solver, infinity, solver
from .interior._barrier_factor import BarrierFactor
from .interior._interior_rules import (
    LATER,
    begun,
    box_of,
    ending,
    evaluated,
    looked_again,
    next_barrier,
    next_mode,
    recentred,
    rejected,
    renewed,
    restoring,
    tried,
)
from .interior._interior_state import POLISH, RESTORE, State, measures, tight
from .interior._program_view import Units, View, start_length

#: from this size on, a few products cost less than assembling and factorizing another matrix
_WORTHWHILE = 64


@solver
class NonlinearInteriorPoint(Solver):
    r"""A primal-dual interior point method with a filter line search, for :class:`dini.NonlinearProgram`.

    With slacks :math:`s > 0` for the inequalities, it follows the minima of

    .. math:: f(x) - \mu \Bigl(\sum_j \ln s_j + \sum_i \ln(x_i - l_i) + \sum_i \ln(u_i - x_i)\Bigr)
              \quad\text{where}\quad h(x) = 0,\ g(x) + s = 0

    to :math:`\mu = 0` by Newton's method for their optimality conditions. A multiple of the identity is added to the
    Hessian of the Lagrangian where it is not positive definite on the constraints' tangent space. A trial point is
    accepted where it improves the violation of the constraints or the objective over all points of a filter; one that
    violates the constraints more than the last is first corrected to second order. Where steps become too short, the
    violation alone is minimized for a while, and where that ends at a violation that is none the less, the program is
    infeasible at least locally: ``Status.LOCALLY_INFEASIBLE``. Each trial is one step.

    Near a solution the inequalities are sorted into active and inactive, and Newton's method for their equations takes
    over: then multipliers of inactive constraints are exactly zero, and the last digits are right. The error is the
    largest relative one: a violation is relative to the terms of its own constraint, the sum of :math:`|\partial_i c|
    |x_i|`, what is left of the forces (the gradients times their multipliers) beside the largest of them.

    The functions are evaluated strictly within the bounds; a start outside is moved there. Matrices are dense: up to a
    few hundred unknowns and constraints.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Wächter and Biegler, "On the implementation of an interior-point filter line-search algorithm for large-scale
    nonlinear programming", Math. Programming 2006.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.NonlinearProgram(lambda x: x[0] + x[1], inequality=lambda x: x @ x - 2.0, lower=-1.2)
    >>> solution = dini.solve(problem, dini.NonlinearInteriorPoint(), problem.start(jnp.zeros(2)))
    >>> print(solution.x.primal.round(3), solution.x.dual.inequality.round(3))
    [-1. -1.] 0.5
    """

    max_steps: int = field(default=500, metadata={"static": True})

    solves = (NonlinearProgram,)
    composite = True
    differentiable = False

    def check(self, problem: Constrained, x: Tree) -> None:
        """Raise where there is a set or a penalty besides the functions."""
        super().check(problem, x)
        if problem.part is not None:
            raise TypeError(
                f"{self.name} takes bounds, equalities and inequalities: given {problem.name} with "
                f"{problem.part.name}. Use AugmentedLagrangian, or state it by equalities and inequalities."
            )

    def init(self, problem: Constrained, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the functions."""
        view = View(problem, x, args)
        zero, one = jnp.zeros((), view.dtype), jnp.ones((), view.dtype)
        length = start_length(view).astype(view.dtype)
        units = Units(jnp.where(length > 0, length, one), one, jnp.ones(view.rows, view.dtype))
        return begun(view, units, view.start / units.length, infinity(x), zero.astype(jnp.int32))

    def accepts_state(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state can be one of these arguments: one that nearly converged is accepted."""
        tol = threshold(self, x.primal)
        return (state.measured > 1.02 * tol) | (problem.condition.error(problem, x, *args) <= 100 * tol)

    def derivative_solver(self, problem: Constrained, x: Tree, state: State) -> Reused | None:
        """Return a linear solver that holds the factor of the last step onto the active constraints."""
        view = View(problem, x, ())
        if view.unknowns + view.rows < _WORTHWHILE:
            return None
        keep, pins = tight(view, state.point, box_of(view, state.units))
        right, left = view.scales(x, state.units)
        own = ravel_pytree(right)[0] * ravel_pytree(left)[0]
        return Reused(BarrierFactor(state.at, state.factor, keep, pins, own), state.mode == POLISH, right, left)

    def step(self, problem: Constrained, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        view, old = View(problem, x, args), state
        was_restoring, polishing = state.mode == RESTORE, state.mode == POLISH
        trial = tried(view, state, box_of(view, state.units))
        back = was_restoring & trial.accept & trial.restored
        # whether a trial of the equations of the active constraints is good, only derivatives tell
        look = trial.accept | polishing
        same = state.point, state.at, state.units
        point, at, units = jax.lax.cond(look, lambda: evaluated(view, state, trial, back), lambda: same)
        box = box_of(view, units)
        known = measures(view, at, point, box)
        tol = threshold(self, x.primal).astype(view.dtype)
        better = polishing & (known.error < jnp.where(known.error <= tol, 1, 0.1) * state.measured)
        lost = polishing & ~better
        done = polishing & jnp.where(
            lost, state.measured <= tol, known.error <= jnp.minimum(tol, 10 * jnp.finfo(view.dtype).eps)
        )
        # a solve continues from the point before, off its bounds
        kept = jax.tree.map(lambda a, b: jnp.where(done, a, b), state.point, recentred(state.point, box, state.mu))
        point, at = jax.tree.map(lambda a, b: jnp.where(lost, b, a), (point, at), (kept, state.at))
        measured = jnp.where(look & ~lost, known.error, state.measured)

        start = state.start / (units.length / state.units.length)
        state = state._replace(point=point, at=at, units=units, measured=measured, start=start)
        infeasible = known.violation > tol
        descends = trial.accept & (~was_restoring | back)
        state = next_barrier(view, old, state, box, known, tol, trial, descends)
        no = rejected(view, old, trial, infeasible)
        mode = next_mode(old, state, trial, no, infeasible, back, better)
        entering = (mode == RESTORE) & ~was_restoring
        # the factor at the end is that of the active constraints
        mode = jnp.where(done, POLISH, mode)
        state = restoring(view, old, state, trial, entering)
        fruitless = no.given_up & ~infeasible & state.last_try
        state = state._replace(
            mode=mode,
            polish_at=jnp.where(lost, LATER * measured, state.polish_at),
            last_try=state.last_try | (no.given_up & ~infeasible),
        )
        needed = trial.accept | polishing | entering | (mode == POLISH)
        state = renewed(view, old, state, box, trial, no, needed)
        failed = (fruitless | (lost & old.last_try)) & ~done
        state = state._replace(status=ending(view, old, state, known, tol, box, failed))
        done, state = looked_again(view, old, state, box, done, lost, tol)
        # the test is met where the last digits are right as well
        held = jnp.maximum(measured, 1.01 * tol + jnp.finfo(view.dtype).tiny)
        error = jnp.where(done | jnp.isnan(measured), measured, held).astype(old.error.dtype)
        # a bound that is not a number is none that could be left out
        error = jnp.where(jnp.any(jnp.isnan(view.lower) | jnp.isnan(view.upper)), jnp.nan, error)
        end = state.point
        tree = view.tree(end.x, units, end.y, end.upper - end.lower)
        return tree, state._replace(error=error)
