"""Perturbed solutions: unbiased to all orders (tested by standard errors), against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dini.perturbed import Perturbed, one_hot_argmax, ranks

THETA = np.array([0.3, -0.5, 0.9])


def assert_unbiased(estimates, want, deviations=5.0):
    """The mean of independent estimates is the truth, up to its own standard error."""
    estimates = np.asarray(estimates).reshape(len(estimates), -1)
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    gap = np.abs(estimates.mean(axis=0) - np.ravel(want))
    assert (gap <= deviations * error + 1e-12).all(), (gap / error).max()
    return error.max()


def over_keys(estimate, count=400):
    return jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(0), count))


@pytest.mark.parametrize("antithetic", [True, False])
def test_gumbel_argmax_is_the_softmax(antithetic):
    """The mean within five standard deviations that the multinomial distribution has."""
    sigma, samples = 0.7, 40_000
    soft = Perturbed(one_hot_argmax, sigma, samples, antithetic=antithetic)
    want = jax.nn.softmax(THETA / sigma)
    deviation = np.sqrt(want * (1 - want) / samples)
    assert (np.abs(soft(jax.random.key(1), THETA) - want) <= 5 * deviation).all()
    # the maximum of Gumbel variables is one again, of variance pi^2 sigma^2 / 6
    top = soft.max(jax.random.key(1), THETA)
    np.testing.assert_allclose(
        top, sigma * jax.nn.logsumexp(THETA / sigma), atol=5 * sigma * np.pi / np.sqrt(6 * samples)
    )


@pytest.mark.by_default("False")
@pytest.mark.parametrize("antithetic", [True, False])
def test_derivatives_are_unbiased(antithetic):
    """To the second order in theta and in sigma, from estimates of few samples each."""
    sigma = 0.7
    smooth = lambda theta, sigma: jax.nn.softmax(theta / sigma)

    def soft(theta, sigma, key):
        return Perturbed(one_hot_argmax, sigma, 8, antithetic=antithetic)(key, theta)

    for d in (
        lambda f: f,
        lambda f: jax.jacrev(f, 0),
        lambda f: jax.jacfwd(f, 1),
        lambda f: jax.jacfwd(jax.jacrev(f, 0), 0),
        lambda f: jax.jacfwd(jax.jacfwd(f, 1), 0),
    ):
        got = over_keys(lambda key, d=d: d(lambda t, s: soft(t, s, key))(jnp.asarray(THETA), sigma), 20_000)
        assert_unbiased(got, jax.jit(d(smooth))(THETA, sigma))


@pytest.mark.thorough
def test_smoothed_maximum():
    """Its gradient is the perturbed argmax, its Hessian the argmax's Jacobian, exactly, sample by sample."""
    soft = Perturbed(one_hot_argmax, 0.7, 8)
    key, theta = jax.random.key(3), jnp.asarray(THETA)
    gradient = jax.grad(soft.max, 1)
    for got, want in ((gradient, soft), (jax.jacfwd(gradient, 1), jax.jacfwd(soft, 1))):
        np.testing.assert_allclose(jax.jit(got)(key, theta), jax.jit(want)(key, theta), atol=1e-14)
    smooth = lambda theta, sigma: sigma * jax.nn.logsumexp(theta / sigma)
    estimate = lambda theta, sigma, key: Perturbed(one_hot_argmax, sigma, 8).max(key, theta)
    for d in (
        lambda f: f,
        lambda f: jax.grad(f, 1),
        lambda f: jax.jacfwd(jax.grad(f, 1), 1),
        lambda f: jax.jacfwd(jax.grad(f, 1), 0),
        lambda f: jax.jacfwd(jax.jacfwd(jax.grad(f))),
    ):
        got = over_keys(lambda key, d=d: d(lambda t, s: estimate(t, s, key))(jnp.asarray(THETA), 0.7), 20_000)
        assert_unbiased(got, jax.jit(d(smooth))(jnp.asarray(THETA), 0.7))


def test_gaussian_noise():
    """Of two options, the probability is that of a Gaussian difference."""
    sigma = 0.8
    estimate = lambda theta, key: Perturbed(one_hot_argmax, sigma, 8, noise="gaussian")(key, theta)[0]
    theta, scale = np.array([0.4, -0.3]), sigma * np.sqrt(2)
    assert_unbiased(over_keys(lambda key: estimate(theta, key), 20_000), scipy.stats.norm.cdf(0.7 / scale))
    slope = scipy.stats.norm.pdf(0.7 / scale) / scale
    got = over_keys(lambda key: jax.grad(estimate)(jnp.asarray(theta), key), 20_000)
    assert_unbiased(got, [slope, -slope])
    bend = -0.7 / scale**2 * slope
    got = over_keys(lambda key: jax.hessian(estimate)(jnp.asarray(theta), key), 20_000)
    assert_unbiased(got, bend * np.array([[1, -1], [-1, 1]]))


@pytest.mark.thorough
def test_variance_is_reduced():
    """Pairs and the control variate, against the plain estimator with the same number of samples."""
    fun = lambda theta: one_hot_argmax(theta) + 3.0  # an offset that the plain estimator suffers from

    def plain(key):
        z = jax.random.normal(key, (100, 3))
        y = jax.vmap(lambda z: fun(THETA + 0.7 * z))(z)
        return jnp.mean(y[:, :, None] * z[:, None, :], axis=0) / 0.7

    def spread(estimate):
        return np.asarray(over_keys(estimate)).std(axis=0).max()

    theta = jnp.asarray(THETA)
    alone, pairs = (Perturbed(fun, 0.7, 100, noise="gaussian", antithetic=a) for a in (False, True))
    for soft in (alone, pairs):
        assert spread(lambda key, soft=soft: jax.jacfwd(soft, 1)(key, theta)) < 0.3 * spread(plain)
    # pairs help what is odd in the noise: the ranks, the maximum
    alone, pairs = (Perturbed(ranks, 0.7, 100, antithetic=a) for a in (False, True))
    assert spread(lambda key: pairs(key, theta)) < 0.8 * spread(lambda key: alone(key, theta))
    assert spread(lambda key: pairs.max(key, theta)) < 0.8 * spread(lambda key: alone.max(key, theta))


@pytest.mark.thorough
def test_ranking_and_trees():
    """Ranks add up under any noise; parts of a tree are perturbed together."""
    soft = Perturbed(ranks, 0.5, 2000)
    got = soft(jax.random.key(0), jnp.asarray(THETA))
    np.testing.assert_allclose(got.sum(), 6, atol=1e-9)
    assert got[1] < got[0] < got[2]
    # two elements: rank - 1 is the logistic probability to be larger, with Gumbel noise
    pair = over_keys(lambda key: Perturbed(ranks, 0.5, 8)(key, jnp.array([0.2, 0.0])), 5000)
    assert_unbiased(pair[:, 0] - 1, jax.nn.sigmoid(0.4))

    def best(tree):
        flat = one_hot_argmax(jnp.append(tree["a"], tree["b"]))
        return {"a": flat[:2], "b": flat[2]}

    tree = {"a": jnp.asarray(THETA[:2]), "b": jnp.asarray(THETA[2])}
    got = over_keys(lambda key: Perturbed(best, 1.0, 8)(key, tree), 2000)
    assert_unbiased(np.column_stack([got["a"], got["b"]]), jax.nn.softmax(THETA))


GRID = 4


def shortest_path(costs):
    """Dynamic programming on a grid, down and right: the indicator of the cells of the cheapest path."""
    best = {}
    for i in range(GRID):
        for j in range(GRID):
            before = [best[k] for k in ((i - 1, j), (i, j - 1)) if k in best]
            here = jnp.zeros((GRID, GRID)).at[i, j].set(1)
            if not before:
                best[i, j] = (costs[i, j], here)
                continue
            value, path = before[0]
            for other_value, other_path in before[1:]:
                path = jnp.where(other_value < value, other_path, path)
                value = jnp.minimum(value, other_value)
            best[i, j] = (value + costs[i, j], path + here)
    return best[GRID - 1, GRID - 1][1]


@pytest.mark.thorough
def test_shortest_paths():
    """The smoothed path's Jacobian against differences of the smoothed path itself, by many samples."""
    costs = np.random.default_rng(0).uniform(1, 2, (GRID, GRID))
    assert not jax.jacrev(shortest_path)(jnp.asarray(costs)).any()
    negative = lambda theta: shortest_path(-theta)
    soft = Perturbed(negative, 0.3, 16, noise="gaussian")
    key = jax.random.key(0)
    assert soft.loss(key, jnp.asarray(-costs), shortest_path(costs)) >= 0
    t = np.random.default_rng(1).standard_normal((GRID, GRID))
    many = Perturbed(negative, 0.3, 100_000, noise="gaussian")
    ahead, behind = (jax.jit(many)(key, -costs + h * t) for h in (0.1, -0.1))
    want = (ahead - behind) / 0.2
    got = over_keys(lambda key: jax.jvp(lambda x: soft(key, x), (jnp.asarray(-costs),), (jnp.asarray(t),))[1], 4000)
    error = np.asarray(got).std(axis=0, ddof=1) / np.sqrt(4000)
    assert (np.abs(got.mean(axis=0) - want) <= 5 * error + 0.012).all()
    assert np.abs(want).max() > 0.15  # it does move


def test_learning_with_the_loss():
    """Gradient descent on the loss finds scores whose perturbed argmax is the target."""
    target = jnp.array([0.6, 0.3, 0.1])
    soft = Perturbed(one_hot_argmax, 1.0, 1000)
    step = jax.jit(lambda theta, key: theta - 2.0 * jax.grad(soft.loss, 1)(key, theta, target))
    theta = jnp.zeros(3)
    for key in jax.random.split(jax.random.key(0), 60):
        theta = step(theta, key)
    np.testing.assert_allclose(jax.nn.softmax(theta), target, atol=0.05)


@pytest.mark.thorough
def test_what_the_function_closes_over():
    """Its own parameters are differentiated as they stand, also in mixed derivatives."""

    def estimate(theta, weight, key):
        return Perturbed(lambda t: weight**2 * one_hot_argmax(t)[0], 1.0, 8)(key, theta)

    smooth = lambda theta, weight: weight**2 * jax.nn.softmax(theta)[0]
    got = over_keys(lambda key: jax.grad(estimate, 1)(jnp.asarray(THETA), 1.5, key), 2000)
    assert_unbiased(got, jax.grad(smooth, 1)(THETA, 1.5))
    got = over_keys(lambda key: jax.jacfwd(jax.grad(estimate, 1))(jnp.asarray(THETA), 1.5, key), 5000)
    assert_unbiased(got, jax.jacfwd(jax.grad(smooth, 1))(jnp.asarray(THETA), 1.5))

    def top(weight, key):
        return Perturbed(lambda t: weight**2 * one_hot_argmax(t), 1.0, 8).max(key, jnp.asarray(THETA))

    # the maximum over a scaled simplex
    got = over_keys(lambda key: jax.grad(top)(1.5, key), 5000)
    assert_unbiased(got, 3.0 * jax.nn.logsumexp(THETA))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_types_and_bad_input():
    soft = Perturbed(one_hot_argmax, samples=10)
    key = jax.random.key(0)
    single = jnp.asarray(THETA, jnp.float32)
    with jax.enable_x64(False):
        assert soft(key, single).dtype == jnp.float32
        assert soft.max(key, single).dtype == jnp.float32
        assert jax.jit(jax.jacrev(soft, 1))(key, single).dtype == jnp.float32
    batch = jnp.stack([jnp.asarray(THETA), 2 * jnp.asarray(THETA)])
    np.testing.assert_allclose(jax.vmap(soft, (None, 0))(key, batch)[1], soft(key, batch[1]))
    np.testing.assert_allclose(soft(key, jnp.ones(1)), [1.0])
    as_data = jax.jit(lambda soft, theta: soft(key, theta))(soft, batch[0])
    np.testing.assert_allclose(as_data, soft(key, batch[0]), atol=1e-12)
    for settings, match in [
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"samples": 5}, "must be even"),
        ({"samples": 2}, "at least 4"),
        ({"samples": 1, "antithetic": False}, "at least 2"),
        ({"noise": "uniform"}, "must be one of"),
    ]:
        with pytest.raises(ValueError, match=match):
            Perturbed(one_hot_argmax, **settings)
    with pytest.raises(ValueError, match="must be a scalar"):
        Perturbed(one_hot_argmax, jnp.ones(3), 10)(key, batch[0])
    with pytest.raises(TypeError, match="floating-point theta"):
        soft(key, jnp.arange(3))
    with pytest.raises(TypeError, match="shapes of theta"):
        Perturbed(lambda t: t[0], samples=10).max(key, batch[0])
    with pytest.raises(TypeError, match="The target must have"):
        soft.loss(key, batch[0], jnp.ones(2))


@pytest.mark.by_default("gaussian")
@pytest.mark.parametrize("noise", ["gumbel", "gaussian"])
def test_a_masked_element_is_not_there(noise):
    """An element of minus infinity, against the same with a very low one."""
    key, soft = jax.random.key(0), Perturbed(one_hot_argmax, samples=2000, noise=noise)
    masked, low = (jnp.array([1.0, last, 0.5]) for last in (-jnp.inf, -1e9))
    target = jnp.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(soft(key, masked), soft(key, low), rtol=1e-12)
    np.testing.assert_allclose(soft.max(key, masked), soft.max(key, low), rtol=1e-12)
    for fun in (soft.max, lambda key, theta: soft.loss(key, theta, target)):
        np.testing.assert_allclose(jax.grad(fun, 1)(key, masked), jax.grad(fun, 1)(key, low), atol=1e-12)
    jacobians = [jax.jacobian(soft, 1)(key, theta) for theta in (masked, low)]
    # in the masked element, which never wins, the estimate is exact
    np.testing.assert_allclose(jacobians[0][:, 1], 0)
    np.testing.assert_allclose(*(jacobian[:, ::2] for jacobian in jacobians), atol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_draws_in_single_precision(dtype):
    key, soft = jax.random.key(0), Perturbed(one_hot_argmax, samples=4000)
    theta = jnp.array([1.0, 0.0, -1.0], dtype)
    wide = theta.astype(jnp.float32)
    assert soft(key, theta).dtype == dtype
    np.testing.assert_allclose(soft(key, theta).astype(float), soft(key, wide), rtol=1e-2)
    np.testing.assert_allclose(soft.max(key, theta), soft.max(key, wide), rtol=1e-2)
    jacobians = [jax.jacobian(soft, 1)(key, t).astype(float) for t in (theta, wide)]
    np.testing.assert_allclose(*jacobians, atol=5e-3)


def test_ranks_of_nothing():
    assert Perturbed(ranks, samples=4)(jax.random.key(0), jnp.zeros(0)).shape == (0,)


def test_the_loss_has_its_derivative_in_the_target():
    key, soft = jax.random.key(0), Perturbed(one_hot_argmax, samples=10)
    theta, target = jnp.array([1.0, -0.5, 0.3]), jnp.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(jax.grad(soft.loss, 2)(key, theta, target), -theta, rtol=1e-12)


def test_what_is_not_a_number_stays_visible():
    key, soft = jax.random.key(0), Perturbed(one_hot_argmax, samples=10)
    theta = jnp.array([1.0, jnp.nan, 0.5])
    assert np.all(np.isnan(soft(key, theta)))
    assert np.isnan(soft.max(key, theta))
    assert np.all(np.isnan(jax.grad(soft.max, 1)(key, theta)))


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_a_traced_size_of_the_noise_that_is_not_positive_gives_nan(sigma):
    key, theta = jax.random.key(0), jnp.asarray(THETA)
    soft = lambda sigma: Perturbed(one_hot_argmax, sigma, 10)
    assert np.isnan(jax.jit(lambda s: soft(s)(key, theta))(sigma)).all()
    assert np.isnan(jax.jit(lambda s: soft(s).max(key, theta))(sigma))
    assert np.isnan(jax.jit(lambda s: soft(s).loss(key, theta, jnp.ones(3)))(sigma))


@pytest.mark.thorough
@pytest.mark.parametrize("noise", ["gumbel", "gaussian"])
def test_the_loss_of_an_infinite_element_is_the_limit(noise):
    """The maximizer is the unit vector: no loss beside it, and an infinite one beside any other target."""
    key, soft = jax.random.key(0), Perturbed(one_hot_argmax, samples=100, noise=noise)
    for theta in (jnp.array([0.5, jnp.inf, -1.0]), jnp.array([-jnp.inf, jnp.inf, 2.0])):
        for target, want in (([0.0, 1.0, 0.0], 0.0), ([1.0, 0.0, 0.0], np.inf), ([0.5, 0.5, 0.0], np.inf)):
            value, slope = jax.jit(jax.value_and_grad(soft.loss, 1))(key, theta, jnp.array(target))
            np.testing.assert_allclose(value, want, atol=1e-12)
            np.testing.assert_allclose(slope, np.array([0.0, 1.0, 0.0]) - target, atol=1e-12)
    # in a tree, and of several, which have no limit
    tree = Perturbed(lambda u: {"a": one_hot_argmax(jnp.append(u["a"], u["b"]))[:2], "b": jnp.zeros(())}, samples=10)
    theta, target = (
        {"a": jnp.array([jnp.inf, 0.0]), "b": jnp.zeros(())},
        {"a": jnp.array([1.0, 0.0]), "b": jnp.zeros(())},
    )
    np.testing.assert_allclose(tree.loss(key, theta, target), 0, atol=1e-12)
    assert np.isnan(soft.loss(key, jnp.array([jnp.inf, jnp.inf, 0.0]), jnp.array([1.0, 0.0, 0.0])))
