"""Solves whose programs are to be kept between processes, and a count of what a process compiles.

    python tests/kept_cases.py FOLDER [--only GROUP,GROUP]

keeps programs in a folder, runs the cases and prints, for each of them, how many programs it asked for and how many of
them were not there. `test_kept.py` runs it twice.
"""

import argparse
import contextlib
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dini

A = np.array([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [0.0, 1.0, 2.5]])
ONE = jnp.float32(1.0)


def smooth(x, a):
    return jnp.sum((x - a) ** 2) + 0.1 * jnp.sum(x**4)


def linear(x, a):
    return A @ x + 0.1 * jnp.tanh(x) - a


def _total(tree):
    return jnp.sum(jnp.abs(ravel_pytree(tree)[0]))


def _three(solve, at=ONE):
    """Return a value, a gradient and a batch of gradients, as they are called plainly."""
    gradient = jax.grad(lambda a: _total(solve(a)))
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), at)
    return {"value": lambda: solve(at), "gradient": lambda: gradient(at), "vmap": lambda: jax.vmap(gradient)(two)}


def _together(solve, at):
    """Return a call of the three in one program."""
    three = _three(solve, at)
    return jax.jit(lambda: {name: call() for name, call in three.items()})


def _plain(solve):
    """Return a value and a gradient."""
    return {name: call for name, call in _three(solve).items() if name != "vmap"}


def _named(groups):
    return {f"{name}, {what}": call for name, calls in groups.items() for what, call in calls.items()}


def first():
    """One of each kind."""
    eye, G = 2 * jnp.eye(3), jnp.ones((1, 3))
    simplex = lambda x: dini.sets.Simplex(2.0).project(x)
    minimum, program = (
        _three(lambda a: dini.minimize(smooth, jnp.zeros(3), a).x),
        _three(lambda a: dini.quadratic_program(Q=eye, c=-a * jnp.ones(3), G=G, h=jnp.ones(1)).x),
    )
    found = {"minimize": minimum, "program": {"value": program["value"]}}
    return _named(found) | {"simplex": _together(simplex, jnp.ones(3)), "a failure": _failure}


def verbs():
    """The verbs and their defaults."""
    x0, eye, G = jnp.zeros(3), 2 * jnp.eye(3), jnp.ones((1, 3))
    return _named(
        {
            "minimize": _three(lambda a: dini.minimize(smooth, x0, a).x),
            "least squares": _three(lambda a: dini.least_squares(linear, x0, a).x),
            "root": _three(lambda a: dini.root(linear, x0, a).x),
            "fixed point": _three(lambda a: dini.fixed_point(lambda x, a: 0.1 * linear(x, a), x0, a).x),
            "program": _three(lambda a: dini.quadratic_program(Q=eye, c=-a * jnp.ones(3), G=G, h=jnp.ones(1)).x),
        }
    )


def more():
    """What verbs choose otherwise, and the other functions that solve or differentiate."""
    x0, eye = jnp.zeros(3), 2 * jnp.eye(3)
    cone = dini.sets.SecondOrder()
    equality = lambda x, a: jnp.sum(x) - a
    stream = [jnp.float32(1.0), jnp.float32(2.0)]
    found = {
        "forty unknowns": _plain(lambda a: dini.minimize(smooth, jnp.zeros(40), a).x),
        "bounds": _plain(lambda a: dini.minimize(smooth, x0, a, constraint=dini.sets.Box(0.0, 0.5)).x),
        "simplex": _plain(lambda a: dini.minimize(smooth, x0, a, constraint=dini.sets.Simplex(a)).x),
        "penalty": _plain(lambda a: dini.minimize(smooth, x0, a, penalty=dini.penalties.L1(a)).x),
        "equality": _plain(lambda a: dini.minimize(smooth, x0, a, equality=equality).x),
        "split": _plain(
            lambda a: dini.minimize(smooth, x0, a, constraint=dini.sets.Simplex(), penalty=dini.penalties.L1(a)).x
        ),
        "robust": _plain(lambda a: dini.least_squares(linear, x0, a, loss=dini.losses.Huber()).x),
        "narrow": _plain(lambda a: dini.root(lambda x, a: x + 0.1 * jnp.roll(x, 1) ** 2 - a, jnp.zeros(40), a).x),
        "cone program": _plain(
            lambda a: dini.cone_program(P=eye, c=-a * jnp.ones(3), A=-jnp.eye(3), b=jnp.array([1.0, 0, 0]), cone=cone).x
        ),
        "one step": _plain(lambda a: dini.root(linear, x0, a, differentiation=dini.OneStep()).x),
        "unrolled": _plain(
            lambda a: dini.fixed_point(lambda x, a: 0.1 * linear(x, a), x0, a, differentiation=dini.Unrolled()).x
        ),
        "auto": _plain(
            lambda a: dini.fixed_point(lambda x, a: 0.1 * linear(x, a), x0, a, differentiation=dini.Auto()).x
        ),
        "handed in": _plain(
            lambda a: dini.differentiate(dini.Minimize(smooth), jnp.full(3, 0.85), a, on_failure="ignore").x
        ),
    }
    calls = _named(found)
    for name, failure in (("a warning", "warn"), ("NaN", "nan"), ("nothing", "ignore")):
        calls |= _named({name: _plain(lambda a, failure=failure: dini.minimize(smooth, x0, a, on_failure=failure).x)})
    inner, boxed = dini.Minimize(smooth), dini.Minimize(smooth, dini.sets.NonNegative())
    calls |= {
        "a batch": lambda: dini.batch_solve(inner, dini.LBFGS(), jnp.zeros((3, 3)), jnp.ones(3)),
        "a stream": lambda: dini.run_iterator(inner, dini.PolyakSGD(max_steps=2), x0, iter(stream)),
        "seconds": lambda: dini.minimize(smooth, x0, ONE, time_limit=100.0),
        "so many steps": lambda: dini.minimize(smooth, x0, ONE, steps=3),
        "a record": lambda: dini.minimize(smooth, x0, ONE, monitor=dini.Record(4)),
        "a callback": lambda: dini.minimize(smooth, x0, ONE, monitor=dini.Callback(lambda *_, **__: None)),
        "a failure": _failure,
        "a failed derivative": _failed_derivative,
        "a failure under jit": lambda: _failure(jax.jit),
        "certified": lambda: dini.certified.value_and_grad(lambda x, a: jnp.sum(x), inner, dini.BFGS(), x0, ONE),
        "one-sided": lambda: dini.one_sided_jvp(boxed, jnp.zeros(3), (0 * ONE,), (ONE,)),
        "hypergradient": lambda: dini.bilevel.value_and_hypergradient(
            lambda x, a: jnp.sum(x**2), lambda a: dini.Minimize(lambda x: smooth(x, a)), ONE, x0
        ),
        "linear": lambda: dini.linear.solve(lambda w: A @ w, jnp.ones(3)),
        "products": lambda: dini.root_vjp(linear, jnp.ones(3), (ONE,), jnp.ones(3)),
        "perturbed": lambda: dini.perturbed.Perturbed(dini.perturbed.one_hot_argmax, samples=4)(
            jax.random.key(0), jnp.arange(3.0)
        ),
    }
    return calls


def _failure(how=lambda function: function):
    """Solve what cannot be solved in so few steps."""
    short = dini.GradientDescent(max_steps=2)
    with contextlib.suppress(dini.SolveError, jax.errors.JaxRuntimeError):
        how(lambda a: dini.minimize(smooth, jnp.zeros(3), a, solver=short).x)(9.0)


def _failed_derivative():
    flat = lambda x, a: jnp.sum(x - a) ** 2
    with contextlib.suppress(dini.DerivativeError):
        jax.grad(lambda a: dini.minimize(flat, jnp.zeros(3), a).x[0])(1.0)


def sets():
    """Projections onto every set."""
    import catalogue_sets

    found = {}
    for case in catalogue_sets.CASES:
        example = case.make(4, np.random.default_rng(0))
        x = jnp.asarray(np.random.default_rng(1).standard_normal(example.shape), jnp.float32)
        found[case.name] = _together(lambda x, part=example.set: part.project(x), x)
    return found


def penalties():
    """Proximal operators of every penalty."""
    import catalogue_penalties

    found = {}
    for name, case in catalogue_penalties.CASES.items():
        part = case.make(4)
        x = jnp.asarray(np.random.default_rng(1).standard_normal(case.shape(4)), jnp.float32)
        found[name] = _together(lambda x, part=part: (part.prox(x, 0.5), part.value(x)), x)
    return found


def solvers():
    """Every solver of the battery, on its first problem."""
    import test_battery

    found, arrays = {}, lambda tree: jax.tree.map(jnp.asarray, tree, is_leaf=lambda part: isinstance(part, list))
    for check in test_battery.BATTERY:
        if check.solver.name in found:
            continue

        def solve(theta, check=check):
            problem, args = check.case.make(theta)
            return dini.solve(problem, check.solver, arrays(check.case.init), *args, on_failure="ignore").x

        found[check.solver.name] = _together(solve, arrays(check.case.theta))
    return found


def estimators():
    """What dini-learn compiles, and dini's estimates of a hypergradient."""
    import dini_learn

    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    y = X @ [1.0, -1.0, 0.0] + 0.1 * rng.standard_normal(40)
    quick = {"criterion": "holdout", "random_state": 0, "max_iter": 3}
    return {
        "ridge": lambda: dini_learn.TunedRidge(criterion="loo", penalties="features", max_iter=3).fit(X, y),
        "Huber": lambda: dini_learn.TunedHuber(**quick).fit(X, y),
        "Poisson": lambda: dini_learn.TunedPoisson(**quick).fit(X, np.round(np.exp(y / 2))),
        "quantile": lambda: dini_learn.TunedQuantile(**quick).fit(X, y),
        "support vectors": lambda: dini_learn.TunedSVC(**quick).fit(X, y > 0),
        "logistic": lambda: dini_learn.TunedLogisticRegression(**quick).fit(X, y > 0),
    }


GROUPS = {group.__name__: group for group in (first, verbs, more, sets, penalties, solvers, estimators)}


def counted(calls):
    """Return, for each call, how many programs it asked for, and how many of them were compiled."""
    asked, there = [], []
    duration, event = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: asked.append(1) if name == duration else None
    )
    jax.monitoring.register_event_listener(lambda name, **_: there.append(1) if name == event else None)
    found = {}
    for name, call in calls.items():
        before = len(asked), len(there)
        jax.block_until_ready(call())
        jax.effects_barrier()
        programs, hits = len(asked) - before[0], len(there) - before[1]
        found[name] = programs, programs - hits
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--only", default=",".join(GROUPS))
    given = parser.parse_args()
    jax.config.update("jax_disable_most_optimizations", True)
    warnings.simplefilter("ignore")
    kept = dini.keep_programs(given.folder)
    assert kept.changed, kept
    print(json.dumps({group: counted(GROUPS[group]()) for group in given.only.split(",")}))


if __name__ == "__main__":
    main()
