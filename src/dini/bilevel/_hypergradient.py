"""The value of an outer objective at a solution, and its gradient, with what the next evaluation starts from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from .. import trees
from ..certified import Certificate
from ..checks.records import record
from ..defaults import Default
from ..differentiation import Differentiation, Implicit
from ..differentiation._certificate import first, guarded, leading, reverse
from ..differentiation._guards import mark, times
from ..differentiation._linearization import Linearization, Parameters, linearize
from ..differentiation._tangents import solve_real
from ..entry import as_solver
from ..explanations import explained
from ..functions import all_arrays, as_function, close, recognised
from ..functions.compiled import compiled
from ..functions.traces import untraced
from ..linear import CG, DENSE_LIMIT, GMRES, Auto
from ..linear._krylov import closed_solver
from ..problems._base import Problem
from ..reports import KEEP, forget, policy, reviewed
from ..solution import Solution, failure
from ..solvers import Solver
from ..solving import solve
from ..status import OnFailure, Status, check_on_failure, guard
from ..trees import Tree
from ._checks import check_outer, require_real

_IMPLICIT = Implicit()


class Warm(NamedTuple):
    """What the next evaluation starts from: a solution of the inner problem, and of the adjoint system.

    Attributes
    ----------
    x
        The inner solution.
    adjoint
        The adjoint :math:`u`, a tree like ``x``; zero of modes that solve no adjoint system.
    """

    x: Tree
    adjoint: Tree


class Hypergradient(NamedTuple):
    """An outer objective at a solution of the inner problem, and its gradient.

    Attributes
    ----------
    value
        The outer objective.
    gradient
        Its gradient in ``theta``, a tree like it.
    state
        What to hand to the next evaluation: a :class:`Warm`.
    solution
        The inner :class:`dini.Solution`, whose status says how the solve ended.
    certificate
        The gradient's :class:`dini.certified.Certificate`, or ``None`` where none was asked for.
    """

    value: Any
    gradient: Any
    state: Warm
    solution: Solution
    certificate: Certificate | None


@explained
def value_and_hypergradient(
    outer: Callable[..., Any],
    inner: Any,
    theta: Tree,
    x: Tree,
    *,
    outer_args: tuple[Any, ...] = (),
    inner_args: tuple[Any, ...] = (),
    solver: Solver | Callable[..., Any] | None = None,
    state: Warm | None = None,
    differentiation: Differentiation = _IMPLICIT,
    certify: bool = False,
    on_failure: OnFailure = "raise",
) -> Hypergradient:
    r"""Return an outer objective at the solution of an inner problem, and its gradient, for a loop of your own.

    .. math:: h(\theta) = f(x^*(\theta), \theta), \qquad F(x^*(\theta), \theta) = 0,

    where ``F`` is the inner problem's own optimality condition. With the adjoint :math:`u`,

    .. math:: (\partial_1 F)^\top u = -\nabla_1 f, \qquad \nabla h = \nabla_2 f + (\partial_2 F)^\top u .

    ``jax.value_and_grad`` through :func:`dini.solve` computes the same. This function also returns the adjoint, at
    which the next evaluation's linear solve starts, and checks the gradient by a certificate.

    Parameters
    ----------
    outer
        ``f(x, theta, *outer_args)``, one real number.
    inner
        A problem of dini's, whose functions take ``(x, theta, *inner_args)``; or a function of ``theta`` that returns
        one, whose functions take ``(x, *inner_args)``: where ``theta`` is a penalty's strength or a program's data.
    theta
        The outer unknown, a tree of real arrays.
    x
        Where the inner solver starts, if there is no ``state``; of a program, a pair like ``problem.start()``.
    outer_args, inner_args
        Data, which have no derivative.
    solver
        The inner solver. Default: chosen as by the verbs, :func:`dini.minimize` for example.
    state
        The ``state`` of an earlier evaluation at another ``theta``. The inner solver starts at its solution, iterative
        linear solvers at its adjoint, up to a factor: the multiple that leaves the smallest residual.
    differentiation
        Any mode.
    certify
        Whether to estimate the gradient's error; one that is off by more than one percent is a failure.
    on_failure
        As in :func:`dini.solve`.

    Returns
    -------
    Hypergradient
        With ``value``, ``gradient``, ``state``, ``solution`` and ``certificate``.

    Raises
    ------
    SolveError
        If the inner solve fails.
    DerivativeError
        If the adjoint system cannot be solved, or the certificate's verdict is bad.
    TypeError, ValueError
        For input that does not fit.

    References
    ----------
    Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016 (arXiv 1602.02355).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> fit = dini.Minimize(lambda w, t: 0.5 * jnp.sum((X @ w - y) ** 2) + 0.5 * jnp.sum(jnp.exp(t) * w**2))
    >>> held_out = lambda w, t: 0.5 * jnp.sum((w - 1) ** 2)
    >>> at = dini.bilevel.value_and_hypergradient(held_out, fit, jnp.zeros(2), jnp.zeros(2), certify=True)
    >>> print(at.value, at.gradient, at.certificate.reliable)
    0.5 [-0.  -0.4] True

    The next evaluation, at another point, starts where this one ended:

    >>> step = -0.1 * at.gradient
    >>> at = dini.bilevel.value_and_hypergradient(held_out, fit, step, jnp.zeros(2), state=at.state)
    """
    check_on_failure(on_failure)
    theta, x = require_real("theta", theta), require_real("x", x)
    if not isinstance(inner, Problem):
        if not callable(inner):
            raise TypeError(
                "inner must be a problem of dini's, such as dini.Minimize(fun), or a function of theta that returns "
                f"one: given {inner!r}."
            )
        inner = as_function(inner, "inner")
    if not isinstance(differentiation, Differentiation):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"differentiation must be a mode of dini's, such as Implicit(): given {differentiation!r}.")
    if state is not None:
        x = _started(state, x)
    check_outer("outer", outer, x, theta, *outer_args)
    chosen = _DEFAULT if solver is None else as_solver(solver)
    task = Task(as_function(outer, "outer"), inner, chosen, differentiation, tuple(outer_args), tuple(inner_args))
    given = (task, theta, x, state)
    if not untraced() or not all_arrays(given) or on_failure == "warn":
        return evaluate(*given, certify, on_failure)
    found = recognised.call(_compiled, _made, given, certify, "ignore" if on_failure == "ignore" else "nan")
    sound = int(found.solution.status) in _SOUND and bool(trees.all_finite(found.gradient))
    # of a failure, the evaluation that is not compiled says what it was
    return found if sound or on_failure != "raise" else evaluate(*given, certify, on_failure)


_DEFAULT = Default()
_SOUND = (Status.CONVERGED, Status.STOPPED)


def _started(state: Warm, x: Tree) -> Any:
    """Return where the inner solver starts, a constant."""
    if not isinstance(state, Warm):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"state must be the state of an earlier hypergradient: given {type(state).__name__}.")
    for name in ("x", "adjoint"):
        trees.require_same(f"state.{name}", getattr(state, name), x, "x")
    return jax.lax.stop_gradient(state.x)


@record
class Task:
    """What is evaluated."""

    outer: Any
    inner: Any
    solver: Solver
    mode: Any
    outer_args: tuple[Any, ...]
    inner_args: tuple[Any, ...]

    def problem(self, theta: Tree) -> tuple[Any, tuple[Any, ...]]:
        """Return the inner problem and its arguments."""
        if isinstance(self.inner, Problem):
            return self.inner, (theta, *self.inner_args)
        problem = self.inner(theta)
        if not isinstance(problem, Problem):
            raise TypeError(f"inner must return a problem of dini's: given {type(problem).__name__}.")
        return problem, self.inner_args

    def name(self, theta: Tree) -> str:
        """Return what the derivative is of, for messages."""
        return f"the solution of {self.problem(theta)[0].name}"

    def solved(self, theta: Tree, x: Tree, on_failure: OnFailure) -> Solution:
        """Solve the inner problem."""
        problem, args = self.problem(theta)
        policy: OnFailure = "ignore" if on_failure == "warn" else on_failure
        return solve(problem, self.solver, x, *args, differentiation=self.mode, on_failure=policy)

    def warned(self, found: Hypergradient, theta: Tree, on_failure: OnFailure) -> Hypergradient:
        """Return what was found, with a warning of a failed solve that comes whichever part of it is used."""
        if on_failure != "warn":
            return found
        status, name = found.solution.status, self.problem(theta)[0].name
        failed = (status != Status.CONVERGED) & (status != Status.STOPPED)
        report = lambda figures: failure(figures, problem=name, solver=self.solver.name)
        value, gradient = guard((found.value, found.gradient), failed, report, (found.solution.figures,), "warn")
        return found._replace(value=value, gradient=gradient)

    def value(self, x: Tree, theta: Tree) -> Any:
        """Return the outer objective."""
        return self.outer(x, theta, *self.outer_args)

    def linearized(self, x: Tree, theta: Tree, mode: Implicit) -> tuple[Linearization, Parameters]:
        """Return the condition around a solution, and how it depends on ``theta``."""
        leaves, treedef = jax.tree.flatten(theta)

        def parameters(leaves: list[Any]) -> Any:
            problem, args = self.problem(jax.tree.unflatten(treedef, leaves))
            problem = problem.closed(x, *args)
            condition = problem.condition if mode.condition is None else mode.condition.closed(x, *args)
            return problem, args, condition

        return linearize(x, parameters(leaves)), Parameters(leaves, parameters)


def evaluate(
    task: Task, theta: Tree, x: Tree, state: Warm | None, certify: bool, on_failure: OnFailure
) -> Hypergradient:
    """Evaluate: by the adjoint system in the mode ``Implicit``, and through the solve in others."""
    mode = task.mode
    if not isinstance(mode, Implicit) or mode.approximate:
        return _through(task, theta, x, certify, on_failure)
    solution = task.solved(theta, x, on_failure)
    at, parameters = task.linearized(solution.x, theta, mode)
    linear_solver = _linear_solver(mode, at, state)
    if certify or mode.certify:
        value = task.value(solution.x, theta)
        adjoint, gradient, certificate = _certified(task, theta, at, parameters, linear_solver)
        gradient = guarded(gradient, certificate, on_failure, task.name(theta))
    else:
        value, (v, direct) = jax.value_and_grad(task.value, argnums=(0, 1))(solution.x, theta)
        # outside of jit a failure is raised here, not by the program of the linear solve
        kept = policy(on_failure, theta, x, state) if untraced() else on_failure
        forward = lambda b: solve_real(at, b, linear_solver, kept, task.name(theta))
        if kept == KEEP:
            forget()
        adjoint = trees.neg(jax.linear_transpose(forward, v)(v)[0])
        adjoint = reviewed(adjoint) if kept == KEEP else adjoint
        pull = jax.vjp(parameters.apply(at, solution.x), parameters.moving)[1]
        gradient, certificate = trees.add(jax.tree.leaves(direct), pull(adjoint)[0]), None
    gradient = jax.tree.unflatten(jax.tree.structure(theta), gradient)
    gradient = times(mark(solution.status, on_failure), gradient)
    found = Hypergradient(value, gradient, Warm(solution.x, adjoint), solution, certificate)
    return task.warned(found, theta, on_failure)


def _made(task: Task, theta: Tree, x: Tree, state: Warm | None) -> Any:
    """Return what is evaluated with all closures made explicit: what a function returns at some ``theta``, too."""
    if isinstance(task.inner, Problem):
        inner = task.inner.closed(x, theta, *task.inner_args)
    else:
        inner = close(lambda theta: task.problem(theta)[0].closed(x, *task.inner_args), theta)
    outer = close(task.outer, x, theta, *task.outer_args)
    return dataclasses.replace(task, outer=outer, inner=inner), theta, x, state


@functools.partial(compiled, static_argnums=(0, 3, 4))
def _compiled(
    program: recognised.Program, consts: list[Any], leaves: list[Any], certify: bool, on_failure: OnFailure
) -> Hypergradient:
    task, theta, x, state = program.made(consts, leaves)
    return evaluate(task, theta, x, state, certify, on_failure)


def _through(task: Task, theta: Tree, x: Tree, certify: bool, on_failure: OnFailure) -> Hypergradient:
    """Return the gradient that a mode makes, and what the adjoint system says of it."""

    def run(theta: Tree) -> Any:
        solution = task.solved(theta, x, on_failure)
        return task.value(solution.x, theta), solution

    (value, solution), gradient = jax.value_and_grad(run, has_aux=True)(theta)
    adjoint, certificate = trees.zeros_like(solution.x), None
    if certify:
        at, parameters = task.linearized(jax.lax.stop_gradient(solution.x), theta, _IMPLICIT)
        given = leading(jax.tree.leaves(gradient))
        adjoint, _, certificate = _certified(task, theta, at, parameters, None, given)
        gradient = guarded(gradient, certificate, on_failure, task.name(theta))
    found = Hypergradient(value, gradient, Warm(solution.x, adjoint), solution, certificate)
    return task.warned(found, theta, on_failure)


def _certified(
    task: Task, theta: Tree, at: Linearization, parameters: Parameters, linear_solver: Any, given: Any = None
) -> tuple[Any, list[Any], Certificate]:
    """Return the adjoint, the gradient's leaves (or those that are given), and their certificate."""
    structure = jax.tree.structure(theta)
    value = lambda u, leaves: task.value(u, jax.tree.unflatten(structure, leaves))
    cotangents = lambda u: leading(jax.grad(value, argnums=(0, 1))(u, parameters.moving))
    system = at.system(Auto() if linear_solver is None else linear_solver)
    adjoint, gradient, certificate = reverse(at, system, parameters, cotangents, given)
    return first(adjoint), first(gradient), certificate


def _linear_solver(mode: Implicit, at: Linearization, state: Warm | None) -> Any:
    """Return the linear solver, started at the last adjoint if it is one that starts anywhere."""
    given = None if mode.linear_solver is None else closed_solver(mode.linear_solver, at.x)
    # a proximal fixed point is solved through another system, for which the adjoint is no guess
    if state is None or at.reduction is not None:
        return given
    guess = jax.lax.stop_gradient(state.adjoint)
    if given is None and trees.size(at.x) > DENSE_LIMIT:
        return (CG if at.structure == "positive definite" else GMRES)(x0_transposed=guess)
    starts = dataclasses.is_dataclass(given) and any(f.name == "x0_transposed" for f in dataclasses.fields(given))
    if starts and getattr(given, "x0_transposed", None) is None:
        return dataclasses.replace(given, x0_transposed=guess)  # pyright: ignore[reportArgumentType]
    return given
