"""What each judgement of the solvers buys: right answers, wrong claims, failures and steps, with it and without.

    python benchmarks/judgements.py [--solvers BFGS,Newton] [--without leaps,diverging] [--only wood] [--json FILE]

A judgement is a row of `src/dini/solvers/judge/_margins.py`; the environment variable `DINI_WITHOUT` turns some off
by their names. `--ledger` makes the table of all: each is turned off in a process of its own.

The functions are those of Moré, Garbow and Hillstrom as sums of squares, regressions, and functions without a minimum;
each is solved in eight settings at once, as one batch: as it is, in units of the unknown a million times larger and
smaller, in units of the value, in units of each element's own, from ten times the start, and with a large constant.

An answer is right where the value is as low as that of a point to which SciPy's trust region goes on from it in double
precision, to 1e-7 of what the solve gained (1e-4 in single precision), and, for functions without a minimum, where
nothing is claimed. What is claimed and not right is wrong; what is not claimed has failed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

from report import one_core, table, write

one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import scipy.optimize  # noqa: E402
from mgh_functions import FUNCTIONS  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

SOLVERS = {
    "BFGS": dini.BFGS(),
    "LBFGS": dini.LBFGS(),
    "NonlinearCG": dini.NonlinearCG(),
    "LBFGSB": dini.LBFGSB(),
    "Newton": dini.Newton(),
    "ProjectedNewton": dini.ProjectedNewton(),
    "TrustRegionNewtonCG": dini.TrustRegionNewtonCG(),
    "Dogleg": dini.Dogleg(),
    "GradientDescent": dini.GradientDescent(),
    "ProximalGradient": dini.ProximalGradient(),
}
MGH = (
    "rosenbrock",
    "freudenstein_roth",
    "brown_badly_scaled",
    "beale",
    "helical_valley",
    "bard",
    "gaussian",
    "box3d",
    "powell_singular",
    "wood",
    "kowalik_osborne",
    "brown_dennis",
    "biggs_exp6",
    "penalty1",
    "variably_dimensioned",
    "trigonometric",
    "brown_almost_linear",
    "discrete_boundary",
    "broyden_tridiagonal",
    "linear_full_rank",
)
SETTINGS = ("plain", "x 1e6", "x 1e-6", "f 1e8", "f 1e-8", "unlike", "far", "shifted")
_rng = np.random.default_rng(0)
DATA, LABELS = _rng.normal(size=(30, 4)), np.sign(_rng.normal(size=30))


def valley(x):
    """Return a curved valley."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 + (x[2] - 2) ** 2


def quartic(x):
    """Return a sum of fourth powers, singular at its minimum."""
    return jnp.sum((x - jnp.arange(1.0, 4.0)) ** 4)


def ridge(x):
    """Return a loss of regression."""
    return 0.5 * jnp.mean((DATA @ x - LABELS) ** 2) + 0.05 * x @ x


def logistic(x):
    """Return a loss of classification."""
    return jnp.mean(jnp.logaddexp(0, -LABELS * (DATA @ x))) + 0.01 * x @ x


def even(x):
    """Return a bowl whose minimum is zero."""
    return jnp.sum(jnp.arange(1.0, 5.0) * x**2)


def falls(x):
    """Return a function that falls for ever."""
    return jnp.exp(-x[0]) + (x[1] - 1) ** 2


def separable(x):
    """Return a likelihood of classes that a plane separates, which has no minimum."""
    return jnp.mean(jnp.logaddexp(0, -jnp.where(DATA[:, 0] > 0, 1, -1) * (DATA @ x)))


OWN = {
    "valley": (valley, [-1.2, 1.0, 0.5]),
    "quartic": (quartic, [0.1, 0.2, 0.3]),
    "ridge": (ridge, [1.0, -1.0, 0.5, 0.2]),
    "logistic": (logistic, [1.0, -1.0, 0.5, 0.2]),
    "even": (even, [1.0, -1.0, 0.5, 0.2]),
    "falls": (falls, [0.5, 2.0]),
    "separable": (separable, [0.1, 0.1, 0.1, 0.1]),
}
ENDLESS = ("falls", "separable")


def _half_square(residuals):
    return lambda x: 0.5 * jnp.sum(residuals(x) ** 2)


@functools.cache
def problems():
    """Return the functions and their starts."""
    sums = {name: (_half_square(FUNCTIONS[name][0]), FUNCTIONS[name][1]) for name in MGH}
    return {name: (fun, np.asarray(start, float)) for name, (fun, start) in (sums | OWN).items()}


def settings(start, value):
    """Return the units of the unknown and of the value, the constant, and the start, a row for each setting."""
    d = len(start)
    units = np.ones((len(SETTINGS), d))
    units[1], units[2], units[5] = 1e6, 1e-6, 10.0 ** np.linspace(-3, 3, d)
    scale, shift = np.ones(len(SETTINGS)), np.zeros(len(SETTINGS))
    scale[3], scale[4], shift[7] = 1e8, 1e-8, 100 * (abs(value) + 1)
    starts = np.tile(start, (len(SETTINGS), 1))
    starts[6] = 10 * (start if np.any(start) else np.ones(d))
    return units, scale, shift, starts


@functools.cache
def _derivatives(fun):
    return [jax.jit(f) for f in (fun, jax.grad(fun), jax.hessian(fun))]


def polished(fun, x):
    """Return the value to which a trust region goes on from a point, in double precision."""
    if not np.all(np.isfinite(x)):
        return np.inf
    value, gradient, hessian = _derivatives(fun)
    as_numpy = lambda f: lambda u: np.asarray(f(u))
    try:
        end = scipy.optimize.minimize(
            as_numpy(value), x, jac=as_numpy(gradient), hess=as_numpy(hessian), method="trust-exact",
            options={"maxiter": 200, "gtol": 1e-14},
        )  # fmt: skip
    except (ValueError, np.linalg.LinAlgError):
        return float(value(x))
    return min(float(end.fun), float(value(x)))


def measured(solver, name, fun, start, dtype):
    """Return the outcome of each setting, as ``[kind, steps]``."""
    units, scale, shift, starts = settings(start, float(fun(start)))
    objective = lambda z, unit, scale, shift: scale * (fun(z / unit) + shift)

    def one(z, unit, scale, shift):
        end = dini.minimize(objective, z, unit, scale, shift, solver=solver, on_failure="ignore")
        return end.x, end.status, end.stats.steps

    given = (jnp.asarray(part, dtype) for part in (starts * units, units, scale, shift))
    xs, statuses, steps = jax.jit(jax.vmap(one))(*given)
    outcomes = []
    room = 1e-7 if dtype == np.float64 else 1e-4
    for i in range(len(SETTINGS)):
        claimed = int(statuses[i]) == int(dini.Status.CONVERGED)
        if name in ENDLESS:
            right = not claimed
        else:
            x = np.asarray(xs[i], float) / units[i]
            low, value, first = polished(fun, x), float(fun(x)), float(fun(starts[i]))
            hidden = 10 * np.finfo(dtype).eps * (abs(low) + abs(shift[i]))
            right = value - low <= room * (first - low) + hidden
        kind = "right" if right and (claimed or name in ENDLESS) else "wrong" if claimed else "failed"
        outcomes.append([kind, int(steps[i])])
    return outcomes


def run(chosen, only):
    """Return ``{solver: {precision: {name: outcomes}}}``."""
    results = {}
    for label in chosen:
        for dtype in (np.float64, np.float32):
            cells = results.setdefault(label, {}).setdefault(np.dtype(dtype).name, {})
            for name, (fun, start) in problems().items():
                if only and name not in only:
                    continue
                cells[name] = measured(SOLVERS[label], name, fun, start, dtype)
                if len(cells) % 9 == 0:
                    jax.clear_caches()  # thousands of programs at a time are more than the system maps
            print(
                label, np.dtype(dtype).name, counts(cells), f"{time.process_time():.0f} s", file=sys.stderr, flush=True
            )
    return results


def counts(cells):
    """Return how many answers are right, wrong, failed, and the steps of all."""
    flat = [outcome for each in cells.values() for outcome in each]
    kinds = [kind for kind, _ in flat]
    return [kinds.count("right"), kinds.count("wrong"), kinds.count("failed"), sum(steps for _, steps in flat)]


def ledger(args):
    """Turn off each judgement in turn, in a process of its own, and write what it changes."""
    from dini.solvers.judge._margins import JUDGEMENTS

    rows, first, idle = [], {}, []
    for name in ("", *JUDGEMENTS):
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [sys.executable, __file__, "--solvers", args.solvers, "--only", args.only, "--json", file.name]
            subprocess.run(command, env=os.environ | {"DINI_WITHOUT": name}, check=True, stdout=subprocess.DEVNULL)
            results = json.load(file)
        told = False
        for solver, precision in itertools.product(results, ("float64", "float32")):
            cells = [outcome for each in results[solver][precision].values() for outcome in each]
            found = counts({"": cells})
            before = first.setdefault((solver, precision), (found, cells))
            changed = sum(new != old for new, old in zip(cells, before[1], strict=True))
            if name and not changed:
                continue
            share = f"{found[3] / before[0][3]:.3f}"
            said = "" if told else JUDGEMENTS.get(name, "")
            rows.append([name or "(nothing)", solver, precision, *map(str, found[:3]), share, str(changed), said])
            told = bool(name)
            print(rows[-1], file=sys.stderr, flush=True)
        idle += [f"`{name}` ({JUDGEMENTS[name]})"] if name and not told else []
    header = [
        "without",
        "solver",
        "precision",
        "right",
        "wrong",
        "failed",
        "steps, as a share",
        "lanes that change",
        "what it says",
    ]
    only = f" --only {args.only}" if args.only else ""
    command = f"python benchmarks/judgements.py --ledger --solvers {args.solvers}{only}"
    title = "What each judgement buys: lanes that are right, wrong and failed without it"
    body = table(header, rows) + "\n\nRows of which no lane changes are left out."
    body += f" In no row here: {'; '.join(idle)}." if idle else ""
    write("judgements", title, command, body, "float64 and float32")


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--only", default="")
    parser.add_argument("--without", default="")
    parser.add_argument("--json", default="")
    parser.add_argument("--ledger", action="store_true", help="each judgement off in turn; writes the results page")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.ledger:
        ledger(args)
        return
    if args.without and os.environ.get("DINI_WITHOUT") != args.without:
        os.environ["DINI_WITHOUT"] = args.without
        os.execv(sys.executable, [sys.executable, *sys.argv])
    results = run(args.solvers.split(","), args.only.split(",") if args.only else ())
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file)
    rows = [[label, kind, *map(str, counts(cells))] for label, by in results.items() for kind, cells in by.items()]
    print(table(["solver", "precision", "right", "wrong", "failed", "steps"], rows))


if __name__ == "__main__":
    main()
