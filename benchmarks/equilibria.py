"""Variational inequalities of the literature at default settings: right, wrong, failed.

    python benchmarks/equilibria.py

The problems, with their starts and all of their solutions, are those of ``tests/solvers/equilibrium_problems.py``.
``right`` is a solution to six digits, or a failure that is reported where there is no solution; ``wrong`` is anything
else that is reported as a solution; ``failed`` is a failure that is reported although there is one. Steps are those of
the runs that are right, the median and the most.
"""

from __future__ import annotations

import sys
from pathlib import Path

from report import one_core, table

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "solvers"))

import equilibrium_problems as equilibria  # noqa: E402

import dini  # noqa: E402

COMMAND = "python benchmarks/equilibria.py"
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
    counts = [str(ends.count(end)) for end in ("right", "wrong", "failed")]
    return [problem.name, name, str(len(ends)), *counts, f"{np.median(steps):.0f}, {max(steps)}" if steps else ""]


def main() -> None:
    """Print the table."""
    jax.config.update("jax_enable_x64", True)
    rows = [row(problem, name) for problem in equilibria.PROBLEMS for name in SOLVERS]
    print(table(["problem", "solver", "starts", "right", "wrong", "failed", "steps"], rows))


if __name__ == "__main__":
    main()
