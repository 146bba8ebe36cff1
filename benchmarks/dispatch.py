"""What a warm call of ``dini.solve`` costs beside a bare ``jax.jit`` call, and whether equal calls compile again.

    python benchmarks/dispatch.py [--rounds 21] [--repeat 300]

The loop's own work is excluded: the solver takes no step (``max_steps=0``), or is at its tolerance after one
evaluation. Every call waits for its result.
"""

from __future__ import annotations

import argparse
import sys

from report import digits, interleaved, one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)


def fun(x, a):
    """Return a convex function of ten variables."""
    return jnp.logaddexp(0.0, a * x).sum() - 0.3 * x.sum() + 0.05 * jnp.vdot(x, x)


def calls():
    """Return the calls to time, by name."""
    x0, a = jnp.linspace(-1, 1, 10), jnp.asarray(1.5)
    problem = dini.Minimize(fun)
    idle, loose = dini.LBFGS(max_steps=0), dini.LBFGS(tol=1e6)
    solution = dini.solve(problem, idle, x0, a, on_failure="ignore")
    like = jax.tree.map(jnp.zeros_like, solution)
    bare = jax.jit(lambda x, a: x + a)
    outputs = jax.jit(lambda x, a: jax.tree.map(lambda u: u + 0 * a.astype(u.dtype), like))
    program = jax.jit(lambda x, a: dini.solve(problem, loose, x, a, on_failure="ignore"))
    checked = jax.jit(lambda x, a: dini.solve(problem, loose, x, a))
    same = jax.jit(lambda problem, solver, x, args: jax.tree.map(lambda u: u + 0 * args[0].astype(u.dtype), like))
    return {
        "jax.jit, same arrays in, x out": lambda: bare(x0, a).block_until_ready(),
        "jax.jit, same arrays in, same outputs": lambda: outputs(x0, a).x.block_until_ready(),
        "jax.jit, problem and solver in, same outputs": lambda: same(problem, idle, x0, (a,)).x.block_until_ready(),
        'dini.solve, no step, on_failure="ignore"': lambda: dini.solve(
            problem, idle, x0, a, on_failure="ignore"
        ).x.block_until_ready(),
        "jax.jit, the program of dini.solve, one evaluation": lambda: program(x0, a).x.block_until_ready(),
        # the difference between these two lines is what dini.solve itself costs: the rest is the compiled program
        "jax.jit, the same, raising": lambda: checked(x0, a).x.block_until_ready(),
        "dini.solve, one evaluation, raising": lambda: dini.solve(problem, loose, x0, a).x.block_until_ready(),
        "dini.minimize, one evaluation, raising": lambda: dini.minimize(fun, x0, a, solver=loose).x.block_until_ready(),
    }


def compilations():
    """Return rows (what is repeated, programs compiled, entries in the cache of calls)."""
    count = [0]

    def listen(event, duration, **kw):
        del duration, kw
        count[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    cache = sys.modules["dini.solving"]._solve._cache_size
    x0 = jnp.linspace(-1, 1, 10)
    numbers = [jnp.asarray(1.5 + i) for i in range(5)]
    dini.solve(dini.Minimize(fun), dini.LBFGS(), x0, numbers[0])
    dini.solve(dini.Minimize(fun), dini.LBFGS(tol=1e-6), x0, numbers[0])
    dini.minimize(fun, x0, numbers[0])
    cases = {
        "the same objects": lambda a: dini.solve(dini.Minimize(fun), dini.LBFGS(), x0, a),
        "dini.minimize": lambda a: dini.minimize(fun, x0, a),
        "another tolerance": lambda a: dini.solve(dini.Minimize(fun), dini.LBFGS(tol=1e-5), x0, a),
        "a new lambda": lambda a: dini.minimize(lambda x, a: fun(x, a), x0, a),
    }
    rows = []
    for name, call in cases.items():
        before, entries = count[0], cache()
        for a in numbers:
            call(a)
        rows.append([name, str(count[0] - before), str(cache() - entries)])
    return rows


def main():
    """Measure and write ``results/dispatch.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--repeat", type=int, default=300)
    args = parser.parse_args()
    times = interleaved(calls(), repeat=args.repeat, rounds=args.rounds)
    base = next(iter(times.values()))
    rows = [[name, digits(t, 1e6), f"{t / base:.2f}", digits(t - base, 1e6)] for name, t in times.items()]
    text = table(["call", "CPU µs", "ratio to the first", "difference, µs"], rows)
    text += "\n\nFive calls with a new problem and solver object each:\n\n"
    text += table(["repeated", "programs compiled", "new entries in the cache"], compilations())
    write("dispatch", "Overhead of a call, 10 variables", "python benchmarks/dispatch.py", text)


if __name__ == "__main__":
    main()
