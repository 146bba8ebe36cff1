"""Where the backward solve should turn from a dense factorization to a Krylov method: ``dini.linear.DENSE_LIMIT``.

python benchmarks/dense_limit.py [--largest 1024]
"""

from __future__ import annotations

import argparse
import math
import time

from report import digits, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402
from dini import linear  # noqa: E402

jax.config.update("jax_enable_x64", True)


def spectrum(rng, rows, columns, condition):
    """Return a matrix whose singular values fall from one to ``1 / condition``."""
    left = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    return (left * np.geomspace(1, 1 / condition, columns)) @ right.T


def logistic(condition):
    """Return a maker of the Hessian system of L2-logistic regression with ``n = 5 d`` samples."""

    def loss(w, X, y, strength):
        return jnp.mean(jnp.logaddexp(0.0, -y * (X @ w))) + 0.5 * strength * jnp.vdot(w, w)

    def make(d, rng):
        n = 5 * d
        X = jnp.asarray(spectrum(rng, n, d, condition) * math.sqrt(n))
        y = jnp.asarray(np.sign(rng.standard_normal(n)))
        strength = 0.25 / condition
        w = jnp.asarray(0.1 * rng.standard_normal(d))
        return jax.grad(loss), w, (X, y, strength), "positive definite", linear.CG()

    return make


def root(condition):
    """Return a maker of a nonsymmetric system, the Jacobian of ``M x + tanh(x) / 10`` with a dense ``M``."""

    def make(d, rng):
        G = rng.standard_normal((d, d)) / math.sqrt(d)
        M = jnp.asarray(np.eye(d) + 0.5 * G if condition is None else spectrum(rng, d, d, condition))
        x = jnp.asarray(rng.standard_normal(d))
        return (lambda x, M: M @ x + 0.1 * jnp.tanh(x)), x, (M,), None, linear.GMRES()

    return make


CASES = {
    "logistic Hessian, condition about 30": logistic(30.0),
    "logistic Hessian, condition about 1e4": logistic(1e4),
    "root, eigenvalues in a disk": root(None),
    "root, condition about 1e2": root(1e2),
}


def timed(call, args, budget=2.0):
    """Return the smallest CPU time of some calls, and the result."""
    result = jax.block_until_ready(call(*args))
    times, begin = [], time.process_time()
    while len(times) < 7 and (not times or time.process_time() - begin < budget):
        start = time.process_time()
        jax.block_until_ready(call(*args))
        times.append(time.process_time() - start)
    return min(times), result


def measure(make, d):
    """Return seconds and relative residual of the dense and of the Krylov solve."""
    rng = np.random.default_rng(d)
    function, x, args, structure, krylov = make(d, rng)
    b = jnp.asarray(rng.standard_normal(d))

    def backward(solver):
        @jax.jit
        def go(x, args, b):
            def pull(b):
                matvec = jax.linearize(lambda u: function(u, *args), x)[1]
                return linear.solve(matvec, b, structure=structure, solver=solver, on_failure="ignore")

            # the transposed system, as in reverse mode
            w = jax.linear_transpose(pull, b)(b)[0]
            product = jax.vjp(lambda u: function(u, *args), x)[1](w)[0]
            return jnp.linalg.norm(product - b) / jnp.linalg.norm(b)

        return timed(go, (x, args, b))

    return backward(linear.Dense()), backward(krylov), type(krylov).__name__


def recommend(ratios):
    """Return the largest size up to which the dense solve is no slower in the geometric mean over the cases."""
    limit = 0
    for d, values in ratios.items():
        if math.exp(sum(map(math.log, values)) / len(values)) > 1:
            break
        limit = d
    return limit


def main():
    """Measure and write ``results/dense_limit.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1024)
    largest = parser.parse_args().largest
    sizes = [d for d in (32, 64, 128, 256, 512, 1024, 2048) if d <= largest]
    ratios = {d: [] for d in sizes}
    rows = []
    for name, make in CASES.items():
        for d in sizes:
            (dense, dense_residual), (krylov, krylov_residual), method = measure(make, d)
            ratios[d].append(dense / krylov)
            figures = [digits(dense, 1e3), digits(krylov, 1e3), f"{dense / krylov:.2f}"]
            rows.append([name, str(d), method, *figures, f"{dense_residual:.0e}", f"{krylov_residual:.0e}"])
            print(rows[-1], flush=True)
    header = ["system", "d", "method", "Dense, ms", "Krylov, ms", "ratio", "residual of Dense", "of Krylov"]
    means = [
        [str(d), f"{math.exp(sum(map(math.log, v)) / len(v)):.2f}", f"{max(v):.2f}"] for d, v in ratios.items() if v
    ]
    text = f"{table(header, rows)}\n\n{table(['d', 'geometric mean of the ratios', 'largest'], means)}\n\n"
    text += (
        f"Dense is no slower in the mean up to d = {recommend(ratios)}; `dini.linear.DENSE_LIMIT` is "
        f"{dini.linear.DENSE_LIMIT}."
    )
    write(
        "dense_limit", "Dense or Krylov backward solve", f"python benchmarks/dense_limit.py --largest {largest}", text
    )


if __name__ == "__main__":
    main()
