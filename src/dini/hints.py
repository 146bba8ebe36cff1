"""What is said of an argument that does not exist: its name here, where it belongs, or the names that there are."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, cast

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")

#: JAXopt's, SciPy's and Optimistix's names of settings
_HERE = {
    "maxiter": "max_steps",
    "max_iter": "max_steps",
    "maxls": "line_search",
    "stepsize": "step_size",
    "learning_rate": "step_size",
    "linesearch": "line_search",
    "history_size": "history",
    "beta": "mixing",
    "solve": "linear_solver",
    "implicit_diff_solve": "linear_solver",
    "gtol": "atol",
    "ftol": "rtol",
    "xtol": "rtol",
}

#: where what is no setting of a solver belongs
_THERE = {
    "fun": "The function belongs to the problem: dini.minimize(fun, x0, solver=...), dini.Minimize(fun).",
    "residual_fun": "The function belongs to the problem: dini.least_squares(fun, x0, solver=...).",
    "optimality_fun": "The function belongs to the problem: dini.root(fun, x0, solver=...).",
    "fixed_point_fun": "The function belongs to the problem: dini.fixed_point(fun, x0, solver=...).",
    "has_aux": "It belongs to the problem: dini.minimize(fun, x0, has_aux=True), dini.Minimize(fun, has_aux=True).",
    "prox": "It belongs to the problem: penalty=dini.penalties.L1(strength), or penalties.Custom(value, prox).",
    "projection": "It belongs to the problem: constraint=dini.sets.Simplex(), or sets.Custom(project).",
    "bounds": "They belong to the problem: constraint=dini.sets.Box(lower, upper).",
    "implicit_diff": "It is an argument of the solve: differentiation=dini.Implicit() (the default), dini.Unrolled().",
    "verbose": "It is an argument of the solve: monitor=dini.ProgressBar().",
    "callback": "It is an argument of the solve: monitor=dini.Callback(function).",
    "jit": "Everything is compiled.",
    "unroll": "Everything is compiled; to unroll a solve, pass differentiation=dini.Unrolled().",
}

#: the function of dini that solves a problem of each kind
_VERBS = {"Minimize": "minimize", "LeastSquares": "least_squares", "Root": "root", "FixedPoint": "fixed_point"}

#: JAXopt's methods of solvers, whose function is here a problem's
_METHODS = {
    "run": "{solve}.",
    "run_iterator": "dini.run_iterator({problem}, solver, x0, iterator).",
    "init_state": "{solve}, or in a loop by hand state = solver.init({problem}, x0, *args).",
    "update": "{solve}, or in a loop by hand x, state = solver.step({problem}, x, state, *args).",
    "optimality_fun": "problem.condition(problem, x, *args), where problem = {problem}.",
    "l2_optimality_error": "problem.condition.error(problem, x, *args), where problem = {problem}.",
}


def missing_method(name: str, solver: str, kind: str) -> str | None:
    """Return what to say of JAXopt's method of that name, asked of a solver for one kind of problems, or ``None``."""
    if name not in _METHODS:
        return None
    verb, problem = _VERBS.get(kind), f"dini.{kind}(fun)"
    solve = f"dini.{verb}(fun, x0, *args, solver={solver}(...))"
    if verb is None:
        problem = f"dini.{kind}(...)"
        solve = f"dini.solve({problem}, {solver}(...), x0, *args)"
    return f"{solver} has no method {name!r}: the function belongs to the problem. Write " + _METHODS[name].format(
        solve=solve, problem=problem
    )


def _hint(name: str, names: list[str], owner: str) -> str:
    other = _HERE.get(name)
    if other in names:
        return f"Its name is {other} here."
    if name in _THERE:
        return _THERE[name]
    near = difflib.get_close_matches(name, names, 1)
    there = ", ".join(names) if names else "none"
    return (f"Is {near[0]} meant? " if near else "") + f"{owner} takes: {there}."


def explained[Function: Callable[..., Any]](
    function: Function, owner: str = "", *, solver: str | None = None
) -> Function:
    """Return a function that says more of a keyword that it does not have.

    ``owner`` is its name for users, and ``solver`` a solver that takes the settings for which there is none here.
    """
    owner = owner or function.__name__

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except (TypeError, ValueError) as error:
            if len(args) > 1 and callable(args[1]) and hasattr(args[0], "step") and repr(args[1]) in str(error):
                # a function is refused as the first setting of a solver
                raise type(error)(f"{error} {_THERE['fun']}") from None
            found = _UNKNOWN.search(str(error))
            if found is None or not str(error).startswith(f"{function.__qualname__}()"):
                raise
            name = found[1]
            if solver is not None and (name in ("tol", "rtol", "atol", "max_steps") or name in _HERE):
                hint = f"The settings of a solver are its own: solver=dini.{solver}({_HERE.get(name, name)}=...), say."
            else:
                names = [each for each in inspect.signature(function).parameters if each not in ("self", "args")]
                hint = _hint(name, names, owner)
            raise TypeError(f"{owner} has no argument {name!r}. {hint}") from None

    return cast(Function, call)
