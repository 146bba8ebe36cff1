"""The one road from a problem to its solution and its derivative."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from . import trees, xla
from .checks.hints import explained, scipy_method
from .checks.settings import require_count
from .defaults import Default, settled
from .differentiation import Differentiation, Implicit, OneStep, Unrolled
from .differentiation._guards import refused
from .differentiation._value import objective_at
from .functions import UserFunction, recognised
from .functions.traces import untraced
from .loop import Outcome, asked
from .monitors import Monitor, check_monitor
from .problems import (
    Composite,
    ConeProgram,
    FixedPoint,
    LeastSquares,
    Minimize,
    NonlinearProgram,
    QuadraticProgram,
    Root,
)
from .problems import check_unknown as _check_unknown
from .reports import KEEP, forget, policy, reviewed, without_tangent
from .solution import CHOICES, JUDGED, Solution, failure
from .solvers import Function, Solver
from .solvers.shared._resumed import Counted, Resumed
from .status import DerivativeError, OnFailure, Report, SolveWarning, Status, check_on_failure, guard
from .trees import Tree

Problem = Minimize | LeastSquares | Root | FixedPoint | Composite | NonlinearProgram | QuadraticProgram | ConeProgram

_IMPLICIT = Implicit()
_NUMBERS = jax.Array | np.ndarray | np.generic | bool | int | float | complex


def on_reals(problem: Any, x: Tree) -> tuple[Any, Any]:
    """Return a problem and its unknown; with a complex unknown those on pairs of real numbers that stand for them."""
    if not trees.has_complex(x):
        return problem, x
    if getattr(problem, "composite", False):
        raise TypeError(
            f"{problem.name} has a complex unknown and a constraint or penalty, which are defined on real numbers. "
            "State the problem in real and imaginary parts."
        )
    return problem.real_view(), trees.to_real(x)


def _made(problem: Any, init: Tree, args: Any) -> Any:
    """Return the problem with all closures made explicit, on real numbers."""
    problem, x = on_reals(problem, _check_unknown(init))
    return problem.closed(x, *args), init, args


@partial(jax.jit, static_argnums=(0, 6, 7))
def _solve(
    program: recognised.Program,
    consts: list[Any],
    leaves: list[Any],
    solver: Any,
    differentiation: Any,
    monitor: Any,
    on_failure: OnFailure,
    return_state: bool,
    never: jax.Array | None = None,
) -> Solution:
    """Everything that is compiled; its checks run once, when it is traced."""
    problem, init, args = program.made(consts, leaves)
    x = _check_unknown(init)
    complex_unknown = trees.has_complex(x)
    x = trees.to_real(x)
    plain = return_state or monitor is not None
    solver, differentiation, chosen = settled(solver, differentiation, problem, x, args, plain=plain)
    solver.check(problem, x)
    if trees.size(x):
        outcome = differentiation.run(problem, solver, x, args, monitor, on_failure)
        outcome = outcome if monitor is None else _stopped(outcome, monitor, problem, on_failure)
    else:  # nothing is unknown
        zero = jnp.zeros((), jnp.int32)
        outcome = Outcome(x, None, zero, zero + Status.CONVERGED, jnp.zeros((), trees.real_dtype(x)))
    history = outcome.history if monitor is None else monitor.kept(outcome.history)
    state, history = jax.lax.stop_gradient((outcome.state if return_state else None, history))
    aux, value = problem.aux(outcome.x, *args), objective_at(problem, outcome.x, args, outcome.value)
    x = trees.from_real(outcome.x) if complex_unknown else outcome.x
    tol = jnp.nan if outcome.tol is None else outcome.tol
    if hasattr(solver, "run") and not chosen:
        chosen = JUDGED
    else:  # a tolerance of zero that was not asked for is one whose scale the steps have not shown
        tol = jnp.where(asked(solver, x) & (tol == 0), jnp.nan, tol)
    rest = {"aux": aux, "state": state, "history": history}
    solution = Solution.of(x, outcome.status, outcome.steps, outcome.error, tol, value, chosen, **rest)
    return replace(solution, figures=xla.in_this_thread(solution.figures, never))


def _stopped(outcome: Outcome, monitor: Any, problem: Any, on_failure: OnFailure) -> Outcome:
    """Return the outcome, whose point has a derivative unless a callback has stopped the solve."""
    if not monitor.stops:
        return outcome
    name = problem.name

    def report(_: Any) -> DerivativeError:
        return DerivativeError(
            f"The derivative of the solution of {name} was asked for, but a callback stopped the solve, so that its "
            "point need not be a solution. Let it run to its stopping test, differentiate the steps with "
            'Unrolled(steps=...), or, if a derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.STOPPED,
        )

    return outcome._replace(x=refused(outcome.x, outcome.status == Status.STOPPED, report, on_failure))


#: how a solve may end, where nothing is raised
_NO_FAILURE = (Status.CONVERGED, Status.STOPPED)


def _solve_by_python(
    program: recognised.Program,
    consts: list[Any],
    leaves: list[Any],
    solver: Any,
    differentiation: Any,
    monitor: Any,
    on_failure: OnFailure,
    *how: Any,
) -> Solution:
    """Solve inside of a derivative outside of ``jit``, whose failures are raised where Python comes past."""
    given = consts, leaves, solver, differentiation
    kept = policy(on_failure, given)
    if kept != KEEP:
        return _solve(program, *given, monitor, on_failure, *how)
    forget()
    solution = _solve(program, *reviewed(given), monitor, kept, *how)
    # of a solve that has failed, the derivative's failure says nothing
    failed = int(np.asarray(without_tangent(solution.figures))[0]) not in _NO_FAILURE
    return solution if failed else reviewed(solution)


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
    shapes; functions that are made anew at each call are equal if JAX traces the same program of them, over whatever
    arrays. A function object that comes again is taken to be pure, as by ``jax.jit``, but for values in its closure,
    its defaults and the globals that it names.

    Parameters
    ----------
    problem
        What is solved: :class:`dini.Minimize`, :class:`dini.LeastSquares`, :class:`dini.Root`,
        :class:`dini.FixedPoint`, :class:`dini.Composite`, :class:`dini.QuadraticProgram`, :class:`dini.ConeProgram`,
        :class:`dini.NonlinearProgram`.
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
        The ``state`` of an earlier solution of the same problem by the same solver: the solve goes on from there, with
        ``init`` its last point. States are pytrees of arrays, to be saved as such. A solver whose steps may make the
        point worse (an accelerated one, say) returned the best point instead, and goes on from there.
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
        Where the solve failed (under ``jit``, JAX wraps it in its own exception).
    DerivativeError
        Where the linear system of the derivative could not be solved.
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
    if on_failure not in ("raise", "warn", "nan", "ignore"):
        check_on_failure(on_failure)
    if not isinstance(differentiation, Differentiation):  # pyright: ignore[reportUnnecessaryIsInstance]
        given = f"the class {differentiation.__name__}" if isinstance(differentiation, type) else repr(differentiation)
        raise TypeError(
            f"differentiation must be Implicit(), OneStep(), Unrolled() or another mode of dini's: given {given}."
        )
    if monitor is not None:
        check_monitor(monitor)
    if state is not None or time_limit is not None:
        _check_continuation(solver, (problem, init, args, state), monitor, differentiation, time_limit)
    if steps is not None:
        _check_steps(solver, steps, differentiation, time_limit)
    try:
        if time_limit is not None:
            chosen = ""
            if isinstance(solver, Default):  # who takes groups of steps must know of what
                real, x = on_reals(problem, _check_unknown(init))
                solver, differentiation, chosen = settled(solver, differentiation, real, x, args, plain=True)
            solution = _solve_in_time(
                problem, solver, init, args, differentiation, on_failure, return_state, state, time_limit
            )
            number = CHOICES.index(chosen)
            solution = replace(solution, figures=solution.figures.at[5].set(number)) if number else solution
        else:
            resumed: Any = solver if state is None else Resumed(solver, state)
            resumed = resumed if steps is None else Counted(resumed, steps)
            outside = untraced()
            never = None if on_failure == "ignore" or not outside else xla.never()
            run = _solve if outside or on_failure != "raise" else _solve_by_python
            settings = (resumed, differentiation, monitor, on_failure, return_state, never)
            solution = recognised.call(run, _made, (problem, init, args), *settings)
    except Exception as error:
        _explain_mesh(error)
        if isinstance(error, TypeError):
            explain(error, problem, args, init=init)
        if isinstance(error, TypeError | ValueError | AttributeError):
            _explain_list(error, init)
        raise
    if on_failure == "ignore":
        return solution
    figures = solution.figures
    if isinstance(figures, jax.core.Tracer):
        # of a derivative outside of jit they are known: what is traced is the value's own derivative
        figures = without_tangent(figures)
    if isinstance(figures, jax.core.Tracer):
        return _guarded(solution, problem, solver, on_failure)
    status = int(np.asarray(figures)[0])
    if status not in _NO_FAILURE:
        return _failed(solution, problem, solver, on_failure)
    return solution


def _check_continuation(
    solver: Solver, given: Any, monitor: Any, differentiation: Any, time_limit: float | None
) -> None:
    """Raise unless a solve can go on from a state, or stop after a time."""
    if hasattr(solver, "run"):
        raise TypeError(f"state and time_limit need a solver that takes steps; {solver.name} is a function.")
    if time_limit is None:
        return
    if not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds: given {time_limit}.")
    if isinstance(differentiation, Unrolled | OneStep):
        raise ValueError(
            "A solve with time_limit is run in groups of steps and has no derivative of its steps: use Implicit(), or "
            f"limit max_steps. Given differentiation={differentiation!r}."
        )
    if monitor is not None:
        raise ValueError("A solve with time_limit takes no monitor: it restarts its loop between groups of steps.")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((given, solver))):
        raise TypeError(
            "time_limit needs concrete values, since the clock is read on the host: solve outside of jit, vmap and "
            "grad, or limit max_steps."
        )


def _check_steps(solver: Solver, steps: Any, differentiation: Any, time_limit: float | None) -> None:
    """Raise unless a solve can take so many steps."""
    require_count("steps", steps)
    if hasattr(solver, "run"):
        raise TypeError(f"steps needs a solver that takes steps; {solver.name} is a function.")
    if time_limit is not None:
        raise ValueError("A solve takes steps (so many) or time_limit (as many as there is time for), not both.")
    if not isinstance(differentiation, Unrolled):
        return
    if differentiation.steps is not None and differentiation.steps != steps:
        raise ValueError(
            f"steps says {steps}, and differentiation=Unrolled(steps={differentiation.steps}) says otherwise: leave "
            "one of them out."
        )
    if differentiation.last is not None and differentiation.last > steps:
        raise ValueError(
            f"differentiation=Unrolled(last={differentiation.last}) differentiates the last of steps={steps} steps, "
            "which are fewer."
        )


def _solve_in_time(
    problem: Any,
    solver: Any,
    init: Tree,
    args: tuple[Tree, ...],
    differentiation: Any,
    on_failure: OnFailure,
    return_state: bool,
    state: Any,
    time_limit: float,
) -> Solution:
    """Solve in groups of steps, each at most twice as long as the one before and a fraction of what time is left."""
    start = time.perf_counter()
    if state is None:
        real, x = on_reals(problem, _check_unknown(init))
        state = solver.init(real, x, *args)
    taken, group = 0, 1
    while True:
        resumed = Resumed(solver, state, jnp.asarray(min(group, solver.max_steps - taken), jnp.int32))
        began = time.perf_counter()
        settings = (resumed, differentiation, None, on_failure, True, xla.never())
        solution: Solution = recognised.call(_solve, _made, (problem, init, args), *settings)
        status, steps, error, tol, value, chosen = np.asarray(solution.figures)
        now = time.perf_counter()
        taken, init, state = taken + int(steps), solution.x, solution.state
        if status != Status.MAX_STEPS or taken >= solver.max_steps:
            break
        if now - start >= time_limit:
            status = Status.TIME_LIMIT
            break
        share = 0.5 * (time_limit - (now - start)) / ((now - began) / max(int(steps), 1))
        affordable = int(min(share, solver.max_steps))
        group = max(1, min(2 * group, affordable))
    figures = jnp.asarray([float(status), taken, error, tol, value, chosen], solution.figures.dtype)
    return replace(solution, figures=figures, state=solution.state if return_state else None)


def _failed(solution: Solution, problem: Any, solver: Any, on_failure: OnFailure) -> Solution:
    """Deal with a failed solve whose figures are known."""
    if on_failure == "nan":
        # a product, so that a derivative that is being taken becomes NaN with the value
        lost = lambda u: u * jnp.asarray(jnp.nan, u.dtype) if trees.is_inexact(u) else u
        x, aux = jax.tree.map(lost, (solution.x, solution.aux))
        return replace(solution, x=x, aux=aux, figures=solution.figures.at[4].mul(jnp.nan))
    error = failure(without_tangent(solution.figures), problem=problem.name, solver=solver.name)
    if on_failure == "raise":
        raise error
    warnings.warn(str(error), SolveWarning, stacklevel=4)
    return solution


@dataclass(frozen=True)
class _Failure(Report):
    problem: str
    solver: str

    def __call__(self, *figures: Any) -> Exception:
        return failure(figures[0], problem=self.problem, solver=self.solver)


def _guarded(solution: Solution, problem: Any, solver: Any, on_failure: OnFailure) -> Solution:
    """Deal with a failure that will show at run time only."""
    report = _Failure(problem.name, solver.name)
    # under vmap the lane is marked by its status and keeps its last point, unless NaN was asked for
    figures, mark = solution.figures, on_failure == "nan"
    failed = (figures[0] != Status.CONVERGED) & (figures[0] != Status.STOPPED)
    guarded = guard((solution.x, solution.aux, figures[4]), failed, report, (figures,), on_failure, mark=mark)
    return replace(solution, x=guarded[0], aux=guarded[1], figures=figures.at[4].set(guarded[2]))


def as_solver(solver: Any) -> Solver:
    """Return a solver for one of dini's or for a function ``(problem, init, *args) -> x``."""
    if isinstance(solver, Solver):
        return solver
    from_optax = str(getattr(solver, "__module__", None)).partition(".")[0] == "optax"
    if callable(solver) and not isinstance(solver, type) and not from_optax:
        return Function(UserFunction(solver))
    if from_optax or (callable(getattr(solver, "init", None)) and callable(getattr(solver, "update", None))):
        raise TypeError(
            f"solver must be an object of dini.solvers: given {solver!r}. For a transformation of optax, opt, write "
            "solver=dini.OptaxSolver(opt)."
        )
    given, write = repr(solver), scipy_method(solver)
    if isinstance(solver, type):
        given, write = f"the class {solver.__name__}", f"solver=dini.{solver.__name__}()"
    raise TypeError(
        "solver must be an object of dini.solvers, such as dini.LBFGS(), or a function (problem, init, *args) -> x: "
        f"given {given}." + (f" Write {write}." if write else "")
    )


def _explain_mesh(error: Exception) -> None:
    """Say how to call a solve where JAX refuses how its arrays are split: in ``shard_map``, over explicit axes."""
    text = str(error)
    if re.search(r"\bpvary\b|\bvma\b|manual ax", text):
        raise TypeError(
            "A solve inside of jax.shard_map needs shard_map(..., check_vma=False): its loops start from values that "
            "are the same on all devices and go on with values that are not, which JAX refuses while it checks for "
            "that. Where fun has a collective, such as psum, leave shard_map out: a solve of sharded arrays under jit "
            "works as it is."
        ) from error
    if type(error).__name__ == "ShardingTypeError" or re.search(r"AxisType.Explicit|Resource axis|\d@\w+[,\]]", text):
        raise TypeError(
            "Over the explicit axes of a mesh only the data of an objective may be split, not an unknown, residuals or "
            "the lanes of a batch: what is computed from these JAX wants to be told of at every operation. Make the "
            "axes automatic, jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,)): the same program "
            "runs."
        ) from error


def explain(error: TypeError, problem: Any, args: Any, *, init: Tree = None, name: str = "args") -> None:
    """Replace JAX's message about what it cannot trace by one that names the argument."""
    if not isinstance(problem, Problem):
        raise TypeError(
            "problem must be a Minimize, LeastSquares, Root, FixedPoint, Composite, QuadraticProgram, "
            f"ConeProgram or NonlinearProgram: given {problem!r}. For a plain function use dini.minimize, "
            "dini.least_squares, dini.root or dini.fixed_point."
        ) from error
    if callable(init) and jax.tree_util.treedef_is_leaf(jax.tree.structure(init)):
        raise TypeError(
            f"init must be a starting point: given {init!r}. The function comes first: dini.minimize(fun, x0, *args)."
        ) from error
    if "positional argument" in str(error):
        misplaced = [given for given in (init, *args) if isinstance(given, Solver)]
        if misplaced:
            raise TypeError(
                f"A solver goes by name, dini.minimize(fun, x0, *args, solver={misplaced[0].name}()): given one in the "
                "place of the starting point or of an argument of the function."
            ) from error
    remedies = {
        "init": "Take what is no array out of the unknown (equinox.partition does it for a module)",
        name: "Bind other values to the function, for example with functools.partial",
    }
    for what, given in {"init": init, name: args}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(given):
            if not isinstance(leaf, _NUMBERS):
                where = f"{what}{jax.tree_util.keystr(path)}"
                raise TypeError(f"{where} must be an array or a number: given {leaf!r}. {remedies[what]}.") from error


def _explain_list(error: Exception, init: Tree) -> None:
    """Say that a list of numbers is a tree of unknowns, where an error may come of that."""
    if isinstance(init, list | tuple) and init and all(isinstance(leaf, int | float) for leaf in init):
        kind = type(init).__name__
        raise (ValueError if isinstance(error, ValueError) else TypeError)(
            f"The starting point is a {kind}, for JAX a tree of {len(init)} unknowns. For a vector write "
            f"jnp.array({[float(leaf) for leaf in init]}). With the {kind} this failed: {error}"
        ) from error
