"""CUTEst's small constrained problems (in JAX, by sif2jax): how many are solved, beside SciPy.

    python benchmarks/constrained.py
    python benchmarks/constrained.py --solvers dini --measure-only

The set is fixed by the rule of ``constrained_set.py``. A run is solved if, within 1,000 evaluations of the objective,
the point that is returned violates no constraint by more than 1e-6 (times one plus the norm of its gradient) and there
are multipliers with which what is left of the Lagrangian's gradient, and the products of multipliers and slacks, are at
most 1e-5 of the largest force (the gradient of the objective, or a constraint's times its multiplier, or one). The
multipliers are found by nonnegative least squares on the constraints with slacks of up to 1e-3, whatever the solver
says itself: nobody's own test decides. All solvers have exact first derivatives, trust-constr and dini exact second
ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from report import one_core, table

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from constrained_set import BUDGET, Run, Task  # noqa: E402

import dini  # noqa: E402

COMMAND = "python benchmarks/constrained.py"


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


def body(results: dict[str, dict[str, dict]]) -> str:
    """Return the tables."""
    header = ["solver", "solved", "share", "median evaluations", "claimed, and not solved"]
    return f"{table(header, rows(results))}\n\n{missed(results)}"


if __name__ == "__main__":
    title = "CUTEst's small constrained problems: solved within 1,000 evaluations"
    Run(__file__, SOLVERS, __doc__.splitlines()[0]).report("constrained", title, COMMAND, body)
