"""What systems of this field say of several devices, in one process that has four."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P
from dini_zoo.optimizers.adadagrad import across, adagrad_norm, directional_moments, gradient_moments, norm_test
from dini_zoo.optimizers.diffgrad import diffgrad
from dini_zoo.optimizers.lanczos import lanczos
from dini_zoo.optimizers.schedule_refinement import record_grad_norm, recorded_grad_norms

mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
place = NamedSharding(mesh, P("x"))


def two_updates(optimizer, x):
    state = optimizer.init(x)
    for t in range(2):
        change, state = jax.jit(optimizer.update)(x + t, state)
    return change, state


# the state of diffGrad lies where the parameters do, and makes the same updates
numbers = jnp.arange(8.0)
spread = jax.device_put(numbers, place)
change, state = two_updates(diffgrad(0.1), spread)
for leaf in (change, state[0].mu, state[0].nu, state[0].prev_grad):
    assert leaf.sharding.is_equivalent_to(place, 1), leaf.sharding
np.testing.assert_allclose(change, two_updates(diffgrad(0.1), numbers)[0], rtol=1e-6)

# norms are those of the whole gradient
for order in (1, 2):
    norms = recorded_grad_norms(two_updates(record_grad_norm(order, size=2), spread)[1])
    np.testing.assert_allclose(norms, [np.linalg.norm(numbers + t, order) for t in range(2)], rtol=1e-6)

# AdaGrad-Norm and Lanczos' method with vectors that are spread, and with vectors that are not
operator = lambda x: jax.jit(lambda x: lanczos(lambda v: (1 + x) * v, x, 3).alphas)(x)
for same in (lambda x: two_updates(adagrad_norm(0.1), x)[0], operator):
    np.testing.assert_allclose(same(spread), same(numbers), rtol=1e-5)

# moments of single examples' gradients are pooled exactly; where shard_map checks, JAX sums derivatives with respect to
# what is the same on all devices, and would do so with those of single examples
points = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
loss = lambda w, x: 0.5 * jnp.sum((w - x) ** 2)


def sizes(w, x, micro_batch=None, pool=lambda found: found):
    found = pool(gradient_moments(loss, w, x, micro_batch=micro_batch)[0])
    along = pool(directional_moments(loss, w, x, found.direction, micro_batch=micro_batch))
    return norm_test(found, 0.5), along.total_variance


expected = sizes(jnp.zeros(4), points)
for check, micro_batch in ((True, None), (True, 2), (False, 2)):
    own = lambda w, x: sizes(w, x, micro_batch, lambda found: across(found, "x"))
    pooled = jax.shard_map(own, mesh=mesh, in_specs=(P(), P("x")), out_specs=P(), check_vma=check)
    np.testing.assert_allclose(jax.jit(pooled)(jnp.zeros(4), points), expected, rtol=1e-5)
"""


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_states_and_norms_over_devices():
    flags = "--xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment)
