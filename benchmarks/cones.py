"""Thousands of random cone programs: what dini says of them, beside Clarabel.

    uv run python benchmarks/cones.py --batches 48 --lanes 25

Each batch has one shape, one product of cones and one kind; its lanes are solved at once. A program is built so that it
is known whether it has a solution. "Optimal" is tested by the conditions themselves, in float64 on the host, by the
inequalities of the cones: membership, stationarity, feasibility and the duality gap, each relative to its terms. What
fails that test is a wrong "optimal", and what has no solution is one as well. With `--times`, a batch of each family is
timed, and the points are compared with Clarabel's.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini.sets import ConeProduct, Exponential, NonNegative, PositiveSemidefinite, Power, SecondOrder, Zero

#: rows of each elementary cone: equations, inequalities, second-order, semidefinite, exponential, power
FAMILIES = {
    "linear": (("z", 2), ("n", 5)),
    "second-order": (("z", 1), ("n", 2), ("q", 3), ("q", 4), ("q", 3)),
    "semidefinite": (("z", 1), ("s", 6), ("s", 3), ("n", 2)),
    "exponential": (("z", 1), ("e", 3), ("e", 3), ("e", 3), ("n", 1)),
    "power": (("z", 1), ("p", 3), ("p", 3), ("n", 2)),
    "all": (("z", 2), ("n", 2), ("q", 3), ("s", 3), ("e", 3), ("p", 3)),
}
KINDS = (
    "strict",
    "semidefinite",
    "linear",
    "degenerate",
    "redundant",
    "scaled rows",
    "scaled units",
    "infeasible",
    "unbounded",
)
NAMES = ("P", "c", "A", "b")
ALPHAS = (0.3, 0.75)
#: a residual above this, relative to its terms, is a wrong "optimal"
WRONG = 1e-6


def cone_of(family):
    """Return the product of a family, its rows, and the exponents of its power cones."""
    alphas = iter(ALPHAS)
    make = {
        "z": Zero, "n": NonNegative, "q": SecondOrder, "e": Exponential,
        "s": lambda: PositiveSemidefinite("vector"), "p": lambda: Power(next(alphas)),
    }  # fmt: skip
    return ConeProduct([make[letter]() for letter, _ in family], [size for _, size in family])


def blocks(family):
    """Return letter, slice and exponent of each cone."""
    first, alphas = 0, iter(ALPHAS)
    for letter, size in family:
        yield letter, slice(first, first + size), next(alphas) if letter == "p" else None
        first += size


def program(kind, family, project, n, rng):
    """Return a program of a kind; all but the last two have a solution."""
    m = sum(size for _, size in family)
    x0 = rng.standard_normal(n)
    M = rng.standard_normal((n, n)) / np.sqrt(n)
    if kind in ("semidefinite", "unbounded"):
        M[: n // 2] = 0
    P = M.T @ M + (0.1 * np.eye(n) if kind not in ("semidefinite", "unbounded") else 0)
    if kind in ("linear", "infeasible"):
        P = 0 * P
    A = rng.standard_normal((m, n))
    v = rng.standard_normal(m)
    if kind == "degenerate":  # cones whose slack and multiplier are both at the tip or on one ray
        for _, rows, _ in blocks(family):
            v[rows] *= rng.random() < 0.5
    s = project(v)
    z = s - v
    if kind == "redundant":
        half = n // 2
        A[:, half:] = A[:, : n - half]
        M[:, half:] = M[:, : n - half]
        P = M.T @ M
    b, c = A @ x0 + s, -(P @ x0 + A.T @ z)
    if kind == "infeasible":
        z = dual_point(project, m, rng)
        A = A - np.outer(z, A.T @ z) / (z @ z)
        b = b - z * (b @ z + 1) / (z @ z)
        c = rng.standard_normal(n)
    if kind == "unbounded":
        _, _, V = np.linalg.svd(M)
        rank = np.linalg.matrix_rank(M)
        d = V[rank:].T @ rng.standard_normal(n - rank)
        into = sum(project(rng.standard_normal(m)) for _ in range(4))
        A = A - np.outer(A @ d + into, d) / (d @ d)
        b, c = A @ x0 + s, rng.standard_normal(n)
        c = c - (c @ d + 1) * d / (d @ d)
    if kind == "scaled rows":
        for _, rows, _ in blocks(family):
            size = 10.0 ** rng.uniform(-6, 6)
            A[rows] *= size
            b[rows] = A[rows] @ x0 + s[rows] * size
            z[rows] /= size
        c = -(P @ x0 + A.T @ z)
    if kind == "scaled units":
        length, objective, rows = 10.0 ** rng.uniform(-6, 6, 3)
        P, c = P * objective / length**2, c * objective / length
        A, b = A / length * rows, b * rows
    return dict(zip(NAMES, (P, c, A, b), strict=True))


def dual_point(project, m, rng):
    """Return a point inside of the dual cone."""
    total = np.zeros(m)
    for _ in range(4):
        v = rng.standard_normal(m)
        total += project(v) - v
    return total


def triangle(v):
    """Return the matrix of a scaled vector of a triangle."""
    n = int((8 * len(v) + 1) ** 0.5) // 2
    rows, columns = np.triu_indices(n)
    M = np.zeros((n, n))
    M[rows, columns] = M[columns, rows] = v * np.where(rows == columns, 1, 0.5**0.5)
    return M


def outside(letter, v, alpha, dual):
    """Return how far at most a vector is from its cone, beside its own size."""
    top = max(np.abs(v).max(), 1e-300)
    v = v / top
    if letter == "z":
        return 0.0 if dual else 1.0 if np.abs(v).max() > 0 else 0.0
    if letter == "n":
        return max(-v.min(), 0)
    if letter == "q":
        return max(np.linalg.norm(v[1:]) - v[0], 0)
    if letter == "s":
        return max(-np.linalg.eigvalsh(triangle(v))[0], 0)
    # the curved cones are steep near their edges: the shortest of some ways into the cone counts, not the height
    # that is missing
    x, y, w = v
    if letter == "e":
        if dual:
            x, y = x - y, -x
        return min(
            (max(-y, y * np.exp(min(x / y, 700)) - w, 0) if y > 1e-300 else np.inf),
            (max(x - y * np.log(w / y), 0) if min(y, w) > 1e-300 else np.inf),
            max(-y, y, x, -w, 0),
        )
    if dual:
        x, y = x / alpha, y / (1 - alpha)
    a, b, w = max(x, 0), max(y, 0), abs(w)
    ways = [w - a**alpha * b ** (1 - alpha)]
    if w > 0:
        ways += [(w / b ** (1 - alpha)) ** (1 / alpha) - a] if b > 0 else []
        ways += [(w / a**alpha) ** (1 / (1 - alpha)) - b] if a > 0 else []
    return max(-x, -y, min(ways), 0)


def residual(d, family, x, y):
    """Return the largest relative residual of the optimality conditions."""
    P, c, A, b = (d[name] for name in NAMES)
    top = lambda *vs: max((np.abs(v).max() for v in vs if np.size(v)), default=0.0)
    left = P @ x + c + A.T @ y
    worst = top(left) / max(top(P @ x, c, A.T @ y), 1e-300)
    # no vector is farther from a cone than it is long
    s = b - A @ x
    for letter, rows, alpha in blocks(family):
        own = max(np.abs(b[rows]).max(), (np.abs(A[rows]) @ np.abs(x)).max(), 1e-300)
        if letter == "z":
            worst = max(worst, np.abs(s[rows]).max() / own)
            continue
        size = max(np.abs(s[rows]).max(), 1e-300)
        worst = max(worst, min(outside(letter, s[rows], alpha, False), 1) * size / own)
        pulls = max(top(y[rows]), 1e-300)
        weight = np.abs(A[rows]).max() * pulls / max(top(P @ x, c, A.T @ y), np.abs(A[rows]).max() * pulls, 1e-300)
        worst = max(worst, min(outside(letter, y[rows], alpha, True), 1) * weight)
    gap = s @ y
    return max(worst, abs(gap) / max(abs(x @ P @ x), abs(c @ x), abs(b @ y), 1e-300))


def clarabel(d, family, tight=False):
    """Return what Clarabel says, and its point and multipliers."""
    import clarabel
    import scipy.sparse as sp

    P, c, A, b = (d[name] for name in NAMES)
    cones, order = [], []
    for letter, rows, alpha in blocks(family):
        where = np.arange(rows.start, rows.stop)
        size = len(where)
        if letter == "s":  # the upper triangle by columns
            n = int((8 * size + 1) ** 0.5) // 2
            place = np.zeros((n, n), int)
            place[np.triu_indices(n)] = where
            where = np.array([place[i, j] for j in range(n) for i in range(j + 1)])
            cones.append(clarabel.PSDTriangleConeT(n))
        elif letter in "ep":
            cones.append(clarabel.ExponentialConeT() if letter == "e" else clarabel.PowerConeT(alpha))
        else:
            kinds = {"z": clarabel.ZeroConeT, "n": clarabel.NonnegativeConeT, "q": clarabel.SecondOrderConeT}
            cones.append(kinds[letter](size))
        order += list(where)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    if tight:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    order = np.array(order)
    found = clarabel.DefaultSolver(
        sp.csc_matrix(np.triu(P)), c, sp.csc_matrix(A[order]), b[order], cones, settings
    ).solve()
    y = np.zeros(len(b))
    y[order] = np.array(found.z)
    x = np.array(found.x)
    said = str(found.status)
    if said == "Solved" and residual(d, family, x, y) > WRONG:
        said = "Solved, over 1e-6"
    return said, x, y


@partial(jax.jit, static_argnums=0)
def solved(name, data):
    """Solve a batch of one family."""
    one = lambda P, c, A, b: dini.cone_program(P=P, c=c, A=A, b=b, cone=cone_of(FAMILIES[name]), on_failure="ignore")
    return jax.vmap(one)(*data)


def timed(names, lanes, rng):
    """Print the time of a batch, and the distance from Clarabel's points."""
    for name in names:
        family = FAMILIES[name]
        project = jax.jit(cone_of(family).project)
        n = 6
        programs = [program("strict", family, lambda v, p=project: np.asarray(p(v)), n, rng) for _ in range(lanes)]
        data = [jnp.asarray(np.stack([d[key] for d in programs])) for key in NAMES]
        start = time.perf_counter()
        out = jax.block_until_ready(solved(name, data))
        first = time.perf_counter() - start
        start = time.perf_counter()
        out = jax.block_until_ready(solved(name, data))
        again = time.perf_counter() - start
        start = time.perf_counter()
        theirs = [clarabel(d, family, tight=True) for d in programs]
        beside = time.perf_counter() - start
        far = [
            np.abs(out.x[i] - x).max() / np.abs(x).max() for i, (said, x, _) in enumerate(theirs) if said == "Solved"
        ]
        ours = [
            residual(d, family, np.asarray(out.x[i]), np.asarray(out.multipliers[i])) for i, d in enumerate(programs)
        ]
        print(
            f"{name:13s} {lanes} programs: first call {first:.1f} s, then {1e3 * again / lanes:.2f} ms each, Clarabel "
            f"{1e3 * beside / lanes:.2f} ms each; points at most {max(far):.1e} apart ({len(far)} compared), "
            f"residuals at most {max(ours):.1e}"
        )


def main() -> None:
    """Count how programs end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=54, help="how many; families and kinds come in turn")
    parser.add_argument("--lanes", type=int, default=20, help="programs of a batch")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--no-clarabel", action="store_true")
    parser.add_argument("--show", action="store_true", help="print what is wrong or not solved")
    parser.add_argument("--times", action="store_true", help="time a batch of each family in place of counting")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", not args.float32)
    wrong = 1e-3 if args.float32 else WRONG
    rng = np.random.default_rng(args.seed)
    if args.times:
        return timed(args.families.split(","), args.lanes, rng)

    ours, theirs = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    steps = collections.defaultdict(list)
    names, kinds = args.families.split(","), args.kinds.split(",")
    for batch in range(args.batches):
        name = names[batch // len(kinds) % len(names)]
        kind, family = kinds[batch % len(kinds)], FAMILIES[name]
        project = jax.jit(cone_of(family).project)
        make = lambda: program(kind, family, lambda v: np.asarray(project(v), float), 6, rng)  # noqa: B023
        programs = [make() for _ in range(args.lanes)]
        out = solved(name, [jnp.asarray(np.stack([d[key] for d in programs])) for key in NAMES])
        out = jax.tree.map(np.asarray, out)
        for i, d in enumerate(programs):
            end = dini.Status(int(out.status[i])).name
            steps[name, kind].append(int(out.stats.steps[i]))
            if end == "CONVERGED":
                left = residual(d, family, np.float64(out.x[i]), np.float64(out.multipliers[i]))
                if not left <= wrong:
                    end = "WRONG OPTIMAL"
                    if args.show:
                        print(f"{name} {kind} batch {batch} lane {i}: residual {left:.1e}")
            elif args.show and end not in ("PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE"):
                print(f"{name} {kind} batch {batch} lane {i}: {end}, error {out.stats.error[i]:.1e}")
            ours[name, kind][end] += 1
            if not args.no_clarabel:
                theirs[name, kind][clarabel(d, family)[0]] += 1
        total = sum(map(sum, (counts.values() for counts in ours.values())))
        print(f"batch {batch}: {name} {kind}, {total} programs so far", file=sys.stderr, flush=True)
    show = lambda counts: ", ".join(f"{count} {what}" for what, count in counts.most_common())
    for key in ours:
        print(
            f"{key[0]:12s} {key[1]:12s} steps {np.median(steps[key]):.0f} (at most {max(steps[key])}): "
            f"{show(ours[key])} | {show(theirs[key])}"
        )


if __name__ == "__main__":
    main()
