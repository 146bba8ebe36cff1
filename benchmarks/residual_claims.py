"""What solvers of residuals claim on the problems of Moré, Garbow and Hillstrom and of NIST, and what is true of it.

    python benchmarks/residual_claims.py

Each problem in both precisions, from its standard starts, from ten times these (Moré, Garbow and Hillstrom's) and from
zero; from each of them also with unknowns in units from 1e-6 to 1e6. A claim is ``CONVERGED``. It is *wrong* where
MINPACK, in double precision and from the point that is claimed, still finds a value that is lower by a hundredth, and
neither of these explains it: the rounding of the residuals in the solver's precision, 30 units of the sizes of
unknowns times those of the Jacobian's columns; a value that has fallen to 1e-14 of the start's (1e-9 in single
precision), that of residuals that vanish. It is *right* where it is a claim that is not wrong. A run from a start where
the residuals are not finite is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mgh_functions  # noqa: E402
import nist_functions  # noqa: E402
import numpy as np  # noqa: E402
import scipy.optimize  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

SOLVERS = {
    "least_squares (default)": None,
    "LevenbergMarquardt": dini.LevenbergMarquardt(),
    'LevenbergMarquardt(hessian="gauss-newton")': dini.LevenbergMarquardt(hessian="gauss-newton"),
    'LevenbergMarquardt(strategy="trust region")': dini.LevenbergMarquardt(strategy="trust region"),
    'LevenbergMarquardt(linear_solver="qr")': dini.LevenbergMarquardt(linear_solver="qr"),
    "LevenbergMarquardt(geodesic=True)": dini.LevenbergMarquardt(geodesic=True),
    'LevenbergMarquardt(linear_solver="cg")': dini.LevenbergMarquardt(linear_solver="cg"),
    "DoglegLeastSquares": dini.DoglegLeastSquares(),
    "GaussNewton": dini.GaussNewton(),
    "GaussNewton(patience=None)": dini.GaussNewton(patience=None),
    "VariableProjection": dini.VariableProjection(linear="linear"),
    "BFGS": dini.BFGS(),
    "LBFGS": dini.LBFGS(),
}
#: the parameters in which functions of Moré, Garbow and Hillstrom are linear
LINEAR = {
    "bard": (0,),
    "gaussian": (0,),
    "meyer": (0,),
    "kowalik_osborne": (0,),
    "osborne1": (0, 1, 2),
    "biggs_exp6": (2, 3, 5),
    "osborne2": (0, 1, 2, 3),
    "box3d": (2,),
}
UNITS = np.array([1.0, 1e6, 1e-6, 1e-3, 1e3, 1e-6, 1e6])


def starts(name):
    """Return the residuals of a problem, its starts, and the places of its linear parameters."""
    if name in nist_functions.FUNCTIONS:
        fun, standard, linear, _ = nist_functions.FUNCTIONS[name]
        points = [np.asarray(start, float) for start in standard]
    else:
        fun, start = mgh_functions.FUNCTIONS[name]
        start, linear = np.asarray(start, float), LINEAR.get(name, ())
        points = [start, 10 * (start if np.any(start) else np.ones_like(start))]
    if np.any(points[0]):
        points.append(np.zeros_like(points[0]))
    return fun, np.array(points), linear


def runs(fun, solver, linear, dtype):
    """Return a program from points and units to the points found, the status and the steps."""
    size = len(linear)

    def one(start, units):
        residuals = lambda x: fun(x * units)
        problem, first = dini.LeastSquares(residuals), start / units
        if isinstance(solver, dini.VariableProjection):
            others = np.array([i for i in range(start.shape[0]) if i not in linear])
            joined = lambda x: (
                jnp.zeros(start.shape, dtype).at[np.array(linear)].set(x["linear"]).at[others].set(x["a"])
            )
            problem = dini.LeastSquares(lambda x: residuals(joined(x)))
            first = {"a": first[others], "linear": jnp.zeros(size, dtype)}
        if solver is None:
            found = dini.least_squares(residuals, first, on_failure="ignore")
        else:
            found = dini.solve(problem, solver, first, on_failure="ignore")
        x = joined(found.x) if isinstance(solver, dini.VariableProjection) else found.x
        return x * units, found.status, found.stats.steps

    return jax.jit(jax.vmap(one))


def judge(fun, x, start, eps):
    """Return whether a claim of a point is right, its value, and the least value that MINPACK finds from there."""
    residuals, jacobian = (lambda u: np.asarray(fun(u))), (lambda u: np.asarray(fun.jacobian(u)))
    r = residuals(x)
    value, first = 0.5 * r @ r, 0.5 * np.sum(residuals(start) ** 2)
    if not np.isfinite(value):
        return False, value, np.nan
    columns = np.linalg.norm(jacobian(x), axis=0)
    noise = 0.5 * np.sum((30 * eps * columns * x) ** 2)
    vanished = (1e-14 if eps < 1e-10 else 1e-9) * first
    least = value
    if np.isfinite(columns).all() and value > vanished:
        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 500}
        for scale in (1.0, "jac"):
            try:
                found = scipy.optimize.least_squares(residuals, x, jacobian, method="lm", x_scale=scale, **tight)
            except (ValueError, np.linalg.LinAlgError):
                continue
            least = min(least, found.cost) if np.isfinite(found.cost) else least
    return bool(value - least <= 0.01 * value + noise or value <= vanished), value, least


class Exact:
    """Residuals and their Jacobian in double precision."""

    def __init__(self, fun):
        self.fun, self.jacobian = jax.jit(fun), jax.jit(jax.jacobian(fun))

    def __call__(self, x):
        return self.fun(x)


def found_by(fun, solvers, linear, lanes, precision):
    """Return what each solver makes of the lanes, in one precision."""
    dtype, ends = jnp.dtype(precision), {}
    # JAX keeps a module's arrays in the precision in which it met them first
    jax.clear_caches()
    with jax.enable_x64(precision == "float64"):
        for label, solver in solvers.items():
            if isinstance(solver, dini.VariableProjection) and not 0 < len(linear) < lanes[0][0].size:
                continue
            given = [jnp.asarray(np.array(part), dtype) for part in zip(*lanes, strict=True)]
            ends[label] = [np.asarray(part) for part in runs(fun, solver, linear, dtype)(*given)]
    jax.clear_caches()
    return ends


def measure(names, solvers, precisions, say):
    """Return ``{(solver, precision): [claims that are right, wrong, no claims, steps]}``."""
    counts = {}
    for name in names:
        fun, points, linear = starts(name)
        exact, n = Exact(fun), points.shape[1]
        units = np.resize(UNITS, n)
        lanes = [(start, np.ones(n)) for start in points if np.all(np.isfinite(exact(start)))]
        lanes += [(start, units) for start, _ in lanes]
        for precision in precisions:
            ends = found_by(fun, solvers, linear, lanes, precision)
            for label, (x, status, steps) in ends.items():
                cell = counts.setdefault((label, precision), [0, 0, 0, 0])
                for i, (start, unit) in enumerate(lanes):
                    state = dini.Status(int(status[i])).name
                    where = f"{name} {label} {precision} {start}{' units' if np.any(unit != 1) else ''}"
                    cell[3] += int(steps[i])
                    right, value, least = judge(exact, x[i].astype(float), start, float(jnp.finfo(precision).eps))
                    verdict = ("right" if right else "WRONG") if state == "CONVERGED" else state
                    cell[2 if state != "CONVERGED" else 0 if right else 1] += 1
                    say(f"{verdict} {where} {steps[i]}: {value:.6g} of {least:.6g}")
        say(f"{name} {time.process_time():.0f} s")
    return counts


def main():
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="names of functions, separated by commas")
    parser.add_argument("--solvers", default="", help="only solvers whose name holds this")
    parser.add_argument("--precisions", default="float64,float32")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    names = args.only.split(",") if args.only else [*mgh_functions.FUNCTIONS, *nist_functions.FUNCTIONS]
    solvers = {label: solver for label, solver in SOLVERS.items() if args.solvers in label}
    counts = measure(names, solvers, args.precisions.split(","), lambda line: print(line, file=sys.stderr, flush=True))
    rows = [
        [label, precision, str(right), str(wrong), str(other), f"{steps / max(1, right + wrong + other):.1f}"]
        for (label, precision), (right, wrong, other, steps) in sorted(counts.items())
    ]
    body = table(["solver", "precision", "right claims", "wrong claims", "no claim", "steps a run"], rows)
    if args.dry:
        print(body)
    else:
        write("residual_claims", "Claims of solvers of residuals", "python benchmarks/residual_claims.py", body)


if __name__ == "__main__":
    main()
