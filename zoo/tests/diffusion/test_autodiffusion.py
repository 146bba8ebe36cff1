"""AutoDiffusion: respaced chains, a problem that is solved by enumeration, spaces, gates, the gradient, bad input."""

import doctest
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.diffusion.autodiffusion import (
    SPACINGS,
    JointSpace,
    LayerSpace,
    SampleDistance,
    StepSpace,
    ddim,
    dpm_solver,
    evolution,
    evolve,
    gradient,
    increasing_times,
    learn_times,
    respace,
    samplers,
    search_schedule,
    spaced,
)
from dini_zoo.diffusion.autodiffusion.experiment import experiment
from dini_zoo.diffusion.autodiffusion.study import Settings
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.distances import Moments, frechet_distance
from dini_zoo.diffusion.networks import ResidualNetwork
from dini_zoo.diffusion.processes import VPSDE

VARIANCES = np.array([0.1, 0.5, 1.0, 2.0])
T = 60


def levels():
    """The chain of the specification's closed form."""
    return Chain.of_process(VPSDE(), (jnp.arange(T) + 1) / T)


def exact_distance(alpha, sigma):
    """Of DDIM on normal data, with the levels in their order, all numbers: the Fréchet distance in closed form."""
    factor = np.ones_like(VARIANCES)
    pairs = list(zip(alpha, sigma, strict=True))
    for (a, s), (a2, s2) in zip(pairs[::-1], [*pairs[-2::-1], (1.0, 0.0)], strict=True):
        factor = factor * (a2 * a * VARIANCES + s2 * s) / (a**2 * VARIANCES + s**2)
    return float(np.sum((np.sqrt(VARIANCES) - factor) ** 2))


def test_a_respaced_chain_keeps_levels_and_betas():
    betas = jnp.linspace(1e-4, 0.02, 50)
    chain = Chain.of_betas(betas)
    np.testing.assert_allclose(respace(chain.alpha_bar, range(50)).betas, betas, atol=1e-12)
    steps = (3, 17, 41)
    few = respace(chain.alpha_bar, steps)
    np.testing.assert_allclose(np.cumprod(1 - few.betas), chain.alpha_bar[np.array(steps)], rtol=1e-12)
    np.testing.assert_array_equal(few.times, steps)
    for bad in ((), (1, 1), (0, 50), (-1, 3)):
        with pytest.raises(ValueError, match="steps must be one or more different ones"):
            respace(chain.alpha_bar, bad)


def test_the_distance_is_that_of_normal_laws():
    """Closed form where covariances commute; zero of equals; the same after a rotation."""
    random = np.random.default_rng(0)
    Q = jnp.asarray(np.linalg.qr(random.normal(size=(4, 4)))[0])
    m = jnp.asarray(random.normal(size=4))
    one, other = (
        Moments(m, Q @ jnp.diag(jnp.asarray(VARIANCES)) @ Q.T),
        Moments(2 * m, Q @ jnp.diag(VARIANCES[::-1]) @ Q.T),
    )
    expected = m @ m + np.sum((np.sqrt(VARIANCES) - np.sqrt(VARIANCES[::-1])) ** 2)
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-10)
    np.testing.assert_allclose(frechet_distance(one, one), 0.0, atol=1e-10)
    turned = [Moments(Q @ part.mean, Q @ part.covariance @ Q.T) for part in (one, other)]
    np.testing.assert_allclose(frechet_distance(*turned), expected, rtol=1e-10)


@pytest.fixture(scope="module")
def figures():
    with jax.enable_x64(True):
        process, times = VPSDE(), (jnp.arange(T) + 1) / T
        alpha, sigma = np.asarray(process.alpha(times)), np.asarray(process.sigma(times))
    return lambda steps: exact_distance(alpha[list(steps)], sigma[list(steps)])


def test_optima_by_enumeration_are_found(figures):
    """The specification's figures, and a search of at most 600 evaluations for each.

    Of three steps the paper's mutations alone end within two percent in 27 seeds of 30; with near ones as well in all.
    """
    best = [(sorted((figures(steps), steps) for steps in combinations(range(T), K)))[:2] for K in (1, 2)]
    assert best[0][0][1] == (7,)
    assert [steps for _, steps in best[1]] == [(5, 12), (5, 11)]
    np.testing.assert_allclose(
        [best[0][0][0], best[1][0][0], best[1][1][0]], [0.1896981, 0.1508019, 0.1508161], atol=6e-8
    )
    np.testing.assert_allclose(figures((4, 9, 15)), 0.1198884, atol=6e-8)
    strides = [figures(spaced("stride", levels(), K)) for K in (1, 2, 3)]
    np.testing.assert_allclose(strides, [0.6674785, 1.5283379, 0.7679775], atol=6e-8)
    many = lambda sets: [figures(steps) for steps in sets]
    for seed in range(3):
        for K, optimum in ((1, 0.1896981), (2, 0.1508019), (3, 0.1198884)):
            stride = spaced("stride", levels(), K)
            found = evolve(np.random.default_rng(seed), StepSpace(T, K, 5 if K == 3 else 0), many, first=[stride])
            assert found.evaluations <= 600
            assert found.value <= optimum * (1.02 if K == 3 else 1 + 1e-6)
            assert np.all(np.diff(found.history) <= 0)
            if K == 1:
                assert found.exhausted
                assert found.evaluations == T


def test_samples_on_few_steps_have_the_closed_form_s_distance(figures):
    """DDIM with the exact prediction is linear: with moments of the noise that are exact, so is the distance."""
    n = 4
    z = jnp.concatenate([jnp.eye(n), -jnp.eye(n)]) * np.sqrt((2 * n - 1) / 2)
    process, c = VPSDE(), jnp.asarray(VARIANCES)

    def model(x, t, gates):
        a, s = process.alpha(t), process.sigma(t)
        return x * a * c / (a**2 * c + s**2)

    truth = Moments(jnp.zeros(n), jnp.diag(c))
    distance = SampleDistance(levels(), model, z, truth)
    for steps in ((5, 12), (20, 40)):
        np.testing.assert_allclose(distance(steps), figures(steps), rtol=1e-9)
    with pytest.raises(ValueError, match="different ones"):
        distance((5, 5))
    # a solver of second order does better with as many steps, and both agree with one
    second = SampleDistance(levels(), model, z, truth, sampler=dpm_solver)
    np.testing.assert_allclose(second((7,)), distance((7,)), rtol=1e-9)
    grid = tuple(range(3, 60, 7))
    assert second(grid) < distance(grid)
    # continuous times: no set of nodes is better than where the gradient leads from the best of them
    few = lambda times: frechet_distance(Moments.of(ddim(Chain.of_process(process, times), z, model)), truth)
    found = learn_times(few, (jnp.array([5.0, 12.0]) + 1) / T)
    assert found.value < figures((5, 12))
    assert found.value > 0.99 * figures((5, 12))
    assert np.all(np.diff(np.asarray(found.times)) > 0)


def test_a_value_without_a_gradient_is_told():
    """Two equal numbers under a root: finite, and its gradient is not."""
    rough = lambda t: jnp.sqrt(jnp.sum((t - t[0]) ** 2) * 0) + jnp.sum(t)
    with pytest.raises(FloatingPointError, match="learn_times"):
        learn_times(rough, jnp.array([0.3, 0.6]))


def test_gates():
    """All on: the network bit by bit. Off in one step: that step alone has fewer layers."""
    network = ResidualNetwork(4, width=8, blocks=2, key=jax.random.key(0))
    network = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), network)
    x = jax.random.normal(jax.random.key(1), (3, 4))
    np.testing.assert_array_equal(network(x, 0.3, gates=jnp.ones(2)), network(x, 0.3))
    model = lambda x, t, gates: network(x, t, gates=gates)
    chain = levels().respaced(jnp.array([10, 30]))
    np.testing.assert_allclose(ddim(chain, x, model, jnp.ones((2, 2))), ddim(chain, x, model), rtol=1e-12)
    gates = jnp.array([[1.0, 1.0], [0.0, 1.0]])
    first = chain.reverse(x, model(x, chain.times[1], gates[1]), 1, 0.0)[0]
    expected = chain.reverse(first, model(first, chain.times[0], None), 0, 0.0)[0]
    np.testing.assert_allclose(ddim(chain, x, model, gates), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="takes no gates"):
        dpm_solver(chain, x, model, gates)


@pytest.mark.parametrize(
    "space", [StepSpace(9, 4, 2), LayerSpace(3, 4, 5), JointSpace(9, 3, 4, 5)], ids=lambda space: type(space).__name__
)
def test_children_belong_to_the_space(space):
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        one, other = space.random(random), space.random(random)
        children = (one, space.mutate(random, one, 0.5), space.cross(random, one, other))
        assert space.mutate(random, one, 0.0) == one
        for child in filter(None, children):
            parts = child if isinstance(space, JointSpace) else (child,)
            for part in parts:
                assert list(part) == sorted(set(part))
            if not isinstance(space, JointSpace):
                assert len(child) == (4 if isinstance(space, StepSpace) else 5)
            if not isinstance(space, StepSpace):
                gates = space.gates(child)
                assert gates.shape == (3, 4)
                assert np.sum(gates == 0) == 5
            seen.add(child)
    assert len(seen) <= space.size


def test_values_that_are_not_finite_are_counted_and_not_chosen():
    space = StepSpace(12, 2)
    value = lambda sets: [np.nan if a < 3 else a + b for a, b in sets]
    found = evolve(np.random.default_rng(0), space, value, population=20, mutants=10, crossovers=5, generations=3)
    assert found.best == (3, 4)
    assert found.invalid > 0
    with pytest.raises(ValueError, match="No candidate had a finite value"):
        evolve(np.random.default_rng(0), space, lambda sets: [np.inf] * len(sets), generations=0)


def test_a_set_in_another_order_is_the_same_set():
    """It is valued once, in the form that the space has."""
    valued = []

    def value(sets):
        valued.extend(sets)
        return [float(sum(one)) for one in sets]

    first = [(3, 1), [1, 3], np.array([3, 1])]
    found = evolve(np.random.default_rng(0), StepSpace(4, 2), value, first=first, population=6, parents=6, mutants=0,
                   crossovers=0, generations=2)  # fmt: skip
    assert len(valued) == len(set(valued)) == found.evaluations == 6
    assert valued[0] == (1, 3)
    for wrong in ((1, 1), (1,), (1, 4), (-1, 2)):
        with pytest.raises(ValueError, match="2 different numbers from 0 to 3"):
            evolve(np.random.default_rng(0), StepSpace(4, 2), value, first=[wrong])
    assert JointSpace(4, 2, 3, 2).canonical(([2, 0], (5, 1))) == ((0, 2), (1, 5))


def test_a_final_chooses_with_fresh_noise():
    """Of two that the search cannot tell apart."""
    value = lambda one: float(one[0] > 1)
    final = lambda one: abs(one[0] - 1.0)
    found = search_schedule(np.random.default_rng(0), StepSpace(8, 1), value, final=final, finalists=3)
    assert found.best == (1,)
    assert found.value == 0
    assert len(found.finals) == 3


def test_spacings():
    chain = levels()
    assert spaced("stride", chain, 4) == (0, 15, 30, 45)
    assert spaced("linspace", chain, 3) == (0, 30, 59)
    assert spaced("quadratic", chain, 3) == (0, 15, 59)
    log_snr = 0.5 * np.log(np.asarray(chain.alpha_bar) / (1 - np.asarray(chain.alpha_bar)))
    middle = spaced("log SNR", chain, 3)[1]
    assert abs(log_snr[middle] - (log_snr[0] + log_snr[-1]) / 2) <= np.max(np.abs(np.diff(log_snr))) / 2
    for name in SPACINGS:
        assert len(spaced(name, chain, 5)) == 5
    with pytest.raises(ValueError, match="name must be one of"):
        spaced("cosine", chain, 3)
    with pytest.raises(ValueError, match="count must be at most"):
        spaced("stride", chain, 61)
    with pytest.raises(ValueError, match="would repeat"):
        spaced("log SNR", chain, 50)


def test_times_of_logits_and_back():
    times = jnp.array([0.1, 0.4, 0.9])
    np.testing.assert_allclose(increasing_times(gradient.logits_of(times)), times, rtol=1e-12)
    with pytest.raises(ValueError, match="times must rise strictly"):
        gradient.logits_of(jnp.array([0.5, 0.4]))


def test_bad_input():
    with pytest.raises(ValueError, match="count must be at most steps"):
        StepSpace(3, 4)
    with pytest.raises(ValueError, match="count must be at least 1"):
        StepSpace(3, 0)
    with pytest.raises(ValueError, match="off must be from 1"):
        LayerSpace(2, 2, 4)
    with pytest.raises(ValueError, match="together at most the population"):
        evolve(np.random.default_rng(0), StepSpace(3, 1), len, population=4)


@pytest.mark.parametrize("module", [evolution, gradient, samplers], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_bars_of_the_full_run():
    assert_bars_met("autodiffusion", experiment, Settings(transfer=True))
