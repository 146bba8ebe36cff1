"""Soft value-based decoding: known laws of short words, closed forms in the plane, what must not change, bad input."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met
from scipy import stats

from dini_zoo.diffusion import masked
from dini_zoo.diffusion.chain_sampling import chain_sample
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.svdd import (
    GaussianReverse,
    Guided,
    MaskedReverse,
    PosteriorMean,
    best_of_n,
    decoding,
    fit_mc_value,
    host_reward,
    plane,
    sample,
    svdd_sample,
    svdd_step,
    values,
    words,
)
from dini_zoo.diffusion.svdd.experiment import experiment

EXACT = lambda x, i: x / (1.0 + i)  # some data prediction


def chain():
    """A short one, of the precision of the tests."""
    return Chain.of_betas(jnp.linspace(0.01, 0.4, 6))


@pytest.fixture(scope="module")
def known():
    with jax.enable_x64(True):
        return words.known()


def test_the_dynamic_programme_is_that_of_the_specification(known):
    """Figures made with other code; the optimal chain has the tilted law; transitions sum to one; one posterior by
    hand."""
    np.testing.assert_allclose(known.soft[-1, words.ALL_HIDDEN], 1.18189734, atol=5e-9)
    assert abs(known.law @ known.rewards - 0.4950) < 5e-5
    assert abs(known.target @ known.rewards - 1.9539) < 5e-5
    np.testing.assert_allclose(words.decoded_law(known), known.target, atol=1e-12)
    for t in (1, 4, 6):
        np.testing.assert_allclose(known.step.expected(np.ones(words.STATES), t), 1.0, atol=1e-12)
    chain = words.MarkovChain.drawn()
    state = np.array([words.MASK, 2, words.MASK, 1, 0, 3])
    first = chain.start * chain.rows[:, 2]
    third = chain.rows[2] * chain.rows[:, 1]
    found = known.denoiser[int(words.code(jnp.asarray(state)))]
    np.testing.assert_allclose(found[[0, 2]], [first / first.sum(), third / third.sum()], rtol=1e-12)
    np.testing.assert_array_equal(
        np.asarray(words.reward(jnp.array([[0, 1, 0, 1, 3, 3], [3, 0, 1, 2, 2, 2]]))), [2, 1.5]
    )


def test_words_are_decoded_with_the_law_that_they_should_have(known):
    """One program: exact values at the tilted temperature; a high temperature is no guidance; shifted and scaled
    rewards change nothing; zero is the greatest value."""
    n, count = 4000, 4
    table, denoiser = jnp.asarray(words.tables(known)["exact"]), jnp.asarray(known.denoiser)

    @jax.jit
    def decoded(key, shift, scale, temperature):
        value = lambda x, t: shift + scale * table[t, words.code(x)]
        found = svdd_sample(key, words.kernel_of(denoiser), value, batch=n, candidates=count, temperature=temperature)
        return words.code(found.x), found.values, found.invalid

    key = jax.random.key(0)
    mean = lambda codes: known.rewards[np.asarray(codes)].mean()
    at, rewards, invalid = decoded(key, 0.0, 1.0, 0.3)
    assert invalid == 0
    np.testing.assert_allclose(rewards, known.rewards[np.asarray(at)])
    assert abs(mean(at) - 1.316) < 4 * 1.0 / np.sqrt(n)  # the reward's deviation is about 1
    np.testing.assert_array_equal(decoded(key, 1024.0, 1.0, 0.3)[0], at)
    for scale in (1e6, 1e-6):
        np.testing.assert_array_equal(decoded(key, 0.0, scale, 0.3 * scale)[0], at)
    hot = np.asarray(decoded(key, 0.0, 1.0, 1e9)[0])
    assert abs(mean(hot) - 0.4950) < 4 * 0.7 / np.sqrt(n)
    apart = lambda codes, law: 0.5 * np.abs(np.bincount(np.asarray(codes), minlength=words.STATES) / n - law).sum()
    random = np.random.default_rng(0)
    floor = apart(random.choice(words.STATES, n, p=known.law / known.law.sum()), known.law)
    assert abs(apart(hot, known.law) - floor) < 0.02
    assert mean(decoded(key, 0.0, 1.0, 0.0)[0]) > mean(at) + 0.3


def test_one_candidate_is_the_frozen_sampler():
    """Bit by bit, with the same key, of words and of points; and the chain's own sampler up to rounding."""
    key = jax.random.key(3)
    kernel = MaskedReverse(lambda x, m: jnp.cos(x[..., None] + jnp.arange(4.0)), masked.linear_masks(3), 5, 4)
    value = PosteriorMean(kernel, lambda x: jnp.sum(x, axis=-1))
    found = svdd_sample(key, kernel, value, batch=7, candidates=1, temperature=0.1)
    np.testing.assert_array_equal(found.x, sample(key, kernel, 7))
    assert np.all(np.asarray(found.x) < 4)
    kernel = GaussianReverse(chain(), EXACT, (2,))
    value = PosteriorMean(kernel, lambda x: x[:, 0])
    found = svdd_sample(key, kernel, value, batch=7, candidates=1, temperature=0.1)
    np.testing.assert_array_equal(found.x, sample(key, kernel, 7))
    start = kernel.start(decoding.start_key_of(key, len(chain())), 7)
    np.testing.assert_allclose(found.x, chain_sample(key, start, chain(), EXACT, eta=1.0), rtol=1e-12)


def test_a_prediction_that_is_kept_changes_nothing():
    """The same value as a function that the sampler knows nothing of calls the network anew."""
    kernel = GaussianReverse(chain(), EXACT, (2,), last_std=0.1)
    value = PosteriorMean(kernel, lambda x: jnp.floor(4 * x[:, 0]))
    key = jax.random.key(0)
    options = {"batch": 20, "candidates": 3, "temperature": 0.5, "select_start": True, "resample_fraction": 0.2}
    one = svdd_sample(key, kernel, value, **options)
    other = svdd_sample(key, kernel, lambda x, t: value(x, t), **options)
    np.testing.assert_allclose(one.x, other.x, rtol=1e-12)
    np.testing.assert_allclose(one.values, np.floor(4 * one.x[:, 0]))


def test_a_step_of_masks_has_its_law(known):
    """Draws from one state against its transitions."""
    n, t = 20000, 3
    state = np.array([4, 0, 4, 4, 2, 4])
    kernel = words.kernel_of(jnp.asarray(known.denoiser))
    x = jnp.asarray(state)[None]
    drawn = jax.jit(lambda key: words.code(kernel.draw(key, x, kernel.predict(x, t), t, n)[0]))(jax.random.key(0))
    start = known.step.source == int(words.code(x)[0])
    law = np.bincount(known.step.target[start], known.step.probability(t)[start], minlength=words.STATES)
    found = np.bincount(np.asarray(drawn), minlength=words.STATES)
    assert np.all(found[law == 0] == 0)
    often = law * n > 10
    statistic = np.sum((found - law * n)[often] ** 2 / (law * n)[often])
    assert statistic < stats.chi2.ppf(1 - 1e-4, often.sum())


def test_the_soft_value_in_the_plane():
    """Against an integral over the data on a grid, at a level in the middle and at the last one."""
    data, levels = plane.mixture(), plane.chain()
    value = plane.soft_value(data, levels, plane.SLOPE, plane.TEMPERATURE)
    side = np.linspace(-5, 5, 401)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    log_p = np.asarray(data.log_prob(jnp.asarray(grid)))
    x = np.array([[0.3, -0.4], [-1.0, 1.2]])
    for t in (20, 60):
        alpha_bar = float(levels.alpha_bar[t - 1])
        away = x[:, None] - np.sqrt(alpha_bar) * grid
        logs = log_p - 0.5 * np.sum(away**2, axis=-1) / (1 - alpha_bar)
        logs -= logs.max(axis=1, keepdims=True)
        weights = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        mean = weights @ np.exp(grid @ np.array(plane.SLOPE) / plane.TEMPERATURE)
        np.testing.assert_allclose(value(jnp.asarray(x), t), plane.TEMPERATURE * np.log(mean), rtol=1e-6)
    np.testing.assert_allclose(value(jnp.asarray(x), 0), x @ np.array(plane.SLOPE))


def test_guidance_is_corrected_by_the_ratio_of_densities():
    kernel = GaussianReverse(chain(), EXACT, (2,))
    guide = Guided(kernel, PosteriorMean(kernel, lambda x: jnp.sin(x[:, 0]) + x[:, 1]), 0.3)
    x, t = jnp.array([[0.5, -1.0], [2.0, 0.1]]), 4
    predicted = guide.predict(x, t)
    drawn = guide.draw(jax.random.key(0), x, predicted, t, 3)
    mean, std = kernel.law(x, predicted[0], t)
    # the value is of x / t, so its gradient is cos(x₁ / t) / t and 1 / t
    slope = np.stack([np.cos(x[:, 0] / t), np.ones(2)], axis=1) / t
    moved = mean + std**2 / 0.3 * slope
    density = lambda center: stats.norm.logpdf(drawn, center[:, None], std).sum(axis=-1)
    np.testing.assert_allclose(guide.log_ratio(x, predicted, drawn, t), density(mean) - density(moved), rtol=1e-9)
    np.testing.assert_array_equal(guide.log_ratio(x, predicted, drawn, 1), np.zeros((2, 3)))


def test_values_are_fitted_to_the_mean_and_to_the_soft_value():
    """A model that knows the level alone, of rewards 0 and 1: both minimizers are known."""

    class Levels(eqx.Module):
        table: jax.Array

        def __call__(self, x, t):
            return jnp.broadcast_to(self.table[t], (len(x),))

    paths = jnp.tile(jnp.array([0.0, 0.0, 0.0, 1.0])[None, :, None], (3, 1, 1))
    for loss, temperature, expected in (("mean", 1.0, 0.25), ("soft", 0.2, 0.2 * np.log(0.75 + 0.25 * np.exp(5.0)))):
        value = fit_mc_value(
            jax.random.key(0),
            paths,
            lambda x: x[:, 0],
            Levels(jnp.zeros(3)),
            optax.adam(optax.cosine_decay_schedule(0.3, 400)),
            steps=400,
            batch=12,
            loss=loss,
            temperature=temperature,
        )
        np.testing.assert_allclose(value(paths[0], 1), expected, rtol=2e-3)
        np.testing.assert_array_equal(value(paths[0], 0), paths[0, :, 0])
    with pytest.raises(ValueError, match="reward must be finite on the rollouts"):
        fit_mc_value(
            jax.random.key(0), paths, lambda x: x[:, 0] / 0, Levels(jnp.zeros(3)), optax.sgd(1.0), steps=1, batch=1
        )


def test_the_lowest_are_replaced_by_the_rest():
    values_ = jnp.array([5.0, -1.0, 3.0, 0.0, 4.0])
    found = jax.vmap(lambda key: decoding.replaced(key, values_, 0.4, 1.0))(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_array_equal(found[:, [0, 2, 4]], np.tile([0, 2, 4], (2000, 1)))
    shares = [np.mean(found[:, [1, 3]] == i) for i in (0, 2, 4)]
    expected = np.exp([5.0, 3.0, 4.0]) / np.exp([5.0, 3.0, 4.0]).sum()
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / np.sqrt(4000))


def test_a_reward_that_is_not_a_number_is_seen():
    """It raises, or is counted and not chosen; another lane of a batch does not see it."""
    kernel = GaussianReverse(chain(), EXACT, (1,), last_std=0.5)

    def decoded(key, bad, invalid):
        value = lambda x, t: jnp.where(x[:, 0] > 0, bad, x[:, 0])
        return svdd_sample(key, kernel, value, batch=8, candidates=6, temperature=0.1, invalid=invalid)

    both = jax.jit(jax.vmap(lambda bad: decoded(jax.random.key(0), bad, "reject")))
    found, plain = both(jnp.array([jnp.nan, 0.0])), both(jnp.array([0.0, 0.0]))
    np.testing.assert_array_equal(found.x[1], plain.x[1])
    assert found.invalid[0] > 0
    assert found.invalid[1] == 0
    # where every candidate is bad one of them is taken, and its value says so
    bad = np.asarray(found.x[0, :, 0]) > 0
    assert np.mean(bad) < 0.5
    np.testing.assert_array_equal(np.isneginf(found.values[0]), bad)
    never = both(jnp.array([-jnp.inf, 0.0]))
    assert never.invalid[0] == 0
    np.testing.assert_array_equal(never.x[0], found.x[0])
    with pytest.raises(Exception, match="A value or reward is NaN"):
        jax.block_until_ready(decoded(jax.random.key(0), jnp.inf, "raise"))


def test_the_best_of_several():
    kernel = GaussianReverse(chain(), EXACT, (1,))
    found = best_of_n(jax.random.key(0), kernel, lambda x: x[:, 0], batch=4, n=5)
    whole = np.asarray(sample(jax.random.key(0), kernel, 20)).reshape(4, 5)
    np.testing.assert_array_equal(found.x[:, 0], whole.max(axis=1))


def test_bad_input():
    key, kernel = jax.random.key(0), GaussianReverse(chain(), EXACT, (1,))
    value = PosteriorMean(kernel, lambda x: x[:, 0])
    options = {"batch": 2, "candidates": 2, "temperature": 1.0}
    for name, bad in (("temperature", -1.0), ("candidates", 0), ("batch", 0), ("resample_fraction", 1.0)):
        with pytest.raises(ValueError, match=name):
            svdd_sample(key, kernel, value, **options | {name: bad})
    with pytest.raises(ValueError, match="has no noise"):
        svdd_sample(key, GaussianReverse(chain(), EXACT, (1,), eta=0.0), value, **options)
    with pytest.raises(ValueError, match="temperature must be positive"):
        svdd_sample(key, kernel, value, proposal=Guided(kernel, value, 1.0), **options | {"temperature": 0.0})
    with pytest.raises(ValueError, match="invalid must be one of"):
        svdd_step(key, jnp.ones((1, 1)), lambda *_: None, lambda x: x, 1.0, 1, invalid="ignore")
    with pytest.raises(ValueError, match="masks must rise from 0"):
        MaskedReverse(EXACT, [0.5, 1.0], 2, 2)
    with pytest.raises(ValueError, match="fall from each to the next"):
        MaskedReverse(EXACT, [0.0, 0.5, 0.5], 2, 2)
    with pytest.raises(ValueError, match="need a key"):
        PosteriorMean(kernel, value, fills=2)
    with pytest.raises(Exception, match="one number for each of 3 points"):
        jax.block_until_ready(host_reward(lambda x: x)(jnp.ones((3, 2))))


@pytest.mark.parametrize("module", [masked, values, decoding], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_bars_of_the_full_run():
    assert_bars_met("svdd", experiment)
