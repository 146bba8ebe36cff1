"""The set of CUTEst's small constrained problems (in JAX, by sif2jax), and how scripts go through it.

Each problem is measured in a process of limited memory that serves many of them; what ends that process is a miss of
what ran. What was measured is kept in a folder, and not measured again: an interrupted run goes on where it was.

The set is fixed by a rule: all constrained minimization problems of sif2jax with at most 50 variables and at most 50
constraints (without the bounds) at their default parameters, whose functions are at most 3,000 operations of JAX (sums
that are unrolled into more take minutes to compile), from their standard starting points.
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
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from report import write

import dini

LARGEST, BUDGET, OPERATIONS = 50, 1000, 3000
#: bytes of memory that a process may ask for and those with which it is replaced, and seconds of CPU for one solver
MEMORY, FULL, SECONDS = 6 * 2**30, 2 * 2**30, 300
FEASIBLE, STATIONARY, ACTIVE = 1e-6, 1e-5, 1e-3
#: how a process says that another one should go on
AGAIN = 3


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


def records(path: pathlib.Path) -> dict[str, dict]:
    """Return what a file holds, by problem."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {record["problem"]: record for record in map(json.loads, lines)}


class Run:
    """What a script does with each problem of the set: ``{name: function of a task}``, with what it keeps."""

    def __init__(self, script: str, runners: dict[str, Callable[[Task], dict]], description: str):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--solvers", default="", help="run only solvers whose names begin so (comma-separated)")
        parser.add_argument("--problems", default="", help="run only these (comma-separated)")
        parser.add_argument(
            "--raw", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "dini-constrained"
        )
        parser.add_argument("--measure-only", action="store_true", help="fill the raw folder and write nothing")
        parser.add_argument("--write-only", action="store_true", help="write the table of what is measured so far")
        parser.add_argument("--serve", action="store_true", help="measure in this process (how the others are made)")
        self.args = parser.parse_args()
        split = lambda text: tuple(filter(None, text.split(",")))
        self.script, self.raw, self.only = script, self.args.raw, split(self.args.problems)
        solvers = split(self.args.solvers)
        self.runners = {name: run for name, run in runners.items() if not solvers or name.startswith(solvers)}
        self.files = {name: self.raw / f"{name}.jsonl" for name in self.runners}
        self.left_out, self.current = self.raw / "left out.jsonl", self.raw / "current.json"
        jax.config.update("jax_enable_x64", True)
        self.raw.mkdir(parents=True, exist_ok=True)

    def report(self, name: str, title: str, command: str, body: Callable[[dict[str, dict[str, dict]]], str]) -> None:
        """Measure, and write or print what ``body`` makes of the records; a process that serves only measures."""
        if self.args.serve:
            self._serve()
            return
        results = self._results()
        text = f"{body(results)}\n\n{self._coverage(results)}"
        if self.args.measure_only:
            print(text)
        else:
            write(name, title, command, text)

    def _results(self) -> dict[str, dict[str, dict]]:
        """Measure, and return ``{name: {problem: record}}``."""
        if not self.args.write_only:
            self._measure()
        left_out = records(self.left_out)
        return {
            name: {problem: record for problem, record in records(path).items() if problem not in left_out}
            for name, path in self.files.items()
        }

    def _keep(self, name: str, record: dict) -> None:
        """Write a record down, and say it."""
        with self.files[name].open("a") as file:
            file.write(json.dumps(record) + "\n")
        verdict = "solved" if record["solved"] else "MISSED"
        shown = f"{record['violation']:.1e} {record['left']:.1e} {record['evaluations']} {record['status']}"
        print(record["problem"], name, verdict, shown, record["seconds"], file=sys.stderr, flush=True)

    def _leave_out(self, problem: str, why: str) -> None:
        """Write down that a problem is none of the set."""
        with self.left_out.open("a") as file:
            file.write(json.dumps({"problem": problem, "why": why}) + "\n")
        print(problem, "left out:", why, file=sys.stderr, flush=True)

    def _serve(self) -> None:
        """Run what is not in the raw folder yet, until all is done or the memory is full."""
        done, left_out = {name: records(path) for name, path in self.files.items()}, records(self.left_out)
        for problem, make in tasks(self.raw).items():
            missing = [name for name in self.files if problem not in done[name]]
            if not missing or problem in left_out or (self.only and problem not in self.only):
                continue
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > FULL:
                sys.exit(AGAIN)
            self.current.write_text(json.dumps([problem, None]))
            task = make()
            if operations(task) > OPERATIONS:
                self._leave_out(problem, "too long a program")
                continue
            for name in missing:
                self.current.write_text(json.dumps([problem, name]))
                start = time.process_time()
                try:
                    end = self.runners[name](task)
                    violation, left = task.errors(end["x"])
                    end["x"] = np.asarray(end["x"], float).tolist()
                    end["value"] = float(task.both(np.asarray(end["x"]))[0])
                except Exception as failure:
                    end, violation, left = {"evaluations": BUDGET, "claims": False}, np.inf, np.inf
                    end["status"] = f"{type(failure).__name__}: {failure}"[:80]
                ok = bool(violation <= FEASIBLE and left <= STATIONARY)
                seconds = round(time.process_time() - start, 2)
                found = {"violation": violation, "left": left, "solved": ok, "seconds": seconds}
                self._keep(name, {"problem": problem, **end, **found})
            jax.clear_caches()

    def _measure(self) -> None:
        """Run what is not in the raw folder yet, in processes of its own."""
        command = [sys.executable, self.script, "--serve", "--raw", str(self.raw), "--solvers", ",".join(self.runners)]
        command += ["--problems", ",".join(self.only)]
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        while True:
            self.current.unlink(missing_ok=True)
            process = subprocess.Popen(command, preexec_fn=limit)
            since, begun = "", 0.0
            while process.poll() is None:
                time.sleep(1)
                now = self.current.read_text() if self.current.is_file() else ""
                used = _cpu_seconds(process.pid)
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
                self._leave_out(problem, "its functions alone took too much memory or time")
                continue
            status = f"more than {SECONDS} s or {MEMORY // 2**30} GiB"
            miss = {"violation": np.inf, "left": np.inf, "solved": False, "seconds": SECONDS}
            self._keep(name, {"problem": problem, "evaluations": BUDGET, "claims": False, "status": status, **miss})

    def _coverage(self, results: dict[str, dict[str, dict]]) -> str:
        """Return how many problems of the rule were tried by all solvers, and how many are left out."""
        names, left_out = set(json.loads((self.raw / "names.json").read_text())), records(self.left_out)
        tried = len(set.intersection(*map(set, results.values())))
        rest = len(names) - len(left_out) - tried
        text = f"{len(names)} problems are small enough, {len(left_out)} of them are too long as programs."
        return text if not rest else f"{text} {rest} are not measured yet: they are in no count above."


def _cpu_seconds(pid: int) -> float:
    """Return how long a process has computed, zero where it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
