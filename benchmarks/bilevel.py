"""Outer loss against time of bilevel methods: dini's beside JAXopt and beside SOBA and SABA in plain JAX.

    python benchmarks/bilevel.py --task penalties
    python benchmarks/bilevel.py --task cleaning

Two problems on scikit-learn's digits, as in benchopt's bilevel benchmark: a penalty between zero and one for each
feature of a logistic regression, given by its logit, and a weight for each training sample, of which some have wrong
labels. Each method takes its outer steps from one grid of lengths, and the best one counts. Its time is CPU time after
compilation. The loss of a point is the exact one: the inner problem is solved anew at each recorded point, outside of
the clock.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from functools import partial
from typing import Any

import report

report.one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_enable_x64", True)

import dini  # noqa: E402
from dini import bilevel  # noqa: E402

SIZE = 48
OUTER_STEPS = {"penalties": (1.0, 10.0), "cleaning": (10.0, 100.0)}
LEVELS = (1e-1, 1e-2, 1e-3)


class Task:
    """A bilevel problem: two objectives of batches, and their data."""

    def __init__(self, name: str) -> None:
        from sklearn.datasets import load_digits

        rng = np.random.default_rng(0)
        X, y = load_digits(return_X_y=True)
        order = rng.permutation(1776)
        X = (X[order] - X.mean(0)) / (X.std(0) + 1.0)
        self.name, self.classes = name, 2 if name == "penalties" else 10
        y = (y[order] >= 5).astype(int) if name == "penalties" else y[order]
        train = y[:1200].copy()
        if name == "cleaning":
            wrong = rng.random(1200) < 0.4
            train[wrong] = (train[wrong] + rng.integers(1, 10, wrong.sum())) % 10
        self.train = (np.arange(1200), X[:1200], train)
        self.held_out = (X[1200:], y[1200:])
        columns = 1 if name == "penalties" else 10
        self.x0 = np.zeros((64, columns))
        self.theta0 = np.zeros(64) - 2.0 if name == "penalties" else np.zeros(1200)
        # the largest eigenvalue of the inner Hessian, from above
        curvature = np.linalg.eigvalsh(X[:1200].T @ X[:1200] / 1200).max() * (0.25 if columns == 1 else 0.5)
        self.length = float(1 / (curvature + (1.0 if columns == 1 else 1e-2)))

    def losses(self, x: Any, X: Any, y: Any) -> Any:
        scores = X @ x
        if self.classes == 2:
            return jnp.logaddexp(0, -(2 * y - 1) * scores[:, 0])
        return jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0]

    def inner(self, x: Any, theta: Any, batch: Any) -> Any:
        numbers, X, y = batch
        if self.name == "penalties":
            return jnp.mean(self.losses(x, X, y)) + 0.5 * jnp.sum(jax.nn.sigmoid(theta)[:, None] * x**2)
        return jnp.mean(jax.nn.sigmoid(theta[numbers]) * self.losses(x, X, y)) + 0.5e-2 * jnp.sum(x**2)

    def outer(self, x: Any, theta: Any, batch: Any) -> Any:
        X, y = batch
        return jnp.mean(self.losses(x, X, y))


def by_dini(task: Task) -> dict[str, Any]:
    """Return functions of an outer step that return a start, and a function that advances it, for each method."""
    problem = bilevel.Bilevel(task.outer, task.inner)
    outer, inner = bilevel.Batches(task.held_out, SIZE), bilevel.Batches(task.train, SIZE)
    rate = {"inner_step": task.length}
    presets = {
        "SOBA": lambda step: bilevel.SOBA(problem, **rate, outer_step=step),
        "MA-SOBA": lambda step: bilevel.MASOBA(problem, **rate, outer_step=step),
        "SABA": lambda step: bilevel.SABA(problem, **rate, outer_step=step),
        "SRBA": lambda step: bilevel.SRBA(problem, **rate, outer_step=step, period=37),
        "AmIGO": lambda step: bilevel.AmIGO(problem, **rate, outer_step=step),
        "stocBiO": lambda step: bilevel.StocBiO(problem, **rate, outer_step=step),
        "FSLA": lambda step: bilevel.FSLA(problem, **rate, outer_step=step),
        "TTSA": lambda step: bilevel.TTSA(problem, **rate, outer_step=step),
        "SubBiO": lambda step: bilevel.SubBiO(problem, **rate, outer_step=step),
        "LancBiO": lambda step: bilevel.LancBiO(problem, **rate, outer_step=step),
        "F2SA": lambda step: bilevel.F2SA(problem, task.length, step, 100.0, 1),
        "F2SA, order 2": lambda step: bilevel.F2SA(problem, task.length, step, 100.0, 2),
    }

    @partial(jax.jit, static_argnums=2)
    def advance(method: Any, carry: Any, steps: int) -> Any:
        state, key = carry
        key, now = jax.random.split(key)
        return method.run(state, steps, outer, inner, now), key

    def made(preset: Any) -> Any:
        def start(step: float) -> Any:
            method = preset(step)
            state = method.init(task.theta0, task.x0, outer[0], inner[0])
            return (state, jax.random.key(0)), partial(advance, method), lambda carry: carry[0].theta

        return start

    found = {f"dini {name}": (made(preset), 100) for name, preset in presets.items()}

    def hoag(_: float) -> Any:
        method = bilevel.HOAG(
            lambda x, t: task.outer(x, t, task.held_out), dini.Minimize(lambda x, t: task.inner(x, t, task.train))
        )
        run = jax.jit(lambda method, state, steps: method.run(state, steps), static_argnums=2)
        return method.init(task.theta0, task.x0), partial(run, method), lambda state: state.theta

    fit = dini.Minimize(task.inner)

    @jax.jit
    def both(theta: Any, state: Any) -> Any:
        held_out, train = (task.held_out,), (task.train,)
        how: dict[str, Any] = {"outer_args": held_out, "inner_args": train, "state": state, "on_failure": "ignore"}
        at = bilevel.value_and_hypergradient(task.outer, fit, theta, task.x0, **how)
        return at.value, at.gradient, at.state

    cold = bilevel.Warm(jnp.asarray(task.x0), jnp.zeros_like(task.x0))
    lbfgs = partial(by_scipy, task, both, cold, lambda found: found)
    return found | {"dini HOAG": (hoag, 1), "dini, L-BFGS of SciPy": (lbfgs, 0)}


def in_plain_jax(task: Task) -> dict[str, Any]:
    """Return SOBA and SABA, each as one scan over arrays."""
    X, y, V, z = *map(jnp.asarray, task.train[1:]), *map(jnp.asarray, task.held_out)
    n, m = 1200 // SIZE, 576 // SIZE
    slice_of = lambda a, i: jax.lax.dynamic_slice_in_dim(a, i * SIZE, SIZE)
    numbers = jnp.arange(1200)

    def inner_gradient(x: Any, theta: Any, i: Any) -> Any:
        return jax.grad(task.inner)(x, theta, (slice_of(numbers, i), slice_of(X, i), slice_of(y, i)))

    def outer_gradient(x: Any, theta: Any, j: Any) -> Any:
        return jax.grad(task.outer, argnums=(0, 1))(x, theta, (slice_of(V, j), slice_of(z, j)))

    def directions(x: Any, v: Any, theta: Any, i: Any) -> Any:
        gradient, pull = jax.vjp(lambda x, theta: inner_gradient(x, theta, i), x, theta)
        return (gradient, *pull(v))

    def soba(carry: Any, keys: Any, step: float) -> Any:
        x, v, theta = carry
        i, j = jax.random.randint(keys[0], (), 0, n), jax.random.randint(keys[1], (), 0, m)
        d_x, hv, cross = directions(x, v, theta, i)
        f_x, f_theta = outer_gradient(x, theta, j)
        return x - task.length * d_x, v - task.length * (hv + f_x), theta - step * (cross + f_theta)

    def saba(carry: Any, keys: Any, step: float) -> Any:
        x, v, theta, tables, means = carry
        i, j = jax.random.randint(keys[0], (), 0, n), jax.random.randint(keys[1], (), 0, m)
        news = (*directions(x, v, theta, i), *outer_gradient(x, theta, j))
        places, counts = (i, i, i, j, j), (n, n, n, m, m)
        olds = [table[k] for table, k in zip(tables, places, strict=True)]
        d = [new - old + mean for new, old, mean in zip(news, olds, means, strict=True)]
        means = [mean + (new - old) / c for mean, new, old, c in zip(means, news, olds, counts, strict=True)]
        tables = [table.at[k].set(new) for table, k, new in zip(tables, places, news, strict=True)]
        x, v, theta = x - task.length * d[0], v - task.length * (d[1] + d[3]), theta - step * (d[2] + d[4])
        return x, v, theta, tables, means

    def made(one: Any) -> Any:
        @partial(jax.jit, static_argnums=2)
        def advance(step: Any, carry: Any, steps: int) -> Any:
            state, key = carry
            key, now = jax.random.split(key)
            pairs = jax.vmap(jax.random.split)(jax.random.split(now, steps))
            return jax.lax.scan(lambda s, keys: (one(s, keys, step), None), state, pairs)[0], key

        def start(step: float) -> Any:
            x, theta = jnp.asarray(task.x0), jnp.asarray(task.theta0)
            state: Any = (x, jnp.zeros_like(x), theta)
            if one is saba:
                first = jax.vmap(lambda i: directions(x, jnp.zeros_like(x), theta, i))(jnp.arange(n))
                tables = [*first, *jax.vmap(lambda j: outer_gradient(x, theta, j))(jnp.arange(m))]
                state = (*state, tables, [jnp.mean(table, axis=0) for table in tables])
            return (state, jax.random.key(0)), partial(advance, step), lambda carry: carry[0][2]

        return start

    return {"plain JAX SOBA": (made(soba), 100), "plain JAX SABA": (made(saba), 100)}


def by_jaxopt(task: Task) -> dict[str, Any]:
    """Return descent along JAXopt's implicit hypergradient, and L-BFGS with it; solves start at the last solution."""
    try:
        import jaxopt
    except ImportError:
        return {}
    inner = lambda x, theta: task.inner(x, theta, task.train)
    solver = jaxopt.LBFGS(inner, maxiter=200, tol=1e-5, implicit_diff=True)

    def outer(theta: Any, x: Any) -> Any:
        x = solver.run(x, theta).params
        return task.outer(x, theta, task.held_out), x

    @partial(jax.jit, static_argnums=2)
    def descend(step: Any, carry: Any, steps: int) -> Any:
        def one(_: Any, carry: Any) -> Any:
            theta, x = carry
            (_, x), gradient = jax.value_and_grad(outer, has_aux=True)(theta, x)
            return theta - step * gradient, x

        return jax.lax.fori_loop(0, steps, one, carry)

    def plain(step: float) -> Any:
        return (jnp.asarray(task.theta0), jnp.asarray(task.x0)), partial(descend, step), lambda carry: carry[0]

    both = jax.jit(jax.value_and_grad(outer, has_aux=True))

    lbfgs = partial(by_scipy, task, both, jnp.asarray(task.x0), lambda found: (found[0][0], found[1], found[0][1]))
    return {"JAXopt gradient descent": (plain, 1), "JAXopt, L-BFGS of SciPy": (lbfgs, 0)}


def by_scipy(task: Task, both: Any, start: Any, parts: Any, limit: float) -> list[tuple[float, Any]]:
    """Return the points of SciPy's L-BFGS with a compiled hypergradient, which starts at its last state."""
    from scipy.optimize import minimize

    carry = start
    carry = parts(jax.block_until_ready(both(task.theta0, carry)))[2]
    jax.block_until_ready(both(task.theta0, carry))
    carry, began, points = start, time.process_time(), [(0.0, task.theta0)]

    def fun(theta: Any) -> Any:
        nonlocal carry
        value, gradient, carry = parts(both(theta, carry))
        return float(value), np.asarray(gradient)

    def seen(theta: Any) -> None:
        points.append((time.process_time() - began, theta.copy()))
        if points[-1][0] > limit:
            raise StopIteration

    minimize(fun, task.theta0, jac=True, method="L-BFGS-B", callback=seen)
    return points


def recorded(start: Any, chunk: int, step: float, limit: float) -> list[tuple[float, Any]]:
    """Return outer points and the CPU seconds when they were reached, at times that grow geometrically."""
    if chunk == 0:
        return start(limit)
    carry, advance, theta_of = start(step)
    jax.block_until_ready(advance(carry, chunk))
    used, points, due = 0.0, [(0.0, np.asarray(theta_of(carry)))], 0.0
    while used < limit:
        began = time.process_time()
        carry = jax.block_until_ready(advance(carry, chunk))
        used += time.process_time() - began
        theta = np.asarray(theta_of(carry))
        if not np.all(np.isfinite(theta)):
            break
        if used >= due:
            points.append((used, theta))
            due = max(used * 1.25, used + limit / 400)
    return points


def measure(task: Task, limit: float, only: str) -> tuple[dict[str, Any], float]:
    """Return each method's best curve of exact outer losses, and the smallest loss of all."""
    solver = dini.LBFGS(rtol=1e-9, max_steps=3000)

    @jax.jit
    def exact(theta: Any, x: Any) -> Any:
        fit = dini.solve(dini.Minimize(task.inner), solver, x, theta, task.train, on_failure="ignore")
        return task.outer(fit.x, theta, task.held_out), fit.x

    methods = by_dini(task) | in_plain_jax(task) | by_jaxopt(task)
    curves: dict[str, Any] = {}
    for name, (start, chunk) in methods.items():
        if only not in name:
            continue
        grid = (0.0,) if chunk == 0 or name == "dini HOAG" else OUTER_STEPS[task.name]
        for step in grid:
            points = recorded(start, chunk, step, limit)
            losses, x = [], jnp.asarray(task.x0)
            for _, theta in points:
                loss, x = exact(theta, x)
                losses.append(float(loss))
            curves[name, step] = np.array([seconds for seconds, _ in points]), np.array(losses)
            print(f"{name:28} {step:6} {min(losses):.5f} after {points[-1][0]:.2f} s", flush=True)
    return curves, min(float(np.nanmin(losses)) for _, losses in curves.values())


def reached(curve: Any, level: float) -> float:
    """Return the first time from which on a curve is below a level, infinity where it is not at its end."""
    seconds, losses = curve
    above = np.flatnonzero(~(losses <= level))
    if above.size == 0:
        return 0.0
    return float(seconds[above[-1] + 1]) if above[-1] + 1 < seconds.size else np.inf


def main() -> None:
    """Measure, print a table, and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["penalties", "cleaning"], default="penalties")
    parser.add_argument("--limit", type=float, default=2.0, help="CPU seconds for each method and step")
    parser.add_argument("--only", default="", help="methods whose name has this in it")
    given = parser.parse_args()
    task = Task(given.task)
    curves, best = measure(task, given.limit, given.only)
    first = next(iter(curves.values()))[1][0]
    levels = [best + share * (first - best) for share in LEVELS]
    rows, kept = [], {}
    for name in dict.fromkeys(name for name, _ in curves):
        steps = {step: curve for (other, step), curve in curves.items() if other == name}
        # the step that comes farthest, and of these the quickest
        order = {step: [reached(curve, level) for level in reversed(levels)] for step, curve in steps.items()}
        step = min(steps, key=lambda step: (*order[step], np.nanmin(steps[step][1])))
        kept[name] = steps[step]
        times = [f"{t:.3f}" if np.isfinite(t) else "—" for t in reversed(order[step])]
        rows.append([name, "—" if step == 0 else f"{step:g}", *times, f"{steps[step][1][-1]:.5f}"])
    shares = [f"s to {share:g}" for share in LEVELS]
    body = report.table(["method", "outer step", *shares, "loss at the end"], rows)
    note = (
        f"\n\nOuter loss {first:.5f} at the start, {best:.5f} at the best point that any method found; "
        f"a column is the CPU time from which on a share of that gap is left. {given.limit:g} s each."
    )
    report.write(
        f"bilevel_{given.task}",
        f"Bilevel methods: {given.task}",
        " ".join(["python", "benchmarks/bilevel.py", *sys.argv[1:]]),
        body + note,
    )
    draw(given.task, kept, best)


def draw(name: str, curves: dict[str, Any], best: float) -> None:
    """Draw what is left of the outer loss against time."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for i, (label, (seconds, losses)) in enumerate(curves.items()):
        style = {"dini": "-", "plai": "--", "JAXo": ":"}[label[:4]]
        axes.loglog(np.maximum(seconds, 1e-4)[1:], losses[1:] - best + 1e-6, style, label=label, color=f"C{i % 10}")
    axes.set(xlabel="CPU seconds", ylabel="outer loss above the best")
    axes.legend(fontsize=7, ncol=2)
    docs = pathlib.Path(__file__).parents[1] / "docs"
    figure.savefig(docs / f"bilevel-{name}.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
