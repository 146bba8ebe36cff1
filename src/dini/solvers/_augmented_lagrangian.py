"""The method of multipliers for nonlinear programs: any solver of minima inside."""

from __future__ import annotations

import copy
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..linear import DENSE_LIMIT
from ..loop import Outcome, iterate, threshold
from ..penalties import Scaled
from ..problems import Minimize, NonlinearProgram
from ..protocols import AnyProblem, Constrained
from ..sets import Box
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, solver
from ._function import Function
from ._lbfgs import LBFGS
from ._lbfgsb import LBFGSB
from ._proximal_gradient import ProximalGradient
from ._proximal_newton import ProximalNewton
from .interior._active_newton import Refined, refined
from .interior._program_view import Derivatives, Units, View, start_length
from .interior._second_look import lower_beside, once
from .shared._penalized import Augmented, Rows

#: the weight at the start, its factor where the violation has not fallen by the second number, and the largest one
_START, _GROWTH, _ENOUGH, _HEAVIEST = 10.0, 10.0, 0.25, 1e10
#: multipliers are kept below this, in units of the start
_MOST = 1e8
#: the accuracy of the first minimum, and by how much that of the next is better
_FIRST, _BETTER = 1e-2, 0.1
#: of a violation that is smallest among its neighbours, what is left of its gradient
_LEVEL = 1e-4
#: so many steps without gain are the end
_PATIENCE = 8
#: the error below which the equations of the active constraints are solved
_NEAR = 1e-3


class State(NamedTuple):
    """Carried from step to step, in units of the start."""

    error: Scalar
    status: Any
    units: Units
    y: Any
    rho: Scalar
    violation: Scalar
    accuracy: Scalar
    least: Scalar
    idle: Any


@solver
class AugmentedLagrangian(Solver):
    r"""The augmented Lagrangian method, for :class:`dini.NonlinearProgram`.

    Each step minimizes

    .. math:: f(x) + \frac\rho2 \Bigl(\Bigl\|h(x) + \frac\nu\rho\Bigr\|^2
              + \Bigl\|\max\Bigl(g(x) + \frac\lambda\rho, 0\Bigr)\Bigr\|^2\Bigr)

    within the bounds, or with the set and the penalty of the program, by any solver of dini's for
    :class:`dini.Minimize`, and then sets :math:`\nu \leftarrow \nu +
    \rho h(x)` and :math:`\lambda \leftarrow \max(\lambda + \rho g(x), 0)`. The weight :math:`\rho` becomes ten times
    larger where violations have not fallen to a quarter. The first minimum is taken to two digits, each one after to
    one more.

    Where the relative error is below 1e-3, Newton's method for the equations of the active constraints is tried (a
    semismooth one with a set or a penalty), and its steps are taken where each leaves a tenth of the error: so the last
    digits do not depend on the inner solver, which is less accurate the larger the weight is.

    Up to 512 unknowns and constraints these equations are factorized; above, and in all other steps, no matrix is made,
    so that programs may be as large as the inner solver allows. The multipliers of inactive constraints are exactly
    zero. The error is the largest relative one: a violation is relative to the terms
    of its own constraint, :math:`(\sum_i (\partial_i c)^2 x_i^2)^{1/2}` (estimated by products with random vectors),
    the sum of the forces is relative to the largest of them, and, times its element, to the largest such product. Where
    the weight has grown and the violation alone is at a minimum, the program is infeasible at least locally:
    ``Status.LOCALLY_INFEASIBLE``.

    Parameters
    ----------
    solver
        The solver of each minimization: one of :class:`dini.Minimize` that handles the bounds, the set or the penalty.
        Default: :class:`dini.LBFGS`; :class:`dini.LBFGSB` with bounds; with a set or a penalty
        :class:`dini.ProximalGradient`, or :class:`dini.ProximalNewton` where that is convex and separable, for up to
        512 unknowns. Its ``rtol`` is set in each step.
    weight
        :math:`\rho` at the start, where objective and constraints are in units of the start.
    rtol, atol, tol
        See :class:`dini.Solver`.
    max_steps
        Limit on the number of minima.

    References
    ----------
    Birgin and Martínez, "Practical augmented Lagrangian methods for constrained optimization", SIAM 2014. Nocedal and
    Wright, "Numerical optimization", 2006, chapter 17.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solution = dini.minimize(
    ...     lambda x: x[0] + x[1], jnp.zeros(2), inequality=lambda x: x @ x - 2.0,
    ...     solver=dini.AugmentedLagrangian(dini.BFGS()),
    ... )
    >>> print(solution.x.round(3), solution.multipliers.inequality.round(3))
    [-1. -1.] 0.5

    A point with few elements, whose cubes have a given sum:

    >>> solution = dini.minimize(
    ...     lambda x: 0.5 * jnp.sum((x - jnp.array([2.0, 0.1])) ** 2), jnp.ones(2),
    ...     equality=lambda x: jnp.sum(x**3) - 1.0, penalty=dini.penalties.L1(0.5),
    ... )
    >>> print(solution.x.round(3))
    [1. 0.]
    """

    solver: Any = None
    weight: Any = _START
    max_steps: int = field(default=100, metadata={"static": True})

    solves = (NonlinearProgram,)
    composite = True
    differentiable = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("AugmentedLagrangian's weight", self.weight)
        if self.solver is None:
            return
        if not isinstance(self.solver, Solver) or isinstance(self.solver, Function):
            raise TypeError(
                "AugmentedLagrangian's solver must be a solver of dini's that takes steps, such as dini.LBFGS(): given "
                f"{self.solver!r}."
            )
        if Minimize not in self.solver.solves:
            raise TypeError(
                f"AugmentedLagrangian's solver must be one for Minimize: given {self.solver.name}. Use LBFGS, LBFGSB, "
                "Newton or ProjectedNewton."
            )

    def check(self, problem: Constrained, x: Tree) -> None:
        """Raise unless the inner solver keeps the bounds, if there are any."""
        super().check(problem, x)
        if self.solver is None or self.solver.composite:
            return
        if problem.bounded:
            raise TypeError(
                f"AugmentedLagrangian's solver must keep the bounds of {problem.name}: {self.solver.name} cannot. Use "
                "LBFGSB or ProjectedNewton."
            )
        if problem.part is not None:
            raise TypeError(
                f"AugmentedLagrangian's solver must keep the {problem.part.name} of {problem.name}: {self.solver.name} "
                "cannot. Use ProximalGradient or, if it is separable, ProximalNewton."
            )

    def _inner(self, problem: Constrained, x: Tree) -> Solver:
        """Return the solver of the minima."""
        if self.solver is not None:
            return self.solver
        if problem.part is None:
            return LBFGSB() if problem.bounded else LBFGS()
        newton = problem.part.elementwise and problem.part.convex and trees.size(x) <= DENSE_LIMIT
        return ProximalNewton() if newton else ProximalGradient()

    def init(self, problem: Constrained, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which takes the multipliers of the start."""
        view = View(problem, x, args)
        dtype = view.dtype
        rows = Rows(view)
        start = jnp.clip(view.start, view.lower, view.upper)
        length = start_length(view).astype(dtype)
        units = rows.units(start, jnp.where(length > 0, length, 1))
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        y = rows.multipliers(x.dual) * units.objective / units.constraints
        running, infinity = zero + Status.RUNNING, jnp.full((), jnp.inf, dtype)
        rho = jnp.asarray(self.weight, dtype)
        return State(infinity, running, units, y, rho, infinity, one * _FIRST, infinity, zero)

    def step(self, problem: Constrained, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Minimize the augmented Lagrangian, and move the multipliers."""
        view = View(problem, x, args)
        rows, units, dtype = Rows(view), state.units, view.dtype
        tol = threshold(self, x.primal).astype(dtype)
        inner = self._inner(problem, x.primal)
        found = self._minimum(problem, inner, x.primal, args, state)
        bad = (found.status == Status.DIVERGED) | (found.status == Status.NONFINITE)
        primal = trees.where(bad, x.primal, found.x)

        flat = view.flat(primal)
        values = rows.values(flat) * units.weights()
        c, y, rho = values[1:], state.y, state.rho
        shifted = rows.pushed(c + y / rho)
        moved = jnp.clip(rho * shifted, -_MOST, _MOST)
        known = rows.measured(flat, moved, units)
        # an inequality is as far from its end as its slack or its multiplier
        gap = jnp.where(rows.equal, jnp.abs(c), jnp.abs(jnp.maximum(c, -y / rho)))
        violation = jnp.max(gap, initial=0)
        less = violation <= _ENOUGH * state.violation
        end = self._refined(rows, units, Refined.of(flat, moved, known), ~bad, tol)
        flat, moved, known = end.x, end.y, end.known
        y, fine = jnp.where(bad, state.y, moved), ~bad & (less | (violation <= 0.1 * tol))
        rho_next = jnp.where(fine, rho, jnp.minimum(rho * _GROWTH, jnp.maximum(_HEAVIEST, rho)))

        # on the way to infinity, forces that grow dwarf the one that is left
        length, eps = jnp.max(jnp.abs(flat), initial=0) / units.length, jnp.finfo(dtype).eps
        suspect = (length > 1 / eps) | (end.leaps & (length > eps**-0.25)) | end.drifts
        error = jnp.where(bad, state.error, jnp.where(suspect, jnp.maximum(known.error, 1), known.error))
        lower, flat = self._looked(rows, units, end, error <= tol)
        error = jnp.where(lower, jnp.maximum(error, 2 * tol), error)
        gain = error < 0.5 * state.least
        idle = jnp.where(gain | bad, 0, state.idle + 1)
        # a minimum that was not found ends the solve where there is no heavier weight to try
        given_up = bad & (rho >= _HEAVIEST)
        status = jnp.where(given_up, found.status, jnp.where(idle >= _PATIENCE, Status.STALLED, Status.RUNNING))
        level = (known.level <= _LEVEL) & (known.violation > jnp.maximum(100 * tol, 1e-6))
        level &= (rho >= 1e4 * self.weight) & ~bad & ~less
        status = jnp.where(level, Status.LOCALLY_INFEASIBLE, status)
        runs = ~bad & ((length > 1 / eps) | (end.drifts & (known.error <= tol)))
        status = jnp.where(error <= tol, Status.RUNNING, jnp.where(runs, Status.DIVERGED, status)).astype(jnp.int32)
        accuracy = jnp.where(bad, state.accuracy, jnp.maximum(_BETTER * state.accuracy, 0.1 * tol))
        tree = view.tree(flat / units.length, units, y, known.bounds)
        error, least = error.astype(state.error.dtype), jnp.minimum(state.least, error)
        new = State(error, status, units, y, rho_next, violation, accuracy, least, idle)
        return tree, new

    def _refined(self, rows: Rows, units: Units, start: Refined, fine: Any, tol: Any) -> Refined:
        """Return a point by Newton's method for the equations of the active constraints, where that is nearer."""
        view = rows.view
        measured = lambda x, y: rows.measured(x, y, units)
        near = fine & (start.known.error <= _NEAR)
        return jax.lax.cond(near, lambda: refined(view, units, start, measured, tol), lambda: start)

    def _looked(self, rows: Rows, units: Units, end: Refined, done: Any) -> tuple[Any, jax.Array]:
        """Return whether the objective is lower near a converged point, and the point to continue from."""
        view, none = rows.view, (jnp.zeros((), bool), end.x)
        if view.part is not None or view.unknowns + view.rows > DENSE_LIMIT:
            return none
        u, y = end.x / units.length, end.y

        def look() -> tuple[jax.Array, jax.Array]:
            hessian = view.hessian(u, units, jnp.ones((), u.dtype), y)
            at = Derivatives(view.values(u, units), view.jacobian(u, units), hessian)
            keep = rows.equal | (y > -at.constraints)
            pins = (end.known.bounds != 0) | (view.lower >= view.upper)
            lower, there = lower_beside(view, units, at, u, y, keep, pins, end.step)
            return lower, jnp.where(lower, units.length * there, end.x)

        return once(done, look, none)

    def _minimum(self, problem: Constrained, inner: Solver, x: Tree, args: tuple[Tree, ...], state: State) -> Outcome:
        """Minimize the augmented Lagrangian, as exactly as is asked for at this step."""
        constraint = Box(*problem.bounds(x)) if problem.bounded else problem.constraint
        inside = x if constraint is None else constraint.project(x)
        penalty = None if problem.penalty is None else Scaled(problem.penalty, state.units.objective)
        penalized = Minimize(Augmented(problem, state.units, state.y, state.rho), constraint, penalty)
        inner = copy.copy(inner)  # its settings are numbers that are traced by now
        object.__setattr__(inner, "rtol", state.accuracy.astype(trees.real_dtype(x)))
        object.__setattr__(inner, "atol", None)
        inner.check(penalized, inside)
        return iterate(penalized, inner, inside, args)

    def accepts_state(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> Any:
        """Return whether the state can be one of these arguments: one that has converged is accepted for them."""
        tol = threshold(self, x.primal)
        return (state.error > tol) | (problem.condition.error(problem, x, *args) <= 100 * tol)
