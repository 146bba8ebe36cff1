"""Solves of sharded data, compared with the same solves on one device: run by `test_scale.py` in fresh processes.

python tests/scale_program.py NAME              on eight virtual devices
python tests/scale_program.py NAME PORT NUMBER  as one of two processes with four devices each
"""

import os
import re
import sys

if __name__ == "__main__":
    count = 8 if len(sys.argv) == 2 else 4
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={count} --xla_cpu_multi_thread_eigen=false "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600 --xla_cpu_collective_timeout_seconds=600"
    )

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dini

SAMPLES, FEATURES = 1024, 6
SPLIT = PartitionSpec("data")


def data():
    """The design matrix and the labels of a regression."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((SAMPLES, FEATURES))
    return X, np.sign(X @ rng.standard_normal(FEATURES) + rng.standard_normal(SAMPLES))


def logistic(w, t, X, y):
    return jnp.mean(jax.nn.softplus(-y * (X @ w))) + 0.5 * jnp.exp(t) * w @ w


def squares(w, X, y):
    return 0.5 * jnp.mean((X @ w - y) ** 2)


def residuals(w, t, X, y):
    return (jnp.tanh(X @ w + t) - y) / np.sqrt(SAMPLES)


def two_residuals(w, t, X, y):
    return residuals(w, 0.0, X, y), jnp.exp(t) * w


START = np.zeros(FEATURES)
SOLVES = {
    "default": lambda t, X, y: dini.minimize(logistic, START, t, X, y),
    "newton": lambda t, X, y: dini.minimize(logistic, START, t, X, y, solver=dini.Newton()),
    "lbfgs": lambda t, X, y: dini.minimize(logistic, START, t, X, y, solver=dini.LBFGS()),
    "lasso": lambda t, X, y: dini.minimize(squares, START, X, y, penalty=dini.penalties.L1(jnp.exp(t))),
    "least_squares": lambda t, X, y: dini.least_squares(residuals, START, t, X, y),
    "gathers": lambda t, X, y: dini.least_squares(two_residuals, START, t, X, y),
}


def gathered(text):
    """The most numbers that an operation of a compiled program collects from other devices."""
    moved = r" (?:all-gather|all-to-all|collective-permute)(?:-start)?\("
    lines = [line[: found.start()] for line in text.splitlines() if (found := re.search(moved, line))]
    shapes = [shape for line in lines for shape in re.findall(r"\w\d+\[([\d,]*)\]", line)]
    return max((int(np.prod([int(k) for k in shape.split(",") if k] or [1])) for shape in shapes), default=0)


def same(name, kind):
    """A solve of split data has the solution and the derivative of the whole, and gathers nothing of their size."""
    X, y = data()

    def loss(t, X, y):
        x = SOLVES[name](t, X, y).x
        return jnp.sum(jnp.sin(x)), x

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, want), slope = both(-2.0, X, y)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        split = [
            jax.make_array_from_process_local_data(NamedSharding(mesh, SPLIT), mine(array), array.shape)
            for array in (X, y)
        ]
        program = both.lower(-2.0, *split).compile()
        (_, got), by = program(-2.0, *split)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-10 if name != "lasso" else 1e-8)
    np.testing.assert_allclose(np.asarray(by), slope, rtol=1e-10 if name != "lasso" else 1e-8)
    return gathered(program.as_text())


def mine(array):
    """The part of an array that this process has."""
    share = array.shape[0] // jax.process_count()
    return array[jax.process_index() * share : (jax.process_index() + 1) * share]


class Averaged:
    """The objective of all devices, where each sees its own part of the data."""

    def __call__(self, w, t, X, y):
        return jax.lax.pmean(logistic(w, t, X, y), "data")

    def value_and_gradient(self, w, t, X, y):
        return jax.lax.pmean(jax.value_and_grad(logistic)(w, t, X, y), "data")


def by_hand():
    """Loops in `shard_map` and `pmap` end where the solve of the whole does."""
    X, y = data()
    want = dini.minimize(logistic, START, -2.0, X, y, solver=dini.LBFGS(rtol=1e-12)).x
    problem, solver = dini.Minimize(Averaged()), dini.LBFGS()

    def loop(X, y):
        start = START, solver.init(problem, START, -2.0, X, y)
        return jax.lax.fori_loop(0, 25, lambda _, now: solver.step(problem, *now, -2.0, X, y), start)[0]

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    there = jax.shard_map(loop, mesh=mesh, in_specs=SPLIT, out_specs=PartitionSpec(), check_vma=False)
    np.testing.assert_allclose(jax.jit(there)(X, y), want, atol=1e-9)
    parts = X.reshape(8, -1, FEATURES), y.reshape(8, -1)
    for x in jax.pmap(loop, axis_name="data")(*parts):
        np.testing.assert_allclose(x, want, atol=1e-9)


def refused():
    """What explicit axes cannot have is said in words, and automatic ones run it."""
    X, y = data()
    solve = lambda t, X, y: dini.least_squares(two_residuals, START, t, X, y).x
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    split = [jax.device_put(array, NamedSharding(mesh, SPLIT)) for array in (X, y)]
    with jax.set_mesh(mesh), pytest.raises(TypeError, match="Make the axes automatic"):
        solve(-2.0, *split)


def main(name, port=None, number=None):
    if port is not None:
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    if name == "by_hand":
        by_hand()
    elif name == "refused":
        refused()
    else:
        solve, _, kind = name.partition(":")
        print("gathered", same(solve, AxisType.Explicit if kind else AxisType.Auto))


if __name__ == "__main__":
    main(*sys.argv[1:])
