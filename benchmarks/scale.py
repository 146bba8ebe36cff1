"""A logistic regression on split data and in low precision, on whatever devices there are.

    python benchmarks/scale.py [--samples 262144] [--features 64] [--repeat 5]

On a CPU, `XLA_FLAGS=--xla_force_host_platform_device_count=8` makes eight devices of it, which share its cores: then
the times say what splitting costs, not what it saves. For each way the table has the first call (with compilation), the
median of the others, the largest error of the solution beside a solve in float64 on one device, and that of its
derivative in the strength of the penalty.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dini


def made(samples, features):
    """The design matrix and labels, in float64."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, features))
    return X, np.sign(X @ rng.standard_normal(features) + rng.standard_normal(samples))


def objective(dtype):
    """Return the loss whose products of the data are computed in `dtype`, and its sums in the precision of `w`."""

    def loss(w, t, X, y):
        scores = (X @ w.astype(dtype)).astype(w.dtype)
        return jnp.mean(jax.nn.softplus(-y * scores)) + 0.5 * jnp.exp(t) * w @ w

    return loss


def solve(dtype, rtol=None):
    """Return the solution as a function of the strength and the data, in one stage."""
    solver = dini.LBFGS() if rtol is None else dini.LBFGS(rtol=rtol)
    return lambda t, X, y: dini.minimize(objective(dtype), jnp.zeros(X.shape[1]), t, X, y, solver=solver).x


def two_stages(t, X, y):
    """Return the solution of float64, begun at that of float32."""
    rough = solve(jnp.float32, 1e-3)(t, X.astype(jnp.float32), y)
    return dini.minimize(objective(jnp.float64), rough, t, X, y, solver=dini.LBFGS()).x


def timed(run, repeat):
    """Return what `run()` gives, the seconds of its first call, and the median of the others."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        found = jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return found, times[0], statistics.median(times[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2**18)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    X, y = made(given.samples, given.features)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    split = NamedSharding(mesh, PartitionSpec("data"))
    ways = [
        ("float64, one device", solve(jnp.float64), jnp.float64, one),
        ("float64, split", solve(jnp.float64), jnp.float64, split),
        ("float32, split", solve(jnp.float32, 1e-3), jnp.float32, split),
        ("bfloat16, split", solve(jnp.bfloat16, 0.1), jnp.bfloat16, split),
        ("float32, then float64, split", two_stages, jnp.float64, split),
    ]
    print(f"{jax.device_count()} devices: {jax.devices()[0].device_kind}; {given.samples} x {given.features}\n")
    print("| way | first call, s | value and derivative, ms | error of x | of its derivative |")
    print("| :-- | --: | --: | --: | --: |")
    truth = None
    for name, way, dtype, where in ways:
        data = jax.device_put(X.astype(dtype), where), jax.device_put(y, where)
        both = jax.jit(lambda t, X, y, way=way: (way(t, X, y), jax.jacfwd(way)(t, X, y)))
        found, first, later = timed(lambda both=both, data=data: both(-2.0, *data), given.repeat)
        truth = truth or found
        errors = [float(jnp.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(found, truth, strict=True)]
        print(f"| {name} | {first:.2f} | {1e3 * later:.1f} | {errors[0]:.1e} | {errors[1]:.1e} |", flush=True)


if __name__ == "__main__":
    main()
