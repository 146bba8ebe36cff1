"""Whether units decide: methods that descend, on twelve functions in nine settings of units.

    python benchmarks/scaled_units.py [--solvers BFGS,LBFGS]

A setting measures the value, all unknowns, or each unknown in other units, up to 1e±10 (1e±6 in single precision), and
the unknowns from 1e8 to 1e-8 in both. An answer is right where what is reported as a minimum has 1e-8 of the first
value (1e-5 in single precision), of the regression a gradient that vanishes, and where a function without a minimum is
not reported as solved. What is reported and not right is wrong; what is not reported has failed.
"""

from __future__ import annotations

import argparse

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

SOLVERS = {
    "BFGS": dini.BFGS(),
    "LBFGS": dini.LBFGS(),
    "NonlinearCG": dini.NonlinearCG(),
    "GradientDescent": dini.GradientDescent(),
    "LBFGSB": dini.LBFGSB(),
    "Newton": dini.Newton(),
    "TrustRegionNewtonCG": dini.TrustRegionNewtonCG(),
    "Dogleg": dini.Dogleg(),
}
RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((40, 6))
NOISY = (DATA @ np.ones(6) + RNG.standard_normal(40) > 0) * 1.0
SEPARATED = (DATA @ np.ones(6) > 0) * 1.0
MIXED = RNG.standard_normal((6, 6))
TIMES = np.arange(1, 11) * 0.1


def rosenbrock(x):
    """Return the chained valley."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def powell_singular(x):
    """Return a sum of squares whose Hessian is singular at the minimum."""
    return (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def beale(x):
    """Return three residuals that a plateau surrounds."""
    return sum((c - x[0] * (1 - x[1] ** k)) ** 2 for c, k in ((1.5, 1), (2.25, 2), (2.625, 3)))


def wood(x):
    """Return two coupled valleys."""
    valleys = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + 90 * (x[3] - x[2] ** 2) ** 2 + (1 - x[2]) ** 2
    return valleys + 10 * (x[1] + x[3] - 2) ** 2 + 0.1 * (x[1] - x[3]) ** 2


def brown(x):
    """Return residuals of a minimum at (1e3, 2e-3)."""
    return (x[0] - 1e3) ** 2 + (x[1] - 2e-3) ** 2 + (x[0] * x[1] - 2) ** 2


def box(x):
    """Return the residuals of two exponentials."""
    t = jnp.asarray(TIMES, x.dtype)
    return jnp.sum((jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-10 * t))) ** 2)


def logistic(labels, ridge):
    """Return the loss of a regression of two classes."""

    def loss(x):
        z = jnp.asarray(DATA, x.dtype) @ x
        return jnp.mean(jnp.logaddexp(0, z) - jnp.asarray(labels, x.dtype) * z) + ridge * jnp.sum(x**2)

    return loss


PROBLEMS = {
    "rosenbrock": (rosenbrock, [-1.2] * 4),
    "powell singular": (powell_singular, [3.0, -1, 0, 1]),
    "beale": (beale, [1.0, 1]),
    "wood": (wood, [-3.0, -1, -3, -1]),
    "brown": (brown, [1.0, 1]),
    "box": (box, [0.0, 10, 20]),
    "regression": (logistic(NOISY, 1e-2), [0.0] * 6),
    "quadratic, condition 1e5": (
        lambda x: 0.5 * jnp.sum(10.0 ** jnp.arange(6, dtype=x.dtype) * (x - 1) ** 2),
        [0.0] * 6,
    ),
    "coupled quadratic": (lambda x: 0.5 * jnp.sum(jnp.square(jnp.asarray(MIXED, x.dtype) @ (x - 1))), [0.0] * 6),
    "quartic": (lambda x: jnp.sum((x - 3) ** 4), [0.0] * 4),
    "exponential, no minimum": (lambda x: jnp.sum(jnp.exp(-x)), [0.0] * 2),
    "separable classes, no minimum": (logistic(SEPARATED, 0.0), [0.0] * 6),
}
#: of the other local minimum of the chained valley
LOCAL = 3.70143


def settings(size, dtype):
    """Return factors of the value and of each unknown."""
    double = dtype == np.float64
    f, u = (1e10, 1e8) if double else (1e6, 1e4)
    ones, unlike = np.ones(size), 10.0 ** (np.linspace(-3, 3, size) * (1 if double else 0.5))
    g = 1e6 if double else 1e3
    far = 10.0 ** np.linspace(8, -8, size)
    alike = [(1, ones), (1 / f, ones), (f, ones), (1, ones / u), (1, ones * u)]
    return [*alike, (1, unlike), (g, unlike[::-1]), (1, far), (1, far[::-1])]


def outcome(name, fun, start, x, status, dtype):
    """Return whether an end is right, wrong or failed."""
    solved = status == 0
    if "no minimum" in name:
        return "wrong" if solved else "right"
    if not solved:
        return "failed"
    double = dtype == np.float64
    value, first = float(fun(x)), float(fun(jnp.asarray(start)))
    if name == "regression":
        right = float(jnp.linalg.norm(jax.grad(fun)(x))) < (1e-5 if double else 1e-3)
    else:
        right = value <= (1e-8 if double else 1e-5) * first or (name == "rosenbrock" and abs(value - LOCAL) < 1e-3)
    return "right" if right else "wrong"


def counted(solver, dtype):
    """Return how many ends are right, wrong, failed, and the steps of all."""
    counts, steps = {"right": 0, "wrong": 0, "failed": 0}, 0
    for name, (fun, start) in PROBLEMS.items():

        @jax.jit
        @jax.vmap
        def run(c, b, fun=fun, start=start):
            scaled = lambda x, c, b: c * fun(x / b)
            found = dini.minimize(scaled, jnp.asarray(start, dtype) * b, c, b, solver=solver, on_failure="ignore")
            return found.x / b, found.status, found.stats.steps

        values, units = zip(*settings(len(start), dtype), strict=True)
        points, status, taken = map(np.asarray, run(jnp.asarray(values, dtype), jnp.asarray(np.array(units), dtype)))
        for point, end in zip(points, status, strict=True):
            counts[outcome(name, fun, start, jnp.asarray(point, float), end, dtype)] += 1
        steps += int(taken.sum())
    return [*counts.values(), steps]


def main():
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    chosen = parser.parse_args().solvers
    rows = [
        [name, np.dtype(dtype).name, *map(str, counted(SOLVERS[name], dtype))]
        for name in chosen.split(",")
        for dtype in (np.float64, np.float32)
    ]
    body = table(["solver", "precision", "right", "wrong", "failed", "steps"], rows)
    print(body)
    if chosen == ",".join(SOLVERS):
        write("scaled_units", "Twelve functions in nine settings of units", "python benchmarks/scaled_units.py", body)


if __name__ == "__main__":
    main()
