"""Share of the Moré-Garbow-Hillstrom problems that dini and SciPy solve, from near and far starting points.

    python benchmarks/more_garbow_hillstrom.py

Least squares: all functions. Equations: those with as many residuals as unknowns that have a root. A start at zero is
moved to the vector of ones before it is multiplied. All are given a tolerance of 1e-12 and 2000 evaluations.

A least-squares problem counts as solved at a point where every column of the Jacobian is orthogonal to the residuals to
1e-6 (the cosine of their angle), or where the sum of squares is below 1e-14 of its start. A root counts as found where
the norm of the residuals is at most 1e-6. What a solver says of itself does not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import scipy.optimize  # noqa: E402
from mgh_functions import FUNCTIONS  # noqa: E402

import dini  # noqa: E402
from dini.defaults import Default  # noqa: E402
from dini.solvers.shared._first_then import FirstThen  # noqa: E402

jax.config.update("jax_enable_x64", True)
LIMIT = 2000
#: all are asked for the same twelve digits
DIGITS = 1e-12
TIGHT = {"tol": DIGITS, "max_steps": LIMIT}
#: no root: the minimum of the sum of squares is positive
ROOTLESS = {"chebyquad8", "chebyquad10"}


def default(problem, x):
    """Return the solver that a verb chooses, asked for the same digits."""
    chosen = Default().chosen(problem, x, ()).solver
    if isinstance(chosen, FirstThen):
        # its first solver has a limit of its own
        tight = {"atol": DIGITS, "max_steps": LIMIT}
        quick = dataclasses.replace(chosen.first, atol=DIGITS)
        return dataclasses.replace(chosen, first=quick, then=dataclasses.replace(chosen.then, **tight))
    return dataclasses.replace(chosen, atol=DIGITS, max_steps=LIMIT)


LEAST_SQUARES = {
    "dini least_squares (default)": default,
    "dini LevenbergMarquardt": dini.LevenbergMarquardt(**TIGHT),
    'dini LevenbergMarquardt(strategy="trust region")': dini.LevenbergMarquardt(strategy="trust region", **TIGHT),
    'dini LevenbergMarquardt(linear_solver="qr")': dini.LevenbergMarquardt(linear_solver="qr", **TIGHT),
    "dini LevenbergMarquardt(geodesic=True)": dini.LevenbergMarquardt(geodesic=True, **TIGHT),
    "dini DoglegLeastSquares": dini.DoglegLeastSquares(**TIGHT),
    "dini GaussNewton": dini.GaussNewton(**TIGHT),
    "scipy lm": "lm",
    "scipy trf": "trf",
    "scipy dogbox": "dogbox",
}
ROOTS = {
    "dini root (default)": default,
    "dini Newton": dini.Newton(**TIGHT),
    "dini LevenbergMarquardt": dini.LevenbergMarquardt(**TIGHT),
    "dini DoglegLeastSquares": dini.DoglegLeastSquares(**TIGHT),
    "dini Chord": dini.Chord(**TIGHT),
    "dini Broyden": dini.Broyden(**TIGHT),
    "dini NewtonKrylov": dini.NewtonKrylov(**TIGHT),
    "scipy hybr": "hybr",
    "scipy lm": "lm",
}


def scaled(start, factor):
    """Return a starting point that is further away."""
    start = np.asarray(start, float)
    if factor == 1:
        return start
    return factor * (start if np.any(start) else np.ones_like(start))


def with_dini(problem, solver, start):
    """Return the last point and the number of steps."""
    solution = dini.solve(problem, solver, jnp.asarray(start), on_failure="ignore")
    return np.asarray(solution.x), int(solution.stats.steps)


def with_scipy(verb, fun, jac, method, start):
    """Return the last point and the number of evaluations; the start where SciPy raises."""
    residuals, jacobian = (lambda x: np.asarray(fun(x))), (lambda x: np.asarray(jac(x)))
    try:
        if verb == "least_squares":
            tight = {"ftol": DIGITS, "xtol": DIGITS, "gtol": DIGITS}
            result = scipy.optimize.least_squares(residuals, start, jacobian, method=method, max_nfev=LIMIT, **tight)
        else:
            limit = {"maxfev": LIMIT} if method == "hybr" else {"maxiter": LIMIT}
            result = scipy.optimize.root(residuals, start, jac=jacobian, method=method, tol=DIGITS, options=limit)
    except (ValueError, np.linalg.LinAlgError):
        return start, LIMIT
    return result.x, result.nfev


def is_minimum(fun, jac, x, start):
    """Return whether a point is stationary, or the residuals vanish."""
    r, matrix = np.asarray(fun(x)), np.asarray(jac(x))
    value, first = r @ r, np.asarray(fun(start)) @ np.asarray(fun(start))
    if not (np.all(np.isfinite(r)) and np.all(np.isfinite(matrix))):
        return False
    sizes = np.linalg.norm(matrix, axis=0) * np.linalg.norm(r)
    cosines = np.abs(matrix.T @ r) / np.where(sizes > 0, sizes, 1)
    return bool(value <= 1e-14 * max(first, 1) or np.max(cosines) <= 1e-6)


def solved(verb, fun, jac, x, start):
    """Return whether a point solves the problem."""
    if verb == "least_squares":
        return is_minimum(fun, jac, x, start)
    return bool(np.linalg.norm(np.asarray(fun(x))) <= 1e-6)


def square(name):
    """Return whether a function is a system with a root."""
    fun, start = FUNCTIONS[name]
    return name not in ROOTLESS and jax.eval_shape(fun, jnp.zeros(len(start))).shape == (len(start),)


def run(verb, solvers, names, factors):
    """Return ``{solver: {(name, factor): (solved, value, evaluations)}}``."""
    results = {solver: {} for solver in solvers}
    for name in names:
        fun, standard = FUNCTIONS[name]
        compiled, jac = jax.jit(fun), jax.jit(jax.jacobian(fun))
        problem = dini.LeastSquares(fun) if verb == "least_squares" else dini.Root(fun)
        for label, solver in solvers.items():
            for factor in factors:
                start = scaled(standard, factor)
                if isinstance(solver, str):
                    x, count = with_scipy(verb, compiled, jac, solver, start)
                else:
                    own = solver(problem, jnp.asarray(start)) if solver is default else solver
                    x, count = with_dini(problem, own, start)
                value = float(np.sum(np.asarray(compiled(x)) ** 2))
                results[label][name, factor] = solved(verb, compiled, jac, x, start), value, count
        print(verb, name, f"{time.process_time():.0f} s", file=sys.stderr, flush=True)
        jax.clear_caches()  # thousands of programs at a time are more than the system maps
    return results


def summary(results, factors):
    """Return the table of shares."""
    best = {}
    for cells in results.values():
        for key, (_, value, _) in cells.items():
            best[key] = min(best.get(key, np.inf), value if np.isfinite(value) else np.inf)
    rows = []
    for label, cells in results.items():
        row = [label]
        for factor in factors:
            keys = [key for key in cells if key[1] == factor]
            row.append(f"{sum(cells[key][0] for key in keys)} of {len(keys)}")
        lowest = [cells[key][1] <= best[key] + 1e-6 * (1e-6 + best[key]) for key in cells]
        done = [count for ok, _, count in cells.values() if ok]
        rows.append([*row, f"{sum(c[0] for c in cells.values()) / len(cells):.1%}"])
        rows[-1] += [f"{np.mean(lowest):.1%}", f"{np.median(done):.0f}"]
    header = ["solver", *(f"{factor}x start" for factor in factors), "solved", "as low as the best"]
    return table([*header, "median evaluations"], rows)


def failures(results):
    """Return what is solved by some solver of SciPy and not by dini's default, the first row."""
    first, *_ = results
    missed = [
        f"{name} from {factor}x"
        for (name, factor), (ok, _, _) in results[first].items()
        if not ok and any(cells[name, factor][0] for label, cells in results.items() if label.startswith("scipy"))
    ]
    return f"Solved by SciPy and not by {first}: {', '.join(missed) or 'none'}."


def main():
    """Run both parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="names of functions, separated by commas")
    parser.add_argument("--factors", default="1,10,100")
    parser.add_argument("--solvers", default="", help="only solvers whose name holds this")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    factors = [int(factor) for factor in args.factors.split(",")]
    names = args.only.split(",") if args.only else list(FUNCTIONS)
    parts = []
    for title, verb, solvers, chosen in (
        ("Least squares", "least_squares", LEAST_SQUARES, names),
        ("Equations", "root", ROOTS, [name for name in names if square(name)]),
    ):
        solvers = {label: solver for label, solver in solvers.items() if args.solvers in label}
        if not chosen:
            continue
        results = run(verb, solvers, chosen, factors)
        parts.append(f"## {title}\n\n{summary(results, factors)}\n\n{failures(results)}")
        if args.dry:
            for label, cells in results.items():
                print(label, [f"{k[0]} {k[1]} {c[1]:.2e}" for k, c in cells.items() if not c[0]])
    body = "\n\n".join(parts)
    if args.dry:
        print(body)
    else:
        write("more_garbow_hillstrom", "Moré-Garbow-Hillstrom", "python benchmarks/more_garbow_hillstrom.py", body)


if __name__ == "__main__":
    main()
