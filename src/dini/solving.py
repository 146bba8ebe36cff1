"""The one path from a problem to its solution and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from . import trees, xla
from .defaults import Default, resolved
from .differentiation import Differentiation, Implicit
from .differentiation._value import objective_at
from .entry import Problem, as_solver, check_continuation, check_settings, check_steps, explain_call, on_reals
from .explanations import explained
from .failures import dealt_with, has_failed, stopped
from .functions import recognised
from .functions.compiled import compiled
from .functions.traces import untraced
from .loop import Outcome, asked
from .monitors import Monitor
from .problems import FixedPoint, LeastSquares, Minimize, Root, VariationalInequality
from .problems import check_unknown as _check_unknown
from .protocols import AnyProblem, AnySolver
from .reports import KEEP, as_themselves, forget, policy, reviewed, without_tangent
from .solution import CHOICES, JUDGED, Solution
from .solvers import Solver
from .solvers.shared._resumed import Counted, Resumed
from .status import OnFailure, Status
from .timed import in_time
from .trees import Tree

_IMPLICIT = Implicit()


def _made(problem: AnyProblem, init: Tree, args: Any) -> Any:
    """Return the problem with all closures made explicit, on real numbers."""
    problem, x = on_reals(problem, _check_unknown(init))
    return problem.closed(x, *args), init, args


@partial(compiled, static_argnums=(0, 6, 7))
def _solve(
    program: recognised.Program,
    consts: list[Any],
    leaves: list[Any],
    solver: AnySolver,
    differentiation: Any,
    monitor: Any,
    on_failure: OnFailure,
    return_state: bool,
    never: jax.Array | None = None,
    found: Solution | None = None,
) -> Solution:
    """Everything that is compiled; its checks run once, when it is traced.

    Where the solution was ``found`` already, nothing is left of the solve but its derivative.
    """
    problem, init, args = program.made(consts, leaves)
    x = _check_unknown(init)
    complex_unknown = trees.has_complex(x)
    x = trees.to_real(x)
    plain = return_state or monitor is not None
    solver, differentiation, chosen = resolved(solver, differentiation, problem, x, args, plain=plain)
    solver.check(problem, x)
    if trees.size(x):
        given = problem, solver, x, args, monitor, on_failure
        outcome = differentiation.run(*given) if found is None else differentiation.attached(*given, _outcome(found))
        outcome = outcome if monitor is None else stopped(outcome, monitor, problem, on_failure)
    else:  # nothing is unknown
        zero = jnp.zeros((), jnp.int32)
        outcome = Outcome(x, None, zero, zero + Status.CONVERGED, jnp.zeros((), trees.real_dtype(x)))
    history = outcome.history if monitor is None else monitor.kept(outcome.history)
    state, history = jax.lax.stop_gradient((outcome.state if return_state else None, history))
    aux, value = problem.aux(outcome.x, *args), objective_at(problem, outcome.x, args, outcome.value)
    x = trees.from_real(outcome.x) if complex_unknown else outcome.x
    tol = jnp.nan if outcome.tol is None else outcome.tol
    if not solver.takes_steps and not chosen:
        chosen = JUDGED
    else:  # a tolerance of zero that was not asked for is one whose scale the steps have not shown
        tol = jnp.where(asked(solver, x) & (tol == 0), jnp.nan, tol)
    rest = {"aux": aux, "state": state, "history": history}
    solution = Solution.of(x, outcome.status, outcome.steps, outcome.error, tol, value, chosen, **rest)
    return replace(solution, figures=xla.in_this_thread(solution.figures, never))


def _outcome(found: Solution) -> Outcome:
    """Return the outcome of a solve that has ended already."""
    found = jax.lax.stop_gradient(found)
    status, steps, error, tol, value, _ = found.figures
    x = trees.to_real(found.x)
    dtype = trees.real_dtype(x)
    status, steps = status.astype(jnp.int32), steps.astype(jnp.int32)
    return Outcome(x, None, steps, status, error.astype(dtype), tol=tol.astype(dtype), value=value)


#: problems whose derivative takes nothing of the solve but its point: that of a program may take a factor, too
_BY_POINT = (Minimize, LeastSquares, Root, FixedPoint, VariationalInequality)


def _is_by_point(problem: Any, solver: Any, differentiation: Any) -> bool:
    """Return whether the derivative needs nothing of the solve but its point."""
    if isinstance(solver, Resumed | Counted):
        return False
    bare = isinstance(solver, Default) or type(solver).derivative_solver is Solver.derivative_solver
    bare |= isinstance(problem, Root | FixedPoint)
    return bare and type(differentiation) is Implicit and isinstance(problem, _BY_POINT)


def _solve_by_python(
    by_point: bool,
    program: recognised.Program,
    consts: list[Any],
    leaves: list[Any],
    solver: AnySolver,
    differentiation: Any,
    monitor: Any,
    on_failure: OnFailure,
    return_state: bool,
    never: jax.Array | None,
) -> Solution:
    """Solve inside of a derivative outside of ``jit``, whose failures are raised where Python comes past.

    Where the derivative needs the point alone, the program that solves is that of a call outside of the derivative,
    which may be there already, and that of the derivative a small one.
    """
    given = consts, leaves, solver, differentiation
    kept = policy(on_failure, given)
    if kept != KEEP:
        return _solve(program, *given, monitor, on_failure, return_state, never)
    forget()
    found = None
    if by_point and monitor is None and not return_state:
        known = jax.tree.map(without_tangent, given)
        with jax.core.eval_context():
            found = _solve(program, *known, None, on_failure, False, xla.never())
            jax.block_until_ready(found.figures)
        if has_failed(found.figures):
            return found
    solution = _solve(program, *reviewed(given), monitor, kept, return_state, never, found)
    # of a solve that has failed, the derivative's failure says nothing
    return solution if has_failed(without_tangent(solution.figures)) else reviewed(solution)


@explained
def solve(
    problem: Problem,
    solver: Solver | Callable[..., Any],
    init: Tree,
    *args: Tree,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    r"""Solve a problem; the solution is a differentiable function of everything that the problem depends on.

    Parameters are the arrays in ``args``, in the problem (a radius, a penalty's strength, the weights of a callable
    module) and those that the problem's functions close over. The starting point has no influence on a solution
    and so no derivative (but see :class:`dini.Unrolled`). The solve is compiled once for equal problems, solvers and
    shapes; functions that are created at each call are equal if JAX traces the same program of them, over whatever
    arrays. A function object that comes again is taken to be pure, as by ``jax.jit``, but for values in its closure,
    its defaults and the globals that it names.

    Parameters
    ----------
    problem
        What is solved: :class:`dini.Minimize`, :class:`dini.LeastSquares`, :class:`dini.Root`,
        :class:`dini.FixedPoint`, :class:`dini.VariationalInequality`, :class:`dini.Composite`,
        :class:`dini.QuadraticProgram`, :class:`dini.ConeProgram`, :class:`dini.NonlinearProgram`.
    solver
        How: a solver of :mod:`dini.solvers`, or a function ``(problem, init, *args) -> x``.
    init
        The starting point, a pytree of floating-point or complex arrays.
    *args
        Passed to the problem's functions after ``x``; pytrees of arrays.
    differentiation
        How a derivative passes: :class:`dini.Implicit` (default), :class:`dini.OneStep`, :class:`dini.Unrolled`.
    on_failure
        What to do where the solve fails or its derivative cannot be computed. ``"raise"``: an exception outside
        ``vmap``; inside, ``solution.status`` marks the lane and its derivative is NaN. ``"warn"``: a warning.
        ``"nan"``: NaN in the failed lanes. ``"ignore"``: nothing; look at ``solution.status``.
    monitor
        :class:`dini.Callback`, :class:`dini.ProgressBar` or :class:`dini.Record`.
    return_state
        Whether to return the solver's last state as ``solution.state``.
    state
        The ``state`` of an earlier solution of the same problem by the same solver: the solve continues from there,
        with ``init`` its last point. States are pytrees of arrays, to be saved as such. A solver whose steps may make
        the point worse (an accelerated one, say) returned the best point instead, and continues from there.
    time_limit
        Seconds after which to stop, with the status ``TIME_LIMIT``; compilation counts. The clock is read between
        groups of steps, on the host: not under ``jit``, ``vmap`` or ``grad``, and without a monitor.
    steps
        Take exactly so many steps, whatever the stopping test says and ``solver.max_steps`` is: that they were taken is
        the success, ``solution.stats.error`` the error after them. A step that is not finite is a failure. With
        ``Implicit`` the derivative is that of a solution, at the point that they reach; with ``Unrolled`` it is that of
        the steps.

    Returns
    -------
    Solution
        With ``x``, ``value``, ``status``, ``stats``, ``aux``, ``state``, ``history``.

    Raises
    ------
    SolveError
        If the solve failed (under ``jit``, JAX wraps it in its own exception).
    DerivativeError
        If the linear system of the derivative could not be solved.
    TypeError, ValueError
        For input that does not fit: the message names the argument, what was given and what is needed.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> def loss(w, strength, X, y):
    ...     return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> def fit(strength):
    ...     return dini.solve(dini.Minimize(loss), dini.LBFGS(), jnp.zeros(2), strength, X, y).x
    >>> print(jax.jacobian(fit)(0.5).round(3))
    [-1.  -0.8]
    """
    solver = as_solver(solver)
    check_settings(differentiation, on_failure, monitor)
    if state is not None or time_limit is not None:
        check_continuation(solver, (problem, init, args, state), monitor, differentiation, time_limit)
    if steps is not None:
        check_steps(solver, steps, differentiation, time_limit)
    try:
        with as_themselves():
            if time_limit is not None:
                how = (differentiation, on_failure, return_state, state, time_limit)
                solution = _solve_in_time(problem, solver, init, args, *how)
            else:
                resumed: Any = solver if state is None else Resumed(solver, state)
                resumed = resumed if steps is None else Counted(resumed, steps)
                outside = untraced()
                never = None if on_failure == "ignore" or not outside else xla.never()
                run = _solve
                if not outside and on_failure == "raise":
                    run = partial(_solve_by_python, _is_by_point(problem, resumed, differentiation))
                settings = (resumed, differentiation, monitor, on_failure, return_state, never)
                solution = recognised.call(run, _made, (problem, init, args), *settings)
                if outside and on_failure != "ignore":
                    # a failure within the problem's functions comes with the first value that is looked at
                    jax.block_until_ready(solution.figures)
    except Exception as error:
        explain_call(error, problem, init, args)
        raise
    return solution if on_failure == "ignore" else dealt_with(solution, problem, solver, on_failure)


def _solve_in_time(
    problem: AnyProblem,
    solver: AnySolver,
    init: Tree,
    args: tuple[Tree, ...],
    differentiation: Differentiation,
    on_failure: OnFailure,
    return_state: bool,
    state: Any,
    time_limit: float,
) -> Solution:
    """Solve in groups of steps, between which the clock is read."""
    chosen = ""
    real, x = on_reals(problem, _check_unknown(init))
    if isinstance(solver, Default):  # groups of steps need the chosen solver
        solver, differentiation, chosen = resolved(solver, differentiation, real, x, args, plain=True)
    begin = lambda: solver.init(real, x, *args) if state is None else state

    def run(resumed: Resumed, init: Tree) -> Solution:
        settings = (resumed, differentiation, None, on_failure, True, xla.never())
        return recognised.call(_solve, _made, (problem, init, args), *settings)

    solution = in_time(begin, run, solver, init, time_limit)
    number = CHOICES.index(chosen)
    figures = solution.figures.at[5].set(number) if number else solution.figures
    return replace(solution, figures=figures, state=solution.state if return_state else None)
