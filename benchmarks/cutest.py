"""CUTEst's small problems (in JAX, by sif2jax): how many are solved, in how many evaluations, beside the peers.

    python benchmarks/cutest.py
    python benchmarks/cutest.py --solvers "dini minimize,dini LBFGSB" --tol 1e-3 --measure-only, then --single

The set is fixed by a rule: all unconstrained and all bounded minimization problems of sif2jax with at most 100
variables at their default parameters, from their standard starting points. A run is solved if the Euclidean norm of the
(projected) gradient at the point that is returned is at most the tolerance within 1,000 evaluations. One evaluation is
the function with its gradient; a Hessian-vector product counts as one as well, and so does a dense Hessian, whoever
asks for it. SciPy's and Optimistix's methods are stopped at the first point that is solved, whatever their own tests
say. Results are kept in the raw folder and only what is missing there is run.

The second command, and again with ``--single``, makes the table for float32: the same is asked of the gradient in
single precision. Many of the problems have values so large, or are so ill-conditioned, that no point meets that: the
solution of float64, rounded to float32, tells which. It may meet it by luck: with each problem that is missed stands
the share of the points within two units in the last place of that solution that do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from report import RESULTS, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import dini  # noqa: E402

LARGEST, BUDGET = 100, 1000
KINDS = ("unconstrained", "bounded")
COMMAND = "python benchmarks/cutest.py"
#: how many solvers of each library the picture shows
SHOWN = {"dini": 4, "scipy": 3, "optimistix": 2, "jaxopt": 1}
PICTURE = RESULTS.parent.parent / "docs" / "performance-profile.png"


class Task:
    """One problem of the set, with its functions compiled once."""

    def __init__(self, problem: Any, tol: float, kind: str):
        self.name, self.tol = problem.name, tol
        args = problem.args
        self.fun = lambda y: problem.objective(y, args)
        self.start = jnp.asarray(problem.y0)
        # SNAIL is filed as unconstrained and has bounds
        bounds = getattr(problem, "bounds", None) if kind == "bounded" else None
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
    return {p.name: lambda p=p: Task(p, tol, kind) for p in found if p.num_variables() <= LARGEST}


#: points around a rounded solution that are tried
NEIGHBOURS = 100
#: what a step of dini's solvers costs at most, where it is more than one evaluation: a Hessian, a trial point
COSTS = {dini.ProjectedNewton: 2, dini.ProjectedGradient: 2, dini.Dogleg: 2, dini.Newton: 2}


def of_dini(solver: Any) -> Callable[[Task], dict]:
    """Return a runner of one of dini's solvers, or of the one that a function picks for a task."""

    def run(task: Task) -> dict:
        this = solver(task) if callable(solver) and not isinstance(solver, dini.Solver) else solver
        cost = COSTS.get(type(this), 1)
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
            "dini ProjectedNewton": of_dini(dini.ProjectedNewton()),
            "dini ProjectedGradient": of_dini(dini.ProjectedGradient()),
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
        "dini Dogleg": of_dini(dini.Dogleg()),
        "dini Newton": of_dini(dini.Newton()),
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
    """Return the solver that ``dini.minimize`` picks, of those that take steps."""
    from dini.defaults import Default

    return Default().chosen(task.problem, jnp.asarray(task.start), (), plain=True).solver


def stored(raw: pathlib.Path, kind: str, tol: float, dtype: str, name: str) -> pathlib.Path:
    """Return the file with one solver's records."""
    return raw / f"{kind}-{tol:g}-{dtype}-{name}.jsonl"


def load(raw: pathlib.Path, kind: str, tol: float, dtype: str) -> dict[str, dict[str, dict]]:
    """Return ``{solver: {problem: record}}`` of what has been run."""
    found = {}
    for name in solvers(kind):
        path = stored(raw, kind, tol, dtype, name)
        if path.is_file():
            found[name] = {record["problem"]: record for record in map(json.loads, path.read_text().splitlines())}
    return found


def measure(kind: str, tol: float, raw: pathlib.Path, chosen: tuple[str, ...]) -> dict[str, dict[str, dict]]:
    """Return ``{solver: {problem: record}}``, running what is not in the raw folder yet."""
    runners = {n: r for n, r in solvers(kind).items() if not chosen or n.startswith(chosen)}
    dtype = str(jnp.zeros(()).dtype)
    done = {name: {} for name in runners} | load(raw, kind, tol, dtype)
    for problem, make in tasks(kind, tol).items():
        missing = [name for name in runners if problem not in done[name]]
        task = make() if missing else None
        for name in missing:
            start = time.perf_counter()
            try:
                end = runners[name](task)
                x = end.pop("x")
                error = task.error(x)
                end["x"] = np.asarray(x, float).tolist()
            except Exception as failure:
                end, error = {"evaluations": BUDGET, "status": f"{type(failure).__name__}: {failure}"[:80]}, np.inf
            ok = error <= tol * (1 + 1e-6) and end["evaluations"] <= BUDGET
            seconds = round(time.perf_counter() - start, 2)
            record = {"problem": problem, **end, "error": error, "solved": bool(ok), "seconds": seconds}
            done[name][problem] = record
            with stored(raw, kind, tol, dtype, name).open("a") as file:
                file.write(json.dumps(record) + "\n")
        if missing:
            jax.clear_caches()
            print(kind, problem, [done[n][problem]["evaluations"] for n in missing], file=sys.stderr, flush=True)
    return {name: records for name, records in done.items() if records}


def rows(results: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Return one row a solver, the best first."""
    found = []
    for name, records in results.items():
        evaluations = [r["evaluations"] for r in records.values() if r["solved"]]
        found.append((len(evaluations), name, len(records), np.median(evaluations) if evaluations else np.nan))
    found.sort(key=lambda row: (-row[0], row[1]))
    return [[name, f"{solved} of {of}", f"{solved / of:.1%}", f"{median:.0f}"] for solved, name, of, median in found]


def single(raw: pathlib.Path, kind: str, tol: float, chosen: tuple[str, ...]) -> list[list[str]]:
    """Return one row for each solver: what float64 and float32 solve, and what there is to solve in float32."""
    double = load(raw, kind, tol, "float64")
    plain = measure(kind, tol, raw, chosen)
    found, makers = [], tasks(kind, tol)
    for name in sorted(set(double) & set(plain)):
        wide = {p: r for p, r in double[name].items() if r["solved"]}
        narrow = {p for p in wide if plain[name][p]["solved"]}
        there, chances = set(narrow), {}
        for problem in set(wide) - narrow:
            task, rounded = makers[problem](), np.asarray(wide[problem]["x"], np.float32)
            if task.error(jnp.asarray(rounded)) <= tol:
                there.add(problem)
                near = (neighbour(rounded, seed) for seed in range(NEIGHBOURS))
                chances[problem] = sum(task.error(jnp.asarray(x)) <= tol for x in near) / NEIGHBOURS
            jax.clear_caches()
        shares = [f"{len(narrow) / max(len(of), 1):.1%}" for of in (wide, there)]
        missed = ", ".join(f"{problem} ({chance:.0%})" for problem, chance in sorted(chances.items())) or "none"
        found.append([name, str(len(wide)), str(len(there)), str(len(narrow)), *shares, missed])
    return found


def neighbour(x: np.ndarray, seed: int) -> np.ndarray:
    """Return a random point at most two units in the last place from another, in each element."""
    moves = np.random.default_rng(seed).integers(-2, 3, x.shape)
    ends = np.where(moves > 0, np.inf, -np.inf).astype(np.float32)
    for size in (1, 2):
        x = np.where(np.abs(moves) >= size, np.nextafter(x, ends), x)
    return x


def profile(values: np.ndarray, best: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of a performance profile: ratios to the fewest evaluations, and the share solved within them."""
    ratio = np.sort(values[np.isfinite(values)] / best[np.isfinite(values)])
    share = np.concatenate([[0], np.arange(1, ratio.size + 1), [ratio.size]]) / count
    return np.concatenate([[1], ratio, [100]]), share


def draw(results: dict[str, dict[str, dict[str, dict]]], path: pathlib.Path) -> None:
    """Draw the performance profiles of Dolan and Moré, in evaluations; the best solvers of each library."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(11, 4.6), sharey=True, squeeze=False, layout="constrained")
    for axis, (kind, found) in zip(axes[0], results.items(), strict=True):
        problems = list(next(iter(found.values())))
        solved = lambda record: max(record["evaluations"], 1) if record["solved"] else np.inf
        cost = {name: np.array([solved(r[p]) for p in problems]) for name, r in found.items()}
        best = np.min(list(cost.values()), axis=0)
        order = sorted(cost, key=lambda name: (not name.startswith("dini"), -np.isfinite(cost[name]).sum()))
        # the default is one of the others under another name
        order = [name for name in order if "default" not in name]
        library = [name.split()[0] for name in order]
        order = [name for i, name in enumerate(order) if library[:i].count(library[i]) < SHOWN[library[i]]]
        colors = iter(plt.get_cmap("tab10").colors * 2)
        for name in order:
            ours = name.startswith("dini")
            label = f"{name} ({np.isfinite(cost[name]).mean():.0%})"
            style = {"linestyle": "-" if ours else "--", "linewidth": 2.0 if ours else 1.3, "color": next(colors)}
            axis.step(*profile(cost[name], best, len(problems)), where="post", label=label, **style)
        axis.set(xscale="log", xlim=(1, 32), ylim=(0, 1), title=f"{kind}: {len(problems)} problems")
        axis.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"], minor=False)
        axis.minorticks_off()
        axis.set_xlabel("evaluations, relative to the fewest of any solver")
        axis.legend(fontsize=8, loc="lower right")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("share of problems solved")
    figure.savefig(path, dpi=120)


def body(results: dict[str, dict[str, dict[str, dict]]]) -> str:
    """Return the tables."""
    parts = []
    for kind, found in results.items():
        parts.append(table([f"{kind}, gradient 1e-5", "solved", "share", "median evaluations"], rows(found)))
    return "\n\n".join(parts)


def main() -> None:
    """Measure; write the table and draw the picture, unless one precision alone was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", default="", help="run only solvers whose names begin so (comma-separated)")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--raw", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "dini-cutest")
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--single", action="store_true", help="compute in single precision, beside float64's results")
    parser.add_argument("--measure-only", action="store_true", help="fill the raw folder and write nothing")
    args = parser.parse_args()
    import sif2jax  # noqa: F401 (its import turns on double precision)

    jax.config.update("jax_enable_x64", not args.single)
    args.raw.mkdir(parents=True, exist_ok=True)
    chosen = tuple(filter(None, args.solvers.split(",")))
    if args.single:
        header = ["float64 solves", "there in float32", "float32 solves", "of float64's", "of what is there", "missed"]
        parts = []
        for kind in args.kinds.split(","):
            parts.append(table([kind, *header], single(args.raw, kind, args.tol, chosen)))
        command = f'{COMMAND} --solvers "{args.solvers}" --tol {args.tol:g} --measure-only, then --single'
        title = f"CUTEst's small problems in float32, gradient {args.tol:g}"
        write("cutest_float32", title, command, "\n\n".join(parts), "float32")
        return
    results = {kind: measure(kind, args.tol, args.raw, chosen) for kind in args.kinds.split(",")}
    if args.measure_only:
        for kind, found in results.items():
            print(table([kind, "solved", "share", "median evaluations"], rows(found)))
        return
    write("cutest", "CUTEst's small problems: solved within 1,000 evaluations", COMMAND, body(results))
    draw(results, PICTURE)


if __name__ == "__main__":
    main()
