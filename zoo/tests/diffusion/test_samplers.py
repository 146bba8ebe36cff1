"""Samplers, flows and distances without a network: recursions in closed form, exact laws."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

from dini_zoo.diffusion import distances, exponential, flows, predictor_corrector
from dini_zoo.diffusion.chain_sampling import chain_sample
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.distances import Moments, energy_distance, frechet_distance, sliced_wasserstein, two_sample_test
from dini_zoo.diffusion.exponential import log_snr_grid, multistep_rule, multistep_sample
from dini_zoo.diffusion.mixtures import GaussianMixture, score_of
from dini_zoo.diffusion.predictions import converted
from dini_zoo.diffusion.predictor_corrector import (
    Langevin,
    Step,
    ancestral,
    euler_maruyama,
    pc_sample,
    probability_flow,
    reverse_diffusion,
)
from dini_zoo.diffusion.processes import VESDE, VPSDE, SubVPSDE

MIXTURE = ([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], [0.05, 0.1, 0.2])


@pytest.fixture(scope="module")
def mixture():
    with jax.enable_x64(True):
        return GaussianMixture(*MIXTURE)


# predictor and corrector


@pytest.mark.parametrize("predictor", [euler_maruyama, reverse_diffusion, ancestral, probability_flow])
def test_predictors_have_the_variance_of_their_recursion(predictor):
    """Normal data N(0, 1/4): each step is affine, so the variance of what is drawn is known but for chance."""
    process, n, steps, end = VPSDE(), 100_000, 40, 1e-3
    score = lambda x, t: -x / (0.25 * process.alpha(t) ** 2 + process.sigma(t) ** 2)
    x = pc_sample(jax.random.key(0), process, score, (n, 1), predictor=predictor, num_steps=steps, end=end)
    times = np.append(np.linspace(1.0, end, steps), 0.0)
    v = 1.0
    for i in range(steps):
        rule = predictor(process, Step(times[i], times[i + 1], i, steps))
        mean = rule.keep + rule.score * score(1.0, times[i])
        v, before_noise = mean**2 * v + rule.noise**2, mean**2 * v
    assert abs(np.var(x) / before_noise - 1) < 4 * np.sqrt(2 / n)


def test_langevin_leaves_its_law():
    """Small steps from the law stay in it; of a sample each has its own size, which does not see the others."""
    process, n = VESDE(0.01, 10.0), 2000
    score = lambda x, t: -x / 4.0
    start = 2 * jax.random.normal(jax.random.key(1), (n, 8))
    sampler = jax.jit(
        lambda start, per: pc_sample(
            jax.random.key(0), process, score, start=start, predictor=None, num_steps=2, end=0.5,
            corrector=Langevin(0.05, 5, per), denoise=False,
        ),
        static_argnums=1,
    )  # fmt: skip
    assert abs(np.var(sampler(start, False)) / np.var(start) - 1) < 0.02
    mixed = start.at[0].mul(100.0)
    np.testing.assert_array_equal(sampler(mixed, True)[1:], sampler(start, True)[1:])
    assert np.any(sampler(mixed, False)[1:] != sampler(start, False)[1:])


def test_a_score_of_zero_takes_no_langevin_step():
    """No size has the ratio that is asked for: the points stay, each on its own or all."""
    start = jnp.array([[1.0], [2.0]])
    for per_sample in (False, True):
        score = lambda x, t, per=per_sample: jnp.where(per & (x > 1.5), -x, 0.0)
        found = pc_sample(
            jax.random.key(0), VESDE(), score, start=start, predictor=None, num_steps=2, end=0.5,
            corrector=Langevin(per_sample=per_sample), denoise=False,
        )  # fmt: skip
        assert np.all(np.isfinite(found))
        assert found[0] == 1.0
        assert (found[1] != 2.0) == per_sample


def test_what_samplers_refuse():
    process, score = SubVPSDE(), lambda x, t: -x
    sample = lambda **options: pc_sample(jax.random.key(0), process, score, (2, 1), **options)
    with pytest.raises(ValueError, match="ancestral knows the discrete chains of VPSDE and VESDE"):
        sample(predictor=ancestral, num_steps=3)
    with pytest.raises(ValueError, match="num_steps must be at least 2"):
        sample(num_steps=1)
    with pytest.raises(ValueError, match="num_steps must exceed beta_max, 20"):
        pc_sample(jax.random.key(0), VPSDE(), score, (2, 1), predictor=ancestral, num_steps=20)
    with pytest.raises(ValueError, match="snr must be positive"):
        sample(num_steps=3, corrector=Langevin(0.0))
    with pytest.raises(ValueError, match="needs a predictor or a corrector"):
        sample(num_steps=3, predictor=None)
    for end in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"end must be within \(0, 1\)"):
            sample(num_steps=3, end=end)
    for corrector in (None, Langevin()):
        with pytest.raises(ValueError, match=r"the score must have the shape of the points, \(2, 1\): given \(2, 3\)"):
            pc_sample(
                jax.random.key(0), process, lambda x, t: jnp.ones((2, 3)), (2, 1), num_steps=30, corrector=corrector
            )
    with pytest.raises(ValueError, match="order must be one of 1, 2"):
        multistep_rule(jnp.array([0.1, 0.5]), jnp.array([0.9, 0.5]), order=3, kind="sde")
    with pytest.raises(ValueError, match="must fall"):
        multistep_rule(jnp.array([0.5, 0.1]), jnp.array([0.5, 0.9]))
    with pytest.raises(ValueError, match="last sigma must be positive"):
        multistep_rule(jnp.array([0.1, 1.0]), jnp.array([0.9, 0.0]), solve="noise")


# exponential integrators


def test_steps_are_exact_for_constant_predictions():
    """With one prediction everywhere all orders agree, and the step of the flow is the solution."""
    times = jnp.array([1.0, 0.7, 0.5, 0.3, 0.2, 0.1])
    process, data = VPSDE(), jnp.array([[0.4, -0.7]])
    x = process.sample(jax.random.key(0), data, 1.0)[0]
    a, s = process.alpha(times), process.sigma(times)
    exact = a[-1] * data + s[-1] * (x - a[0] * data) / s[0]
    for solve in ("data", "noise"):
        told = data if solve == "data" else (x - a[0] * data) / s[0]
        for order in (1, 2, 3):
            rule = multistep_rule(a, s, order=order, solve=solve)
            found = multistep_sample(None, x, lambda x, t, told=told: told, times, rule)
            np.testing.assert_allclose(found, exact, rtol=1e-11)


@pytest.mark.parametrize(
    "process",
    # the rules know a process by two curves alone: one holds most of it
    [
        VPSDE(),
        pytest.param(SubVPSDE(), marks=pytest.mark.thorough),
        pytest.param(VESDE(0.01, 200.0), marks=pytest.mark.thorough),
    ],
    ids=lambda one: type(one).__name__,
)
def test_flows_converge_with_their_order(process, mixture):
    """Against diffrax at small tolerances, on a mixture: the error falls with the power that the order says."""
    x = process.prior_std * jax.random.normal(jax.random.key(0), (64, 2))
    score = score_of(mixture, process)
    exact = jax.jit(lambda x: flows.ode_sample(process, score, x, end=0.02, rtol=1e-10, atol=1e-10))(x)

    @jax.jit
    def errors(x):
        found = {}
        for order, solve in ((1, "data"), (2, "data"), (2, "noise"), (3, "data")):
            predict = converted(score, process, "score", solve)
            for steps in (80, 160):
                sampler = exponential.exponential_sampler(
                    process, log_snr_grid(process, steps, 1.0, 0.02), order=order, solve=solve
                )
                gap = sampler(None, x, predict) - exact
                found[f"{order} {solve} {steps}"] = jnp.sqrt(jnp.mean(gap**2))
        return found

    found = errors(x)
    for order, solve in ((1, "data"), (2, "data"), (2, "noise"), (3, "data")):
        slope = np.log2(found[f"{order} {solve} 80"] / found[f"{order} {solve} 160"])
        assert abs(slope - order) < 0.35, (order, solve, slope)


def test_rules_have_no_holes_for_small_steps():
    """Where the formula and its series meet, and for steps as small as numbers allow."""
    for h in (1e-9, 1e-4, 0.499, 0.501, 3.0):
        for k in (1, 2, 3):
            grid, weights = np.polynomial.legendre.leggauss(40)
            u = (grid + 1) / 2
            exact = np.sum(weights / 2 * np.exp((1 - u) * h) * u ** (k - 1)) / [1, 1, 2][k - 1]
            np.testing.assert_allclose(exponential._phi(jnp.asarray(h), k), exact, rtol=1e-12)


def test_the_last_step_may_end_at_the_data():
    alpha, sigma = jnp.array([0.1, 0.6, 1.0]), jnp.array([0.99, 0.8, 0.0])
    data = jnp.array([[0.3]])
    for kind in ("ode", "sde"):
        rule = multistep_rule(alpha, sigma, kind=kind)
        found = multistep_sample(jax.random.key(0), jnp.ones((1, 1)), lambda x, t: data, jnp.arange(3)[::-1], rule)
        np.testing.assert_allclose(found, data)


# chains


def test_a_chain_of_all_steps_is_the_chain():
    betas = jnp.linspace(1e-4, 0.02, 100)
    chain = Chain.of_betas(betas)
    np.testing.assert_allclose(chain.respaced(jnp.arange(100)).betas, betas, rtol=1e-11)
    some = jnp.array([3, 40, 99])
    np.testing.assert_allclose(chain.respaced(some).alpha_bar, chain.alpha_bar[some], rtol=1e-14)
    np.testing.assert_array_equal(chain.respaced(some).times, some)


def test_the_chain_s_reverse_is_the_posterior():
    """Bayes' formula for x_{i-1} given x_i and x_0; without noise it is the exponential rule of order one."""
    chain = Chain.of_betas(jnp.linspace(0.01, 0.3, 10))
    x, data, i = jnp.array([[0.8]]), jnp.array([[-0.3]]), 6
    mean, std = chain.reverse(x, data, i)
    level, before = chain.alpha_bar[i], chain.alpha_bar[i - 1]
    precision = 1 / (1 - before) + (level / before) / (1 - level / before)
    center = (jnp.sqrt(before) * data / (1 - before) + jnp.sqrt(level / before) * x / (1 - level / before)) / precision
    np.testing.assert_allclose(mean, center, rtol=1e-10)
    np.testing.assert_allclose(std**2, 1 / precision, rtol=1e-10)
    for eta, kind in ((0.0, "ode"), (1.0, "sde")):
        levels = chain.alpha_bar[jnp.array([i, i - 1])]
        rule = multistep_rule(jnp.sqrt(levels), jnp.sqrt(1 - levels), order=1, kind=kind)
        mean, std = chain.reverse(x, data, i, eta)
        np.testing.assert_allclose(mean, rule.keep * x + rule.pull[0, 0] * data, rtol=1e-10)
        np.testing.assert_allclose(std, rule.noise[0], rtol=1e-9, atol=1e-12)


def test_ddim_of_normal_data_is_a_product():
    """N(0, diag c) with the exact prediction: each step multiplies each coordinate by a number."""
    c = jnp.array([0.1, 0.5, 1.0, 2.0])
    chain = Chain.of_process(VPSDE(), (jnp.arange(60) + 1) / 60).respaced(jnp.array([5, 12]))

    def data(x, t):
        level = VPSDE().alpha(t) ** 2
        return jnp.sqrt(level) * c / (level * c + 1 - level) * x

    found = jax.jit(lambda x: chain_sample(None, x, chain, data))(jnp.ones((1, 4)))[0]
    # the specification's value of Fréchet's distance for these two steps
    np.testing.assert_allclose(jnp.sum((jnp.sqrt(c) - found) ** 2), 0.1508019, atol=5e-8)


def test_samplers_have_derivatives_in_their_times():
    """Of a chain whose last level is free of noise, and of the exponential rules: against central differences."""
    process, x = VPSDE(), jnp.array([[0.3, -1.2]])
    along = jnp.array([0.5, -1.0, 0.3])
    data = lambda x, t: jnp.tanh(x) * process.alpha(t) + t

    def ends(h):
        times = jnp.array([0.1, 0.4, 0.9]) + h * along
        chain = Chain.of_process(process, times)
        drawn = [chain_sample(jax.random.key(0), x, chain, data, eta=eta) for eta in (0.0, 0.7, 1.0)]
        down = times[::-1]
        rule = multistep_rule(process.alpha(down), process.sigma(down), order=2)
        drawn.append(multistep_sample(None, x, data, down, rule))
        return jnp.concatenate(drawn)

    slopes, differences = jax.jit(lambda h: (jax.jacfwd(ends)(0.0), (ends(h) - ends(-h)) / (2 * h)))(1e-5)
    np.testing.assert_allclose(slopes, differences, rtol=1e-6, atol=1e-9)


# flows


def test_encoding_is_inverted_and_scales_normal_data():
    process = VPSDE()
    v = lambda t: 0.3 * process.alpha(t) ** 2 + process.sigma(t) ** 2
    score = lambda x, t: -x / v(t)
    x = jnp.array([[0.2, -1.0]])
    options = {"rtol": 1e-9, "atol": 1e-9}

    @jax.jit
    def both(x):
        latent = flows.encode(process, score, x, **options)
        return latent, flows.ode_sample(process, score, latent, **options)

    latent, back = both(x)
    np.testing.assert_allclose(latent, x * jnp.sqrt(v(1.0) / v(1e-3)), rtol=1e-7)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_likelihoods_of_a_mixture(mixture):
    """Exact divergence, and Hutchinson's estimate, which agrees with it up to chance."""
    process = VPSDE()
    score = score_of(mixture, process)
    x = mixture.diffused(process.alpha(1e-3), process.sigma(1e-3)).sample(jax.random.key(0), 100)

    @jax.jit
    def both(x):
        likelihood = lambda **more: flows.log_likelihood(process, score, x, rtol=1e-6, atol=1e-6, **more)
        return likelihood(), likelihood(key=jax.random.key(1), probes=8)

    found, estimated = both(x)
    exact = mixture.diffused(process.alpha(1e-3), process.sigma(1e-3)).log_prob(x)
    assert np.mean(np.abs(found - exact)) < 4e-3
    gap = estimated - found
    assert abs(gap.mean()) < 4 * gap.std() / 10


def test_a_prior_with_a_mean_is_given():
    """Data far from zero, little noise: with the law at time 1 the density is exact, with the process' own far off."""
    process, data = VESDE(0.01, 2.0), GaussianMixture([0.4, 0.6], [[5.0], [7.0]], [0.1, 0.3])
    law = lambda t: data.diffused(process.alpha(t), process.sigma(t))
    x = law(1e-3).sample(jax.random.key(0), 20)
    likelihood = lambda **options: flows.log_likelihood(process, score_of(data, process), x, **options)
    found, wrong = jax.jit(lambda: (likelihood(rtol=1e-8, atol=1e-8, prior=law(1.0).log_prob), likelihood()))()
    np.testing.assert_allclose(found, law(1e-3).log_prob(x), atol=1e-5)
    assert np.min(np.abs(wrong - found)) > 1
    with pytest.raises(ValueError, match=r"prior must return a number for each of the 20 points: .* \(20, 1\)"):
        likelihood(prior=lambda x: x)


def test_divergences_are_traces():
    A = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    drift = lambda x, t: t * jnp.sin(x @ A.T)
    x = jnp.array([[0.1, 0.2, 0.3], [-1.0, 0.5, 0.0]])
    value, divergence = flows.with_divergence(drift)(x, 2.0)
    exact = [jnp.trace(jax.jacfwd(lambda x: drift(x, 2.0))(row)) for row in x]
    np.testing.assert_allclose(divergence, exact, rtol=1e-12)
    np.testing.assert_allclose(value, drift(x, 2.0))
    # all 8 vectors of signs average to the trace
    probes = jnp.stack(jnp.meshgrid(*[jnp.array([-1.0, 1.0])] * 3), axis=-1).reshape(8, 1, 3)
    whole = flows.with_divergence(drift, jnp.broadcast_to(probes, (8, 2, 3)))(x, 2.0)[1]
    np.testing.assert_allclose(whole, exact, rtol=1e-12)


# distances


def test_frechet_distance_has_its_closed_form():
    random = np.random.default_rng(0)
    roots = random.normal(size=(2, 5, 5))
    C1, C2 = roots @ roots.mT
    m1, m2 = random.normal(size=(2, 5))
    truth = np.sum((m1 - m2) ** 2) + np.trace(C1 + C2 - 2 * np.real(linalg.sqrtm(C1 @ C2)))
    one, other = Moments(m1, C1), Moments(m2, C2)
    np.testing.assert_allclose(frechet_distance(one, other), truth, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(other, one), truth, rtol=1e-9)
    assert abs(frechet_distance(one, one)) < 1e-10
    turn = linalg.qr(random.normal(size=(5, 5)))[0]
    rotated = (Moments(turn @ m, turn @ C @ turn.T) for m, C in (one, other))
    np.testing.assert_allclose(frechet_distance(*rotated), truth, rtol=1e-9)
    # a covariance without full rank, and samples
    flat = Moments(m1, np.diag([1.0, 0, 0, 0, 0]))
    np.testing.assert_allclose(frechet_distance(flat, Moments(m1, np.eye(5))), 4.0, rtol=1e-9)
    x = random.normal(size=(50, 5))
    np.testing.assert_allclose(Moments.of(x).covariance, np.cov(x.T), rtol=1e-10)


def test_frechet_distance_has_a_gradient_where_coordinates_are_constant():
    """Equal eigenvalues, here three that are zero, are no obstacle: against central differences, in both arguments."""
    keys = jax.random.split(jax.random.key(3), 3)
    mask = jnp.array([1.0, 1, 0, 1, 0, 0])
    x, y, along = (mask * jax.random.normal(key, (40, 6)) for key in keys)
    x, y = x @ jnp.diag(jnp.arange(1.0, 7)), y + 0.3 * mask
    of_first = lambda h: frechet_distance(Moments.of(x + h * along), Moments.of(y))
    of_second = lambda h: frechet_distance(Moments.of(x), Moments.of(y + h * along))

    @jax.jit
    def slopes(h):
        pairs = [(jax.grad(f)(0.0), (f(h) - f(-h)) / (2 * h)) for f in (of_first, of_second)]
        return jnp.array(pairs)

    found = slopes(1e-5)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-7)


def test_sliced_and_energy_distances_agree_with_peers():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 1)), 1 + random.normal(size=(60, 1))
    key = jax.random.key(0)
    # in one dimension every direction is the same, and SciPy has the distance of order two of sorted samples
    np.testing.assert_allclose(sliced_wasserstein(key, x, y) ** 2, np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    biased = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    n = len(x)
    within = sum(np.abs(one - one.T).sum() for one in (x, y)) / n**2
    np.testing.assert_allclose(energy_distance(x, y), biased + within - within * n / (n - 1), rtol=1e-9)
    shift = jnp.array([3.0, 0.0])
    points = random.normal(size=(500, 2))
    np.testing.assert_allclose(sliced_wasserstein(key, points, points + shift, directions=4000) ** 2, 4.5, rtol=0.06)
    with pytest.raises(ValueError, match="must have the shape"):
        sliced_wasserstein(key, points, points[1:])


def test_the_two_sample_test_has_its_level():
    """Under the hypothesis about a tenth of the values are below a tenth; a shift is found."""
    key = jax.random.key(0)

    @jax.jit
    @jax.vmap
    def values(key):
        one, other, test = jax.random.split(key, 3)
        x, y = jax.random.normal(one, (20, 2)), jax.random.normal(other, (25, 2))
        shift = jnp.array([1.5, 0.0])
        return jnp.stack([two_sample_test(test, x, y + c * shift, permutations=39) for c in (0.0, 1.0)])

    same, shifted = values(jax.random.split(key, 100)).T
    assert 0.02 < np.mean(same <= 0.1) < 0.2
    assert np.mean(shifted <= 0.05) > 0.9


@pytest.mark.parametrize(
    "module", [distances, exponential, flows, predictor_corrector], ids=lambda module: module.__name__
)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0
