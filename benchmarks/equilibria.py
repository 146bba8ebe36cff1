"""Variational inequalities of the literature at default settings: right, wrong, failed.

python benchmarks/equilibria.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "solvers"))

import equilibrium_problems as equilibria  # noqa: E402
from sioux_falls import Traffic  # noqa: E402

import dini  # noqa: E402

COMMAND = "python benchmarks/equilibria.py"
NOTE = """
The problems, with their starts and all of their solutions, are those of `tests/solvers/equilibrium_problems.py`, and
the roads of Sioux Falls with their 528 demands in `tests/solvers/sioux_falls.py`, where the cars on each way are not
unique: `right` is an equilibrium to six digits there, measured against the shortest of all ways. The leader of
Stackelberg's game has `dini.minimize` find what to sell, by gradients through the followers' equilibrium, which the
named solver finds; steps are the leader's.

`right` is a solution to six digits, or a failure that is reported where there is no solution; `wrong` is anything else
that is reported as a solution; `failed` is a failure that is reported although there is one. Steps are those of the
runs that are right, the median and the most.
"""
SOLVERS = {"default": None, "Extragradient": dini.Extragradient()}


def row(problem: equilibria.Problem, name: str) -> list[str]:
    """Return a problem's row for one solver."""
    ends, steps = [], []
    for start in problem.starts:
        init = jax.tree.map(jnp.asarray, start)
        solution = dini.variational_inequality(
            problem.fun, init, constraint=problem.constraint, solver=SOLVERS[name], on_failure="ignore"
        )
        ends.append(equilibria.judged(problem, solution))
        if ends[-1] == "right":
            steps.append(int(solution.stats.steps))
    return _row(problem.name, name, ends, steps)


def leader(name: str, solver: str) -> list[str]:
    """Return the row of a Stackelberg game."""
    own, cost = equilibria.LEADERS[name]
    want, ends, steps = equilibria.stackelberg_solution(own, cost), [], []
    for start in (0.0, 1.0, 4.0):
        solution = equilibria.stackelberg(start, own, jnp.asarray(cost), SOLVERS[solver])
        right = abs(solution.x - want) <= 1e-6 * (1 + want)
        ends.append(("right" if right else "wrong") if solution.success else "failed")
        if ends[-1] == "right":
            steps.append(int(solution.stats.steps))
    return _row(name, solver, ends, steps)


def _row(name: str, solver: str, ends: list[str], steps: list[int]) -> list[str]:
    counts = [str(ends.count(end)) for end in ("right", "wrong", "failed")]
    return [name, solver, str(len(ends)), *counts, f"{np.median(steps):.0f}, {max(steps)}" if steps else ""]


def main() -> None:
    """Print the table."""
    jax.config.update("jax_enable_x64", True)
    falls = Traffic()
    starts = (falls.even(), falls.first())
    town = equilibria.Problem("Sioux Falls", falls.costs, falls.constraint, starts, excess=falls.excess)
    rows = [row(problem, name) for problem in (*equilibria.PROBLEMS, town) for name in SOLVERS]
    rows += [leader(name, solver) for name in equilibria.LEADERS for solver in SOLVERS]
    body = table(["problem", "solver", "starts", "right", "wrong", "failed", "steps"], rows)
    write("equilibria", "Variational inequalities of the literature", COMMAND, f"{NOTE.strip()}\n\n{body}")


if __name__ == "__main__":
    main()
