"""The quadratic programs of Maros and Mészáros that sif2jax has, beside Clarabel and the published values.

    python benchmarks/maros_meszaros.py [--names HS21,DUAL1]

The objectives are those of the table in Maros, Mészáros, "A repository of convex quadratic programming problems",
Optimization Methods and Software 1999. A program counts as solved if the value is that of the table to 1e-5 (of one
plus its size, or Clarabel's, where a constant of sif2jax is another) and no constraint misses by more than 1e-8 of its
largest term.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pathlib
import sys
import time
import types
from collections.abc import Callable

from report import one_core, table, write

one_core()

import clarabel  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from constrained import Task  # noqa: E402
from scipy import sparse  # noqa: E402

import dini  # noqa: E402

VALUES = {
    "HS21": -9.99599999e01,
    "HS35": 1.11111111e-01,
    "HS35MOD": 2.50000001e-01,
    "HS51": 0.0,
    "HS52": 5.32664756e00,
    "HS53": 4.09302326e00,
    "HS76": -4.68181818e00,
    "HS118": 6.64820452e02,
    "HS268": 0.0,
    "TAME": 0.0,
    "ZECEVIC2": -4.12500000e00,
    "DUAL1": 3.50129662e-02,
    "DUAL2": 3.37336761e-02,
    "DUAL3": 1.35755839e-01,
    "DUAL4": 7.46090842e-01,
    "DUALC1": 6.15525083e03,
    "DUALC2": 3.55130769e03,
    "DUALC5": 4.27232327e02,
    "DUALC8": 1.83093588e04,
}
#: rows that sif2jax gives as what is at most zero, against its own rule, ``slice(None)`` for all
REVERSED = {"HS76": slice(2), "ZECEVIC2": slice(None)}
#: the upper sides of ranges, which it leaves out: the first rows are at most these
UPPER = {"HS118": np.tile([13.0, 14.0, 13.0], 4)}
FOLDERS = "_quadratic_problems", "_constrained_minimisation"
SIF2JAX = pathlib.Path(str(importlib.util.find_spec("sif2jax").origin)).parent


def load(name: str) -> Task:
    """Return a problem of sif2jax; its package would import a thousand others first."""
    folders = {"sif2jax": SIF2JAX, "sif2jax.cutest": SIF2JAX / "cutest"}
    folders |= {f"sif2jax.cutest.{folder}": SIF2JAX / "cutest" / folder for folder in FOLDERS}
    for package, folder in folders.items():
        if package not in sys.modules:
            sys.modules[package] = module = types.ModuleType(package)
            module.__path__ = [str(folder)]
    for package, folder in folders.items():
        if (folder / f"{name.lower()}.py").exists():
            return Task(vars(importlib.import_module(f"{package}.{name.lower()}"))[name]())
    raise FileNotFoundError(name)


def inequality(task: Task) -> Callable[[jax.Array], jax.Array]:
    """Return the rows that must not be positive, those of the published program."""

    def rows(x: jax.Array) -> jax.Array:
        found = task.inequality(x)
        if task.name in REVERSED:
            found = found.at[REVERSED[task.name]].multiply(-1)
        if task.name in UPPER:
            upper = UPPER[task.name]
            found = jnp.concatenate([found, -found[: upper.size] - upper])
        return found

    return rows


def program(task: Task) -> dict[str, np.ndarray]:
    """Return the matrices of a problem whose objective is quadratic, and whose constraints are affine."""
    zero = jnp.zeros_like(task.start)
    other = jnp.arange(1.0, task.start.size + 1)
    Q = jax.jit(jax.hessian(task.fun))
    np.testing.assert_allclose(Q(zero), Q(other), err_msg=f"{task.name} is not quadratic")
    data = {"Q": Q(zero), "c": jax.grad(task.fun)(zero)}
    for matrix, side, rows in (("A", "b", task.equality), ("G", "h", inequality(task))):
        jacobian = jax.jit(jax.jacrev(rows))
        np.testing.assert_allclose(jacobian(zero), jacobian(other), err_msg=f"{task.name} is not affine")
        if jacobian(zero).shape[0]:
            data |= {matrix: jacobian(zero), side: -rows(zero)}
    data |= {"lower": task.lower, "upper": task.upper}
    return {name: np.asarray(value, float) for name, value in data.items()}


def by_clarabel(data: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Return Clarabel's point at 1e-10."""
    empty, none = np.zeros((0, n)), np.zeros(0)
    low, high = np.isfinite(data["lower"]), np.isfinite(data["upper"])
    rows = [data.get("A", empty), data.get("G", empty), -np.eye(n)[low], np.eye(n)[high]]
    sides = [data.get("b", none), data.get("h", none), -data["lower"][low], data["upper"][high]]
    first = len(rows[0])
    cones = [clarabel.ZeroConeT(first), clarabel.NonnegativeConeT(sum(map(len, rows[1:])))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    stacked = sparse.csc_matrix(np.concatenate(rows)), np.concatenate(sides)
    found = clarabel.DefaultSolver(sparse.csc_matrix(np.triu(data["Q"])), data["c"], *stacked, cones, settings).solve()
    return np.asarray(found.x)


def missed(data: dict[str, np.ndarray], x: np.ndarray) -> float:
    """Return by how much a point misses a constraint, beside its largest term."""
    worst = [0.0]
    for matrix, side, equal in (("A", "b", True), ("G", "h", False)):
        if matrix in data:
            gap = data[matrix] @ x - data[side]
            size = np.maximum(np.max(np.abs(data[matrix] * x), axis=1), np.maximum(np.abs(data[side]), 1e-300))
            worst.append(np.max((np.abs(gap) if equal else np.maximum(gap, 0)) / size))
    outside = np.maximum(np.maximum(data["lower"] - x, x - data["upper"]), 0)
    return float(max(*worst, np.max(outside / np.maximum(np.abs(x), 1))))


def measured(name: str) -> list[str]:
    """Return the row of a program."""
    task = load(name)
    data = program(task)
    n, m = task.start.size, sum(len(data.get(key, ())) for key in "bh")
    constant = float(task.fun(jnp.zeros(n)))
    value = lambda x: float(0.5 * x @ data["Q"] @ x + data["c"] @ x + constant)
    start = time.process_time()
    found = dini.quadratic_program(**{k: jnp.asarray(v) for k, v in data.items()}, on_failure="ignore")
    took = time.process_time() - start
    ours, theirs = value(np.asarray(found.x)), value(by_clarabel(data, n))
    near = lambda a, b: abs(a - b) <= 1e-5 * (1 + abs(b))
    miss = missed(data, np.asarray(found.x))
    right = found.success and miss <= 1e-8 and (near(ours, VALUES[name]) or near(ours, theirs))
    status = dini.Status(int(found.status)).name
    verdict = "solved" if right else "**wrong**" if found.success else status
    figures = f"{ours:.9g}", f"{VALUES[name]:.9g}", f"{theirs:.9g}", f"{miss:.0e}"
    return [name, f"{n}, {m}", str(found.solver).partition("(")[0], verdict, *figures, f"{took:.1f}"]


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default=",".join(VALUES))
    names = parser.parse_args().names.split(",")
    jax.config.update("jax_enable_x64", True)
    rows = []
    for name in names:
        rows.append(measured(name))
        print(*rows[-1], flush=True)
    solved = sum(row[3] == "solved" for row in rows)
    header = [
        "program",
        "unknowns, rows",
        "solver",
        "end",
        "value",
        "published",
        "Clarabel's",
        "miss",
        "CPU s, first call",
    ]
    title = "Quadratic programs of Maros and Mészáros"
    write(
        "maros_meszaros",
        title,
        "python benchmarks/maros_meszaros.py",
        f"{solved} of {len(rows)} solved.\n\n" + table(header, rows),
    )


if __name__ == "__main__":
    main()
