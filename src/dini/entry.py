"""Checks of the arguments of a solve, and the errors that explain what it does not take."""

from __future__ import annotations

from typing import Any

import jax
import jax.core

from . import trees
from .checks.settings import require_count
from .differentiation import Differentiation, OneStep, Unrolled
from .functions import UserFunction
from .monitors import check_monitor
from .problems import (
    Composite,
    ConeProgram,
    FixedPoint,
    LeastSquares,
    Minimize,
    NonlinearProgram,
    QuadraticProgram,
    Root,
    VariationalInequality,
)
from .protocols import AnyProblem
from .solvers import Function, Solver
from .status import check_on_failure
from .trees import Tree

Problem = (
    Minimize
    | LeastSquares
    | Root
    | FixedPoint
    | VariationalInequality
    | Composite
    | NonlinearProgram
    | QuadraticProgram
    | ConeProgram
)


def on_reals(problem: AnyProblem, x: Tree) -> tuple[Any, Any]:
    """Return a problem and its unknown; with a complex unknown those on pairs of real numbers that stand for them."""
    if not trees.has_complex(x):
        return problem, x
    if problem.composite:
        raise TypeError(
            f"{problem.name} has a complex unknown and a constraint or penalty, which are defined on real numbers. "
            "State the problem in real and imaginary parts."
        )
    return problem.real_view(), trees.to_real(x)


def as_solver(solver: Any) -> Solver:
    """Return a solver for one of dini's or for a function ``(problem, init, *args) -> x``."""
    if isinstance(solver, Solver):
        return solver
    from_optax = str(getattr(solver, "__module__", None)).partition(".")[0] == "optax"
    if callable(solver) and not isinstance(solver, type) and not from_optax:
        return Function(UserFunction(solver))
    from .explanations import calls

    raise calls.no_solver(solver, from_optax=from_optax)


def check_settings(differentiation: Any, on_failure: Any, monitor: Any) -> None:
    """Raise unless these are what a solve takes."""
    if on_failure not in ("raise", "warn", "nan", "ignore"):
        check_on_failure(on_failure)
    if not isinstance(differentiation, Differentiation):
        given = f"the class {differentiation.__name__}" if isinstance(differentiation, type) else repr(differentiation)
        raise TypeError(
            f"differentiation must be Implicit(), OneStep(), Unrolled() or another mode of dini's: given {given}."
        )
    if monitor is not None:
        check_monitor(monitor)


def check_continuation(
    solver: Solver, given: Any, monitor: Any, differentiation: Any, time_limit: float | None
) -> None:
    """Raise unless a solve can continue from a state, or stop after a time."""
    if not solver.takes_steps:
        raise TypeError(f"state and time_limit need a solver that takes steps; {solver.name} is a function.")
    if time_limit is None:
        return
    if not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds: given {time_limit}.")
    if isinstance(differentiation, Unrolled | OneStep):
        raise ValueError(
            "A solve with time_limit runs in groups of steps, which cannot be differentiated: use Implicit(), or "
            f"limit max_steps. Given differentiation={differentiation!r}."
        )
    if monitor is not None:
        raise ValueError("A solve with time_limit takes no monitor: it restarts its loop between groups of steps.")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((given, solver))):
        raise TypeError(
            "time_limit needs concrete values, because the host reads the clock: solve outside of jit, vmap and "
            "grad, or limit max_steps."
        )


def check_steps(solver: Solver, steps: Any, differentiation: Any, time_limit: float | None) -> None:
    """Raise unless a solve can take so many steps."""
    require_count("steps", steps)
    if not solver.takes_steps:
        raise TypeError(f"steps needs a solver that takes steps; {solver.name} is a function.")
    if time_limit is not None:
        raise ValueError(f"steps and time_limit exclude each other: given steps={steps} and time_limit={time_limit}.")
    if not isinstance(differentiation, Unrolled):
        return
    if differentiation.steps is not None and differentiation.steps != steps:
        raise ValueError(
            f"steps={steps} and differentiation=Unrolled(steps={differentiation.steps}) disagree: leave one of them "
            "out."
        )
    if differentiation.last is not None and differentiation.last > steps:
        raise ValueError(
            f"differentiation=Unrolled(last={differentiation.last}) needs at least {differentiation.last} steps: "
            f"given steps={steps}."
        )


def explain(error: TypeError, problem: AnyProblem, args: Any, *, init: Tree = None, name: str = "args") -> None:
    """Replace JAX's message about what it cannot trace by one that names the argument."""
    from .explanations import calls

    if not isinstance(problem, Problem):
        raise calls.no_problem(problem) from error
    given = (init, *args) if isinstance(args, tuple) else (init,)
    solvers = [one for one in given if isinstance(one, Solver)]
    better = calls.misplaced(error, init, solvers) or calls.untraceable(init, args, name)
    if better is not None:
        raise better from error


def explain_call(error: Exception, problem: AnyProblem, init: Tree, args: Any) -> None:
    """Raise the cause and the remedy in place of an error that what was given has caused, where they are known."""
    from .explanations import calls

    better = calls.mesh(error)
    if better is not None:
        raise better from error
    if isinstance(error, TypeError):
        explain(error, problem, args, init=init)
    if isinstance(error, TypeError | ValueError | AttributeError):
        better = calls.numbers_in_a_list(error, init)
    if better is not None:
        raise better from error
