"""Names of other libraries, and the lines of dini that stand for them: of modules, methods of solvers, solutions."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any

from ..deferred import deferred

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
    "prox_group_lasso": 'dini.penalties.GroupLasso(strength, axis="all").prox(x, step_size)',
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
    "init_state": "{solve}, or in your own loop state = solver.init({problem}, x0, *args).",
    "update": "{solve}, or in your own loop x, state = solver.step({problem}, x, state, *args).",
    "optimality_fun": "problem.condition(problem, x, *args), where problem = {problem}.",
    "l2_optimality_error": "problem.condition.error(problem, x, *args), where problem = {problem}.",
}

#: what other libraries call the parts of a solution, or have and dini has not
_SOLUTION = {
    **dict.fromkeys(("params", "argmin", "root", "fixed_point", "sol", "y"), "The solution is solution.x."),
    **dict.fromkeys(("fun", "cost", "objective", "f", "loss"), "The objective at the solution is solution.value."),
    **dict.fromkeys(
        ("nit", "nfev", "niter", "iter_num", "iterations", "num_steps", "steps"),
        "The number of steps is solution.stats.steps; a step evaluates the function about once.",
    ),
    **dict.fromkeys(
        ("error", "optimality", "residual"), "The last value of the stopping test is solution.stats.error."
    ),
    **dict.fromkeys(("result", "converged", "failed"), "How the solve ended is solution.status, solution.success."),
    **dict.fromkeys(("jac", "grad", "gradient"), "The gradient at the solution is jax.grad(fun)(solution.x, *args)."),
    **dict.fromkeys(("hess", "hess_inv", "hessian"), "The Hessian there is jax.hessian(fun)(solution.x, *args)."),
    "njev": "The number of steps is solution.stats.steps; a step evaluates the function and its gradient about once.",
}

#: the message where a solution is used as a tuple
UNPACKED = (
    "A Solution is one object, not a tuple (x, state): take solution.x, and with return_state=True solution.state. "
    "Also: solution.value, solution.status, solution.stats, solution.aux, solution.history."
)

#: the modules in which a name is looked for that another one does not have
_MODULES = ("", ".solvers", ".sets", ".penalties", ".losses", ".conditions", ".linear", ".testing", ".certified")


def of_method(name: str, solver: str, kind: str) -> str | None:
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


def of_module(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module does not have, which says where it is or what takes its place."""
    said = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # asked for by tools
        return AttributeError(said, name=name)
    root = module.partition(".")[0]
    # those of dini are there on first access; another library on top may have none of them
    there = deferred if root == "dini" else sys.modules.get
    public = lambda where: getattr(there(where), "__all__", ())
    hint = next((f"It is {root}{place}.{name}." for place in _MODULES if name in public(root + place)), None)
    if hint is None and name in _OTHER_LIBRARIES:
        hint = f"Write {_OTHER_LIBRARIES[name]}."
    lower = {each.lower(): each for each in public(module)}
    if hint is None and (near := [lower[each] for each in difflib.get_close_matches(name.lower(), lower, 1)]):
        hint = f"Did you mean {module}.{near[0]}?"
    return AttributeError(said if hint is None else f"{said}. {hint}", name=name)


def of_solution(name: str) -> str | None:
    """Return the message about a part that other libraries' solutions have, or ``None``."""
    return _SOLUTION.get(name)
