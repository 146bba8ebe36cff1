"""CUTEst's small constrained problems (in JAX, by sif2jax): derivatives of their solutions, beside differences.

    python benchmarks/constrained_derivatives.py
    python benchmarks/constrained_derivatives.py --problems HS71,HS100 --measure-only

Each problem of the set of ``constrained_set.py`` gets a parameter ``t``: random numbers times ``t`` are added to the
forces (the gradient of the objective) and to each constraint, and the bounds are moved, in units of the solution (the
largest force, a constraint's gradient times the point, the point). The derivative of the solution at ``t = 0`` is that
of ``dini.certified.jvp``, with its verdict. What it should be is found from accurate solves at four values of ``t``
around zero, by differences of fourth order, twice: with steps of 1e-5 and of 1e-4. Where both differ by more than 1e-6
of their size, or a solve fails, differences tell nothing, and the problem counts as one without a truth. The error of a
derivative is relative to its size.
"""

from __future__ import annotations

import zlib

from report import one_core, table

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from constrained_set import BUDGET, Run, Task  # noqa: E402

import dini  # noqa: E402

COMMAND = "python benchmarks/constrained_derivatives.py"
#: steps of the differences, how far both may be apart, and the error that a reliable derivative may have
STEPS, TRUTH, BAR = (1e-5, 1e-4), 1e-6, 1e-5
NO_SOLUTION = "not solved"


def moved(task: Task) -> dini.NonlinearProgram:
    """Return the program with its parameter ``t``, and what that is multiplied with, as arguments."""
    m, old = task.equalities, task.program()
    # where the functions are read further on, the bounds have moved back
    there = lambda u, t, along: u + t * along["move"]
    return dini.NonlinearProgram(
        lambda u, t, along: task.fun(there(u, t, along)) + t * jnp.dot(along["tilt"], u),
        equality=None if not m else lambda u, t, along: task.equality(there(u, t, along)) + t * along["shift"][:m],
        inequality=None
        if not len(task.kept[1])
        else lambda u, t, along: task.inequality(there(u, t, along)) + t * along["shift"][m:],
        lower=old.lower,
        upper=old.upper,
    )


def directions(task: Task, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far all moves, in units of a solution."""
    rng = np.random.default_rng(zlib.crc32(task.name.encode()))
    jacobian = np.asarray(task.jacobian(x))
    size, force = (np.abs(v).max() or 1.0 for v in (x, jacobian[0]))
    rows = np.linalg.norm(jacobian[1:], axis=1) * size
    units = {"tilt": np.full(x.size, force), "shift": rows, "move": np.full(x.size, size)}
    return {name: unit * rng.standard_normal(unit.size) for name, unit in units.items()}


def derivative(task: Task) -> dict:
    """Return the verdict on the derivative at the solution, and its error."""
    solver, problem, zero = dini.NonlinearInteriorPoint(max_steps=BUDGET), moved(task), jnp.zeros(())
    solve = jax.jit(lambda x, *args: dini.solve(problem, solver, problem.start(x, *args), *args, on_failure="ignore"))
    along = jax.tree.map(jnp.zeros_like, directions(task, np.asarray(task.start)))
    first = solve(task.start, zero, along)
    end = {"x": first.x.primal, "evaluations": int(first.stats.steps), "claims": False}
    if not bool(first.success):
        return end | {"status": f"{NO_SOLUTION} ({dini.Status(int(first.status)).name})"}
    along = jax.tree.map(jnp.asarray, directions(task, np.asarray(first.x.primal)))
    args, tangents = (zero, along), (jnp.ones(()), jax.tree.map(jnp.zeros_like, along))
    dx, certificate = dini.certified.jvp(problem, first.x, args, tangents, on_failure="ignore")
    dx, x = np.asarray(dx.primal), np.asarray(first.x.primal)
    end |= {"status": dini.certified.Verdict(int(certificate.verdict)).name, "claims": bool(certificate.reliable)}

    truths = []
    for h in STEPS:
        ends = {k: solve(first.x.primal, jnp.asarray(k * h), along) for k in (1, -1, 2, -2)}
        values = {k: np.asarray(one.x.primal) for k, one in ends.items()}
        if not all(bool(one.success) for one in ends.values()):
            return end | {"truth": None, "why": "a solve nearby failed"}
        truths.append((8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h))
    norm = np.linalg.norm
    size = max(norm(truths[0]), norm(truths[1]), 1e-8 * norm(x))
    apart = norm(truths[0] - truths[1]) / size
    if not apart <= TRUTH:
        return end | {"truth": None, "why": f"differences are {apart:.0e} apart"}
    return end | {"truth": float(apart), "error": float(norm(dx - truths[0]) / size)}


def counted(records: dict[str, dict]) -> str:
    """Return how many derivatives of each verdict there are, and how far they are off."""
    tried = [r for r in records.values() if not r["status"].startswith(NO_SOLUTION) and "truth" in r]
    lines = []
    for verdict in sorted({r["status"] for r in tried}, key=lambda name: (name != "RELIABLE", name)):
        each = [r for r in tried if r["status"] == verdict]
        known = [r["error"] for r in each if r["truth"] is not None]
        within = sum(error <= BAR for error in known)
        figures = f"{np.median(known):.0e}, {max(known):.0e}" if known else ""
        lines.append([verdict, f"{len(each)}", f"{len(known)}", f"{within}", figures])
    return table(["verdict", "derivatives", "with a truth", f"within {BAR:.0e} of it", "median error, largest"], lines)


def wrong(records: dict[str, dict]) -> str:
    """Return the derivatives that are called reliable and are not, and those without a truth."""
    lines = [
        [name, r["status"], f"{r['error']:.1e}" if r["truth"] is not None else r["why"]]
        for name, r in records.items()
        if "truth" in r and (r["truth"] is None or (r["status"] == "RELIABLE" and r["error"] > BAR))
    ]
    return table(["problem", "verdict", "error"], lines) if lines else ""


def body(results: dict[str, dict[str, dict]]) -> str:
    """Return the tables, and how many problems have no derivative."""
    records = results["derivative"]
    missed = sum(r["status"].startswith(NO_SOLUTION) for r in records.values())
    other = sum("truth" not in r for r in records.values()) - missed
    rest = f"{missed} problems were not solved, {other} ended by an error or took too much time or memory."
    return f"{counted(records)}\n\n{wrong(records)}\n\n{rest}"


if __name__ == "__main__":
    title = "CUTEst's small constrained problems: derivatives"
    Run(__file__, {"derivative": derivative}, __doc__.splitlines()[0]).report(
        "constrained_derivatives", title, COMMAND, body
    )
