"""What is said of an argument that does not exist: its name here, where it belongs, or the names that there are."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, cast

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing .*'(\w+)'$")

#: what is said of constraints that are functions
NONLINEAR = (
    "Functions go by name: dini.minimize(fun, x0, equality=h, inequality=g), with h(x, *args) = 0 and g(x, *args) <= 0 "
    '(SciPy\'s "ineq" is the other sign: g = -fun), and constraint=dini.sets.Box(lower, upper) for bounds beside them. '
    "As constraint= go sets of dini.sets (Box, Affine, Polyhedron, ...), and dini.sets.Custom(project) for a set that "
    "you can project onto."
)

_DERIVATIVES = (
    "JAX differentiates the function. One that has its gradient at hand is an object with the methods "
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
    "constraints": f"It is one set: constraint=dini.sets.Box(0.0, 1.0), say. {NONLINEAR}",
    "penalty": "A penalty goes with dini.minimize, also of residuals: "
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
    "throw": 'It is an argument of the solve: on_failure="ignore", and then look at solution.status.',
    "disp": "It is an argument of the solve: monitor=dini.ProgressBar().",
    "verbose": "It is an argument of the solve: monitor=dini.ProgressBar().",
    "callback": "It is an argument of the solve: monitor=dini.Callback(function).",
    "jit": "Everything is compiled.",
    "unroll": "Everything is compiled; to unroll a solve, pass differentiation=dini.Unrolled().",
}

#: SciPy's names of methods
_SCIPY = {
    "bfgs": "BFGS",
    "lbfgs": "LBFGS",
    "cg": "NonlinearCG",
    "newtoncg": "TrustRegionNewtonCG",
    "lbfgsb": "LBFGSB",
    "tnc": "ProjectedNewton",
    "trustncg": "TrustRegionNewtonCG",
    "trustkrylov": "TrustRegionNewtonCG",
    "trustexact": "Dogleg",
    "dogleg": "Dogleg",
    "neldermead": "NelderMead",
    "newton": "Newton",
    "hybr": "Newton",
    "lm": "LevenbergMarquardt",
    "trf": "LevenbergMarquardt",
    "dogbox": "DoglegLeastSquares",
    "krylov": "NewtonKrylov",
    "broyden1": "Broyden",
    "anderson": "Anderson",
    "bisect": "Bisection",
    "brentq": "Chandrupatla",
}

_QP = "dini.quadratic_program(Q=Q, c=c, A=A, b=b, G=G, h=h, lower=l, upper=u), each left out where it is missing"
_DENSE = "dini.linear.solve(matvec, b, solver=dini.linear.Dense())"

#: what to write for names of JAXopt, Optimistix, SciPy and optax
_OTHER_LIBRARIES = {
    "OSQP": _QP,
    "BoxOSQP": _QP,
    "CvxpyQP": _QP,
    "EqualityConstrainedQP": _QP,
    "BoxCDQP": "dini.minimize(dini.Quadratic(Q, c), x0, constraint=dini.sets.Box(l, u), "
    "solver=dini.CoordinateDescent())",
    "AndersonAcceleration": "dini.fixed_point(T, x0, solver=dini.Anderson(history=5))",
    "AndersonWrapper": "dini.fixed_point(T, x0, solver=dini.Anderson(history=5))",
    "ScipyMinimize": "dini.minimize(fun, x0), with solver=dini.BFGS() or another of dini.solvers",
    "ScipyBoundedMinimize": "dini.minimize(fun, x0, constraint=dini.sets.Box(lower, upper))",
    "ScipyLeastSquares": "dini.least_squares(residuals, x0)",
    "ScipyBoundedLeastSquares": "dini.least_squares(residuals, x0, constraint=dini.sets.Box(lower, upper))",
    "ScipyRootFinding": "dini.root(fun, x0)",
    "BacktrackingLineSearch": "dini.LBFGS(line_search=dini.solvers.Backtracking())",
    "ZoomLineSearch": "dini.LBFGS(line_search=dini.solvers.StrongWolfe())",
    "HagerZhangLineSearch": "dini.LBFGS(line_search=dini.solvers.HagerZhang())",
    "OptStep": "dini.Solution, with x and state; solver.step returns a plain pair",
    "projection": "a set and its projection, dini.sets.Simplex().project(x)",
    "prox": "a penalty and its proximal operator, dini.penalties.L1(strength).prox(x, step_size)",
    "implicit_diff": "dini.custom_root, dini.custom_fixed_point, dini.root_jvp, dini.root_vjp",
    "linear_solve": "dini.linear.solve(matvec, b, solver=dini.linear.CG())",
    "perturbations": "dini.perturbed.Perturbed(f, sigma, samples)",
    "isotonic": "dini.sets.isotonic_regression(y)",
    "objective": "your own function, or dini.LinearComposite; losses are in dini.losses",
    "loss": "dini.losses",
    "loop": "jax.lax.while_loop, jax.lax.scan",
    "tree_util": "jax.tree, optax.tree",
    "line_search": "dini.LBFGS(line_search=dini.solvers.StrongWolfe()): line searches are parts of solvers",
    "minimise": "dini.minimize(fun, x0)",
    "root_find": "dini.root(fun, x0)",
    "root_scalar": "dini.root(fun, x0), with solver=dini.Chandrupatla(lower, upper) for a bracket",
    "brentq": "dini.root(fun, x0, solver=dini.Chandrupatla(lower, upper))",
    "fsolve": "dini.root(fun, x0)",
    "curve_fit": "dini.least_squares(lambda p: model(t, p) - y, p0)",
    "nnls": "dini.least_squares(lambda x: A @ x - b, x0, constraint=dini.sets.NonNegative())",
    "linprog": _QP,
    "solve_cg": 'dini.linear.solve(matvec, b, solver=dini.linear.CG(), structure="positive definite")',
    "solve_normal_cg": "dini.linear.solve(matvec, b, solver=dini.linear.LSMR())",
    "solve_gmres": "dini.linear.solve(matvec, b, solver=dini.linear.GMRES())",
    "solve_bicgstab": "dini.linear.solve(matvec, b, solver=dini.linear.BiCGStab())",
    "solve_lu": 'dini.linear.solve(matvec, b, solver=dini.linear.Dense("lu"))',
    "solve_cholesky": 'dini.linear.solve(matvec, b, solver=dini.linear.Dense("cholesky"))',
    "solve_qr": _DENSE,
    "solve_inv": _DENSE,
    "solve_iterative_refinement": "dini.linear.Refined(dini.linear.GMRES())",
    "Cholesky": 'dini.linear.Dense("cholesky")',
    "LU": 'dini.linear.Dense("lu")',
    "AutoLinearSolver": "dini.linear.Auto()",
    **dict.fromkeys(("Adam", "adam"), "dini.OptaxSolver(optax.adam(1e-3))"),
    **dict.fromkeys(("SGD", "sgd"), "dini.OptaxSolver(optax.sgd(1e-2))"),
    "Lasso": "dini.penalties.L1(strength)",
    "prox_none": "a problem without a penalty",
    "prox_lasso": "dini.penalties.L1(strength).prox(x, step_size)",
    "prox_non_negative_lasso": "dini.penalties.NonNegative(dini.penalties.L1(strength)).prox(x, step_size)",
    "prox_elastic_net": "dini.penalties.ElasticNet(strength, ratio).prox(x, step_size)",
    "prox_group_lasso": "dini.penalties.GroupLasso(strength).prox(x, step_size)",
    "prox_ridge": "dini.penalties.Ridge(strength).prox(x, step_size)",
    "prox_non_negative_ridge": "dini.penalties.NonNegative(dini.penalties.Ridge(strength)).prox(x, step_size)",
    "projection_simplex": "dini.sets.Simplex(radius).project(x)",
    "projection_box": "dini.sets.Box(lower, upper).project(x)",
    "projection_non_negative": "dini.sets.NonNegative().project(x)",
    "projection_l1_ball": "dini.sets.L1Ball(radius).project(x)",
    "projection_l2_ball": "dini.sets.L2Ball(radius).project(x)",
    "projection_linf_ball": "dini.sets.LInfBall(radius).project(x)",
    "projection_hyperplane": "dini.sets.Hyperplane(a, b).project(x)",
    "projection_halfspace": "dini.sets.Halfspace(a, b).project(x)",
    "projection_affine_set": "dini.sets.Affine(A, b).project(x)",
    "projection_polyhedron": "dini.sets.Polyhedron(G, h, A, b).project(x)",
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


def scipy_method(name: Any) -> str | None:
    """Return the line to write for a method that is named as in SciPy, or ``None``."""
    solver = _SCIPY.get(re.sub(r"[^a-z0-9]", "", name.lower())) if isinstance(name, str) else None
    return None if solver is None else f"solver=dini.{solver}()"


def _hint(name: str, names: list[str], owner: str) -> str:
    other = _HERE.get(name)
    if other in names:
        return f"Its name is {other} here."
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
    return (f"Is {near[0]} meant? " if near else "") + f"{owner} takes: {there}."


def _verb_hint(name: str, value: Any, names: list[str], owner: str, solver: str, fun: Any) -> str:
    """Return what is said of an argument that a verb does not have."""
    settings = ("tol", "rtol", "atol", "max_steps", "history", "step_size", "line_search")
    if name in settings[:4] or _HERE.get(name) in settings:
        return f"The settings of a solver are its own: solver=dini.{solver}({_HERE.get(name, name)}=...), say."
    if name == "options":
        return f"The settings of a solver are its own: solver=dini.{solver}(max_steps=100), say."
    if name == "method":
        return f"A method is an object: {scipy_method(value) or f'solver=dini.{solver}()'}."
    if name == "args":
        return f"The function's arguments follow the starting point: dini.{owner}(fun, x0, *args)."
    if name == "solve":
        return _THERE["linear_solver"]
    if name not in _THERE and _takes(fun, name):
        return (
            f"It is an argument of the function, and these follow the starting point: dini.{owner}(fun, x0, {name}). "
            "Or bind it by functools.partial."
        )
    return _hint(name, names, owner)


def _takes(fun: Any, name: str) -> bool:
    try:
        return name in inspect.signature(fun).parameters
    except (TypeError, ValueError):
        return False


#: what is said of a function where :func:`dini.testing.check_gradient` takes a problem
CHECKED = (
    "check_gradient compares the derivative of a solution with finite differences, and needs a problem, a solver and a "
    "starting point: check_gradient(dini.Minimize(fun), dini.LBFGS(), x0, *args). The gradient of a function that "
    "solves nothing is checked by jax.test_util.check_grads(fun, (x,), order=1)."
)

#: what is said where a starting point is missing, by the owner or by the argument's name
_START = {
    "x0": "{owner} needs a starting point, whose shape is the unknown's: dini.{owner}(fun, x0, *args) with "
    "x0=jnp.zeros(n), say.",
    "init": "{owner} needs a problem, a solver and a starting point: dini.solve(dini.Minimize(fun), dini.LBFGS(), x0, "
    "*args). dini.minimize(fun, x0, *args) chooses the solver.",
    "check_gradient": CHECKED,
}


def explained[Function: Callable[..., Any]](
    function: Function, owner: str = "", *, solver: str | None = None, misused: str | None = None
) -> Function:
    """Return a function that says more of a keyword that it does not have, and of a start that is missing.

    ``owner`` is its name for users, and ``solver`` a solver that takes the settings for which there is none here.
    ``misused`` is what is said of any arguments that it does not take.
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
            if not str(error).startswith(f"{function.__qualname__}()"):
                raise
            if misused is not None:
                raise TypeError(f"{str(error).replace(f'{function.__qualname__}()', owner)}. {misused}") from None
            missing = _MISSING.search(str(error))
            start = None if missing is None else _START.get(owner, _START.get(missing[1]))
            if start is not None:
                raise TypeError(start.format(owner=owner)) from None
            found = _UNKNOWN.search(str(error))
            if found is None:
                raise
            name = found[1]
            names = [each for each in inspect.signature(function).parameters if each not in ("self", "args")]
            if solver is None:
                hint = _hint(name, names, owner)
            else:
                fun = args[0] if args else keywords.get("fun")
                hint = _verb_hint(name, keywords.get(name), names, owner, solver, fun)
            raise TypeError(f"{owner} has no argument {name!r}. {hint}") from None

    return cast(Function, call)


#: the modules in which a name is looked for that another one does not have
_MODULES = ("", ".solvers", ".sets", ".penalties", ".losses", ".conditions", ".linear", ".certified", ".testing")


def missing_name(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module does not have, which says where it is or what takes its place."""
    said = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # asked for by tools
        return AttributeError(said, name=name)
    root = module.partition(".")[0]
    names = {root + place: getattr(sys.modules.get(root + place), "__all__", ()) for place in _MODULES}
    hint = next((f"It is {place}.{name}." for place, public in names.items() if name in public), None)
    if hint is None and name in _OTHER_LIBRARIES:
        hint = f"Write {_OTHER_LIBRARIES[name]}."
    lower = {each.lower(): each for each in names[module]}
    if hint is None and (near := [lower[each] for each in difflib.get_close_matches(name.lower(), lower, 1)]):
        hint = f"Is {module}.{near[0]} meant?"
    return AttributeError(said if hint is None else f"{said}. {hint}", name=name)
