"""What a first call costs, in seconds of CPU: each verb's default, value and gradient, beside its peers.

    python benchmarks/first_calls.py [--only minimize,lbfgs] [--rounds 3]

Each call is made in a process of its own, after the imports and one small program of JAX's. ``call`` is what a user
waits for: the verb called plainly. ``trace``, ``lower`` and ``compile`` are those parts of `jax.jit` of it, in another
process. ``again`` is the call in a second process, where the first one has kept its programs: JAX's persistent cache
with no least time or size, as `dini.keep_programs` sets it. The least of the rounds is written down. What imports take
is in `imports.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time

from report import one_core, table, write

one_core()

SIZES = {"minimize": 20, "lbfgs": 100, "least squares": 20, "root": 20, "fixed point": 20, "program": 20}
LIBRARIES = ("dini", "optimistix", "jaxopt", "qpax")
PARTS = ("call", "trace", "lower", "compile", "again")
#: as environment variables, for all libraries: everything is kept
KEPT = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


def _data(size):
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.normal(size=(2 * size, size)), rng.normal(size=2 * size), rng.normal(size=(size // 2, size))


def _functions(size):
    """Return the functions of the cases: an objective, residuals, an equation, a map; each with one parameter."""
    import jax.numpy as jnp

    A, b, _ = _data(size)
    A, b = jnp.asarray(A), jnp.asarray(b)
    square = A.T @ A / (2 * size)
    objective = lambda x, a: jnp.sum(jnp.logaddexp(0.0, A @ x)) - b @ A @ x / 9 + 0.5 * a * x @ x
    residuals = lambda x, a: jnp.concatenate([jnp.tanh(A @ x) - 0.1 * a * b, 0.1 * x])
    equation = lambda x, a: x + 0.1 * jnp.tanh(square @ x) - a
    iteration = lambda x, a: 0.1 * jnp.tanh(square @ x) + a
    return objective, residuals, equation, iteration


def _solve(library, case):
    """Return the function of the parameter that a first call computes, or ``None`` where a library has none."""
    import jax.numpy as jnp

    size = SIZES[case]
    objective, residuals, equation, iteration = _functions(size)
    zero = jnp.zeros(size)
    if library == "dini":
        import dini
        import dini.convex
        import dini.verbs  # what a verb chooses from is imported when it is first named

        G = jnp.asarray(_data(size)[2])
        programs = {
            "minimize": lambda a: dini.minimize(objective, zero, a).x,
            "lbfgs": lambda a: dini.minimize(objective, zero, a, solver=dini.LBFGS()).x,
            "least squares": lambda a: dini.least_squares(residuals, zero, a).x,
            "root": lambda a: dini.root(equation, zero, a).x,
            "fixed point": lambda a: dini.fixed_point(iteration, zero, a).x,
            "program": lambda a: (
                dini.quadratic_program(Q=jnp.eye(size), c=a * jnp.ones(size), G=G, h=jnp.ones(len(G))).x
            ),
        }
        return programs[case]
    if library == "optimistix":
        import optimistix as optx

        call = lambda run, fun, solver: lambda a: run(fun, solver, zero, a, max_steps=2000).value
        tol = {"rtol": 1e-6, "atol": 1e-6}
        programs = {
            "minimize": call(optx.minimise, objective, optx.BFGS(**tol)),
            "lbfgs": call(optx.minimise, objective, optx.LBFGS(**tol)),
            "least squares": call(optx.least_squares, residuals, optx.LevenbergMarquardt(**tol)),
            "root": call(optx.root_find, equation, optx.Newton(**tol)),
            "fixed point": call(optx.fixed_point, iteration, optx.FixedPointIteration(**tol)),
        }
        return programs.get(case)
    if library == "jaxopt":
        import jaxopt

        made = {
            "minimize": lambda: jaxopt.BFGS(objective, maxiter=2000, tol=1e-6),
            "lbfgs": lambda: jaxopt.LBFGS(objective, maxiter=2000, tol=1e-6),
            "least squares": lambda: jaxopt.LevenbergMarquardt(residuals, tol=1e-6),
            "root": lambda: jaxopt.Broyden(equation, tol=1e-6),
            "fixed point": lambda: jaxopt.AndersonAcceleration(iteration, tol=1e-6),
        }
        if case not in made:
            return None
        solver = made[case]()
        return lambda a: solver.run(zero, a).params
    import qpax

    if case != "program":
        return None
    G = jnp.asarray(_data(size)[2])
    nothing = jnp.zeros((0, size)), jnp.zeros(0)
    return lambda a: qpax.solve_qp_primal(jnp.eye(size), a * jnp.ones(size), *nothing, G, jnp.ones(len(G)))


def measure(library, case, what, how):
    """Print the seconds of one first call; to be run in a process of its own."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    solve = _solve(library, case)
    if solve is None:
        print(json.dumps(None))
        return
    jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones(3)))
    run = solve if what == "value" else jax.grad(lambda a: jnp.sum(solve(a)))
    given = jnp.asarray(0.5)
    clock = time.process_time
    if how == "call":
        start = clock()
        jax.block_until_ready(run(given))
        print(json.dumps({"call": clock() - start}))
        return
    times = [clock()]
    traced = jax.jit(run).trace(given)
    times.append(clock())
    lowered = traced.lower()
    times.append(clock())
    lowered.compile()
    times.append(clock())
    found = [end - start for start, end in itertools.pairwise(times)]
    print(json.dumps(dict(zip(("trace", "lower", "compile"), found, strict=True))))


def _run(library, case, what, how, **environment):
    """Return the seconds of one first call, in a process of its own; ``None`` where a library has no such case."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", library, case, what, how],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _again(library, case, what):
    """Return the seconds of a call in a second process, which finds the programs of the first."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            found = _run(library, case, what, "call", JAX_COMPILATION_CACHE_DIR=folder, **KEPT)
    return {"again": found["call"]} if found and "call" in found else found


def _least(library, case, what, rounds):
    """Return the least seconds of each part over the rounds, or ``None``."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for how in ("call", "parts", "again"):
            found = _again(library, case, what) if how == "again" else _run(library, case, what, how)
            if found is None or "failed" in found:
                return found
            best |= {name: min(seconds, best.get(name, seconds)) for name, seconds in found.items()}
    return best


def main():
    """Measure all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SIZES), help="cases, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(*given.one)
        return
    rows = []
    here = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    for case in given.only.split(","):
        for what in ("value", "gradient"):
            for library in here:
                found = _least(library, case, what, given.rounds)
                if found is None:
                    continue
                cells = [
                    f"{found[part]:.2f}" if part in found else "-"
                    for part in ("call", "trace", "lower", "compile", "again")
                ]
                rows.append((f"{case} ({SIZES[case]})", what, library, *cells, found.get("failed", "")[:60]))
                print(*rows[-1], flush=True)
    head = ("case (unknowns)", "what", "library", *PARTS, "")
    command = f"python benchmarks/first_calls.py --rounds {given.rounds}"
    write("first_calls", "First calls, in seconds of CPU", command, table(head, rows))


if __name__ == "__main__":
    main()
