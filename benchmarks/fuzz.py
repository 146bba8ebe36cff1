"""Ten thousand random programs, quadratic and of cones: is every "optimal", "infeasible" and "unbounded" true?

    python benchmarks/fuzz.py                   # all parts, and results/fuzz.md
    python benchmarks/fuzz.py --parts power     # one part, into the raw folder; the table is made of all parts there

The programs are those of ``programs.py`` and ``cones.py``. A part has one shape, so that it is compiled once; its
batches hold programs of all kinds side by side. What dini says is judged in float64 NumPy on the host. "Optimal": the
conditions, each relative to its terms, to 1e-6. "Infeasible": the multipliers are in the dual cone and make
``0 <= -1`` of the constraints, to 1e-6. "Unbounded": the ray stays feasible and the objective falls along it, to 1e-6.
A program that was built around a solution must not be called infeasible or unbounded, whatever the proof. Clarabel
solves the first programs of each kind, with its default settings.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import tempfile
from typing import Any

import report

report.one_core()

import cones  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import programs  # noqa: E402

import dini  # noqa: E402

#: unknowns, equalities and inequalities of the shapes of quadratic programs (so few equalities that "unbounded" is)
SHAPES = {"n = 4": (4, 1, 4), "n = 7": (7, 2, 9), "n = 12": (12, 5, 18), "n = 30": (30, 10, 40)}
QUADRATIC = {"n = 4": 150, "n = 7": 150, "n = 12": 150, "n = 30": 50}
CONES = {"linear": 80, "second-order": 80, "semidefinite": 60, "exponential": 60, "power": 40, "all": 40}
#: how many programs of each kind Clarabel solves
SAMPLE = 5
PROVED = 1e-6
NO_SOLUTION = ("infeasible", "contradiction", "unbounded", "unbounded linear")


def top(*vs: Any) -> float:
    """Return the largest absolute value."""
    return max((float(np.abs(v).max()) for v in vs if np.size(v)), default=0.0)


def proof_of_quadratic(d: dict[str, Any], out: dict[str, Any], end: str) -> float:
    """Return how far a certificate is from one, beside the number that is negative."""
    Q, c, A, b, G, h, lower, upper = (d[name] for name in programs.NAMES)
    finite = lambda v: np.where(np.isfinite(v), v, 0)
    if end == "PRIMAL_INFEASIBLE":
        y, z, mu = out["y"], out["z"], out["mu"]
        over, under = np.maximum(mu, 0), np.maximum(-mu, 0)
        ahead = -(b @ y + h @ z + finite(upper) @ over - finite(lower) @ under)
        wrong = [A.T @ y + G.T @ z + mu, np.minimum(z, 0)]
        wrong += [np.where(np.isinf(upper), over, 0), np.where(np.isinf(lower), under, 0)]
    else:
        x = out["x"]
        ahead = -(c @ x)
        wrong = [Q @ x, A @ x, np.maximum(G @ x, 0)]
        wrong += [np.where(np.isinf(upper), 0, np.maximum(x, 0)), np.where(np.isinf(lower), 0, np.maximum(-x, 0))]
    return top(*wrong) / ahead if ahead > 0 else np.inf


def proof_of_cones(d: dict[str, Any], family: Any, out: dict[str, Any], end: str) -> float:
    """Return how far a certificate is from one, beside the number that is negative."""
    P, c, A, b = (d[name] for name in cones.NAMES)
    primal = end == "PRIMAL_INFEASIBLE"
    v = out["y"] if primal else -A @ out["x"]
    ahead = -(b @ v) if primal else -(c @ out["x"])
    wrong = [A.T @ v] if primal else [P @ out["x"]]
    for letter, rows, alpha in cones.blocks(family):
        if letter == "z" and not primal:
            wrong.append(v[rows])
        else:
            wrong.append(np.array(min(cones.outside(letter, v[rows], alpha, primal), 1) * top(v[rows])))
    return top(*wrong) / ahead if ahead > 0 else np.inf


def verdict(kind: str, end: str, left: float) -> str:
    """Return what is true of an answer."""
    if end == "CONVERGED":
        return "optimal" if kind not in NO_SOLUTION and left <= cones.WRONG else "wrong optimal"
    if end in ("PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE"):
        return "no solution" if kind in NO_SOLUTION and left <= PROVED else "wrong proof"
    return end.lower()


def quadratic(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return how the programs of one shape end."""
    n, m, p = SHAPES[name]
    made = []
    for kind in programs.KINDS:
        rows = m - 1 if kind == "contradiction" else m
        made += [(kind, programs.program(kind, n, rows, p, rng)) for _ in range(QUADRATIC[name])]
    solve = jax.jit(jax.vmap(lambda d: dini.quadratic_program(**d, on_failure="ignore")))
    order = rng.permutation(len(made))
    found: dict[int, tuple[str, float]] = {}
    for some in np.split(order, 4):
        data = {key: jnp.asarray(np.stack([made[i][1][key] for i in some])) for key in programs.NAMES}
        out = jax.tree.map(lambda v: np.asarray(v, float), solve(data))
        for lane, i in enumerate(some):
            end = dini.Status(int(out.status[lane])).name
            dual = out.multipliers
            parts = {"x": out.x[lane], "y": dual.equality[lane], "z": dual.inequality[lane], "mu": dual.bounds[lane]}
            d = made[i][1]
            if end == "CONVERGED":
                left = programs.residual(d, parts["x"], parts["y"], parts["z"], parts["mu"])
            else:
                left = proof_of_quadratic(d, parts, end) if end.endswith("INFEASIBLE") else np.inf
            found[int(i)] = end, float(left)
    return counted(made, found, lambda d: programs.clarabel(d))


def conic(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return how the programs of one family of cones end."""
    family = cones.FAMILIES[name]
    onto = jax.jit(cones.cone_of(family).project)
    project = lambda v: np.asarray(onto(v), float)
    made = [(kind, cones.program(kind, family, project, 6, rng)) for kind in cones.KINDS for _ in range(CONES[name])]
    order = rng.permutation(len(made))
    found: dict[int, tuple[str, float]] = {}
    for some in np.split(order, 4):
        out = cones.solved(name, [jnp.asarray(np.stack([made[i][1][key] for i in some])) for key in cones.NAMES])
        out = jax.tree.map(lambda v: np.asarray(v, float), out)
        for lane, i in enumerate(some):
            end = dini.Status(int(out.status[lane])).name
            parts = {"x": out.x[lane], "y": out.multipliers[lane]}
            d = made[i][1]
            if end == "CONVERGED":
                left = cones.residual(d, family, parts["x"], parts["y"])
            else:
                left = proof_of_cones(d, family, parts, end) if end.endswith("INFEASIBLE") else np.inf
            found[int(i)] = end, float(left)
    return counted(made, found, lambda d: cones.clarabel(d, family)[0])


def counted(made: list[Any], found: dict[int, tuple[str, float]], theirs: Any) -> dict[str, Any]:
    """Return the counts of each kind, Clarabel's of the first ones, and what is wrong or not solved."""
    counts: dict[str, Any] = {}
    odd = []
    for i, (kind, d) in enumerate(made):
        one = counts.setdefault(kind, {"ours": collections.Counter(), "clarabel": collections.Counter()})
        said = verdict(kind, *found[i])
        one["ours"][said] += 1
        if said not in ("optimal", "no solution"):
            odd.append({"kind": kind, "index": i, "end": found[i][0], "left": found[i][1], "said": said})
        if sum(one["clarabel"].values()) < SAMPLE:
            one["clarabel"][theirs(d)] += 1
    return {"counts": counts, "odd": odd}


def tables(raw: pathlib.Path) -> str:
    """Return the tables of all parts that are there."""
    bodies = []
    groups = (("Quadratic programs", [f"quadratic-{i}" for i in range(len(SHAPES))]), ("Cone programs", list(CONES)))
    for title, names in groups:
        there = [json.loads((raw / f"{name}.json").read_text()) for name in names if (raw / f"{name}.json").exists()]
        if not there:
            continue
        kinds: dict[str, Any] = {}
        for part in there:
            for kind, one in part["counts"].items():
                both = kinds.setdefault(kind, {"ours": collections.Counter(), "clarabel": collections.Counter()})
                for who in both:
                    both[who].update(one[who])
        whole = {who: sum((one[who] for one in kinds.values()), collections.Counter()) for who in ("ours", "clarabel")}
        rows = []
        for kind, one in [*kinds.items(), ("all", whole)]:
            ours, theirs = one["ours"], one["clarabel"]
            good = ours["optimal"] + ours["no solution"]
            wrong = ours["wrong optimal"] + ours["wrong proof"]
            rest = ", ".join(
                f"{count} {said}"
                for said, count in ours.most_common()
                if said not in ("optimal", "no solution", "wrong optimal", "wrong proof")
            )
            right = sum(theirs[said] for said in ("Solved", "PrimalInfeasible", "DualInfeasible"))
            many, sample = sum(ours.values()), sum(theirs.values())
            rows.append([kind, str(many), f"{good / many:.1%}", str(wrong), rest or "none", f"{right} of {sample}"])
        header = ("kind", "programs", "right", "wrong", "neither", "Clarabel right, of a sample")
        bodies.append(f"## {title}\n\n{report.table(header, rows)}")
    return "\n\n".join(bodies)


def main() -> None:
    """Run the parts that are asked for, and write the table of all that are there."""
    everything = [f"quadratic-{i}" for i in range(len(SHAPES))] + list(CONES)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(everything), help="of " + ", ".join(everything))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--raw", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "dini-fuzz")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    args.raw.mkdir(parents=True, exist_ok=True)
    for part in filter(None, args.parts.split(",")):
        rng = np.random.default_rng([args.seed, everything.index(part)])
        made = quadratic(list(SHAPES)[int(part[10:])], rng) if part.startswith("quadratic-") else conic(part, rng)
        (args.raw / f"{part}.json").write_text(json.dumps(made))
        print(part, {kind: one["ours"] for kind, one in made["counts"].items()}, *made["odd"], sep="\n", flush=True)
    intro = "Kinds and the judge: see the script. Right: optimal with all conditions to 1e-6, or a proof to 1e-6.\n\n"
    report.write("fuzz", "Random programs", "python benchmarks/fuzz.py", intro + tables(args.raw))


if __name__ == "__main__":
    main()
