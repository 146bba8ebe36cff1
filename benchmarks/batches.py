"""A batch whose members take very different numbers of steps: vmap of solve beside batch_solve, values and gradients.

python benchmarks/batches.py [--count 1000]
"""

from __future__ import annotations

import argparse

from report import digits, interleaved, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

SIZE = 10
SOLVERS = {
    "GradientDescent": dini.GradientDescent(tol=1e-6, max_steps=100_000),
    "LBFGS": dini.LBFGS(tol=1e-8),
}


def loss(x, a, rotation, scales):
    """Return a quadratic with a quartic term."""
    z = rotation @ (x - a)
    return 0.5 * jnp.sum(scales * z**2) + 0.01 * jnp.sum(x**4)


PROBLEM = dini.Minimize(loss)


def problems(count: int, spread: str):
    """Return a batch: condition numbers alike, or log-uniform between 1 and 10,000."""
    rng = np.random.default_rng(0)
    condition = np.full(count, 30.0) if spread == "alike" else 10 ** rng.uniform(0, 4, count)
    scales = condition[:, None] ** np.linspace(0, 1, SIZE)
    rotation = np.linalg.qr(rng.normal(size=(count, SIZE, SIZE)))[0]
    return [jnp.asarray(part) for part in (rng.normal(size=(count, SIZE)), rotation, scales)]


def main():
    """Measure and write ``results/batches.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    rows = []
    for name, solver in SOLVERS.items():
        for spread in ("alike", "1 to 10,000"):
            data = problems(count, spread)
            start = jnp.zeros((count, SIZE))
            ways = {
                "vmap": lambda *t, solver=solver, start=start: jax.vmap(
                    lambda x, *t: dini.solve(PROBLEM, solver, x, *t)
                )(start, *t),
                "batch_solve": lambda *t, solver=solver, start=start: dini.batch_solve(PROBLEM, solver, start, *t),
            }
            forward = {way: jax.jit(run) for way, run in ways.items()}
            gradient = {
                way: jax.jit(jax.grad(lambda a, *t, run=run: jnp.sum(jnp.cos(run(a, *t).x))))
                for way, run in ways.items()
            }
            steps = np.asarray(forward["vmap"](*data).stats.steps)
            apart = float(jnp.max(jnp.abs(forward["vmap"](*data).x - forward["batch_solve"](*data).x)))
            for what, runs in (("solution", forward), ("gradient", gradient)):
                calls = {way: lambda run=run, data=data: jax.block_until_ready(run(*data)) for way, run in runs.items()}
                times = interleaved(calls, repeat=1, rounds=5)
                ratio = times["batch_solve"] / times["vmap"]
                rows.append(
                    [
                        name,
                        spread,
                        f"{np.median(steps):.0f} / {steps.max()}",
                        what,
                        digits(times["vmap"], 1e3),
                        digits(times["batch_solve"], 1e3),
                        f"{ratio:.2f}",
                        f"{apart:.0e}",
                    ]
                )
    header = ["solver", "conditions", "steps, median / most", "of", "vmap, CPU ms", "batch_solve, CPU ms", "ratio"]
    text = f"{count} problems of {SIZE} unknowns, default width and chunk.\n\n"
    body = text + table([*header, "largest difference"], rows)
    write("batches", "Batches that do not wait for their slowest member", "python benchmarks/batches.py", body)


if __name__ == "__main__":
    main()
