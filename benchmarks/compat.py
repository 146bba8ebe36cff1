"""JAXopt beside ``dini_jaxopt``: the same calls, their solutions, their gradients, their times.

python benchmarks/compat.py [--only LBFGS] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
import warnings

from report import digits, interleaved, one_core, table, write

one_core()
warnings.simplefilter("ignore")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import jaxopt  # noqa: E402
import jaxopt.linear_solve  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import dini_jaxopt as shim  # noqa: E402

jax.config.update("jax_enable_x64", True)

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(60, 12)))
W = jnp.asarray(np.where(np.arange(12) % 3, 0.0, rng.normal(size=12)))
Y = X @ W + 0.1 * jnp.asarray(rng.normal(size=60))
LABELS = jnp.asarray(rng.integers(0, 3, size=60))
T = jnp.linspace(0.0, 1.0, 20)
DECAY = 2.0 * jnp.exp(-1.5 * T) + 0.3
ZERO, THIRDS = jnp.zeros(12), jnp.ones(12) / 12
TIGHT = {"tol": 1e-10, "maxiter": 20_000}


def ridge(w, strength, X, y):
    """Return the objective of ridge regression."""
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)


def ridge_truth(strength):
    """Return its minimum."""
    n = X.shape[0]
    return jnp.linalg.solve(X.T @ X / n + strength * jnp.eye(12), X.T @ Y / n)


def rosenbrock(x, a):
    """Return Rosenbrock's function with its minimum at (a, a**2)."""
    return (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def least_squares(w, data):
    """Return the mean of squares."""
    return 0.5 * jnp.mean((data[0] @ w - data[1]) ** 2)


def distance(x, y):
    """Return half the squared distance."""
    return 0.5 * jnp.sum((x - y) ** 2)


def lasso_truth(strength):
    """Return the minimum on the support that the strength leads to, in closed form."""
    w = jaxopt.ProximalGradient(jaxopt.objective.least_squares, jaxopt.prox.prox_lasso, **TIGHT)
    signs = np.sign(np.asarray(w.run(ZERO, 0.1, (X, Y)).params))
    some = np.flatnonzero(signs)
    part, n = X[:, some], X.shape[0]
    return ZERO.at[some].set(jnp.linalg.solve(part.T @ part / n, part.T @ Y / n - strength * signs[some]))


def residuals(p, shift):
    """Return the misfit of an exponential decay."""
    return p[0] * jnp.exp(-p[1] * T) + p[2] - DECAY - shift * T


def step(x, a):
    """Return Heron's step towards the square root."""
    return 0.5 * (x + a / x)


def equations(x, a):
    """Return two equations with the root (sqrt(a), sqrt(a))."""
    return jnp.array([x[0] * x[1] - a, x[0] - x[1]])


def simplex_step(x, g, stepsize, _):
    """Return an exponentiated-gradient step."""
    return jax.nn.softmax(jnp.log(x) - stepsize * g)


def roots(count):
    """Return the function of ``count`` square roots."""
    return lambda a: jnp.full(count, 1.0) * jnp.sqrt(a)


def smooth(name, **more):
    """Return a case of ridge regression."""
    return lambda M: lambda s: getattr(M, name)(ridge, **TIGHT, **more).run(ZERO, s, X=X, y=Y).params


def rosen(name, **more):
    """Return a case of Rosenbrock's function."""
    return lambda M: lambda a: getattr(M, name)(rosenbrock, **TIGHT, **more).run(jnp.zeros(2), a).params


def steep(a):
    """Return the minimum of Rosenbrock's function."""
    return jnp.array([1.0, 0.0]) * a + jnp.array([0.0, 1.0]) * a**2


def logistic(M):
    """Return multinomial logistic regression."""
    fun = M.objective.l2_multiclass_logreg
    solver = M.LBFGS(fun, tol=1e-8, maxiter=20_000)
    return lambda s: jnp.ravel(solver.run(jnp.zeros((12, 3)), s, (X, LABELS)).params)


def nnls_truth(s):
    """Return non-negative least squares on its support."""
    some = np.flatnonzero(np.asarray(jaxopt.ProjectedGradient(
        least_squares, jaxopt.projection.projection_non_negative, **TIGHT
    ).run(ZERO, None, (X, Y)).params) > 0)  # fmt: skip
    return ZERO.at[some].set(jnp.linalg.lstsq(X[:, some], s * Y)[0])


def nnls(M):
    """Return non-negative least squares by projected gradient."""
    solver = M.ProjectedGradient(least_squares, M.projection.projection_non_negative, **TIGHT)
    return lambda s: solver.run(ZERO, data=(X, s * Y)).params


def simplex(M):
    """Return the projection of a point onto a simplex of the size that is asked for."""
    solver = M.ProjectedGradient(distance, M.projection.projection_simplex, **TIGHT)
    return lambda s: solver.run(THIRDS, hyperparams_proj=s, y=W).params


def mirror(M):
    """Return an entropic mirror descent."""
    solver = M.MirrorDescent(distance, simplex_step, stepsize=0.5, tol=1e-10, maxiter=20_000)
    return lambda s: solver.run(THIRDS, None, THIRDS + s * W).params


def lasso(name, *more):
    """Return a case of the Lasso."""

    def case(M):
        solver = getattr(M, name)(M.objective.least_squares, M.prox.prox_lasso, **TIGHT)
        return lambda s: solver.run(ZERO, s, (X, Y)).params

    return case


def elastic_net(M):
    """Return the elastic net."""
    solver = M.ProximalGradient(least_squares, M.prox.prox_elastic_net, **TIGHT)
    return lambda s: solver.run(ZERO, hyperparams_prox=(s, 1.0), data=(X, Y)).params


def bounds(M):
    """Return Rosenbrock's function with bounds."""
    solver = M.LBFGSB(rosenbrock, tol=1e-10, maxiter=2000)
    return lambda a: solver.run(jnp.zeros(2), bounds=(jnp.full(2, -2.0), jnp.array([0.5, 2.0])), a=a).params


def wrapped(M):
    """Return Anderson acceleration of gradient descent."""
    inner = M.GradientDescent(ridge, stepsize=0.2, acceleration=False, **TIGHT)
    solver = M.AndersonWrapper(inner, history_size=4)
    return lambda s: solver.run(ZERO, s, X=X, y=Y).params


def stochastic(name, *more, **settings):
    """Return a stochastic solver on all data, with its implicit derivative."""
    return lambda M: (
        lambda s: getattr(M, name)(ridge, *more, implicit_diff=True, **(TIGHT | settings)).run(ZERO, s, X=X, y=Y).params
    )


def scipy_case(name, fun, init, before=(), *more, **settings):
    """Return a case of SciPy's solvers."""
    return lambda M: lambda s: getattr(M, name)(fun=fun, **settings).run(init, *before, s, *more).params


def scipy_root(M):
    """Return SciPy's solver of equations."""
    solver = M.ScipyRootFinding(optimality_fun=equations, method="hybr", tol=1e-12)
    return lambda a: solver.run(jnp.array([1.0, 2.0]), a).params


def bisection(M):
    """Return bisection."""
    solver = M.Bisection(lambda x, a: x**2 - a, 0.0, 4.0, tol=1e-12, maxiter=100, check_bracket=False)
    return lambda a: jnp.atleast_1d(solver.run(None, a).params)


BOX = (jnp.full(2, -2.0), jnp.array([0.5, 2.0]))
WIDE = (jnp.full(3, 0.0), jnp.full(3, 5.0))
GUESS = jnp.array([1.0, 1.0, 0.0])
HOME = lambda a: jnp.array([0.5, 0.25]) + 0 * a

CASES = {
    "GradientDescent, ridge": (smooth("GradientDescent"), 0.5, ridge_truth),
    "GradientDescent(acceleration=False), ridge": (smooth("GradientDescent", acceleration=False), 0.5, ridge_truth),
    "GradientDescent(stepsize=0.2), ridge": (smooth("GradientDescent", stepsize=0.2), 0.5, ridge_truth),
    "GradientDescent(implicit_diff=False), ridge": (
        smooth("GradientDescent", stepsize=0.2, implicit_diff=False, acceleration=False),
        0.5,
        ridge_truth,
    ),
    "LBFGS, ridge": (smooth("LBFGS"), 0.5, ridge_truth),
    "LBFGS(implicit_diff_solve=solve_cg), ridge": (
        lambda M: smooth("LBFGS", implicit_diff_solve=M.linear_solve.solve_cg)(M),
        0.5,
        ridge_truth,
    ),
    "BFGS, ridge": (smooth("BFGS"), 0.5, ridge_truth),
    "NonlinearCG, ridge": (smooth("NonlinearCG"), 0.5, ridge_truth),
    "LBFGS, Rosenbrock": (rosen("LBFGS"), 1.0, steep),
    "LBFGS(linesearch='backtracking'), Rosenbrock": (rosen("LBFGS", linesearch="backtracking"), 1.0, steep),
    "LBFGS(linesearch='hager-zhang'), Rosenbrock": (rosen("LBFGS", linesearch="hager-zhang"), 1.0, steep),
    "BFGS, Rosenbrock": (rosen("BFGS"), 1.0, steep),
    "LBFGS, multinomial logistic regression": (logistic, 0.1, None),
    "ProximalGradient, Lasso": (lasso("ProximalGradient"), 0.1, lasso_truth),
    "BlockCoordinateDescent, Lasso": (lasso("BlockCoordinateDescent"), 0.1, lasso_truth),
    "ProximalGradient, elastic net": (elastic_net, 0.1, None),
    "ProjectedGradient, non-negative least squares": (nnls, 1.0, nnls_truth),
    "ProjectedGradient, simplex": (simplex, 1.5, None),
    "MirrorDescent, simplex": (mirror, 0.01, lambda s: THIRDS + s * (W - jnp.mean(W))),
    "LBFGSB, Rosenbrock": (bounds, 1.0, HOME),
    "GaussNewton, exponential decay": (
        lambda M: lambda s: M.GaussNewton(residuals, maxiter=200, tol=1e-12).run(GUESS, s).params,
        0.1,
        None,
    ),
    "LevenbergMarquardt, exponential decay": (
        lambda M: lambda s: M.LevenbergMarquardt(residuals, maxiter=200, tol=1e-12).run(GUESS, s).params,
        0.1,
        None,
    ),
    "Bisection, square root": (bisection, 2.0, roots(1)),
    "Broyden, square root": (
        lambda M: lambda a: M.Broyden(equations, tol=1e-12).run(jnp.array([1.0, 2.0]), a).params,
        2.0,
        roots(2),
    ),
    "FixedPointIteration, square root": (
        lambda M: lambda a: M.FixedPointIteration(step, tol=1e-12).run(jnp.ones(2), a).params,
        2.0,
        roots(2),
    ),
    "AndersonAcceleration, square root": (
        lambda M: lambda a: M.AndersonAcceleration(step, tol=1e-12, ridge=1e-12).run(jnp.ones(2), a).params,
        2.0,
        roots(2),
    ),
    "AndersonWrapper(GradientDescent), ridge": (wrapped, 0.5, ridge_truth),
    "ArmijoSGD, ridge": (stochastic("ArmijoSGD"), 0.5, ridge_truth),
    "PolyakSGD, ridge": (stochastic("PolyakSGD", max_stepsize=0.3), 0.5, ridge_truth),
    "OptaxSolver(adam), ridge": (stochastic("OptaxSolver", optax.adam(0.01)), 0.5, ridge_truth),
    "ScipyMinimize('BFGS'), Rosenbrock": (
        scipy_case("ScipyMinimize", rosenbrock, jnp.zeros(2), method="BFGS", tol=1e-10),
        1.0,
        steep,
    ),
    "ScipyBoundedMinimize('L-BFGS-B'), Rosenbrock": (
        scipy_case("ScipyBoundedMinimize", rosenbrock, jnp.zeros(2), (BOX,), method="L-BFGS-B", tol=1e-14),
        1.0,
        HOME,
    ),
    "ScipyLeastSquares, exponential decay": (
        scipy_case("ScipyLeastSquares", residuals, GUESS, method="trf"),
        0.1,
        None,
    ),
    "ScipyBoundedLeastSquares, exponential decay": (
        scipy_case("ScipyBoundedLeastSquares", residuals, GUESS, (WIDE,), method="trf"),
        0.1,
        None,
    ),
    "ScipyRootFinding, square root": (scipy_root, 2.0, roots(2)),
}


def relative(a, b):
    """Return the distance of two vectors over the length of the second."""
    a, b = np.asarray(a), np.asarray(b)
    return (
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300)) if np.linalg.norm(b) else float(np.linalg.norm(a))
    )


def compared(name, case, theta, truth, rounds):
    """Return a row of the table: solutions and derivatives of both, and the ratios of their times."""
    theta = jnp.asarray(theta)
    scipy = "Scipy" in name
    found, slopes, first, calls = {}, {}, {}, {}
    for who, M in (("jaxopt", jaxopt), ("dini", shim)):
        solve = case(M)
        both = lambda t, solve=solve: (solve(t), jax.jacrev(solve)(t))
        run = both if scipy else jax.jit(both)
        start = time.process_time()
        try:
            found[who], slopes[who] = jax.block_until_ready(run(theta))
        except Exception as error:
            found[who] = slopes[who] = f"{type(error).__name__}"
            print(f"{name}: {who}: {error}"[:300])
        first[who] = time.process_time() - start
        calls[who] = lambda run=run: jax.block_until_ready(run(theta))
    if any(isinstance(value, str) for value in found.values()):
        kinds = " / ".join(value if isinstance(value, str) else "solves" for value in found.values())
        return [name, kinds, "", "", "", "", "", ""]
    row = [name, digits(relative(found["dini"], found["jaxopt"])), digits(relative(slopes["dini"], slopes["jaxopt"]))]
    if truth is None:
        row += ["", ""]
    else:
        exact, slope = truth(theta), jax.jacrev(truth)(theta)
        row += [
            f"{digits(relative(found['jaxopt'], exact))} / {digits(relative(found['dini'], exact))}",
            f"{digits(relative(slopes['jaxopt'], slope))} / {digits(relative(slopes['dini'], slope))}",
        ]
    times = interleaved(calls, repeat=1 if scipy else 5, rounds=rounds)
    row += [
        digits(times["dini"], 1e6),
        digits(times["dini"] / times["jaxopt"]),
        digits(first["dini"] / first["jaxopt"]),
    ]
    return row


def main():
    """Compare all cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a part of the names of the cases to run; nothing is written")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    header = (
        "call", "difference of solutions", "of derivatives", "error of JAXopt / dini", "of their derivatives",
        "dini, CPU µs", "time over JAXopt's", "first call over JAXopt's",
    )  # fmt: skip
    rows = []
    for name, (case, theta, truth) in CASES.items():
        if given.only in name:
            rows.append(compared(name, case, theta, truth, given.rounds))
            print(" | ".join(rows[-1]), flush=True)
            jax.clear_caches()
    text = (
        "Solution and Jacobian by reverse mode in one call, both libraries by the same lines, with tight tolerances.\n"
        "All differences are relative; the truth is a closed form (of the Lasso and of non-negative least squares\n"
        "that on the support). Times are medians of interleaved rounds in the compiled program (SciPy's of plain\n"
        "calls).\n\n" + table(header, rows)
    )
    if not given.only:
        write("compat", "JAXopt beside dini_jaxopt", "python benchmarks/compat.py", text)


if __name__ == "__main__":
    main()
