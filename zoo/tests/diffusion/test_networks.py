"""Networks: both forms of a time, conditions, the U-Net's neighborhoods against a convolution."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.diffusion import unet
from dini_zoo.diffusion.chain_sampling import chain_loss, chain_sample
from dini_zoo.diffusion.chains import Chain, linear_betas, spaced
from dini_zoo.diffusion.networks import StepNetwork, Timed, step_features
from dini_zoo.diffusion.unet import Affine, UNet, doubled, halved, neighborhoods


def moved(module):
    """With other weights, as the last layers are zero at first."""
    leaves, structure = jax.tree.flatten(module)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    return jax.tree.unflatten(
        structure, [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    )


def test_step_features():
    """sin and cos of t 10^(-4k/16), as DiffuseVAE's specification has them."""
    k = np.arange(16)
    expected = 137 * 10 ** (-4 * k / 16)
    np.testing.assert_allclose(step_features(137, 32), np.append(np.sin(expected), np.cos(expected)), atol=1e-9)


def test_a_time_for_all_and_a_time_each_agree():
    x, image = jnp.ones((4, 3)), jax.random.normal(jax.random.key(0), (4, 2, 2, 1))
    mlp = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(1))
    each = lambda x, t: x * t[:, None]
    for network, given in (
        (moved(StepNetwork(3, width=8, key=jax.random.key(2))), x),
        (moved(UNet(1, widths=(2,), key=jax.random.key(3))), image),
        (Timed(lambda x, t: mlp(jnp.append(x, t)), single=True), x),
        (Timed(each), x),
    ):
        one, many = jax.jit(lambda x, network=network: (network(x, 5), network(x, jnp.full(4, 5))))(given)
        np.testing.assert_allclose(one, many, rtol=1e-12)
        assert one.shape == given.shape
    # the loss calls with a time each, the sampler with a number
    chain = Chain.of_betas(linear_betas(20))
    with pytest.raises(IndexError):
        chain_sample(None, x, chain, each, predicts="noise")
    assert chain_sample(None, x, chain.respaced(spaced(20, 4)), Timed(each), predicts="noise").shape == x.shape
    assert chain_loss(Timed(each), chain, x, jax.random.key(0)) > 0
    with pytest.raises(ValueError, match="t must be a number, or one for each of the 4 points"):
        Timed(each)(x, jnp.ones(3))


def test_conditions_of_a_step_network():
    network, x = moved(StepNetwork(3, condition=2, width=8, key=jax.random.key(0))), jnp.ones((4, 3))
    np.testing.assert_array_equal(network(x, 5), network(x, 5, jnp.zeros((4, 2))))
    assert np.all(network(x, 5) != network(x, 5, jnp.ones(2)))
    assert len(network.layers) == 4
    with pytest.raises(ValueError, match="condition must have 2 numbers a point"):
        network(x, 5, jnp.ones((4, 3)))


def test_neighborhoods_are_a_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    layer = eqx.tree_at(lambda one: one.weight, Affine(27, 5), kernel.reshape(27, 5).T)
    convolution = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(layer(neighborhoods(x)), convolution, atol=1e-12)
    np.testing.assert_array_equal(doubled(halved(x)), x)
    np.testing.assert_array_equal(halved(x)[0, 1, 2], x[0, 2:4, 4:6].reshape(-1))


def test_the_unet():
    """Zero at first; then each image is told its own condition, context and time, and nothing of the others."""
    fresh = UNet(1, widths=(3, 4), condition=1, context=3, outputs=2, key=jax.random.key(0))
    x, beside = jax.random.normal(jax.random.key(1), (2, 3, 4, 4, 1))
    context, t = jnp.eye(3), jnp.array([3, 50, 900])
    program = jax.jit(lambda network, *given: network(*given))
    assert np.all(program(fresh, x, t, beside, context) == 0)
    network = moved(fresh)
    whole = program(network, x, t, beside, context)
    assert whole.shape == (3, 4, 4, 2)
    given = (x, t, beside, context)
    others = [one.at[1:].set(0) for one in given]
    np.testing.assert_allclose(program(network, *others)[0], whole[0], atol=1e-10)
    for i in range(4):
        changed = [one.at[0].add(1) if i == k else one for k, one in enumerate(given)]
        assert np.any(np.abs(program(network, *changed)[0] - whole[0]) > 1e-3)
    # no convolution is in it
    assert "conv_general" not in str(jax.make_jaxpr(lambda x: fresh(x, 5))(x))
    for wrong in (jnp.ones((3, 5, 8, 1)), jnp.ones((3, 64))):
        with pytest.raises(ValueError, match=r"multiples of 2|must have the shape"):
            fresh(wrong, 5)
    with pytest.raises(ValueError, match=r"context \(3, 3\): given .* \(3, 2\)"):
        fresh(x, 5, beside, context[:, :2])


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(unet).failed == 0
