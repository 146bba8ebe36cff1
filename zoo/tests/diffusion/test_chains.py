"""Chains and their samplers, without a network: exact checks of DiffuseVAE's specification, inversion, refusals."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini_zoo.diffusion import chain_sampling, chains
from dini_zoo.diffusion.chain_sampling import chain_invert, chain_loss, chain_sample
from dini_zoo.diffusion.chains import Chain, cosine_betas, linear_betas, scaled_linear_betas, spaced
from dini_zoo.diffusion.processes import VPSDE, SubVPSDE


@pytest.fixture(scope="module")
def chain():
    with jax.enable_x64(True):
        return Chain.of_betas(linear_betas(1000))


def test_the_schedule_has_the_specified_figures(chain):
    assert abs(chain.alpha_bar[999] / 4.0358298e-5 - 1) < 1e-8
    assert abs(chain.alpha_bar[500] - 0.0777966584) < 1e-10
    for i, c1, c2 in ((500, 0.0030580571, 0.9941043508), (1, 0.5452914995, 0.4547084990)):
        np.testing.assert_allclose(chain.posterior(i), (c1, c2), atol=1e-10)
    assert abs(1 - chain.posterior(500)[1] - 0.0058956492) < 1e-10
    assert abs(chain.posterior_std(500) ** 2 - 0.0100513358) < 1e-10
    # the first step leads to the data, which are known then
    np.testing.assert_allclose(chain.posterior(0), (1.0, 0.0), atol=1e-15)
    ends = {linear_betas: (1e-4, 0.02), scaled_linear_betas: (0.00085, 0.012)}
    for betas, (first, last) in ends.items():
        np.testing.assert_allclose(betas(7)[[0, -1]], (first, last), rtol=1e-12)
    level = np.cumprod(1 - cosine_betas(50))
    expected = np.cos((np.arange(51) / 50 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(level[:-1], (expected[1:] / expected[0])[:-1], rtol=1e-12)
    assert cosine_betas(50)[-1] == 0.999


def test_the_root_hides_no_number_that_is_none():
    x = jnp.array([-1.0, 0.0, 4.0, jnp.nan])
    np.testing.assert_array_equal(chains.root(x), (0.0, 0.0, 2.0, np.nan))
    np.testing.assert_array_equal(jax.vmap(jax.grad(chains.root))(x[:3]), (0.0, 0.0, 0.25))


def test_noise_of_a_step(chain):
    i = jnp.arange(4)
    small, large = chain.noise_std(i), chain.noise_std(i, large=True)
    np.testing.assert_allclose(small[1:], chain.posterior_std(i)[1:])
    np.testing.assert_allclose(large[1:] ** 2, chain.betas[1:4])
    assert small[0] == large[0] == 0
    for kind in (False, True):
        np.testing.assert_allclose(chain.noise_std(i, 0.5, large=kind, last=True)[0], 0.5 * chain.posterior_std(1))
    # the last steps of the heads of continuous speculative decoding
    for betas, figure in ((linear_betas(10, 0.02, 0.5), 0.1264), (cosine_betas(6), 0.2365), (cosine_betas(10), 0.144)):
        assert abs(Chain.of_betas(betas).noise_std(0, last=True) - figure) < 5e-4
    with pytest.raises(ValueError, match="the chain has one step alone"):
        Chain([0.5]).noise_std(0, last=True)


def test_spaced():
    quad = [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    np.testing.assert_array_equal(spaced(1000, 10, "quad"), quad)
    assert [len(spaced(1000, n, "quad")) for n in (50, 100)] == [49, 96]
    np.testing.assert_array_equal(spaced(1000, 10), np.arange(0, 1000, 100))
    np.testing.assert_array_equal(spaced(1000, 7), 143 * np.arange(7))
    for wrong in ((1000, 501), (1000, 0), (10, 11)):
        with pytest.raises(ValueError, match="count must"):
            spaced(*wrong)
    with pytest.raises(ValueError, match="the stride 2 gives 500 steps, and 1 gives 1000"):
        spaced(1000, 501)
    with pytest.raises(ValueError, match="kind must be one of"):
        spaced(10, 5, "cubic")


@pytest.mark.parametrize("length", [1, 12, 97])
def test_spaced_has_the_least_stride_that_gives_as_many_steps_or_says_that_none_does(length):
    for count in range(1, length + 1):
        strides = [s for s in range(1, length + 1) if len(range(0, length, s)) == count]
        if strides:
            np.testing.assert_array_equal(spaced(length, count), range(0, length, strides[0]))
        else:
            with pytest.raises(ValueError, match="that a whole stride gives"):
                spaced(length, count)


def exact_noise(chain):
    """Of normal data N(0.3, 0.2²), called with the original step."""

    def noise(x, t):
        level = chain.alpha_bar[t]
        return jnp.sqrt(1 - level) * (x - jnp.sqrt(level) * 0.3) / (level * 0.04 + 1 - level)

    return noise


def test_the_network_is_given_the_original_step(chain):
    """Exact check 3 of DiffuseVAE: no figure of a sample's quality sees a wrong index, these numbers do."""
    few, noise = chain.respaced(spaced(1000, 10)), exact_noise(chain)
    start = jnp.array([[1.2], [-0.5]])
    drawn = chain_sample(None, start, few, noise, predicts="noise")
    np.testing.assert_allclose(drawn[:, 0], (0.4250725959, 0.2471552172), atol=1e-10)
    assert abs((drawn[0] - drawn[1])[0] / 1.7 - 0.1046572816) < 1e-10
    c = 0.7
    shifted = chain_sample(None, start + c, few, lambda x, t: noise(x - c, t), predicts="noise", shift=c)
    np.testing.assert_allclose(shifted, drawn, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=["double", "single"])
def test_a_shift_is_a_change_of_the_network(chain, dtype):
    """Exact check 2: the second formulation with F(x - c) is the first one with F(x), for any function F."""
    few = Chain(chain.alpha_bar.astype(dtype), chain.times).respaced(spaced(1000, 50))
    for_start, for_c, for_W, key = jax.random.split(jax.random.key(0), 4)
    start, c = (jax.random.normal(one, (5, 4), dtype) for one in (for_start, for_c))
    W = 0.5 * jax.random.normal(for_W, (9, 4), dtype)

    def network(x, c, t):
        told = jnp.full_like(x[:, :1], t / 1000)
        return jnp.concatenate([x, c, told], axis=1) @ W

    @jax.jit
    def gap(eta, start, c):
        one = lambda **options: chain_sample(
            key, start, few, lambda x, t: network(x, c, t), predicts="noise", eta=eta, **options
        )
        other = lambda **options: chain_sample(
            key, start + c, few, lambda x, t: network(x - c, c, t), predicts="noise", eta=eta, shift=c, **options
        )
        clipped = [draw(clip=(-1.0, 1.0), large=True) for draw in (one, other)]
        free = [draw() for draw in (one, other)]
        relative = jnp.max(jnp.abs(free[0] - free[1])) / jnp.max(jnp.abs(free[0]))
        return jnp.max(jnp.abs(clipped[0] - clipped[1])), relative

    for eta in (0.0, 0.5, 1.0):
        clipped, free = gap(jnp.asarray(eta, dtype), start, c)
        assert clipped < (1e-10 if dtype == jnp.float64 else 3e-5)
        assert free < (1e-9 if dtype == jnp.float64 else 1e-5)


def test_the_forward_chain_with_a_shift(chain):
    """Exact check 4: by its steps the mean is that of the level plus the shift, and the variance that of the level."""
    x0, c, steps = 0.4, -1.3, 700
    alphas = 1 - np.asarray(chain.betas)
    mean, variance = np.sqrt(alphas[0]) * x0 + c, 1 - alphas[0]
    for alpha in alphas[1:steps]:
        mean, variance = np.sqrt(alpha) * mean + (1 - np.sqrt(alpha)) * c, alpha * variance + 1 - alpha
    at = lambda noise: chain.noised(jnp.array([x0]), jnp.array([noise]), steps - 1, c)[0]
    assert abs(at(0.0) - mean) < 1e-10
    assert abs((at(1.0) - at(0.0)) ** 2 - variance) < 1e-10
    # one index for each point is one number for each
    many = chain.noised(jnp.full((2, 3), x0), jnp.ones((2, 3)), jnp.array([0, steps - 1]), c)
    np.testing.assert_allclose(many[1], at(1.0))


def test_ancestral_samples_have_their_variance(chain):
    """Normal data N(0.3, 0.2²): each step is affine, so the law of what is drawn is known, of either variance."""
    few, n = chain.respaced(spaced(1000, 20)), 100_000
    start = jax.random.normal(jax.random.key(1), (n, 1))
    for eta, large, last in ((1.0, False, False), (1.0, True, False), (0.6, False, True)):
        draw = jax.jit(
            lambda key, x, eta=eta, large=large, last=last: chain_sample(
                key, x, few, exact_noise(chain), predicts="noise", eta=eta, large=large, last_noise=last
            )
        )
        x = draw(jax.random.key(2), start)
        mean, variance = 0.0, 1.0
        for i in reversed(range(len(few))):
            level, noise = few.alpha_bar[i], lambda x, i=i: exact_noise(chain)(x, few.times[i])
            step = lambda x: few.reverse(x, (x - jnp.sqrt(1 - level) * noise(x)) / jnp.sqrt(level), i, eta)[0]  # noqa: B023
            slope = step(1.0) - step(0.0)
            mean = step(mean)
            variance = slope**2 * variance + few.noise_std(i, eta, large=large, last=last) ** 2
        assert abs(np.mean(x) - mean) < 4 * np.sqrt(variance / n)
        assert abs(np.var(x) / variance - 1) < 4 * np.sqrt(2 / n)


def test_shared_noise_makes_a_function_of_the_start(chain):
    few, key = chain.respaced(spaced(1000, 10)), jax.random.key(3)
    noise = jax.random.normal(key, (10, 1, 2))
    start = jnp.ones((4, 2))
    drawn = chain_sample(None, start, few, exact_noise(chain), predicts="noise", eta=1.0, noise=noise)
    np.testing.assert_array_equal(drawn, jnp.broadcast_to(drawn[:1], drawn.shape))
    with pytest.raises(ValueError, match="a row for each of the chain's 10 steps: given 9"):
        chain_sample(None, start, few, exact_noise(chain), predicts="noise", eta=1.0, noise=noise[1:])


def test_clipped_data_renew_the_noise(chain):
    """With its own noise kept, a step is not on the line from the clipped data through the point."""
    one = chain.respaced([500, 900])
    x, noise = jnp.array([[2.0]]), lambda x, t: jnp.full_like(x, 0.1)
    a, b = one.alpha_bar[1], one.alpha_bar[0]
    data = jnp.clip((x - jnp.sqrt(1 - a) * 0.1) / jnp.sqrt(a), -1, 1)
    renewed = (x - jnp.sqrt(a) * data) / jnp.sqrt(1 - a)
    for renew, told in ((True, renewed), (False, 0.1)):
        first = jnp.sqrt(b) * data + jnp.sqrt(1 - b) * told
        expected = jnp.clip((first - jnp.sqrt(1 - b) * 0.1) / jnp.sqrt(b), -1, 1)
        drawn = chain_sample(None, x, one, noise, predicts="noise", clip=(-1, 1), renew=renew)
        np.testing.assert_allclose(drawn, expected)


# inversion


def network(params, x, t):
    return jnp.tanh(x @ params + t / 1000)


def test_inversion_by_fixed_points_is_exact(chain):
    """The usual inversion misses by the length of its steps; the fixed point by rounding, with the shift as without."""
    few = chain.respaced(spaced(1000, 10))
    W, x = (jax.random.normal(jax.random.key(i), shape) for i, shape in ((0, (3, 3)), (1, (6, 3))))
    model = lambda x, t: network(0.3 * W, x, t)

    @jax.jit
    def missed(x, shift):
        gaps = []
        for method in ("one step", "fixed point"):
            latent = chain_invert(x, few, model, predicts="noise", shift=shift, method=method)
            back = chain_sample(None, latent, few, model, predicts="noise", shift=shift)
            gaps.append(jnp.max(jnp.abs(back - x)))
        return jnp.stack(gaps)

    for shift in (0.0, 0.7):
        one, fixed = missed(x, shift)
        assert fixed < 1e-6 < 1e-3 < one


def test_inversion_is_differentiated_implicitly(chain):
    """In data and weights, against differences; and the inverse of the sampler's own Jacobian."""
    few = chain.respaced(spaced(1000, 5))
    W, x = (jax.random.normal(jax.random.key(i), shape) for i, shape in ((0, (2, 2)), (1, (1, 2))))
    solver = dini.Anderson(rtol=1e-13, atol=1e-13)
    invert = jax.jit(
        lambda W, x: chain_invert(
            x, few, lambda x, t: network(0.3 * W, x, t), predicts="noise", method="fixed point", solver=solver
        )
    )
    sampler = lambda x: chain_sample(None, x, few, lambda x, t: network(0.3 * W, x, t), predicts="noise")[0]
    by_data, by_weights = jax.jit(jax.jacobian(invert, (1, 0)))(W, x)
    latent = invert(W, x)
    back = jax.jacobian(lambda y: sampler(y[None]))(latent[0])
    np.testing.assert_allclose(by_data[0, :, 0] @ back, np.eye(2), atol=1e-8)
    dW, h = jax.random.normal(jax.random.key(2), W.shape), 1e-5
    difference = (invert(W + h * dW, x) - invert(W - h * dW, x)) / (2 * h)
    np.testing.assert_allclose(jnp.tensordot(by_weights, dW, 2), difference, rtol=1e-6)


def test_inversion_says_where_there_is_none(chain):
    """A map without a fixed point that can be found is an error, no figure."""
    few, x = chain.respaced([999]), jnp.ones((2, 3))
    # the noise that would lead to a point has the other sign on either side of zero
    away = lambda x, t: jnp.where(x > 0, -5.0, 5.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"FixedPoint\(image\) was not solved"):
        chain_invert(x, few, away, predicts="noise", method="fixed point")
    with pytest.raises(ValueError, match="on_failure are of a solver"):
        chain_invert(x, few, away, predicts="noise", on_failure="warn")


def test_the_loss_of_a_noise_predictor(chain):
    """Of the exact predictor for normal data it is 1 less what can be told of the noise, a mean over steps."""
    x0 = 0.3 + 0.2 * jax.random.normal(jax.random.key(0), (200_000, 1))
    level = np.asarray(chain.alpha_bar)
    expected = np.mean(0.04 * level / (0.04 * level + 1 - level))
    noise = exact_noise(chain)
    for shift in (0.0, 0.5):
        found = chain_loss(lambda x, t: noise(x - shift, t[:, None]), chain, x0, jax.random.key(1), shift=shift)  # noqa: B023
        assert abs(found / expected - 1) < 0.02


# what is refused


def test_what_chains_refuse():
    with pytest.raises(ValueError, match="within \\(0, 1\\)"):
        Chain([1.0, 0.5])
    with pytest.raises(ValueError, match="alpha_bar must fall"):
        Chain([0.1, 0.5])
    with pytest.raises(ValueError, match="steps must rise"):
        Chain([0.9, 0.5]).respaced([0, 2])
    with pytest.raises(ValueError, match="needs a key"):
        chain_sample(None, jnp.zeros((1, 1)), Chain([0.9, 0.5]), lambda x, t: x, eta=1.0)
    with pytest.raises(ValueError, match="a vector"):
        Chain(0.5)
    with pytest.raises(ValueError, match="SubVPSDE does not preserve the variance"):
        Chain.of_process(SubVPSDE(), jnp.array([0.1, 0.5]))
    assert len(Chain.of_process(VPSDE(), jnp.array([0.1, 0.5]))) == 2
    sample = lambda model=lambda x, t: x, **options: chain_sample(
        jax.random.key(0), jnp.zeros((2, 3)), Chain([0.9, 0.5, 0.1]), model, **options
    )
    with pytest.raises(ValueError, match=r"must return the shape of its points, \(2, 3\): it gave \(2, 1\)"):
        sample(lambda x, t: x[:, :1])
    with pytest.raises(ValueError, match="more noise than there is"):
        sample(eta=3.0)
    with pytest.raises(ValueError, match="eta must be zero or more"):
        sample(eta=-1.0)
    with pytest.raises(ValueError, match="predicts must be one of"):
        sample(predicts="picture")
    with pytest.raises(ValueError, match="a lower and a higher bound"):
        sample(clip=(1.0, -1.0))


@pytest.mark.parametrize("module", [chains, chain_sampling], ids=lambda one: one.__name__.rpartition(".")[2])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0
