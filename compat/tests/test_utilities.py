"""JAXopt's trees, loop, isotonic regression and perturbed optimizers: NumPy's results and known means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.isotonic

from dini.perturbed import Perturbed
from dini_jaxopt import isotonic, perturbations
from dini_jaxopt import tree_util as tu
from dini_jaxopt.cond import cond
from dini_jaxopt.loop import while_loop

RNG = np.random.default_rng(0)
U = {"a": RNG.normal(size=3), "b": [RNG.normal(size=(2, 2)), np.float64(0.5)]}
V = jax.tree.map(lambda leaf: leaf + RNG.normal(size=np.shape(leaf)), U)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_arithmetic_of_trees():
    u, v = flat(U), flat(V)
    for name, expected in {"add": u + v, "sub": u - v, "mul": u * v, "div": u / v}.items():
        np.testing.assert_allclose(flat(getattr(tu, f"tree_{name}")(U, V)), expected, rtol=1e-15)
    np.testing.assert_allclose(flat(tu.tree_scalar_mul(2.0, U)), 2 * u)
    np.testing.assert_allclose(flat(tu.tree_add_scalar_mul(U, 0.5, V)), u + 0.5 * v)
    np.testing.assert_allclose(flat(tu.tree_negative(U)), -u)
    np.testing.assert_allclose(tu.tree_vdot(U, V), u @ v)
    np.testing.assert_allclose(tu.tree_sum(U), u.sum())
    np.testing.assert_allclose(tu.tree_l2_norm(U), np.linalg.norm(u))
    np.testing.assert_allclose(tu.tree_l2_norm(U, squared=True), u @ u)
    np.testing.assert_allclose(tu.tree_inf_norm(U), abs(u).max())
    assert tu.tree_inf_norm([jnp.array([-3.0, 2.0]), jnp.zeros((0, 2))]) == 3
    assert tu.tree_inf_norm(jnp.zeros(0)) == 0
    assert np.all(flat(tu.tree_zeros_like(U)) == 0)
    assert np.all(flat(tu.tree_ones_like(U)) == 1)
    assert np.all(flat(jax.grad(tu.tree_l2_norm)(tu.tree_zeros_like(U))) == 0)


def test_complex_trees():
    z, w = jnp.array([1 + 2j, 3j]), jnp.array([2 - 1j, 1.0])
    np.testing.assert_allclose(tu.tree_vdot([z], [w]), np.vdot(z, w))
    np.testing.assert_allclose(tu.tree_vdot_real([z], [w]), np.vdot(z, w).real)
    np.testing.assert_allclose(tu.tree_l2_norm([z]), np.sqrt(14))
    np.testing.assert_allclose(tu.tree_conj([z])[0] + tu.tree_imag([z])[0] * 1j, tu.tree_real([z])[0])


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((2, 3), (3, 4)), ((3,), (3,)), ((), (3,)), ((2, 3, 4), (5, 4, 2))])
def test_products_of_leaves_are_those_of_numpy(shapes):
    x, y = (RNG.normal(size=shape) for shape in shapes)
    np.testing.assert_allclose(tu.tree_dot([x], [y])[0], np.dot(x, y), rtol=1e-12, atol=1e-14)


def test_leaves_are_spread_over_trees():
    chosen = tu.tree_where({"a": True, "b": jnp.array([True, False])}, {"a": 1.0, "b": jnp.ones(2)}, 0.0)
    assert chosen["a"] == 1
    np.testing.assert_array_equal(chosen["b"], [1, 0])
    assert tu.broadcast_pytrees(1, 2) == (1, 2)
    with pytest.raises(ValueError, match="one structure"):
        tu.broadcast_pytrees({"a": 1}, [1], 2)


@pytest.mark.parametrize(("unroll", "jit"), [(True, True), (True, False), (False, True)])
def test_loops(unroll, jit):
    def power(x, times):
        return while_loop(lambda v: v < 100, lambda v: x * v, 1.0, times, unroll=unroll, jit=jit)

    assert power(2.0, 20) == 128
    assert power(2.0, 3) == 8
    assert power(2.0, 0) == 1
    if unroll:
        assert jax.grad(power)(2.0, 20) == 7 * 2**6


def test_a_loop_that_is_neither():
    with pytest.raises(ValueError, match="unroll=True or jit=True"):
        while_loop(lambda v: v < 3, lambda v: v + 1, 0, 5)
    assert cond(False, lambda x: x, lambda x: -x, 2.0) == -2


@pytest.mark.parametrize("increasing", [True, False])
def test_isotonic_regression(increasing):
    y = RNG.normal(size=30) + np.linspace(0, 1, 30)
    fun = jax.jit(lambda y: isotonic.isotonic_l2_pav(y, -0.2, 0.8, increasing=increasing))
    expected = sklearn.isotonic.isotonic_regression(y, y_min=-0.2, y_max=0.8, increasing=increasing)
    np.testing.assert_allclose(fun(y), expected, atol=1e-12)
    # on a block that no bound cuts, the derivative is that of the mean
    J = jax.jacobian(fun)(y)
    inside = (expected > -0.2) & (expected < 0.8)
    np.testing.assert_allclose(J.sum(1), inside, atol=1e-12)


def one_hot(x):
    return jax.nn.one_hot(jnp.argmax(x), x.shape[0], dtype=x.dtype)


def test_perturbed_optimizers_of_gumbel_noise_are_known():
    """The argmax is the softmax, the maximum the log of the sum of exponentials plus Euler's constant."""
    x, sigma, key = jnp.array([0.3, -0.2, 0.6, 0.0]), 0.5, jax.random.key(1)
    n = 20_000
    soft = perturbations.make_perturbed_argmax(one_hot, n, sigma)
    top = perturbations.make_perturbed_max(one_hot, n, sigma)
    smooth = perturbations.make_perturbed_fun(lambda x: jnp.vdot(one_hot(x), jnp.arange(4.0)), n, sigma)
    value = lambda x: sigma * (jax.nn.logsumexp(x / sigma) + np.euler_gamma)
    p = jax.nn.softmax(x / sigma)
    many = jax.jit(
        lambda x: (soft(x, key), top(x, key), smooth(x, key), jax.jacobian(soft)(x, key), jax.grad(top)(x, key))
    )
    estimate = many(x)
    exact = (p, value(x), p @ jnp.arange(4.0), jax.jacobian(lambda x: jax.nn.softmax(x / sigma))(x), p)
    for ours, truth, slack in zip(estimate, exact, (0.015, 0.02, 0.04, 0.06, 0.015), strict=True):
        np.testing.assert_allclose(ours, truth, atol=slack)
    np.testing.assert_allclose(estimate[4], estimate[0], atol=1e-12)  # of one draw, exactly


def test_draws_are_those_of_the_key():
    """JAXopt's value for a key: the mean over `jax.random.gumbel(key, (samples, *shape))`."""
    x, key = jnp.array([0.3, -0.2, 0.6]), jax.random.key(3)
    for noise, draw in ((perturbations.Gumbel(), jax.random.gumbel), (perturbations.Normal(), jax.random.normal)):
        points = x[None] + 0.5 * draw(key, (50, 3))
        fun = perturbations.make_perturbed_fun(lambda x: jnp.sort(x) ** 2, 50, 0.5, noise)
        np.testing.assert_allclose(fun(x, key), np.mean(np.sort(points) ** 2, axis=0), rtol=1e-13)


def test_keys_in_a_batch():
    keys, x = jax.random.split(jax.random.key(0), 3), jnp.asarray(RNG.normal(size=(3, 4)))
    soft = perturbations.make_perturbed_argmax(one_hot, 100)
    together = jax.vmap(soft)(x, keys)
    np.testing.assert_allclose(together, [soft(*pair) for pair in zip(x, keys, strict=True)])


class Laplace:
    """Noise of a user's own."""

    def sample(self, seed, sample_shape):
        return jax.random.laplace(seed, sample_shape)

    def log_prob(self, inputs):
        return -jnp.abs(inputs)


def test_noise_of_a_users_own():
    """The derivative of the mean of a step is the density of the noise."""
    step = perturbations.make_perturbed_fun(lambda x: jnp.where(x > 0, 1.0, 0.0), 50_000, 1.0, Laplace())
    slope = jax.grad(step)(jnp.asarray(0.7), jax.random.key(0))
    np.testing.assert_allclose(slope, 0.5 * np.exp(-0.7), atol=0.01)
    with pytest.raises(ValueError, match="antithetic=False"):
        Perturbed(one_hot, noise=Laplace())
    with pytest.raises(ValueError, match="noise"):
        perturbations.make_perturbed_argmax(one_hot, noise="cauchy")
