"""Processes, mixtures and predictions against simulation, differences and the definitions."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.diffusion import interpolants, mixtures, networks, predictions, processes
from dini_zoo.diffusion.mixtures import GaussianMixture, score_of
from dini_zoo.diffusion.predictions import PREDICTIONS, convert
from dini_zoo.diffusion.processes import VESDE, VPSDE, SubVPSDE

PROCESSES = (VPSDE(), SubVPSDE(), VESDE(0.01, 50.0))
MIXTURE = ([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], [0.05, 0.1, 0.2])
each = pytest.mark.parametrize("process", PROCESSES, ids=lambda one: type(one).__name__)


@pytest.fixture(scope="module")
def mixture():
    with jax.enable_x64(True):
        return GaussianMixture(*MIXTURE)


# processes


@each
def test_the_laws_solve_the_equation(process):
    """alpha' = f alpha and (sigma²)' = 2 f sigma² + g², by differences."""
    t, d = np.linspace(0.05, 0.95, 7), 1e-5
    slope = lambda curve: (curve(t + d) - curve(t - d)) / (2 * d)
    np.testing.assert_allclose(slope(process.alpha), process.rate(t) * process.alpha(t), rtol=1e-7, atol=1e-10)
    square = lambda t: process.sigma(t) ** 2
    np.testing.assert_allclose(
        slope(square), 2 * process.rate(t) * square(t) + process.diffusion(t) ** 2, rtol=1e-7, atol=1e-10
    )


def test_euler_paths_have_these_laws():
    """The forward equations simulated in 600 steps: mean and standard deviation of 10000 paths."""
    n, steps, x0, end = 10_000, 600, 0.7, 0.6
    t, h = np.arange(steps) * end / steps, end / steps
    random = np.random.default_rng(0)
    x = x0 + np.stack([process.sigma(0.0) * random.normal(size=n) for process in PROCESSES])
    rates = np.stack([process.rate(t) for process in PROCESSES])
    noise = np.sqrt(h) * np.stack([process.diffusion(t) for process in PROCESSES])
    for i in range(steps):
        x = x + h * rates[:, i, None] * x + noise[:, i, None] * random.normal(size=x.shape)
    for found, process in zip(x, PROCESSES, strict=True):
        mean, std = process.marginal(jnp.full((1, 1), x0), end)
        assert abs(found.mean() - mean[0, 0]) < 4 * std / np.sqrt(n) + 2e-3
        assert abs(found.std() / std - 1) < 4 / np.sqrt(2 * n) + 5e-3


def test_sub_vp_has_less_variance():
    t = np.linspace(0, 1, 101)
    assert np.all(SubVPSDE().sigma(t) <= VPSDE().sigma(t))


@each
def test_times_of_ratios(process):
    t = np.array([1e-4, 1e-2, 0.3, 0.8, 1.0])
    np.testing.assert_allclose(process.time_of(process.log_snr(t)), t, rtol=1e-9)


@each
def test_transitions_compose(process):
    x = jnp.ones((3, 2))
    mean, std = process.transition(x, 0.2, 0.5)
    whole, wide = process.transition(x, 0.2, 0.9)
    again, added = process.transition(mean, 0.5, 0.9)
    ratio = process.alpha(0.9) / process.alpha(0.5)
    np.testing.assert_allclose(again, whole, rtol=1e-12)
    np.testing.assert_allclose((ratio * std) ** 2 + added**2, wide**2, rtol=1e-10)


def test_parameters_are_leaves_and_checked():
    slope = jax.grad(lambda process: process.alpha(0.5))(VPSDE(0.1, 20.0))
    d = 1e-6
    expected = (VPSDE(0.1 + d, 20.0).alpha(0.5) - VPSDE(0.1 - d, 20.0).alpha(0.5)) / (2 * d)
    np.testing.assert_allclose(slope.beta_min, expected, rtol=1e-6)
    for make in (lambda: VPSDE(-1.0, 20.0), lambda: VPSDE(2.0, 1.0), lambda: VESDE(0.0, 1.0)):
        with pytest.raises(ValueError, match="must be positive"):
            make()


# mixtures


def test_scores_are_gradients_of_the_density(mixture):
    random = np.random.default_rng(0)
    root = random.normal(size=(2, 3, 3))
    full = GaussianMixture([0.3, 0.7], random.normal(size=(2, 3)), root @ root.mT + np.eye(3))
    for one, d in ((mixture, 2), (full, 3)):
        x = random.normal(size=(4, d))
        np.testing.assert_allclose(one.score(x), jax.grad(lambda x, one=one: one.log_prob(x).sum())(x), rtol=1e-9)
        peer = sum(
            w
            * np.exp(-0.5 * np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(C), x - m))
            / np.sqrt(np.linalg.det(2 * np.pi * C))
            for w, m, C in zip(one.weights, one.means, one.covariances, strict=True)
        )
        np.testing.assert_allclose(one.log_prob(x), np.log(peer), rtol=1e-10)


def test_diffused_tilted_and_posterior_laws(mixture):
    """Against averages over exact samples, within four standard errors."""
    n, a, s, slope = 50_000, 0.6, 0.5, jnp.array([-0.4, 0.3])
    x0 = mixture.sample(jax.random.key(0), n)
    within = lambda values, truth: np.testing.assert_array_less(
        np.abs(values.mean(0) - truth), 4 * values.std(0) / np.sqrt(n)
    )
    within(x0, mixture.mean())
    away = (x0 - mixture.mean())[:, :, None] * (x0 - mixture.mean())[:, None, :]
    within(away, mixture.covariance())
    weights = jnp.exp(x0 @ slope)
    tilted = mixture.tilted(slope)
    within(weights[:, None] * (x0 - tilted.mean()), 0.0)
    # Tweedie's formula: the posterior mean from the score
    x = jnp.array([[0.3, -0.2], [1.0, 0.5]])
    w, m, v = mixture.posterior(x, a, s)
    mean = jnp.sum(w[..., None] * m, axis=-2)
    np.testing.assert_allclose(mean, (x + s**2 * mixture.diffused(a, s).score(x)) / a, rtol=1e-10)
    # and Bayes' formula: prior times likelihood over evidence is the posterior's density
    posterior = GaussianMixture(w[0], m[0], v)
    y = jnp.array([0.2, 0.1])
    likelihood = jnp.sum(-0.5 * ((x[0] - a * y) / s) ** 2 - jnp.log(s * jnp.sqrt(2 * jnp.pi)))
    evidence = mixture.diffused(a, s).log_prob(x[0])
    np.testing.assert_allclose(posterior.log_prob(y), mixture.log_prob(y) + likelihood - evidence, rtol=1e-10)


@pytest.mark.thorough  # the loss of score-sde has a test of its own
def test_the_score_solves_the_denoising_problem(mixture):
    """The loss of score + c psi has no slope in c at zero; with a wrong scale of the noise it has one."""
    process, n = VPSDE(), 200_000

    @jax.jit
    def slopes(key):
        for_times, for_data, for_noise = jax.random.split(key, 3)
        t = jax.random.uniform(for_times, (), minval=0.2, maxval=0.6)
        x, z = process.sample(for_noise, mixture.sample(for_data, n), t)
        score, s = score_of(mixture, process)(x, t), process.sigma(t)
        psis = (jnp.ones_like(x), x, jnp.sin(2 * x) * (1 + t), score)
        slope = lambda s, psi: 2 * jnp.sum(s * psi * (score * s + z), axis=1)
        return [jnp.stack([slope(c * s, psi) for c in (1.0, 1.1)]) for psi in psis]

    wrong = 0.0
    for found in slopes(jax.random.key(2)):
        error = found.std(axis=1) / np.sqrt(n)
        assert abs(found[0].mean()) < 4 * error[0]
        wrong = max(wrong, abs(found[1].mean()) / error[1])
    assert wrong > 10


def test_bad_mixtures():
    for given, word in (
        (([0.5, 0.5], [[0.0]], [1.0]), "shapes"),
        (([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0]), "sum to one"),
        (([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), "weights must be positive"),
        (([1.0], [[0.0]], [0.0]), "covariances must be positive"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "covariances must be positive"),
    ):
        with pytest.raises(ValueError, match=word):
            GaussianMixture(*given)
    with pytest.raises(ValueError, match="diagonal"):
        GaussianMixture([1.0], [[0.0]], [[[1.0]]]).posterior(jnp.zeros(1), 1.0, 1.0)


# predictions


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_predictions_are_converted_into_one_another(scale):
    random = np.random.default_rng(0)
    data, noise = scale * random.normal(size=(2, 5, 3))
    b, alpha, sigma = 0.7, np.array([0.2, 0.5, 0.7, 0.9, 0.99]), np.array([0.6, 0.4, 0.3, 0.2, 0.1])
    a, s = alpha[:, None], sigma[:, None]
    x, phi = a * data + s * noise, np.arctan(s / (b * a))
    velocity = -np.sin(phi) * data + b * np.cos(phi) * noise
    values = {"noise": noise, "data": data, "score": -noise / s, "velocity": velocity}
    for source in PREDICTIONS:
        for target in PREDICTIONS:
            found = convert(values[source], x, alpha, sigma, source, target, bound=b)
            np.testing.assert_allclose(found, values[target], rtol=1e-10, atol=1e-12 * scale)
    with pytest.raises(ValueError, match="source must be one of"):
        convert(x, x, 0.5, 0.5, "flow", "data")


# networks


def test_gates_leave_blocks_out():
    network = networks.ResidualNetwork(6, width=16, blocks=3, features=8, key=jax.random.key(0))
    leaves, form = jax.tree.flatten(network)
    random = np.random.default_rng(0)
    network = jax.tree.unflatten(form, [jnp.asarray(0.3 * random.normal(size=leaf.shape)) for leaf in leaves])
    x, t = jnp.asarray(random.normal(size=(4, 6))), jnp.linspace(0.1, 0.9, 4)
    call = jax.jit(lambda x, t, gates: network(x, t, gates=gates))
    plain = jax.jit(lambda x, t: network(x, t))(x, t)
    np.testing.assert_array_equal(call(x, t, jnp.ones(3)), plain)
    without = call(x, t, jnp.array([1.0, 0.0, 1.0]))
    two = jax.tree_util.tree_map(lambda leaf: leaf, network)
    object.__setattr__(two, "blocks", (network.blocks[0], network.blocks[2]))
    np.testing.assert_allclose(without, two(x, t), rtol=1e-12)
    # one point at a time gives the same as all at once
    np.testing.assert_allclose(plain, jnp.stack([network(*one) for one in zip(x, t, strict=True)]), rtol=1e-10)


@pytest.mark.parametrize("module", [processes, mixtures, predictions, networks, interpolants], ids=lambda m: m.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0
