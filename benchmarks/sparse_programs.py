"""Sparse quadratic programs: OperatorSplitting beside OSQP on the host, with solutions' errors.

    PYTHONPATH=src python benchmarks/sparse_programs.py --sizes 200,1000

Portfolios with a factor model (assets and factors are unknowns, as in the benchmarks of OSQP's paper) and Lasso
problems as programs. Each line has the time of a compiled solve, that of a gradient, the first call, and the largest
relative residual of the optimality conditions. OSQP runs twice: with its default accuracy and with a polished one.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.experimental.sparse import BCOO
from programs import residual

import dini


def portfolio(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the program of a portfolio with ``n`` assets and ``n / 10`` factors."""
    k = max(n // 10, 1)
    F = sp.random(n, k, density=0.5, data_rvs=rng.standard_normal, random_state=rng, format="csr")
    risk = rng.uniform(0, 1, n) * np.sqrt(k)
    Q = sp.diags(np.concatenate([risk, np.ones(k)]))
    A = sp.vstack([sp.hstack([F.T, -sp.eye(k)]), sp.hstack([np.ones((1, n)), sp.csr_matrix((1, k))])])
    lower = np.concatenate([np.zeros(n), np.full(k, -np.inf)])
    return {
        "Q": Q.tocsr(),
        "c": np.concatenate([-rng.standard_normal(n), np.zeros(k)]),
        "A": A.tocsr(),
        "b": np.concatenate([np.zeros(k), [1.0]]),
        "lower": lower,
    }


def lasso(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the program of a Lasso with ``n`` weights and ``2 n`` samples: unknowns are weights, residuals, bounds."""
    m = 2 * n
    X = sp.random(m, n, density=0.15, data_rvs=rng.standard_normal, random_state=rng, format="csr")
    truth = rng.standard_normal(n) * (rng.random(n) < 0.5) / np.sqrt(n)
    y = X @ truth + 0.1 * rng.standard_normal(m)
    strength = 0.2 * np.abs(X.T @ y).max()
    none = sp.csr_matrix
    return {
        "Q": sp.block_diag([none((n, n)), sp.eye(m), none((n, n))]).tocsr(),
        "c": np.concatenate([np.zeros(n + m), np.full(n, strength)]),
        "A": sp.hstack([X, -sp.eye(m), none((m, n))]).tocsr(),
        "b": y,
        "G": sp.vstack([sp.hstack([s * sp.eye(n), none((n, m)), -sp.eye(n)]) for s in (1, -1)]).tocsr(),
        "h": np.zeros(2 * n),
    }


def error(data: dict[str, Any], x: Any, multipliers: Any) -> float:
    """Return the largest relative residual of the optimality conditions."""
    n = len(data["c"])
    dense = {name: v.toarray() if sp.issparse(v) else v for name, v in data.items()}
    full = {"A": np.zeros((0, n)), "b": np.zeros(0), "G": np.zeros((0, n)), "h": np.zeros(0)}
    full |= {"lower": np.full(n, -np.inf), "upper": np.full(n, np.inf)} | dense
    y, z, mu = (np.zeros(size) if v is None else np.asarray(v) for v, size in zip(multipliers, (0, 0, n), strict=True))
    return residual(full, np.asarray(x), y, z, mu)


def by_osqp(data: dict[str, Any], **settings: Any) -> tuple[float, float]:
    """Return the time that OSQP takes, set up and all, and the error of its solution."""
    import osqp

    n, eye = len(data["c"]), sp.eye(len(data["c"]))
    m = len(data["b"])
    rows, low, high = [data["A"]], [data["b"]], [data["b"]]
    if "G" in data:
        rows, low, high = [*rows, data["G"]], [*low, np.full(len(data["h"]), -np.inf)], [*high, data["h"]]
    if "lower" in data:
        rows, low, high = [*rows, eye], [*low, data["lower"]], [*high, np.full(n, np.inf)]
    start = time.perf_counter()
    solver = osqp.OSQP()
    solver.setup(
        sp.triu(data["Q"], format="csc"),
        data["c"],
        sp.vstack(rows, format="csc"),
        np.concatenate(low),
        np.concatenate(high),
        verbose=False,
        **settings,
    )
    found = solver.solve()
    spent = time.perf_counter() - start
    p = len(data.get("h", ()))
    parts = found.y[:m], found.y[m : m + p] if p else None, found.y[m + p :] if "lower" in data else None
    return spent, error(data, found.x, parts)


def timed(fun: Any, *args: Any) -> tuple[float, float, Any]:
    """Return the time of the first call, the least of three others, and what comes out."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        out = jax.block_until_ready(fun(*args))
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:]), out


def solve(data: dict[str, Any]) -> Any:
    """Return dini's solution."""
    return dini.quadratic_program(**data, solver=dini.OperatorSplitting(), on_failure="ignore")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="200,1000")
    parser.add_argument("--families", default="portfolio,lasso")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for family in args.families.split(","):
        for size in map(int, args.sizes.split(",")):
            data = {"portfolio": portfolio, "lasso": lasso}[family](size, np.random.default_rng(size))
            ours = {name: BCOO.from_scipy_sparse(v) if sp.issparse(v) else jnp.asarray(v) for name, v in data.items()}
            first, spent, found = timed(jax.jit(solve), ours)
            slope = jax.jit(jax.grad(lambda c, d: jnp.sum(solve(d | {"c": c}).x ** 2)))
            slope_first, both, _ = timed(slope, ours["c"], ours)
            end = dini.Status(int(found.status)).name
            print(
                f"{family} {size}: {len(data['c'])} unknowns, {end} after {int(found.stats.steps)} steps: solve "
                f"{spent * 1e3:.0f} ms (first {first:.1f} s), with a gradient {both * 1e3:.0f} ms (first "
                f"{slope_first:.1f} s), error {error(data, found.x, found.multipliers):.1e}",
                flush=True,
            )
            accurate = {"eps_abs": 1e-8, "eps_rel": 1e-8, "polishing": True}
            for name, settings in (("OSQP", {}), ("OSQP polished", accurate)):
                try:
                    spent, left = min(by_osqp(data, **settings) for _ in range(3))
                except TypeError:  # an older OSQP's word
                    settings = {("polish" if key == "polishing" else key): v for key, v in settings.items()}
                    spent, left = min(by_osqp(data, **settings) for _ in range(3))
                print(f"    {name}: {spent * 1e3:.0f} ms, error {left:.1e}", flush=True)


if __name__ == "__main__":
    main()
