"""Arguments that a function or a class does not have, and those that it lacks: where they belong, what is meant."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from typing import Any

from .names import scipy_method
from .parts import NONLINEAR

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing .*'(\w+)'$")

_DERIVATIVES = (
    "JAX differentiates the function. To give a gradient of your own, pass an object with the methods "
    "__call__(x, *args) and value_and_gradient(x, *args): see dini.Minimize."
)

#: JAXopt's, SciPy's and Optimistix's names of settings
_HERE = {
    "maxiter": "max_steps",
    "max_iter": "max_steps",
    "maxls": "line_search",
    "stepsize": "step_size",
    "learning_rate": "step_size",
    "linesearch": "line_search",
    "history_size": "history",
    "memory": "history",
    "memory_size": "history",
    "beta": "mixing",
    "solve": "linear_solver",
    "gtol": "atol",
    "ftol": "rtol",
    "xtol": "rtol",
    "tolerance": "rtol",
    "x0": "init",
    "init": "x0",
    "init_params": "x0",
    "x_init": "x0",
    "y0": "x0",
    "lam": "strength",
    "alpha": "strength",
    "l1reg": "strength",
    "function": "value",
    "proximal": "prox",
    "project": "projection",
}

#: where what is no setting of a solver belongs
_THERE = {
    "fun": "The function belongs to the problem: dini.minimize(fun, x0, solver=...), dini.Minimize(fun).",
    "residual_fun": "The function belongs to the problem: dini.least_squares(fun, x0, solver=...).",
    "optimality_fun": "The function belongs to the problem: dini.root(fun, x0, solver=...).",
    "fixed_point_fun": "The function belongs to the problem: dini.fixed_point(fun, x0, solver=...).",
    "has_aux": "It belongs to the problem: dini.minimize(fun, x0, has_aux=True), dini.Minimize(fun, has_aux=True).",
    "prox": "It belongs to the problem: penalty=dini.penalties.L1(strength), or "
    "dini.penalties.Custom(prox=prox) with prox(x, step_size).",
    "projection": "It belongs to the problem: constraint=dini.sets.Simplex(), or sets.Custom(project).",
    "hyperparams_prox": "A strength belongs to its penalty: penalty=dini.penalties.L1(strength).",
    "hyperparams_proj": "A radius or bounds belong to their set: constraint=dini.sets.Simplex(radius).",
    "bounds": "They belong to the problem: constraint=dini.sets.Box(lower, upper).",
    "lower": "Bounds belong to the problem: constraint=dini.sets.Box(lower, upper).",
    "upper": "Bounds belong to the problem: constraint=dini.sets.Box(lower, upper).",
    "constraints": f"A constraint is one set, such as constraint=dini.sets.Box(0.0, 1.0). {NONLINEAR}",
    "penalty": "A penalty is an argument of dini.minimize, also for residuals: "
    "dini.minimize(lambda x: 0.5 * jnp.sum(residuals(x) ** 2), x0, penalty=dini.penalties.L1(strength)).",
    "implicit_diff": "It is an argument of the solve: differentiation=dini.Implicit() (the default), dini.Unrolled().",
    "implicit_diff_solve": "The derivative's linear solver is set with the derivative: "
    "differentiation=dini.Implicit(linear_solver=dini.linear.CG()).",
    "linear_solver": "The derivative's is set with the derivative, "
    "differentiation=dini.Implicit(linear_solver=dini.linear.CG()); that of a solver's steps with the solver, "
    "solver=dini.Newton(linear_solver=dini.linear.CG()).",
    "condition": "It is set with the derivative: differentiation=dini.Implicit(condition=...).",
    "adjoint": "It is an argument of the solve: differentiation=dini.Implicit() (the default), dini.Unrolled().",
    "jac": _DERIVATIVES,
    "grad": _DERIVATIVES,
    "fprime": _DERIVATIVES,
    "hess": _DERIVATIVES,
    "hessp": _DERIVATIVES,
    "value_and_grad": _DERIVATIVES,
    "throw": 'It is an argument of the solve: pass on_failure="ignore" and check solution.status.',
    "disp": "It is an argument of the solve: monitor=dini.ProgressBar().",
    "verbose": "It is an argument of the solve: monitor=dini.ProgressBar().",
    "callback": "It is an argument of the solve: monitor=dini.Callback(function).",
    "jit": "Everything is compiled.",
    "unroll": "Everything is compiled; to unroll a solve, pass differentiation=dini.Unrolled().",
}

#: the message about a function where :func:`dini.testing.check_gradient` takes a problem
CHECKED = (
    "check_gradient compares the derivative of a solution with finite differences, and needs a problem, a solver and a "
    "starting point: check_gradient(dini.Minimize(fun), dini.LBFGS(), x0, *args). The gradient of a function that "
    "solves nothing is checked by jax.test_util.check_grads(fun, (x,), order=1)."
)

#: the message where a starting point is missing, by the owner or by the argument's name
_START = {
    "x0": "{owner} needs a starting point with the shape of the unknown: dini.{owner}(fun, x0, *args) with, for "
    "example, x0=jnp.zeros(n).",
    "init": "{owner} needs a problem, a solver and a starting point: dini.solve(dini.Minimize(fun), dini.LBFGS(), x0, "
    "*args). dini.minimize(fun, x0, *args) chooses the solver.",
    "check_gradient": CHECKED,
}


def cause(
    error: Exception,
    function: Callable[..., Any],
    owner: str,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    *,
    solver: str | None,
    misused: str | None,
) -> Exception | None:
    """Return the error that says what is wrong with the arguments of a call that has failed, if it is they."""
    if len(args) > 1 and callable(args[1]) and hasattr(args[0], "step") and repr(args[1]) in str(error):
        # a function is refused as the first setting of a solver
        return type(error)(f"{error} {_THERE['fun']}")
    if not str(error).startswith(f"{function.__qualname__}()"):
        return None
    if misused is not None:
        return TypeError(f"{str(error).replace(f'{function.__qualname__}()', owner)}. {misused}")
    missing = _MISSING.search(str(error))
    start = None if missing is None else _START.get(owner, _START.get(missing[1]))
    if start is not None:
        return TypeError(start.format(owner=owner))
    found = _UNKNOWN.search(str(error))
    if found is None:
        return None
    name = found[1]
    names = [each for each in inspect.signature(function).parameters if each not in ("self", "args")]
    if solver is None:
        hint = _hint(name, names, owner)
    else:
        fun = args[0] if args else keywords.get("fun")
        hint = _verb_hint(name, keywords.get(name), names, owner, solver, fun)
    return TypeError(f"{owner} has no argument {name!r}. {hint}")


def _hint(name: str, names: list[str], owner: str) -> str:
    other = _HERE.get(name)
    if other in names:
        return f"dini calls it {other}."
    if name in ("tol", "atol", "tolerance", "gtol") and "rtol" in names and "tol" not in names:
        return "Its tolerance is rtol, relative to the right-hand side."
    if name in _THERE:
        return _THERE[name]
    if name == "args":
        return "The function's arguments follow the starting point: dini.solve(problem, solver, x0, *args)."
    if name == "options":
        return f"They are arguments of {owner}: it takes {', '.join(names)}."
    near = difflib.get_close_matches(name, names, 1)
    there = ", ".join(names) if names else "none"
    return (f"Did you mean {near[0]}? " if near else "") + f"{owner} takes: {there}."


def _verb_hint(name: str, value: Any, names: list[str], owner: str, solver: str, fun: Any) -> str:
    """Return the message about an argument that a verb does not have."""
    settings = ("tol", "rtol", "atol", "max_steps", "history", "step_size", "line_search")
    if name in settings[:4] or _HERE.get(name) in settings:
        return f"Settings belong to the solver: solver=dini.{solver}({_HERE.get(name, name)}=...), for example."
    if name == "options":
        return f"Settings belong to the solver: solver=dini.{solver}(max_steps=100), for example."
    if name == "method":
        return f"A method is a solver object: {scipy_method(value) or f'solver=dini.{solver}()'}."
    if name == "args":
        return f"The function's arguments follow the starting point: dini.{owner}(fun, x0, *args)."
    if name == "solve":
        return _THERE["linear_solver"]
    if name not in _THERE and _takes(fun, name):
        return (
            f"Arguments of the function follow the starting point: dini.{owner}(fun, x0, {name}). "
            "Or bind it by functools.partial."
        )
    return _hint(name, names, owner)


def _takes(fun: Any, name: str) -> bool:
    try:
        return name in inspect.signature(fun).parameters
    except (TypeError, ValueError):
        return False
