"""Derivatives of cone programs, beside differences of accurate solves and beside diffcp.

    python benchmarks/cone_derivatives.py --diffcp PYTHON

``PYTHON`` has diffcp and Clarabel (``uv pip install diffcp clarabel`` in an environment of its own); without it that
column is left out. The programs are those of ``cones.py`` with a strictly convex objective and more unknowns than rows,
so that solutions and multipliers are unique; the quadratic objective is the height of one more second-order cone, for
diffcp, whose exact modes take linear objectives. Of a random linear function of the solution, the gradient in ``A``,
``b`` and ``c`` (of the rows without that cone's). Differences are of fourth order, along one random direction. Errors
are relative to the norm of the gradient. Both libraries differentiate at points of their own: dini's are exact to
rounding, diffcp's those of Clarabel at 1e-12.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

from report import one_core, table, write

one_core()

import cones  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

UNKNOWNS = 16
FAMILIES = ("second-order", "semidefinite", "exponential")
#: the order of cones that diffcp needs
ORDER = "znqse"
THEIRS = """
import json, sys, time
import diffcp, numpy as np
from scipy import sparse
out = []
for task in json.load(open(sys.argv[1])):
    A, b, c, g = (np.array(task[k]) for k in ("A", "b", "c", "g"))
    try:
        x, y, s, _, back = diffcp.solve_and_derivative(
            sparse.csc_matrix(A), b, c, task["cones"], mode="dense", solve_method="Clarabel",
            tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        start = time.perf_counter()
        dA, db, dc = back(g, np.zeros_like(y), np.zeros_like(s))[:3]
        took = time.perf_counter() - start
        out.append({"x": list(x), "A": dA.toarray().tolist(), "b": list(db), "c": list(dc), "time": took})
    except Exception as error:
        out.append({"error": str(error)})
json.dump(out, open(sys.argv[2], "w"))
"""


def beside(python: str, tasks: list[dict]) -> list[dict]:
    """Return what diffcp finds, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = pathlib.Path(folder) / "given.json", pathlib.Path(folder) / "made.json"
        given.write_text(json.dumps(tasks))
        subprocess.run([python, "-c", THEIRS, str(given), str(made)], check=True, capture_output=True)
        return json.loads(made.read_text())


def sorted_rows(family) -> tuple[np.ndarray, dict]:
    """Return the rows in diffcp's order, and its description of the cones."""
    rows = [
        i
        for letter in ORDER
        for own, part, _ in cones.blocks(family)
        if own == letter
        for i in range(part.start, part.stop)
    ]
    sizes = {letter: [size for own, size in family if own == letter] for letter in ORDER}
    order = lambda size: int((8 * size + 1) ** 0.5) // 2
    named = {"z": sum(sizes["z"]), "l": sum(sizes["n"]), "q": sizes["q"], "s": [order(k) for k in sizes["s"]]}
    return np.array(rows), named | {"ep": len(sizes["e"])}


def linear(program: dict) -> dict:
    """Return a program with the linear objective ``c @ x + t`` where ``t`` is at least ``x @ P @ x / 2``."""
    A, n = program["A"], UNKNOWNS
    root = np.linalg.cholesky(program["P"]).T
    # |(t - 1, sqrt(2) R x)| <= t + 1
    height = np.zeros((n + 2, n + 1))
    height[:2, -1] = -1
    height[2:, :n] = -np.sqrt(2) * root
    both = np.concatenate([np.concatenate([A, np.zeros((len(A), 1))], axis=1), height])
    side = np.concatenate([program["b"], [1.0, -1.0], np.zeros(n)])
    return {"A": both, "b": side, "c": np.append(program["c"], 1.0)}


def measured(name: str, count: int, python: str | None) -> list[str]:
    """Return the row of one family."""
    bare, rng = cones.FAMILIES[name], np.random.default_rng(0)
    onto = jax.jit(cones.cone_of(bare).project)
    family = (*bare, ("q", UNKNOWNS + 2))
    cone = cones.cone_of(family)
    project = lambda v: np.asarray(onto(v), float)
    made = [linear(cones.program("strict", bare, project, UNKNOWNS, rng)) for _ in range(count)]
    along = [{key: rng.standard_normal(np.shape(d[key])) for key in "Abc"} for d in made]
    rows = sum(size for _, size in bare)
    for one in along:  # the objective's own cone stays as it is
        one["A"][rows:], one["b"][rows:], one["A"][:, -1], one["c"][-1] = 0, 0, 0, 0
    g = np.concatenate([rng.standard_normal((count, UNKNOWNS)), np.zeros((count, 1))], axis=1)

    @jax.jit
    @jax.vmap
    def both(A, b, c, g):
        def loss(A, b, c):
            found = dini.cone_program(c=c, A=A, b=b, cone=cone, on_failure="nan")
            return g @ found.x, found.status

        (value, status), slopes = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(A, b, c)
        return value, status, slopes

    moved = lambda t: [
        jnp.asarray(np.stack([d[k] + t * v[k] for d, v in zip(made, along, strict=True)])) for k in "Abc"
    ]
    start = time.perf_counter()
    _, status, slopes = jax.block_until_ready(both(*moved(0.0), g))
    first = time.perf_counter() - start
    start = time.perf_counter()
    jax.block_until_ready(both(*moved(0.0), g))
    again = (time.perf_counter() - start) / count
    h = 1e-6
    value = {t: both(*moved(t * h), g)[0] for t in (1, -1, 2, -2)}
    truth = (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * h)
    slopes = dict(zip("Abc", map(np.asarray, slopes), strict=True))
    size = np.sqrt(sum(np.sum(v.reshape(count, -1) ** 2, axis=1) for v in slopes.values()))
    length = np.array([np.sqrt(sum(np.sum(v**2) for v in one.values())) for one in along])
    ours = np.array([sum(np.sum(slopes[k][i] * along[i][k]) for k in "Abc") for i in range(count)])
    good = np.asarray(status == dini.Status.CONVERGED) & np.isfinite(size) & np.isfinite(truth)
    error = np.abs(ours - truth)[good] / (size * length)[good]
    row = [name, f"{good.sum()} of {count}", f"{np.median(error):.0e}, {error.max():.0e}"]
    row += [f"{first:.1f} s", f"{1e3 * again:.1f} ms"]
    if python:
        order, named = sorted_rows(family)
        tasks = [
            {
                "A": d["A"][order].tolist(),
                "b": d["b"][order].tolist(),
                "c": d["c"].tolist(),
                "g": list(v),
                "cones": named,
            }
            for d, v in zip(made, g, strict=True)
        ]
        far, failed = [], 0
        for i, found in enumerate(beside(python, tasks)):
            if not good[i] or "error" in found:
                failed += "error" in found
                continue
            apart = [
                # diffcp's derivative has the sparsity of the matrix
                np.where(made[i]["A"][order] == 0, 0, slopes["A"][i][order] - np.array(found["A"])),
                slopes["b"][i][order] - found["b"],
                slopes["c"][i] - found["c"],
            ]
            far.append(np.sqrt(sum(np.sum(np.square(v)) for v in apart)) / size[i])
        row += [f"{np.median(far):.0e}, {np.max(far):.0e}" if far else "", str(failed)]
    return row


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffcp", help="a Python that has diffcp and Clarabel")
    parser.add_argument("--programs", type=int, default=20)
    parser.add_argument("--families", default=",".join(FAMILIES))
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = [measured(name, args.programs, args.diffcp) for name in args.families.split(",")]
    header = [
        "cones",
        "programs",
        "dini beside differences: median, most",
        "first call",
        "solve and gradient, in a batch",
    ]
    header += ["dini beside diffcp: median, most", "diffcp fails"] if args.diffcp else []
    write(
        "cones",
        "Derivatives of cone programs",
        "python benchmarks/cone_derivatives.py --diffcp PYTHON",
        table(header, rows),
    )


if __name__ == "__main__":
    main()
