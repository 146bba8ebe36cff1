"""Temporary memory of the compiled gradient of gradient descent: implicit, unrolled with checkpoints, unrolled without.

python benchmarks/memory.py [--size 1000]
"""

from __future__ import annotations

import argparse
import time

from report import digits, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

STEPS = (200, 2000, 20_000)
MODES = {
    "Implicit()": lambda n: dini.Implicit(),
    "Unrolled(steps=n)": lambda n: dini.Unrolled(steps=n),
    "Unrolled(steps=n, checkpoint=False)": lambda n: dini.Unrolled(steps=n, checkpoint=False),
}


def loss(w, theta, X):
    """Return a ridge objective."""
    return 0.5 * jnp.mean((X @ w - 1) ** 2) + 0.5 * jnp.exp(theta) * jnp.vdot(w, w)


def measure(mode, steps, X):
    """Return the temporary bytes, the seconds to compile, and the CPU seconds of a call."""
    problem = dini.Minimize(loss)
    solver = dini.GradientDescent(step_size=0.02, tol=0.0, max_steps=steps)

    def total(theta, X):
        start = jnp.zeros(X.shape[1])
        how = mode(steps)
        return jnp.sum(dini.solve(problem, solver, start, theta, X, differentiation=how, on_failure="ignore").x)

    theta = jnp.asarray(-2.0)
    start = time.process_time()
    compiled = jax.jit(jax.grad(total)).lower(theta, X).compile()
    spent = time.process_time() - start
    start = time.process_time()
    compiled(theta, X).block_until_ready()
    return compiled.memory_analysis().temp_size_in_bytes, spent, time.process_time() - start


def main():
    """Measure and write ``results/memory.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000)
    size = parser.parse_args().size
    X = jnp.asarray(np.random.default_rng(0).standard_normal((50, size)) / 8)
    rows = []
    for name, mode in MODES.items():
        for steps in STEPS:
            temporary, compiling, running = measure(mode, steps, X)
            figures = [digits(temporary / (8 * size)), digits(compiling), digits(running, 1e3)]
            rows.append([f"`{name}`", str(steps), str(temporary), *figures])
    header = ["differentiation", "steps n", "temporary bytes", "in vectors of size d", "compile s", "CPU ms of a call"]
    text = f"Ridge regression with d = {size} unknowns and 50 samples, constant step.\n\n{table(header, rows)}"
    write("memory", "Memory of a gradient", "python benchmarks/memory.py", text)


if __name__ == "__main__":
    main()
