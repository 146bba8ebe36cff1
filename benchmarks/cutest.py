"""CUTEst's small problems (in JAX, by sif2jax): how many are solved, in how many evaluations, beside the peers.

    python benchmarks/cutest.py [--solvers dini,scipy] [--raw FOLDER] [--float32]

The set is fixed by a rule: all unconstrained and all bounded minimization problems of sif2jax with at most 100
variables at their default parameters, from their standard starting points. A run is solved if the Euclidean norm of the
(projected) gradient at the point that is returned is at most the tolerance within 1,000 evaluations. One evaluation is
the function with its gradient; a Hessian-vector product counts as one as well, and so does a dense Hessian, whoever
asks for it. SciPy's and Optimistix's methods are stopped at the first point that is solved, whatever their own tests
say. Results are kept in the raw folder and only what is missing there is run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from report import RESULTS, one_core, table

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

LARGEST, BUDGET = 100, 1000
PICTURE = RESULTS.parent.parent / "docs" / "performance-profile.png"


class Task:
    """One problem of the set, with its functions compiled once."""

    def __init__(self, problem: Any, tol: float):
        self.name, self.tol = problem.name, tol
        args = problem.args
        self.fun = lambda y: problem.objective(y, args)
        self.start = jnp.asarray(problem.y0)
        bounds = getattr(problem, "bounds", None)
        self.bounds = None if bounds is None else tuple(jnp.broadcast_to(b, self.start.shape) for b in bounds)
        self.problem = dini.Minimize(self.fun, constraint=None if bounds is None else dini.sets.Box(*self.bounds))
        self.both = jax.jit(jax.value_and_grad(self.fun))

    def error(self, x: Any) -> float:
        """Return the norm of the projected gradient at a point."""
        return float(self.size(x, self.both(jnp.asarray(x, self.start.dtype))[1]))

    def size(self, x: Any, gradient: Any) -> Any:
        """Return the norm of the projected gradient, from the gradient."""
        if self.bounds is None:
            return jnp.linalg.norm(gradient)
        return jnp.linalg.norm(jnp.clip(x - gradient, *self.bounds) - x)


def tasks(kind: str, tol: float) -> dict[str, Callable[[], Task]]:
    """Return the problems of a kind by name, in the order of the package."""
    import sif2jax

    found = getattr(sif2jax, f"{kind}_minimisation_problems")
    return {p.name: lambda p=p: Task(p, tol) for p in found if p.num_variables() <= LARGEST}


def of_dini(solver: Any, cost: int = 1) -> Callable[[Task], dict]:
    """Return a runner of one of dini's solvers, which takes ``cost`` evaluations a step at most."""

    def run(task: Task) -> dict:
        import dataclasses

        this = solver(task) if callable(solver) and not isinstance(solver, dini.Solver) else solver
        this = dataclasses.replace(this, tol=task.tol, max_steps=BUDGET // cost)
        solution = dini.solve(task.problem, this, task.start, on_failure="ignore")
        steps = int(solution.stats.steps) * cost
        return {"x": solution.x, "evaluations": steps, "status": dini.Status(int(solution.status)).name}

    return run


class Stop(Exception):
    """Ends one of SciPy's solvers."""


def of_scipy(method: str, **options: Any) -> Callable[[Task], dict]:
    """Return a runner of one of SciPy's methods."""
    from scipy.optimize import minimize

    def run(task: Task) -> dict:
        seen: dict[str, Any] = {"x": np.asarray(task.start), "evaluations": 0}
        flat = lambda x: jnp.asarray(x).reshape(task.start.shape)
        product = jax.jit(lambda x, v: jax.jvp(jax.grad(task.fun), (x,), (v,))[1])
        hessian = jax.jit(jax.hessian(task.fun))

        def count() -> None:
            seen["evaluations"] += 1
            if seen["evaluations"] > BUDGET:
                raise Stop

        def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
            count()
            value, gradient = task.both(flat(x))
            if task.size(flat(x), gradient) <= task.tol:
                seen["x"] = np.array(x)
                raise Stop
            return float(value), np.asarray(gradient, float).ravel()

        def along(x: np.ndarray, v: np.ndarray) -> np.ndarray:
            count()
            return np.asarray(product(flat(x), flat(v))).ravel()

        def dense(x: np.ndarray) -> np.ndarray:
            count()
            return np.asarray(hessian(flat(x))).reshape(x.size, x.size)

        second: dict[str, Any] = {"hess": dense} if method == "trust-exact" else {}
        if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
            second = {"hessp": along}
        bounds = None if task.bounds is None else np.stack([np.ravel(b) for b in task.bounds], -1)
        start = np.asarray(task.start, float).ravel()
        start = start if bounds is None else np.clip(start, bounds[:, 0], bounds[:, 1])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                end = minimize(fun, start, jac=True, method=method, bounds=bounds, options=options, **second)
            seen["x"] = end.x
        except Stop:
            pass
        return {**seen, "x": flat(seen["x"])}

    return run


def of_optimistix(make: Callable[[Any], Any]) -> Callable[[Task], dict]:
    """Return a runner of one of Optimistix's minimizers: its steps, until the gradient is small."""

    def run(task: Task) -> dict:
        import equinox as eqx
        import optimistix as optx

        solver = make(optx)
        fun = lambda y, args: (task.fun(y), None)
        out = (jax.ShapeDtypeStruct((), task.start.dtype), None)
        state = solver.init(fun, task.start, None, {}, *out, frozenset())
        dynamic, static = eqx.partition(state, eqx.is_array)

        @jax.jit
        def solve(y: Any, dynamic: Any) -> Any:
            def body(carry: Any) -> Any:
                y, dynamic, k = carry
                y, state, _ = solver.step(fun, y, None, {}, eqx.combine(dynamic, static), frozenset())
                return y, eqx.filter(state, eqx.is_array), k + 1

            def going(carry: Any) -> Any:
                return (carry[2] < BUDGET) & ~(jnp.linalg.norm(jax.grad(task.fun)(carry[0])) <= task.tol)

            return jax.lax.while_loop(going, body, (y, dynamic, 0))

        y, _, k = solve(task.start, dynamic)
        return {"x": y, "evaluations": int(k)}

    return run


def of_jaxopt(task: Task) -> dict:
    """Run JAXopt's L-BFGS-B; its line search's evaluations are not told, so that its iterations are counted."""
    import jaxopt

    solver = jaxopt.LBFGSB(task.fun, tol=task.tol, maxiter=BUDGET)
    x, state = jax.jit(solver.run)(task.start, bounds=task.bounds)
    return {"x": x, "evaluations": int(state.iter_num)}


def solvers(kind: str) -> dict[str, Callable[[Task], dict]]:
    """Return the runners for one kind of problem."""
    if kind == "bounded":
        return {
            "dini minimize (default)": of_dini(default),
            "dini LBFGSB": of_dini(dini.LBFGSB()),
            "dini ProjectedNewton": of_dini(dini.ProjectedNewton(), 2),
            "dini ProjectedGradient": of_dini(dini.ProjectedGradient(), 2),
            "scipy L-BFGS-B": of_scipy("L-BFGS-B", ftol=0.0, gtol=0.0, maxfun=10000, maxiter=10000),
            "scipy TNC": of_scipy("TNC", ftol=0.0, gtol=0.0, xtol=0.0, maxfun=10000),
            "scipy SLSQP": of_scipy("SLSQP", ftol=1e-20, maxiter=10000),
            "jaxopt LBFGSB (iterations)": of_jaxopt,
        }
    return {
        "dini minimize (default)": of_dini(default),
        "dini BFGS": of_dini(dini.BFGS()),
        "dini LBFGS": of_dini(dini.LBFGS()),
        "dini NonlinearCG": of_dini(dini.NonlinearCG()),
        "dini TrustRegionNewtonCG": of_dini(dini.TrustRegionNewtonCG()),
        "dini Dogleg": of_dini(dini.Dogleg(), 2),
        "dini Newton": of_dini(dini.Newton(), 2),
        "dini GradientDescent": of_dini(dini.GradientDescent()),
        "scipy BFGS": of_scipy("BFGS", gtol=0.0, maxiter=10000),
        "scipy L-BFGS-B": of_scipy("L-BFGS-B", ftol=0.0, gtol=0.0, maxfun=10000, maxiter=10000),
        "scipy CG": of_scipy("CG", gtol=0.0, maxiter=10000),
        "scipy Newton-CG": of_scipy("Newton-CG", xtol=0.0, maxiter=10000),
        "scipy trust-ncg": of_scipy("trust-ncg", gtol=0.0, maxiter=10000),
        "scipy trust-krylov": of_scipy("trust-krylov", gtol=0.0, maxiter=10000),
        "scipy trust-exact": of_scipy("trust-exact", gtol=0.0, maxiter=10000),
        "optimistix BFGS": of_optimistix(lambda o: o.BFGS(rtol=0.0, atol=0.0)),
        "optimistix LBFGS": of_optimistix(lambda o: o.LBFGS(rtol=0.0, atol=0.0)),
        "optimistix DFP": of_optimistix(lambda o: o.DFP(rtol=0.0, atol=0.0)),
        "optimistix NonlinearCG": of_optimistix(lambda o: o.NonlinearCG(rtol=0.0, atol=0.0)),
    }


def default(task: Task) -> Any:
    """Return the solver that ``dini.minimize`` picks."""
    from dini.verbs import default_minimizer

    return default_minimizer(task.start, task.problem)


def measure(kind: str, tol: float, raw: pathlib.Path, chosen: tuple[str, ...]) -> dict[str, dict[str, dict]]:
    """Return ``{solver: {problem: record}}``, running what is not in the raw folder yet."""
    runners = {n: r for n, r in solvers(kind).items() if not chosen or n.startswith(chosen)}
    files = {name: raw / f"{kind}-{tol:g}-{jnp.zeros(()).dtype}-{name}.jsonl" for name in solvers(kind)}
    done: dict[str, dict[str, dict]] = {}
    for name, path in files.items():
        lines = path.read_text().splitlines() if path.is_file() else []
        done[name] = {record["problem"]: record for record in map(json.loads, lines)}
    for problem, make in tasks(kind, tol).items():
        missing = [name for name in runners if problem not in done[name]]
        task = make() if missing else None
        for name in missing:
            start = time.perf_counter()
            try:
                end = runners[name](task)
                error = task.error(end.pop("x"))
            except Exception as failure:
                end, error = {"evaluations": BUDGET, "status": f"{type(failure).__name__}: {failure}"[:80]}, np.inf
            ok = error <= tol * (1 + 1e-6) and end["evaluations"] <= BUDGET
            seconds = round(time.perf_counter() - start, 2)
            record = {"problem": problem, **end, "error": error, "solved": bool(ok), "seconds": seconds}
            done[name][problem] = record
            with files[name].open("a") as file:
                file.write(json.dumps(record) + "\n")
        if missing:
            jax.clear_caches()
            print(kind, problem, [done[n][problem]["evaluations"] for n in missing], file=sys.stderr, flush=True)
    return {name: records for name, records in done.items() if records}


def rows(results: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Return one row a solver, the best first."""
    found = []
    for name, records in results.items():
        solved = [r for r in records.values() if r["solved"]]
        typical = np.median([r["evaluations"] for r in solved]) if solved else np.nan
        found.append((len(solved), name, len(records), typical))
    found.sort(key=lambda row: (-row[0], row[1]))
    return [[name, f"{solved} of {of}", f"{solved / of:.1%}", f"{median:.0f}"] for solved, name, of, median in found]


def draw(results: dict[str, dict[str, dict[str, dict]]], path: pathlib.Path) -> None:
    """Draw the performance profiles of Dolan and Moré, in evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(11, 4.2), sharey=True, layout="constrained")
    for axis, (kind, found) in zip(np.atleast_1d(axes), results.items(), strict=True):
        problems = list(next(iter(found.values())))
        cost = {
            name: np.array([r[p]["evaluations"] if r[p]["solved"] else np.inf for p in problems])
            for name, r in found.items()
        }
        best = np.min(list(cost.values()), axis=0)
        solvable = np.isfinite(best)
        for i, (name, values) in enumerate(cost.items()):
            ratio = np.sort(np.maximum(values[solvable], 1) / np.maximum(best[solvable], 1))
            ratio = ratio[np.isfinite(ratio)]
            ours = name.startswith("dini")
            axis.step(
                np.concatenate([[1], ratio, [100]]),
                np.concatenate([[0], np.arange(1, ratio.size + 1), [ratio.size]]) / len(problems),
                where="post",
                label=name,
                color=plt.get_cmap("tab20")(i % 20),
                linestyle="-" if ours else "--",
                linewidth=2.0 if ours else 1.2,
            )
        axis.set(
            xscale="log", xlim=(1, 30), ylim=(0, 1), xlabel="evaluations / fewest", title=f"{kind}, {len(problems)}"
        )
        axis.legend(fontsize=7, loc="lower right")
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("share of problems solved")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure, write the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", default="", help="run only solvers whose names begin so (comma-separated)")
    parser.add_argument("--kinds", default="unconstrained,bounded")
    parser.add_argument("--raw", type=pathlib.Path, default=pathlib.Path("/tmp") / "dini-cutest")
    parser.add_argument("--float32", action="store_true", help="dini alone, in single precision, at tolerance 1e-3")
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--measure-only", action="store_true", help="fill the raw folder and write nothing")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", not args.float32)
    args.raw.mkdir(parents=True, exist_ok=True)
    chosen = tuple(filter(None, args.solvers.split(",")))
    results = {kind: measure(kind, args.tol, args.raw, chosen) for kind in args.kinds.split(",")}
    for kind, found in results.items():
        print(table([kind, "solved", "share", "median evaluations"], rows(found)))
    if args.measure_only:
        return


if __name__ == "__main__":
    main()
