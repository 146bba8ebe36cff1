"""Low-rank adapters: the start is the module, only they are trained, and merged they are the module that they say."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.kit import adapters
from dini_zoo.kit.training import Trainer


@pytest.fixture
def mlp():
    return eqx.nn.MLP(5, 3, 4, 2, key=jax.random.key(0))


def test_the_start_is_the_module_and_only_adapters_have_a_derivative(mlp):
    made = adapters.init(jax.random.key(1), mlp, 2)
    x = jax.random.normal(jax.random.key(2), (5,))
    np.testing.assert_array_equal(adapters.apply(mlp, made)(x), mlp(x))

    @eqx.filter_jit
    def slopes(both):
        return eqx.filter_grad(lambda both: jnp.sum(adapters.apply(*both)(x) ** 2))(both)

    of_module, of_adapters = slopes((mlp, made))
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(of_module))
    # B is zero, so that A has no slope yet; B has one
    for layer in of_adapters.layers:
        assert jnp.all(layer.weight.down == 0)
        assert jnp.any(layer.weight.up != 0)
        assert layer.bias is None


def test_merged_weights_are_the_sum(mlp):
    made = adapters.init(jax.random.key(1), mlp, 2, std=0.5)
    made = jax.tree.map(lambda leaf: leaf + jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), made)
    merged = adapters.merge(mlp, made, 0.5)
    for layer, whole, adapter in zip(mlp.layers, merged.layers, made.layers, strict=True):
        product = np.asarray(adapter.weight.up) @ np.asarray(adapter.weight.down)
        np.testing.assert_allclose(whole.weight, layer.weight + 0.5 * product, rtol=1e-12)
        assert np.linalg.matrix_rank(np.asarray(whole.weight - layer.weight)) == 2
        np.testing.assert_array_equal(whole.bias, layer.bias)
    x = jnp.ones(5)
    np.testing.assert_array_equal(merged(x), adapters.apply(mlp, made, 0.5)(x))


def test_the_first_factor_has_its_variance():
    layer = eqx.nn.Linear(400, 300, key=jax.random.key(0))
    down = adapters.init(jax.random.key(1), layer, 8).weight.down
    assert abs(np.std(down) * 8 - 1) < 0.05


def test_a_trainer_takes_adapters_and_averages_them(mlp):
    """A map of rank one away from the module is found, by the module's frozen weights and a trainer of any model."""
    x = jax.random.normal(jax.random.key(3), (64, 5))
    layer = eqx.nn.Linear(5, 3, use_bias=False, key=jax.random.key(0))
    target = layer.weight + jnp.outer(jnp.arange(1.0, 4.0), jnp.ones(5)) / 3

    def loss(made, x, key):
        return jnp.mean((jax.vmap(adapters.apply(layer, made))(x) - x @ target.T) ** 2)

    trainer = Trainer(loss, optax.adam(0.05), steps=600, average=0.9)
    course = trainer(adapters.init(jax.random.key(1), layer, 1), x, key=jax.random.key(2))
    np.testing.assert_allclose(adapters.merge(layer, course.average).weight, target, atol=1e-3)


def test_what_is_refused(mlp):
    key = jax.random.key(0)
    for rank, message in (
        (0, "rank must be at least 1"),
        (4, r"rank must be at most 3, .*layers\[2\].weight: given 4"),
    ):
        with pytest.raises(ValueError, match=message):
            adapters.init(key, mlp, rank)
    with pytest.raises(ValueError, match="No leaf of the module"):
        adapters.init(key, mlp, 1, where=lambda leaf: False)
    with pytest.raises(ValueError, match=r"needs a matrix of floats: .*bias is \(4,\)"):
        adapters.init(key, mlp, 1, where=lambda leaf: eqx.is_array(leaf) and leaf.ndim == 1)
    with pytest.raises(ValueError, match="a module of another form"):
        adapters.merge(eqx.nn.MLP(6, 3, 4, 2, key=key), adapters.init(key, mlp, 1))
    made = adapters.init(key, {"W": jnp.ones((3, 2))}, 1)
    with pytest.raises(ValueError, match=r"An adapter of \(3, 2\) does not fit what the module has: \(3, 1\)"):
        adapters.merge({"W": jnp.ones((3, 1))}, made)


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(adapters).failed == 0
