"""What each place of `src/dini/xla.py` buys: the same solve with it and without.

    python benchmarks/xla.py

Each place is turned off in a process of its own, in turns with one in which all are on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from report import digits, one_core, table, write

ROUNDS = 3
#: which workloads a place is for
PLACES = {
    "descent: value": ("BFGS Powell", "L-BFGS Powell", "BFGS trigonometric", "gradient descent Powell"),
    "BFGS: products": ("BFGS wood", "BFGS trigonometric", "BFGS 100"),
    "elimination": ("Newton 4", "Newton batch", "Gauss-Newton batch"),
    "pivots": ("root 4", "root batch"),
    "pivots: columns": ("root 4", "root batch"),
    "certificate: passes": ("certificate 100", "certificate of data"),
    "certificate: noise": ("certificate 100", "certificate of data"),
    "power iteration": ("certificate 100", "certificate of data"),
    "thread": ("eager BFGS 10",),
    "level": ("eager BFGS 10", "eager L-BFGS 100", "eager Newton 100", "eager program 20"),
    "rolled": ("root 20", "gradient 20", "program 20"),
    "units": ("program 20", "program 60"),
}


def rosenbrock(x):
    """Return the chained function."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def wood(x):
    """Return Wood's function."""
    a, b, c, d = x
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2) + 19.8 * (b - 1) * (d - 1)


def powell(x):
    """Return the extended function."""
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.sum((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4)


def trigonometric(x):
    """Return the trigonometric function."""
    n = len(x)
    return jnp.sum((n - jnp.sum(jnp.cos(x)) + jnp.arange(1, n + 1) * (1 - jnp.cos(x)) - jnp.sin(x)) ** 2)


def workloads():
    """Return the functions that are measured, and what they are called with."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape))
    starts = lambda n, count=1000: jnp.asarray(-1.0 + 0.5 * rng.normal(size=(count, n)))
    quartic = lambda x: jnp.sum(x**4 - 2 * x**2 + 0.1 * x) + 0.5 * jnp.sum(x[1:] * x[:-1])
    residuals = lambda x: jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
    cubic = lambda x: x**3 + jnp.roll(x, 1) - 2.0
    X, y = normal(400, 100), normal(400)
    minimize = lambda solver, f: lambda x: dini.minimize(f, x, solver=solver, on_failure="ignore").x
    fit = dini.Minimize(lambda w, X, s: jnp.sum((X @ w - y[: len(X)]) ** 2) + s * jnp.sum(w**2))

    def certificate(X):
        w = jnp.linalg.solve(X.T @ X + jnp.eye(X.shape[1]), X.T @ y[: len(X)])
        return lambda v: dini.certified.vjp(fit, w, (X, 1.0), v, on_failure="ignore")

    full = lambda x: dini.least_squares(residuals, x, solver=dini.GaussNewton(patience=None), on_failure="ignore").x
    newton = minimize(dini.Newton(), quartic)
    root = lambda x: dini.root(cubic, x, solver=dini.Newton(), on_failure="ignore").x
    slopes = jax.grad(
        lambda b: jnp.sum(dini.root(lambda x, b: cubic(x) - b, jnp.full(20, 3.0), b, on_failure="ignore").x)
    )
    eager = dini.Minimize(rosenbrock)

    def program(c):
        n, some = len(c), np.random.default_rng(1)
        Q, G = jnp.eye(n) + jnp.ones((n, n)) / n, jnp.asarray(some.normal(size=(n // 2, n)))
        return dini.quadratic_program(Q=Q, c=c, G=G, h=jnp.ones(n // 2), on_failure="ignore").x

    return {
        "BFGS 100": (minimize(dini.BFGS(), rosenbrock), -jnp.ones(100)),
        "BFGS wood": (minimize(dini.BFGS(), wood), jnp.array([-3.0, -1.0, -3.0, -1.0])),
        "BFGS Powell": (minimize(dini.BFGS(), powell), jnp.tile(jnp.array([3.0, -1.0, 0.0, 1.0]), 25)),
        "L-BFGS Powell": (minimize(dini.LBFGS(), powell), jnp.tile(jnp.array([3.0, -1.0, 0.0, 1.0]), 25)),
        "gradient descent Powell": (
            minimize(dini.GradientDescent(max_steps=200), powell),
            jnp.tile(jnp.array([3.0, -1.0, 0.0, 1.0]), 25),
        ),
        "BFGS trigonometric": (minimize(dini.BFGS(), trigonometric), jnp.full(50, 0.02)),
        "Gauss-Newton batch": (jax.vmap(full), starts(2)),
        "Newton 4": (newton, 0.5 * jnp.ones(4)),
        "Newton batch": (jax.vmap(newton), 0.3 * starts(4)),
        "root 4": (root, jnp.full(4, 3.0)),
        "root batch": (jax.vmap(root), 2 - starts(4)),
        "root 20": (root, jnp.full(20, 3.0)),
        "gradient 20": (slopes, jnp.full(20, 0.1)),
        "program 20": (program, normal(20)),
        "program 60": (program, normal(60)),
        "certificate 100": (certificate(X[:200]), jnp.ones(100)),
        "certificate of data": (certificate(X), jnp.ones(100)),
        "eager L-BFGS 100": (minimize(dini.LBFGS(), rosenbrock), -jnp.ones(100)),
        "eager Newton 100": (minimize(dini.Newton(), rosenbrock), -jnp.ones(100)),
        "eager program 20": (program, normal(20)),
        "eager BFGS 10": (lambda x: dini.solve(eager, dini.BFGS(max_steps=3), x, steps=3).x, -jnp.ones(10)),
    }


def measure(names: list[str]) -> dict[str, list[float]]:
    """Return the seconds of a call, steady (CPU time, for eager calls wall time) and the first."""
    found, all_of_them = {}, workloads()
    for name in names:
        run, start = all_of_them[name]
        clock = time.perf_counter if name.startswith("eager") else time.process_time
        program = run if name.startswith("eager") else jax.jit(run)
        began = time.process_time()
        jax.block_until_ready(program(start))
        first, times = time.process_time() - began, []
        while len(times) < 15 or (sum(times) < 0.5 and len(times) < 2000):
            began = clock()
            jax.block_until_ready(program(start))
            times.append(clock() - began)
        found[name] = [statistics.median(times), first]
    return found


def child(plain: str, names: list[str]) -> dict[str, list[float]]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(names)],
        env=os.environ | {"DINI_PLAIN": plain},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and write ``results/xla.md``."""
    rows = []
    for place, names in PLACES.items():
        rounds = [(child("", list(names)), child(place, list(names))) for _ in range(ROUNDS)]
        for name in names:
            (on, first_on), (off, first_off) = (
                [statistics.median(each[side][name][i] for each in rounds) for i in (0, 1)] for side in (0, 1)
            )
            rows.append(
                [place, name, digits(on, 1e3), f"{off / on:.2f}", digits(first_on), f"{first_off / first_on:.2f}"]
            )
            print(rows[-1], flush=True)
    header = ("place", "solve", "ms", "without it, times", "first call, s", "without it, times")
    write("xla", "What is written for XLA's sake", "python benchmarks/xla.py", table(header, rows))


if __name__ == "__main__":
    one_core()
    import jax
    import jax.numpy as jnp
    import numpy as np

    import dini

    jax.config.update("jax_enable_x64", True)
    if "--measure" in sys.argv:
        print(json.dumps(measure(json.loads(sys.argv[-1]))))
    else:
        main()
