"""The modes of differentiation of :func:`dini.solve`."""

from __future__ import annotations

from dataclasses import field
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from .. import conditions, trees
from ..checks.records import record
from ..checks.settings import require_choice
from ..conditions._gauss_newton import GaussNewton
from ..functions import hoist
from ..linear import DENSE_LIMIT, Auto, SeriesFirst
from ..linear._krylov import closed_solver, wrap_linear_solver
from ..loop import Outcome, accuracy, allowed, iterate, iterate_differentiably, replay
from ..protocols import AnyCondition, AnyProblem, AnySolver
from ..status import OnFailure, Status
from ..trees import Tree
from ._certificate import solve_certified
from ._engine import Ended, How, implicit, one_step
from ._guards import marked
from ._linearization import linearize
from ._rules import constant
from ._tangents import solve_tangent, solve_tangent_at_solution
from ._unrolled import LEAST, MOST, RUNAWAY, tested_unrolled


class Differentiation:
    """Base of the modes; subclasses stand under the decorator ``record``."""

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve a closed problem so that derivatives of the returned point pass in this mode."""
        raise NotImplementedError


def _forward(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...], monitor: Any) -> Outcome:
    return iterate(problem, solver, x, args, monitor) if solver.takes_steps else solver.run(problem, x, args)


def _untested(x: Tree, parameters: Any) -> Any:
    return linearize(x, parameters)._replace(smooth=False)


@record
class Implicit(Differentiation):
    r"""Differentiate by the implicit function theorem, :math:`\partial x = -(\partial_1 F)^{-1} \partial_2 F`.

    Exact at a solution, to first order in the distance from it; any solver; memory independent of the number of steps.

    Parameters
    ----------
    condition
        The optimality condition to differentiate: one of :mod:`dini.conditions` or a function ``F(x, *args)``.
        Default: the problem's own.
    linear_solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``. Default: by size and structure.
    certify
        Whether to estimate the error of every derivative and to raise (or what ``on_failure`` says) where it is more
        than one percent, as :mod:`dini.certified` does. It costs one more linearization and two more solves with the
        factor at hand.
    hessian
        Of :class:`dini.LeastSquares` problems, ``"gauss-newton"`` puts :math:`J^\top J` (with the curvature of a robust
        loss, where that is positive, :math:`J^\top W J`) in place of the Hessian in the linear system; the
        right-hand side stays exact. No second derivatives of the residuals in the unknown are taken, and the system is
        positive semidefinite. **An approximation**: its relative error is of the size of :math:`\sum_i r_i \nabla^2
        r_i` beside :math:`J^\top J`. The derivative is exact only where the residuals vanish or are linear in the
        unknown. :func:`dini.certified.value_and_grad` tells how far it is off. Default: ``"exact"``.

    Raises
    ------
    TypeError
        For another hessian than the exact one and a problem that is not :class:`dini.LeastSquares`.
    ValueError
        For another hessian together with a condition, or with ``certify``, which certifies exact derivatives only.

    References
    ----------
    Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022 (arXiv 2105.15183).

    Examples
    --------
    >>> import dini, jax
    >>> cube_root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, differentiation=dini.Implicit()).x
    >>> round(float(jax.grad(cube_root)(8.0)), 5)
    0.08333
    """

    condition: Any = None
    linear_solver: Any = None
    certify: bool = field(default=False, metadata={"static": True})
    hessian: Literal["exact", "gauss-newton"] = field(default="exact", metadata={"static": True})

    #: whether a solver's own test is believed; a subclass that says no has the condition looked at again at the point
    believes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_choice("Implicit's hessian", self.hessian, ("exact", "gauss-newton"))
        if self.approximate and self.condition is not None:
            raise ValueError(f"Implicit takes condition or hessian={self.hessian!r}, not both: given both.")
        if self.approximate and self.certify:
            raise ValueError(
                f"Implicit(hessian={self.hessian!r}) is an approximation, which certify=True cannot certify. "
                "dini.certified.value_and_grad compares it with the exact derivative."
            )
        if callable(self.condition):
            object.__setattr__(self, "condition", conditions.as_condition(self.condition))
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    @property
    def approximate(self) -> bool:
        """Whether the derivative is another one than that of the condition."""
        return self.hessian != "exact"

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve, and attach the implicit derivative."""
        return self.attached(problem, solver, x, args, monitor, on_failure)

    def attached(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
        found: Outcome | None = None,
    ) -> Outcome:
        """Return the outcome of a solve, which may have been ``found`` already, with the implicit derivative."""
        condition = problem.condition if self.condition is None else self.condition.closed(x, *args)
        if self.approximate:
            if not hasattr(problem, "residuals"):
                raise TypeError(
                    f"Implicit(hessian={self.hessian!r}) needs residuals, a LeastSquares problem: given "
                    f"{problem.name}. Use dini.least_squares, or Implicit()."
                )
            condition = GaussNewton(condition)
        # what a solver has left behind belongs to the problem's own condition; a certificate wants a factor of its own
        reuses = self.condition is None and self.linear_solver is None and not (self.certify or self.approximate)
        reuses &= found is None

        def forward(start: Any, solver: AnySolver, parameters: Any) -> Ended:
            problem, args, _ = parameters
            outcome = _forward(problem, solver, start, args, monitor) if found is None else found
            left = solver.derivative_solver(problem, outcome.x, outcome.state) if reuses else None
            return Ended(outcome.x, outcome.status, left, outcome._replace(x=None))

        parameters = problem, args, condition
        run = hoist(forward, x, solver, parameters)
        linear_solver, name = self._solver(condition, problem, solver, x), f"the solution of {problem.name}"
        how = How(self._tangents(problem), linear_solver, on_failure, name)
        # where a point is asked for, and no solution, nothing is held against it
        linear = linearize if solver.steps_to_take is None else _untested
        ended = implicit(lambda given, theta: run(*given, theta), (run.consts, x, solver), parameters, linear, how)
        return ended.rest._replace(x=ended.x)

    def _tangents(self, problem: AnyProblem) -> Any:
        """Return what solves the equation of the derivative."""
        if self.certify:
            return solve_certified
        # the solver's test is that of the problem's own condition, and of a convex one
        known = self.believes and self.condition is None and _convex(problem)
        return solve_tangent if known else solve_tangent_at_solution

    def _solver(self, condition: AnyCondition, problem: AnyProblem, solver: AnySolver, x: Tree) -> Any:
        if self.linear_solver is not None:
            return closed_solver(self.linear_solver, x)
        # A large map that contracts is inverted by its own iteration, which needs no orthogonalization. Beyond the
        # solution's own tolerance the derivative would not be more exact.
        if trees.size(x) > DENSE_LIMIT and isinstance(condition, conditions.Residual) and hasattr(problem, "map"):
            return SeriesFirst(Auto(), rtol=accuracy(solver, x))
        return Auto()


def _convex(problem: AnyProblem) -> bool:
    """Return whether the problem's constraint and penalty are convex."""
    return all(part.convex for part in problem.parts)


@record
class OneStep(Differentiation):
    r"""Differentiate one step of the solver at its own end point, as if the point were constant.

    The Jacobian is :math:`\partial_2 T(x, \theta)`, an approximation whose error is proportional to the contraction
    factor :math:`\|\partial_1 T\|`: exact for Newton's method at a simple solution, poor for slow solvers and at
    multiple roots, where Newton's method is one. No linear system is solved. In second derivatives the point moves as
    the first ones say.

    References
    ----------
    Bolte, Pauwels, Vaiter, "One-step differentiation of iterative algorithms", NeurIPS 2023 (arXiv 2305.13768).

    Examples
    --------
    >>> import dini, jax
    >>> cube_root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, differentiation=dini.OneStep()).x
    >>> round(float(jax.grad(cube_root)(8.0)), 5)
    0.08333
    """

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve, and attach the derivative of one more step."""
        _require_step(solver, "OneStep")

        def forward(start: Any, solver: AnySolver, parameters: Any) -> Ended:
            outcome = _forward(parameters[0], solver, start, parameters[1], monitor)
            return Ended(outcome.x, rest=outcome._replace(x=None))

        def again(ended: Ended, given: Any, parameters: Any) -> Any:
            problem, args = parameters
            return given[-1].differentiable_step(problem, ended.x, ended.rest.state, *args)

        parameters = problem, args
        run = hoist(forward, x, solver, parameters)
        ended = one_step(lambda given, theta: run(*given, theta), (run.consts, x, solver), parameters, again)
        return _mark(ended.rest._replace(x=ended.x), on_failure)


@record
class Unrolled(Differentiation):
    """Differentiate through the solver's steps.

    The derivative is that of the computed iterate, not of the solution, and passes to everything that the iterate
    depends on, the starting point and the solver's settings included. Forward mode needs no memory; reverse mode
    keeps about ``2 * sqrt(n)`` states with ``checkpoint`` (and computes each step twice), ``n`` without.

    Step sizes that a line search or a backtracking finds count as constants: at a solution that changes nothing, if the
    steps contract in all directions. Of a method that fits them to its way they need not do so in a direction that it
    has never seen: where a parameter moves the solution in such a one, the derivative may grow while the point
    converges. So the derivative of a point that has converged is put into that of the optimality condition, as Griewank
    et al. advise, by one more run in forward mode along a fixed tangent; what it leaves is the derivative's relative
    error, and one of more than a hundredth (a tenth in single precision) is a failure. With ``steps``, only methods
    that fit their steps are tested, and only for errors of ten times the derivative. The run calls what the problem's
    functions call on the host once more. Functions with a ``custom_vjp`` have no forward mode: with these, nothing
    is tested.

    A start that meets the stopping test is returned after a step or none, and its derivative is such a failure: where
    solves start at an earlier solution, ask for ``steps``. (Methods that multiply a residual by matrices,
    ``TrustRegionNewtonCG`` and ``NewtonKrylov``, have no direction where it is exactly zero, nor its derivative.)

    Parameters
    ----------
    steps
        Take exactly so many steps, without a stopping test, as ``dini.solve(..., steps=...)`` does; that they were
        taken is the success. Default: stop as always, at most ``solver.max_steps``.
    checkpoint
        Whether to trade computation for memory.
    last
        Differentiate so many last steps only (truncated backpropagation). They are taken from the solution, which is a
        constant, as plain steps: memory and time are independent of the number of steps to it. The error falls like the
        power ``last`` of the solver's contraction factor. Of ``dini.solve(..., steps=n)`` they are the last of ``n``.

    Raises
    ------
    DerivativeError
        If the derivative has not converged (or what ``on_failure`` says; ``"ignore"`` does not test).

    References
    ----------
    Griewank, Bischof, Corliss, Carle, Williamson, "Derivative convergence for iterative equation solvers", Optim.
    Methods Softw. 1993.

    Examples
    --------
    >>> import dini, jax
    >>> cube_root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, differentiation=dini.Unrolled()).x
    >>> round(float(jax.grad(cube_root)(8.0)), 4)
    0.0833
    """

    steps: int | None = field(default=None, metadata={"static": True})
    checkpoint: bool = field(default=True, metadata={"static": True})
    last: int | None = field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        for name in ("steps", "last"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ValueError(f"Unrolled's {name} must be a positive integer or None: given {value!r}.")
        if self.steps is not None and self.last is not None:
            raise ValueError("Unrolled takes steps (all of them are differentiated) or last, not both.")

    def run(
        self, problem: AnyProblem, solver: Any, x: Tree, args: tuple[Tree, ...], monitor: Any, on_failure: OnFailure
    ) -> Outcome:
        """Solve in loops that reverse mode can differentiate."""
        if not solver.takes_steps:
            raise ValueError(f"Unrolled needs a solver that takes steps; {solver.name} is a function. Use Implicit().")
        if not solver.differentiable:
            raise ValueError(
                f"Unrolled needs a solver whose points depend smoothly on the parameters; those of "
                f"{solver.name} do not (it compares values, or moves between vertices). Use Implicit()."
            )
        if self.last is not None:
            return _last_steps(problem, solver, x, args, monitor, on_failure, self.last)
        steps = self.steps
        if solver.steps_to_take is not None:
            steps, solver = solver.steps_to_take, solver.solver
        outcome = iterate_differentiably(problem, solver, x, args, monitor, steps=steps, checkpoint=self.checkpoint)
        return _mark(self._tested(outcome, problem, solver, x, args, on_failure, steps), on_failure)

    def _tested(
        self,
        outcome: Outcome,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        on_failure: OnFailure,
        steps: int | None,
    ) -> Outcome:
        """Test the derivative where the point has converged."""
        # what so many constant steps make is what was asked for
        if on_failure == "ignore" or (steps is not None and not solver.adaptive):
            return outcome
        tol = jax.lax.stop_gradient(accuracy(solver, x))
        if steps is not None:
            small = outcome.error <= jax.lax.stop_gradient(allowed(solver, outcome.x, outcome.state))
            share = jnp.where(small, RUNAWAY, jnp.inf)
        else:
            share = jnp.where(outcome.status == Status.CONVERGED, jnp.clip(5 * jnp.sqrt(tol), LEAST, MOST), jnp.inf)
        # the condition is met to the tolerance: its derivative to no more than the root of that
        limits = share, jnp.sqrt(jnp.maximum(tol, trees.eps(x)))
        again = lambda problem, args, x, solver: replay(problem, solver, x, args, steps=steps)
        parameters = (problem, args, x, solver)
        name = f"the solution of {problem.name}"
        end = tested_unrolled(
            outcome.x, limits, hoist(again, *parameters), parameters, on_failure=on_failure, name=name
        )
        return outcome._replace(x=end)


def _require_step(solver: AnySolver, mode: str) -> None:
    if solver.differentiable_step is None:
        raise ValueError(
            f"{mode} needs a solver with a differentiable step; {solver.name} has none. Use Implicit(), "
            "or a solver such as Newton, ProximalGradient or FixedPointIteration."
        )


def _last_steps(
    problem: AnyProblem, solver: Any, x: Tree, args: tuple[Tree, ...], monitor: Any, on_failure: OnFailure, count: int
) -> Outcome:
    """Solve as a constant, and take so many plain steps more, which are differentiated."""
    _require_step(solver, "Unrolled(last=...)")
    total = solver.steps_to_take
    before = solver if total is None else solver.fewer(count)
    outcome = constant(partial(_forward, monitor=monitor), problem, before, x, args)
    again = lambda x, _: (solver.differentiable_step(problem, x, outcome.state, *args), None)
    x = jax.lax.scan(again, outcome.x, None, length=count)[0]
    steps = outcome.steps if total is None else outcome.steps + count
    return _mark(outcome._replace(x=x, steps=steps, value=None), on_failure)


def _mark(outcome: Outcome, on_failure: OnFailure) -> Outcome:
    """Make the derivative of a failed solve NaN, as :class:`Implicit` does, unless the caller asked for it as it is."""
    return outcome._replace(x=marked(outcome.x, outcome.status, on_failure))
