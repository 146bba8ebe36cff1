"""Thousands of random quadratic and linear programs: what dini says of them, beside Clarabel.

    uv run python benchmarks/programs.py --batches 40 --lanes 25

``--form factorized`` solves them by OperatorSplitting with factorized arrays, ``sparse`` and ``maps`` with matrices as
``BCOO`` and as functions; ``--solver ActiveSet`` solves dense ones by another solver than the verb's. Each batch has
one shape and one kind; its lanes are solved at once. It is known of a program whether it has a solution. "Optimal" is
tested by the conditions themselves, in float64 on the host: feasibility, signs, stationarity and the duality gap, each
relative to its terms. What fails that test is a wrong "optimal".
"""

from __future__ import annotations

import argparse
import collections
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

import dini

KINDS = (
    "strict",
    "semidefinite",
    "linear",
    "degenerate",
    "redundant",
    "bounds",
    "fixed",
    "free",
    "scaled rows",
    "scaled units",
    "infeasible",
    "contradiction",
    "unbounded",
    "unbounded linear",
)
NAMES = ("Q", "c", "A", "b", "G", "h", "lower", "upper")
#: a residual above this, relative to its terms, is a wrong "optimal"
WRONG = 1e-6


def program(kind: str, n: int, m: int, p: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a program of a kind; the first ten have a solution, two have no feasible point, two no lower bound."""
    x0 = rng.standard_normal(n)
    M = rng.standard_normal((n, n)) / np.sqrt(n)
    if kind in ("semidefinite", "free", "unbounded"):
        M[: n // 2] = 0
    Q = M.T @ M + (0.1 * np.eye(n) if kind in ("strict", "redundant", "scaled rows", "scaled units") else 0)
    A, G = rng.standard_normal((m, n)), rng.standard_normal((p, n))
    z, slack = rng.random(p) * (rng.random(p) < 0.5), rng.random(p)
    slack[z > 0] = 0
    if kind == "degenerate":  # several constraints meet, and some of their multipliers are zero
        slack[rng.random(p) < 0.5] = 0
        z *= rng.random(p) < 0.5
    if kind == "redundant" and p > 1:
        G[p // 2 :] = G[: p - p // 2]
        slack[p // 2 :], z[p // 2 :] = slack[: p - p // 2], z[: p - p // 2]
        A[m // 2 :] = A[: m - m // 2]
    if kind in ("linear", "infeasible") or kind.startswith("unbounded lin"):
        Q = 0 * Q
    y = rng.standard_normal(m)
    mu = np.zeros(n)
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    if kind in ("bounds", "fixed", "linear", "scaled units"):
        mu = rng.standard_normal(n) * (rng.random(n) < 0.4)
        lower = np.where(mu < 0, x0, np.where(rng.random(n) < 0.5, x0 - rng.random(n), -np.inf))
        upper = np.where(mu > 0, x0, np.where(rng.random(n) < 0.5, x0 + rng.random(n), np.inf))
        if kind == "fixed":
            held = rng.random(n) < 0.2
            lower, upper = np.where(held, x0, lower), np.where(held, x0, upper)
    b, h = A @ x0, G @ x0 + slack
    c = -(Q @ x0 + A.T @ y + G.T @ z + mu)
    if kind == "infeasible" and p > 1:  # a combination of the rows says that 0 <= -1
        w = rng.random(p - 1) + 0.1
        G[-1] = -w @ G[:-1] + (rng.standard_normal(m) @ A if m else 0)
        t = np.linalg.lstsq(A.T, G[-1] + w @ G[:-1], rcond=None)[0] if m else np.zeros(0)
        h[-1] = (t @ b if m else 0) - w @ h[:-1] - 1
    if kind == "contradiction":
        A = np.vstack([A, A.sum(axis=0) if m else np.zeros(n)])
        b = np.append(b, (b.sum() if m else 0) + 1)
    if kind.startswith("unbounded"):  # a ray
        d = rng.standard_normal(n)
        _, _, V = np.linalg.svd(np.vstack([A, M]) if kind == "unbounded" else np.vstack([A, np.zeros(n)]))
        rank = np.linalg.matrix_rank(np.vstack([A, M])) if kind == "unbounded" else np.linalg.matrix_rank(A)
        if rank < n:
            d = V[rank:].T @ (V[rank:] @ d)
            G = np.where((G @ d > 0)[:, None], -G, G)
            h = G @ x0 + rng.random(p)
            c = c - (c @ d + 1) * d / (d @ d)
    if kind == "scaled rows":
        for M, v in ((A, b), (G, h)):
            size = 10.0 ** rng.uniform(-6, 6, len(v))
            M *= size[:, None]
            v *= size
        b, h = A @ x0, G @ x0 + slack * np.abs(G).max(axis=1, initial=0)
    if kind == "scaled units":
        length, objective = 10.0 ** rng.uniform(-6, 6, 2)
        Q, c = Q * objective / length**2, c * objective / length
        rows = 10.0 ** rng.uniform(-6, 6)
        A, G, b, h = A / length * rows, G / length * rows, b * rows, h * rows
        lower, upper = lower * length, upper * length
    return dict(zip(NAMES, (Q, c, A, b, G, h, lower, upper), strict=True))


def in_form(data: dict[str, jax.Array], form: str) -> dict[str, Any]:
    """Return the data with their matrices in another form, all elements stored."""
    if form == "sparse":
        return data | {name: BCOO.fromdense(v, nse=v.size) for name, v in data.items() if name in "QAG"}
    if form == "maps":
        return data | {name: partial(jnp.matmul, v) for name, v in data.items() if name in "QAG"}
    return dict(data)


def residual(d: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, z: np.ndarray, mu: np.ndarray) -> float:
    """Return the largest relative residual of the optimality conditions."""
    Q, c, A, b, G, h, lower, upper = (d[name] for name in NAMES)
    top = lambda *vs: max((np.abs(v).max() for v in vs if np.size(v)), default=0.0)
    left = Q @ x + c + A.T @ y + G.T @ z + mu
    worst = top(left) / max(top(Q @ x, c, A.T @ y, G.T @ z, mu), 1e-300)
    size = top(x)
    for M, v, equal in ((A, b, True), (G, h, False)):
        r = M @ x - v
        r = np.abs(r) if equal else np.maximum(r, 0)
        own = np.maximum(np.abs(v), np.abs(M).max(axis=1, initial=0) * size)
        worst = max(worst, top(r / np.maximum(own, 1e-300)))
    for r in (lower - x, x - upper):
        worst = max(worst, top(np.maximum(r, 0)) / max(size, 1e-300))
    worst = max(worst, top(np.minimum(z, 0)) / max(top(z), 1e-300))
    finite = lambda v: np.where(np.isfinite(v), v, 0)
    gap = z @ (h - G @ x) + np.maximum(mu, 0) @ finite(upper - x) + np.maximum(-mu, 0) @ finite(x - lower)
    wrong = top(np.where(np.isinf(upper), np.maximum(mu, 0), 0), np.where(np.isinf(lower), np.maximum(-mu, 0), 0))
    terms = max(abs(x @ Q @ x), abs(c @ x), abs(b @ y), abs(h @ z), abs(finite(upper) @ mu), abs(finite(lower) @ mu))
    return max(worst, abs(gap) / max(terms, 1e-300), wrong / max(top(mu), 1e-300))


def clarabel(d: dict[str, np.ndarray]) -> str:
    """Return what Clarabel says, with its default settings."""
    import clarabel
    import scipy.sparse as sp

    Q, c, A, b, G, h, lower, upper = (d[name] for name in NAMES)
    up, low, eye = np.isfinite(upper), np.isfinite(lower), np.eye(len(c))
    rows, sides = np.vstack([A, G, eye[up], -eye[low]]), np.concatenate([b, h, upper[up], -lower[low]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(sides) - len(b))]
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(Q)), c, sp.csc_matrix(rows), sides, cones, settings).solve()
    said = str(found.status)
    if said != "Solved":
        return said
    m, p, x, w = len(b), len(h), np.array(found.x), np.array(found.z)
    mu = np.zeros(len(c))
    mu[up] += w[m + p : m + p + up.sum()]
    mu[low] -= w[m + p + up.sum() :]
    return "Solved" if residual(d, x, w[:m], w[m : m + p], mu) <= WRONG else "Solved, over 1e-6"


def main() -> None:
    """Count how programs end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=28, help="how many shapes; kinds come in turn")
    parser.add_argument("--lanes", type=int, default=20, help="programs of a batch")
    parser.add_argument("--largest", type=int, default=30, help="unknowns")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--form", default="dense", choices=("dense", "factorized", "sparse", "maps"))
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--solver", default="", help="of dense ones; default: the verb's choice")
    parser.add_argument("--steps", type=int, default=250, help="limit on OperatorSplitting's steps")
    parser.add_argument("--no-clarabel", action="store_true")
    parser.add_argument("--show", action="store_true", help="print what is wrong or not solved")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", not args.float32)
    wrong = 1e-3 if args.float32 else WRONG

    @partial(jax.jit, static_argnums=0)
    def solved(form: tuple[str, ...], data: list[jax.Array]) -> dini.ProgramSolution:
        def one(*given: jax.Array) -> dini.ProgramSolution:
            parts = in_form(dict(zip(form, given, strict=True)), args.form)
            limit = 512 if args.form == "factorized" else 0
            solver = getattr(dini, args.solver)() if args.solver else None
            if args.form != "dense":
                solver = dini.OperatorSplitting(dense_limit=limit, max_steps=args.steps)
            return dini.quadratic_program(**parts, solver=solver, on_failure="ignore")

        return jax.vmap(one)(*data)

    ours, theirs = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    steps = collections.defaultdict(list)
    rng, kinds = np.random.default_rng(args.seed), args.kinds.split(",")
    for batch in range(args.batches):
        kind = kinds[batch % len(kinds)]
        n = int(rng.integers(2, args.largest + 1))
        m, p = int(rng.integers(0, n // 2 + 1)), int(rng.integers(1, 2 * n + 1))
        programs = [program(kind, n, m, p, rng) for _ in range(args.lanes)]
        form = tuple(
            name for name in NAMES if any(np.isfinite(d[name]).any() for d in programs) and programs[0][name].size
        )
        out = solved(form, [jnp.asarray(np.stack([d[name] for d in programs])) for name in form])
        out = jax.tree.map(np.asarray, out)
        for i, d in enumerate(programs):
            parts = [out.multipliers.equality, out.multipliers.inequality, out.multipliers.bounds]
            y, z, mu = (np.zeros(0) if v is None else np.float64(v[i]) for v in parts)
            mu = mu if mu.size else np.zeros(n)
            end = dini.Status(int(out.status[i])).name
            steps[kind].append(int(out.stats.steps[i]))
            if end == "CONVERGED":
                left = residual(d, np.float64(out.x[i]), y, z, mu)
                if not left <= wrong:
                    end = "WRONG OPTIMAL"
                    if args.show:
                        print(f"{kind} n={n} m={m} p={p} batch {batch} lane {i}: residual {left:.1e}")
            elif args.show and end in ("STALLED", "MAX_STEPS", "NONFINITE", "NOT_CONVEX"):
                print(f"{kind} n={n} m={m} p={p} batch {batch} lane {i}: {end}, error {out.stats.error[i]:.1e}")
            ours[kind][end] += 1
            if not args.no_clarabel:
                theirs[kind][clarabel(d)] += 1
        total = sum(map(sum, (counts.values() for counts in ours.values())))
        print(f"batch {batch}: {kind}, {total} programs so far", file=sys.stderr, flush=True)
    show = lambda counts: ", ".join(f"{count} {name}" for name, count in counts.most_common())
    for kind in ours:
        print(
            f"{kind:17s} steps {np.median(steps[kind]):.0f} (at most {max(steps[kind])}): "
            f"{show(ours[kind])} | {show(theirs[kind])}"
        )


if __name__ == "__main__":
    main()
