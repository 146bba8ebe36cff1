"""What a certificate costs: the time of a vjp of a solution with one over that without.

The point is a solution; the problem is logistic regression with one penalty for each coefficient, differentiated in the
penalties, and in the data matrix as well (then a derivative is as large as the data, and so is its error estimate).
Dense systems are assembled and factorized, matrix-free ones are solved by conjugate gradients to the default tolerance.

The floor is the same ratio for the least that an estimate of the error needs, written by hand: a Newton step, the
derivative's first-order correction there, and the size of what that changes; no condition number, no rounding errors
and no verdict.
"""

from __future__ import annotations

import argparse
import itertools

from report import digits, interleaved, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

#: samples, unknowns, matrix-free?
CASES = (
    (60, 20, False),
    (1000, 100, False),
    (2000, 200, False),
    (5000, 500, False),
    (1000, 100, True),
    (4000, 2000, True),
)
BARS = {False: 1.3, True: 1.6}


def loss(w, log_penalty, X, y):
    """Return a logistic objective."""
    return jnp.mean(jnp.logaddexp(0, -y * (X @ w))) + 0.5 * jnp.vdot(jnp.exp(log_penalty) * w, w)


def by_hand(gradient, w, args, v, matrix_free, data, estimate):
    """Return the vjp, and the least that an estimate of its error needs."""
    if matrix_free:
        product = lambda u: jax.jvp(lambda w: gradient(w, *args), (w,), (u,))[1]
        solve = lambda b, rtol: jax.scipy.sparse.linalg.cg(product, b, tol=rtol)[0]
    else:
        factor = jax.scipy.linalg.cho_factor(jax.jacfwd(gradient)(w, *args), lower=True)
        solve = lambda b, rtol: jax.scipy.linalg.cho_solve(factor, b)
    pick = lambda gradients: gradients if data else gradients[0]
    pull_at = lambda w: jax.vjp(lambda *args: gradient(w, *args), *args)[1]
    u = -solve(v, 1e-10)
    result = pick(pull_at(w)(u))
    if not estimate:
        return result
    nearby = w - solve(gradient(w, *args), 0.1)
    residual, pull = jax.vjp(gradient, nearby, *args)
    turned, *changed = pull(u)
    correction = pull_at(nearby)(-solve(turned + v, 0.1))
    corrected = pick([a + b for a, b in zip(changed, correction, strict=True)])
    norm = lambda tree: jnp.sqrt(sum(jnp.vdot(a, a) for a in jax.tree.leaves(tree)))
    difference = jax.tree.map(jnp.subtract, tuple(corrected) if data else corrected, result)
    return result, jnp.stack([norm(difference) / norm(result), norm(residual)])


def measure(n, d, matrix_free, data, rounds):
    """Return the CPU seconds without and with a certificate, those of the floor, and the certificate."""
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.standard_normal((n, d)) / np.sqrt(d))
    y = jnp.asarray(np.sign(X @ rng.standard_normal(d) + 0.3 * rng.standard_normal(n)))
    args = (jnp.full(d, -12.0), X, y)
    problem = dini.Minimize(loss)
    w = dini.solve(problem, dini.LBFGS(tol=1e-10), jnp.zeros(d), *args).x
    v = jnp.asarray(rng.standard_normal(d))
    solver = dini.linear.CG() if matrix_free else None
    how = dini.Implicit(linear_solver=solver)
    gradient = jax.grad(loss)

    @jax.jit
    def plain(w, args, v):
        result = dini.root_vjp(gradient, w, args, v, structure="positive definite", linear_solver=solver)
        return result if data else result[0]

    @jax.jit
    def certified(w, args, v):
        argnums = None if data else 0
        return dini.certified.vjp(problem, w, args, v, argnums=argnums, differentiation=how, on_failure="ignore")

    hand, least = (
        jax.jit(lambda w, args, v, estimate=estimate: by_hand(gradient, w, args, v, matrix_free, data, estimate))
        for estimate in (False, True)
    )
    certificate = certified(w, args, v)[1]
    functions = {"plain": plain, "certified": certified, "by hand": hand, "least": least}
    calls = {name: lambda f=f: jax.block_until_ready(f(w, args, v)) for name, f in functions.items()}
    once = interleaved(calls, repeat=1, rounds=3)["plain"]
    return interleaved(calls, repeat=max(1, int(0.02 / once)), rounds=rounds), certificate


def main():
    """Measure and write ``results/certificate_cost.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    rows = []
    for (n, d, matrix_free), data in itertools.product(CASES, (False, True)):
        times, certificate = measure(n, d, matrix_free, data, rounds)
        plain, certified = times["plain"], times["certified"]
        rows.append(
            [
                str(n),
                str(d),
                "CG" if matrix_free else "dense",
                "penalties and data" if data else "penalties",
                digits(plain, 1e3),
                digits(certified, 1e3),
                f"{certified / plain:.2f}",
                str(BARS[matrix_free]),
                f"{times['least'] / times['by hand']:.2f}",
                f"{float(certificate.error):.1e}",
            ]
        )
        print(rows[-1], flush=True)
    header = [
        "samples",
        "unknowns",
        "system",
        "differentiated in",
        "vjp, CPU ms",
        "with certificate",
        "ratio",
        "bar",
        "floor",
        "estimated error",
    ]
    write("certificate_cost", "Cost of a certificate", "python benchmarks/certificate_cost.py", table(header, rows))


if __name__ == "__main__":
    main()
