"""CUTEst's small constrained problems (in JAX, by sif2jax): how many are solved, beside SciPy.

    python benchmarks/constrained.py
    python benchmarks/constrained.py --solvers dini --measure-only

Each problem is measured in a process of limited memory that serves many of them; what ends that process is a miss of
its solver. What was measured is kept in a folder, and not measured again: an interrupted run goes on where it was.

The set is fixed by a rule: all constrained minimization problems of sif2jax with at most 50 variables and at most 50
constraints (without the bounds) at their default parameters, whose functions are at most 3,000 operations of JAX (sums
that are unrolled into more take minutes to compile), from their standard starting points. A run is solved if,
within 1,000 evaluations of the objective, the point that is returned violates no constraint by more than 1e-6 (times
one plus the norm of its gradient) and there are multipliers with which what is left of the Lagrangian's gradient, and
the products of multipliers and slacks, are at most 1e-5 of the largest force (the gradient of the objective, or a
constraint's times its multiplier, or one). The multipliers are found by nonnegative least squares on the constraints
with slacks of up to 1e-3, whatever the solver says itself: nobody's own test decides. All solvers have exact first
derivatives, trust-constr and dini exact second ones.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.flatten_util  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

LARGEST, BUDGET, OPERATIONS = 50, 1000, 3000
#: bytes of memory that a process may ask for and those with which it is replaced, and seconds of CPU for one solver
MEMORY, FULL, SECONDS = 6 * 2**30, 2 * 2**30, 300
FEASIBLE, STATIONARY, ACTIVE = 1e-6, 1e-5, 1e-3
COMMAND = "python benchmarks/constrained.py"


def flat_of(tree: Any) -> jax.Array:
    """Return a tree of arrays, or none, as one vector."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


class Task:
    """One problem of the set, on vectors, with its functions compiled once."""

    def __init__(self, problem: Any):
        self.name = problem.name
        y0 = jax.tree.map(jnp.asarray, problem.y0)
        self.start, unravel = jax.flatten_util.ravel_pytree(y0)
        bounds = problem.bounds
        full = lambda b, fill: flat_of(jax.tree.map(lambda u, v: jnp.broadcast_to(v, jnp.shape(u)), y0, b)) + 0 * fill
        free = jnp.full(self.start.size, jnp.inf)
        self.lower, self.upper = (-free, free) if bounds is None else (full(bounds[0], 0.0), full(bounds[1], 0.0))
        shapes = [flat_of(part) for part in problem.constraint(y0)]
        # rows that are infinite stand for constraints that are not there
        self.kept = [np.flatnonzero(np.isfinite(np.asarray(part))) for part in shapes]
        self.fun = lambda x: jnp.asarray(problem.objective(unravel(x), problem.args), float).reshape(())
        self.equality = lambda x: flat_of(problem.constraint(unravel(x))[0])[self.kept[0]]
        self.inequality = lambda x: -flat_of(problem.constraint(unravel(x))[1])[self.kept[1]]
        both = lambda x: jnp.concatenate([self.fun(x)[None], self.equality(x), self.inequality(x)])
        self.both, self.jacobian = jax.jit(both), jax.jit(jax.jacrev(both))
        self.equalities = len(self.kept[0])

    def program(self) -> dini.NonlinearProgram:
        """Return the problem for dini."""
        return dini.NonlinearProgram(
            self.fun,
            equality=self.equality if len(self.kept[0]) else None,
            inequality=self.inequality if len(self.kept[1]) else None,
            lower=self.lower if np.isfinite(self.lower).any() else None,
            upper=self.upper if np.isfinite(self.upper).any() else None,
        )

    def errors(self, x: np.ndarray) -> tuple[float, float]:
        """Return the violation and what is left of the forces at a point."""
        from scipy.optimize import lsq_linear

        x = np.asarray(x, float)
        values, jacobian = np.asarray(self.both(x)), np.asarray(self.jacobian(x))
        gradient, rows, constraints = jacobian[0], jacobian[1:], values[1:]
        size = 1 + np.linalg.norm(rows, axis=1)
        equal, general = constraints[: self.equalities], constraints[self.equalities :]
        lower, upper = np.asarray(self.lower), np.asarray(self.upper)
        wrong = [np.abs(equal) / size[: self.equalities], general / size[self.equalities :], lower - x, x - upper]
        violation = max([0.0, *(float(part.max()) for part in wrong if part.size)])
        if not np.isfinite(values).all() or not np.isfinite(jacobian).all():
            return np.inf, np.inf
        # each inequality and bound as a row with its slack, those that are near
        eye = np.eye(x.size)
        slacks = np.concatenate(
            [-general / size[self.equalities :], *(gap / (1 + np.abs(x)) for gap in (x - lower, upper - x))]
        )
        sides = np.concatenate([rows[self.equalities :] / size[self.equalities :, None], -eye, eye])
        near = slacks <= ACTIVE
        matrix = np.concatenate([rows[: self.equalities] / size[: self.equalities, None], sides[near]]).T
        gap = np.concatenate([np.zeros(self.equalities), np.maximum(slacks[near], 0)])
        if not matrix.shape[1]:
            return violation, float(np.abs(gradient).max() / max(1, np.abs(gradient).max()))
        least = np.r_[np.full(self.equalities, -np.inf), np.zeros(matrix.shape[1] - self.equalities)]
        # what slacks cost counts like what is left of the forces
        full, target = np.concatenate([matrix, np.diag(gap)]), np.concatenate([-gradient, np.zeros(gap.size)])
        y = lsq_linear(full, target, (least, np.inf), method="bvls", max_iter=1000, tol=1e-14).x
        force = max(1.0, np.abs(gradient).max(), np.abs(y).max())
        return violation, float(np.abs(full @ y - target).max() / force)


def tasks(raw: pathlib.Path) -> dict[str, Callable[[], Task]]:
    """Return the problems by name, in the order of the package; to count constraints takes minutes, once."""
    import sif2jax

    names = raw / "names.json"
    if not names.is_file():
        small = [
            problem.name
            for problem in sif2jax.constrained_minimisation_problems
            if problem.num_variables() <= LARGEST and sum(map(int, problem.num_constraints()[:2])) <= LARGEST
        ]
        names.write_text(json.dumps(small))
    small = set(json.loads(names.read_text()))
    each = sif2jax.constrained_minimisation_problems
    return {problem.name: lambda problem=problem: Task(problem) for problem in each if problem.name in small}


def operations(task: Task) -> int:
    """Return how many operations the functions of a task are, those of inner programs included."""

    def count(jaxpr: Any) -> int:
        inner = [getattr(p, "jaxpr", p) for eqn in jaxpr.eqns for p in jax.tree.leaves(eqn.params.values())]
        return len(jaxpr.eqns) + sum(count(one) for one in inner if hasattr(one, "eqns"))

    return count(jax.make_jaxpr(task.both)(task.start).jaxpr)


def of_dini(task: Task) -> dict:
    """Run dini's default."""
    problem = task.program()
    solver = dini.NonlinearInteriorPoint(max_steps=BUDGET)
    solution = dini.solve(problem, solver, problem.start(task.start), on_failure="ignore")
    status = dini.Status(int(solution.status)).name
    return {
        "x": solution.x.primal,
        "evaluations": int(solution.stats.steps),
        "status": status,
        "claims": bool(solution.success),
    }


class Stop(Exception):
    """Ends one of SciPy's solvers."""


def of_scipy(method: str, **options: Any) -> Callable[[Task], dict]:
    """Return a runner of one of SciPy's methods."""
    from scipy.optimize import Bounds, NonlinearConstraint, minimize

    def run(task: Task) -> dict:
        seen: dict[str, Any] = {"x": np.asarray(task.start), "evaluations": 0}
        hessian = jax.jit(lambda x, v: jax.hessian(lambda u: jnp.dot(v, task.both(u)))(x))
        unit = np.eye(1, len(task.both(task.start)))[0]

        def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
            seen["evaluations"] += 1
            if seen["evaluations"] > BUDGET:
                raise Stop
            seen["x"] = np.array(x)
            return float(task.both(x)[0]), np.asarray(task.jacobian(x)[0])

        split = 1 + task.equalities
        parts = [slice(1, split), slice(split, None)]
        if method == "SLSQP":
            constraints = [
                {
                    "type": kind,
                    "fun": lambda x, p=p, s=s: s * np.asarray(task.both(x)[p]),
                    "jac": lambda x, p=p, s=s: s * np.asarray(task.jacobian(x)[p]),
                }
                for kind, p, s, kept in zip(("eq", "ineq"), parts, (1, -1), task.kept, strict=True)
                if len(kept)
            ]
            second: dict[str, Any] = {}
        else:

            def weighted(x: np.ndarray, v: np.ndarray, p: slice) -> np.ndarray:
                weights = np.zeros(unit.size)
                weights[p] = v
                return np.asarray(hessian(x, weights))

            constraints = [
                NonlinearConstraint(
                    lambda x, p=p: np.asarray(task.both(x)[p]),
                    low,
                    0,
                    jac=lambda x, p=p: np.asarray(task.jacobian(x)[p]),
                    hess=lambda x, v, p=p: weighted(x, v, p),
                )
                for low, p, kept in zip((0, -np.inf), parts, task.kept, strict=True)
                if len(kept)
            ]
            second = {"hess": lambda x: np.asarray(hessian(x, unit))}
        lower, upper = np.asarray(task.lower), np.asarray(task.upper)
        bounds = Bounds(lower, upper) if np.isfinite([lower, upper]).any() else None
        start = np.clip(np.asarray(task.start), lower, upper)
        status, claims = "", False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                end = minimize(
                    fun,
                    start,
                    jac=True,
                    method=method,
                    bounds=bounds,
                    constraints=constraints,
                    options=options,
                    **second,
                )
            seen["x"], status, claims = end.x, str(end.message)[:60], bool(end.status in (0, 1, 2) and end.success)
        except Stop:
            status = "MAX_STEPS"
        return {**seen, "status": status, "claims": claims}

    return run


SOLVERS: dict[str, Callable[[Task], dict]] = {
    "dini NonlinearInteriorPoint": of_dini,
    "scipy SLSQP": of_scipy("SLSQP", ftol=1e-12, maxiter=BUDGET),
    "scipy trust-constr": of_scipy("trust-constr", gtol=1e-8, xtol=1e-12, maxiter=BUDGET),
}


def records(path: pathlib.Path) -> dict[str, dict]:
    """Return what a file holds, by problem."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {record["problem"]: record for record in map(json.loads, lines)}


def chosen(raw: pathlib.Path, solvers: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Return the files of the solvers whose names begin as asked for."""
    return {name: raw / f"{name}.jsonl" for name in SOLVERS if not solvers or name.startswith(solvers)}


def keep(path: pathlib.Path, record: dict) -> None:
    """Write a record down, and say it."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    verdict = "solved" if record["solved"] else "MISSED"
    shown = f"{record['violation']:.1e} {record['left']:.1e} {record['evaluations']} {record['status']}"
    print(record["problem"], path.stem, verdict, shown, record["seconds"], file=sys.stderr, flush=True)


def serve(raw: pathlib.Path, solvers: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Run what is not in the raw folder yet, until all is done or the memory is full."""
    files = chosen(raw, solvers)
    done = {name: records(path) for name, path in files.items()}
    left_out = records(raw / "left out.jsonl")
    for problem, make in tasks(raw).items():
        missing = [name for name in files if problem not in done[name] and (not only or problem in only)]
        if not missing or problem in left_out:
            continue
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > FULL:
            sys.exit(AGAIN)
        (raw / "current.json").write_text(json.dumps([problem, None]))
        task = make()
        if operations(task) > OPERATIONS:
            leave_out(raw, problem, "too long a program")
            continue
        for name in missing:
            (raw / "current.json").write_text(json.dumps([problem, name]))
            start = time.process_time()
            try:
                end = SOLVERS[name](task)
                violation, left = task.errors(end["x"])
                end["x"] = np.asarray(end["x"], float).tolist()
                end["value"] = float(task.both(np.asarray(end["x"]))[0])
            except Exception as failure:
                end, violation, left = {"evaluations": BUDGET, "claims": False}, np.inf, np.inf
                end["status"] = f"{type(failure).__name__}: {failure}"[:80]
            ok = bool(violation <= FEASIBLE and left <= STATIONARY)
            seconds = round(time.process_time() - start, 2)
            found = {"violation": violation, "left": left, "solved": ok, "seconds": seconds}
            keep(files[name], {"problem": problem, **end, **found})
        jax.clear_caches()


def leave_out(raw: pathlib.Path, problem: str, why: str) -> None:
    """Write down that a problem is none of the set."""
    with (raw / "left out.jsonl").open("a") as file:
        file.write(json.dumps({"problem": problem, "why": why}) + "\n")
    print(problem, "left out:", why, file=sys.stderr, flush=True)


#: how a process says that another one should go on
AGAIN = 3


def measure(raw: pathlib.Path, solvers: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Run what is not in the raw folder yet, in processes of its own."""
    files, current = chosen(raw, solvers), raw / "current.json"
    command = [sys.executable, __file__, "--serve", "--raw", str(raw)]
    command += ["--solvers", ",".join(solvers), "--problems", ",".join(only)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        current.unlink(missing_ok=True)
        process = subprocess.Popen(command, preexec_fn=limit)
        since, begun = "", 0.0
        while process.poll() is None:
            time.sleep(1)
            now = current.read_text() if current.is_file() else ""
            used = cpu_seconds(process.pid)
            if now != since:
                since, begun = now, used
            elif now and used - begun > SECONDS:
                process.kill()
        if process.returncode == 0:
            break
        if process.returncode == AGAIN:
            continue
        if not since:
            raise RuntimeError(f"The process ended with {process.returncode} before the first problem.")
        problem, name = json.loads(since)
        if name is None:
            leave_out(raw, problem, "its functions alone took too much memory or time")
            continue
        status = f"more than {SECONDS} s or {MEMORY // 2**30} GiB"
        miss = {"violation": np.inf, "left": np.inf, "solved": False, "seconds": SECONDS}
        keep(files[name], {"problem": problem, "evaluations": BUDGET, "claims": False, "status": status, **miss})


def kept(raw: pathlib.Path, solvers: tuple[str, ...]) -> dict[str, dict[str, dict]]:
    """Return ``{solver: {problem: record}}``, of the problems of the set."""
    left_out = records(raw / "left out.jsonl")
    return {
        name: {problem: record for problem, record in records(path).items() if problem not in left_out}
        for name, path in chosen(raw, solvers).items()
    }


def cpu_seconds(pid: int) -> float:
    """Return how long a process has computed, zero where it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(results: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Return one row a solver, the best first, over the problems that all of them have tried."""
    found = []
    tried = set.intersection(*map(set, results.values()))
    for name, every in results.items():
        counted = {problem: record for problem, record in every.items() if problem in tried}
        solved = [r for r in counted.values() if r["solved"]]
        median = np.median([r["evaluations"] for r in solved]) if solved else np.nan
        wrong = sum(r["claims"] and not r["solved"] for r in counted.values())
        found.append((len(solved), name, len(counted), median, wrong))
    found.sort(key=lambda row: (-row[0], row[1]))
    return [[n, f"{s} of {of}", f"{s / max(of, 1):.1%}", f"{median:.0f}", str(w)] for s, n, of, median, w in found]


def missed(results: dict[str, dict[str, dict]]) -> str:
    """Return which problems dini has missed, and who has solved them."""
    ours = next((name for name in results if name.startswith("dini")), None)
    if ours is None:
        return ""
    lines = []
    for problem, record in results[ours].items():
        if not record["solved"]:
            others = [name for name, each in results.items() if each.get(problem, {}).get("solved")]
            lines.append([problem, record["status"], ", ".join(others) or "nobody"])
    return table(["missed by dini", "its status", "solved by"], lines)


def coverage(raw: pathlib.Path, results: dict[str, dict[str, dict]]) -> str:
    """Return how many problems of the rule were tried by all solvers, and how many are left out."""
    names, left_out = set(json.loads((raw / "names.json").read_text())), records(raw / "left out.jsonl")
    tried = len(set.intersection(*map(set, results.values())))
    rest = len(names) - len(left_out) - tried
    text = f"{len(names)} problems are small enough, {len(left_out)} of them are too long as programs."
    return text if not rest else f"{text} {rest} are not measured yet: they are in no count above."


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", default="", help="run only solvers whose names begin so (comma-separated)")
    parser.add_argument("--problems", default="", help="run only these (comma-separated)")
    parser.add_argument("--raw", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "dini-constrained")
    parser.add_argument("--measure-only", action="store_true", help="fill the raw folder and write nothing")
    parser.add_argument("--write-only", action="store_true", help="write the table of what is measured so far")
    parser.add_argument("--serve", action="store_true", help="measure in this process (what the others are made by)")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    args.raw.mkdir(parents=True, exist_ok=True)
    split = lambda text: tuple(filter(None, text.split(",")))
    if args.serve:
        serve(args.raw, split(args.solvers), split(args.problems))
        return
    if not args.write_only:
        measure(args.raw, split(args.solvers), split(args.problems))
    results = kept(args.raw, split(args.solvers))
    header = ["solver", "solved", "share", "median evaluations", "claimed, and not solved"]
    body = f"{table(header, rows(results))}\n\n{missed(results)}\n\n{coverage(args.raw, results)}"
    if args.measure_only:
        print(body)
        return
    write("constrained", "CUTEst's small constrained problems: solved within 1,000 evaluations", COMMAND, body)


if __name__ == "__main__":
    main()
