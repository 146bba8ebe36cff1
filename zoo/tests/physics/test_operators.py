"""Neural operators and random fields: the sums by hand, batches, bad input."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import operators, random_fields
from dini_zoo.physics.operators import DeepONet, Layers, MultiONet, Scaled, silu_id, silu_sin, tanh_sin, vanishing
from dini_zoo.physics.random_fields import (
    KarhunenLoeve,
    at_cells,
    cell_centers,
    exponential,
    squared_exponential,
    two_phase,
)

KEYS = jax.random.split(jax.random.key(0), 4)


def layers(key, inputs, depth=3, **options):
    return Layers(inputs, 6, depth, tanh_sin, key=key, **options)


def test_one_product_is_deep_onet():
    """Exact check 4: with l = 1, w = 1 and c = 0 the inner product of the last layers; at zero weights c."""
    trunk, branch = layers(KEYS[0], 2), layers(KEYS[1], 4)
    x, beta = jax.random.normal(KEYS[2], (2,)), jax.random.normal(KEYS[3], (4,))
    by_hand = trunk(x)[-1] @ branch(beta)[-1]
    for net in (
        MultiONet(trunk, branch, 1, weight=1.0, scaled=False),
        DeepONet(trunk, branch, weight=1.0, scaled=False),
    ):
        np.testing.assert_allclose(net(x, beta), by_hand, rtol=1e-14)
    zero = MultiONet(trunk, branch, 2, weight=0.0)
    assert zero(x, beta) == zero.offset == 0
    slope = jax.grad(lambda w: MultiONetWith(zero, w)(x, beta))(zero.weights)
    expected = [trunk(x)[k] @ branch(beta)[k] / (2 * np.sqrt(6)) for k in (-2, -1)]
    np.testing.assert_allclose(slope, expected, rtol=1e-14)


def MultiONetWith(net, weights):
    import equinox as eqx

    return eqx.tree_at(lambda one: one.weights, net, weights)


def test_the_grid_is_each_point_for_each_code():
    trunk, branch = layers(KEYS[0], 2), layers(KEYS[1], 4)
    x, beta = jax.random.uniform(KEYS[2], (3, 2)), jax.random.normal(KEYS[3], (2, 4))
    net = MultiONet(trunk, branch, 2)
    by_hand = [[sum(0.5 * trunk(p)[k] @ branch(b)[k] for k in (-2, -1)) / 2 / np.sqrt(6) for p in x] for b in beta]
    np.testing.assert_allclose(net.grid(x, beta), by_hand, rtol=1e-13)
    scaled = Scaled(net, 3.0, vanishing)
    np.testing.assert_allclose(scaled(x[1], beta[1]), 3 * np.prod(np.sin(np.pi * x[1])) * by_hand[1][1], rtol=1e-13)


def test_vector_outputs_pass_through_channels():
    trunk, branch = layers(KEYS[0], 2), layers(KEYS[1], 4, channels=5)
    x, beta = jax.random.uniform(KEYS[2], (3, 2)), jax.random.normal(KEYS[3], (2, 4))
    net = MultiONet(trunk, branch, 1, 2, key=jax.random.key(5))
    found = net.grid(x, beta)
    assert found.shape == (2, 3, 2)
    contracted = 0.5 / np.sqrt(6) * branch(beta[0])[-1] @ trunk(x[0])[-1]
    np.testing.assert_allclose(found[0, 0], net.last(contracted), rtol=1e-13)
    assert Scaled(net, 2.0, vanishing).grid(x, beta).shape == (2, 3, 2)


def test_activations():
    x = jnp.array([-1.3, 0.0, 0.4])
    np.testing.assert_allclose(tanh_sin(x), np.tanh(np.sin(np.pi * (x + 1))) + x)
    silu = lambda x: x / (1 + np.exp(-x))
    np.testing.assert_allclose(silu_sin(x), silu(np.sin(np.pi * (x + 1))) + x)
    np.testing.assert_allclose(silu_id(x), silu(x) + x)


def test_nets_that_do_not_fit_are_refused():
    trunk, branch = layers(KEYS[0], 2), layers(KEYS[1], 4)
    for l in (0, 3, 4):
        with pytest.raises(ValueError, match=f"num_products must be from 1 to 2, less than the layers: given {l}"):
            MultiONet(trunk, branch, l)
    with pytest.raises(ValueError, match=r"trunk and branch must be of as many layers, as wide"):
        MultiONet(trunk, layers(KEYS[1], 4, depth=4), 1)
    with pytest.raises(ValueError, match=r"out_features needs a branch with channels"):
        MultiONet(trunk, branch, 1, 2)
    with pytest.raises(ValueError, match=r"key must be that of the last map"):
        MultiONet(trunk, layers(KEYS[1], 4, channels=5), 1, 2)
    with pytest.raises(ValueError, match=r"trunk must have no channels"):
        MultiONet(layers(KEYS[0], 2, channels=2), branch, 1)
    with pytest.raises(ValueError, match=r"width must be at least 1: given 0"):
        Layers(2, 0, 3, tanh_sin, key=KEYS[0])


def test_a_random_field_has_its_covariance():
    points = jnp.linspace(0, 1, 12)
    whole = KarhunenLoeve.of(points, exponential(0.3), 12)
    covariance = np.exp(-np.abs(points[:, None] - points) / 0.3)
    np.testing.assert_allclose(whole.modes @ whole.modes.T, covariance, atol=1e-12)
    draws = whole.sample(jax.random.key(0), 20_000)
    np.testing.assert_allclose(np.cov(draws, rowvar=False), covariance, atol=0.04)
    few = KarhunenLoeve.of(points, squared_exponential(0.3), 4)
    assert few.modes.shape == (12, 4)
    assert 0.99 < few.explained < 1
    with pytest.raises(ValueError, match=r"terms must be at most the number of points, 12: given 13"):
        KarhunenLoeve.of(points, exponential(0.3), 13)
    with pytest.raises(ValueError, match=r"covariance must be positive semidefinite on the points"):
        KarhunenLoeve.of(points, lambda d: 1.0 * (d < 0.15), 3)
    with pytest.raises(ValueError, match=r"length must be positive and finite: given 0"):
        squared_exponential(0.0)


def test_a_point_has_the_value_of_its_cell():
    centers = cell_centers((3, 2))
    a = jnp.stack([jnp.arange(6.0), -jnp.arange(6.0)])
    np.testing.assert_array_equal(at_cells(a, centers, (3, 2)), a)
    corners = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.34, 0.5]])
    np.testing.assert_array_equal(at_cells(a, corners, (3, 2))[0], (0, 5, 3))
    np.testing.assert_array_equal(two_phase(jnp.array([-1.0, 2.0]), 5, 10), (5, 10))
    with pytest.raises(ValueError, match=r"shape must be that of the cells"):
        at_cells(a, corners, (2, 2))


def test_the_examples_of_the_docstrings():
    with jax.enable_x64(False):
        for module in (operators, random_fields):
            assert doctest.testmod(module, extraglobs={"jax": jax, "jnp": jnp}).failed == 0
