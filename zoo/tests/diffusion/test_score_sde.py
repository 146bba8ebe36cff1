"""Score-based modelling: conditions against Bayes' formula, the loss against its minimizer, figures of recursions."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.diffusion.mixtures import GaussianMixture, score_of
from dini_zoo.diffusion.predictor_corrector import Langevin, pc_sample
from dini_zoo.diffusion.score_sde import (
    VPSDE,
    dsm_loss,
    exact,
    guidance,
    guided_score,
    images,
    losses,
    observe_linear,
    observe_mask,
    report,
)
from dini_zoo.diffusion.score_sde.experiment import experiment


def test_recursions_have_the_figures_of_the_specification():
    """Errors of the standard deviation that each sampler leaves on normal data, for an infinite batch."""
    process, corrector = exact.VESDE(0.01, 10.0), Langevin(exact.SNR)
    for (name, steps, corrected), error in report.NORMAL.items():
        if steps > 50:
            continue  # these are in the experiment
        found = exact.std_error(process, exact.PREDICTORS[name], corrector if corrected else None, steps)
        assert abs(abs(found) - error) < 3e-5, (name, steps, corrected)
    assert abs(exact.std_error(process, None, corrector, 50) - 8.55) < 0.005


def test_a_known_likelihood_s_score_makes_the_posterior():
    """Normal prior, one noisy linear measurement: the guided score is the posterior's, in closed form."""
    prior, c = GaussianMixture([1.0], [[0.3, -0.2]], [0.5]), jnp.array([1.0, 2.0])
    y, noise = 0.7, 0.4
    guided = guided_score(lambda x, t: prior.score(x), lambda x, t: -0.5 * (y - x @ c) ** 2 / noise)
    precision = np.eye(2) / 0.5 + np.outer(c, c) / noise
    mean = np.linalg.solve(precision, prior.means[0] / 0.5 + c * y / noise)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    np.testing.assert_allclose(guided(x, 0.0), -(x - mean) @ precision, rtol=1e-10)
    # with twice the scale the measurement counts twice
    twice = guided_score(lambda x, t: prior.score(x), lambda x, t: -0.5 * (y - x @ c) ** 2 / noise, 2.0)
    np.testing.assert_allclose(twice(x, 0.0) - guided(x, 0.0), guided(x, 0.0) - prior.score(x), rtol=1e-10)


@pytest.mark.parametrize("weighting", ["variance", pytest.param("likelihood", marks=pytest.mark.thorough)])
def test_the_loss_has_its_minimum_at_the_score(weighting):
    """Its slope along any direction is zero at the exact score, up to chance, and is not beside it."""
    process, data = VPSDE(), GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.2, 0.3])
    # times of one batch differ from point to point
    score = jax.vmap(lambda x, t: score_of(data, process)(x[None], t)[0])

    @jax.jit
    @jax.vmap
    def slopes(key):
        for_data, for_loss = jax.random.split(key)
        x0 = data.sample(for_data, 2000)

        def loss(c, scale):
            return dsm_loss(
                lambda x, t: scale * score(x, t) + c * jnp.cos(x),
                process,
                x0,
                for_loss,
                weighting=weighting,
                first=0.05,
            )

        return jax.grad(loss)(0.0, 1.0), jax.grad(loss)(0.0, 1.3), jax.grad(loss, argnums=1)(0.0, 1.3)

    at, _, beside = slopes(jax.random.split(jax.random.key(0), 64))
    assert abs(at.mean()) < 4 * at.std() / 8
    assert beside.mean() > 10 * beside.std() / 8
    with pytest.raises(ValueError, match="weighting must be one of"):
        dsm_loss(score, process, jnp.zeros((1, 1)), jax.random.key(0), weighting="all")
    with pytest.raises(ValueError, match="first must be positive"):
        dsm_loss(score, process, jnp.zeros((1, 1)), jax.random.key(0), first=0.0)


def test_known_numbers_are_put_in():
    """A mask, and the same as a linear measurement; the mean has what is known without noise."""
    process, x = VPSDE(), jnp.ones((3, 4))
    mask, y, t = jnp.array([True, False, True, False]), jnp.array([0.5, 9.0, -0.5, 9.0]), 0.3
    new, mean = observe_mask(process, mask, y)(jax.random.key(0), x, 2 * x, t)
    np.testing.assert_array_equal(new[:, ~mask], x[:, ~mask])
    np.testing.assert_allclose(mean[:, mask], np.broadcast_to(process.alpha(t) * y[mask], (3, 2)))
    np.testing.assert_array_equal(mean[:, ~mask], 2 * x[:, ~mask])
    many = observe_mask(process, mask, y)(jax.random.key(0), jnp.ones((20000, 4)), jnp.ones((20000, 4)), t)[0][:, 0]
    assert abs(many.mean() - process.alpha(t) * 0.5) < 4 * process.sigma(t) / np.sqrt(20000)
    assert abs(many.std() / process.sigma(t) - 1) < 4 / np.sqrt(40000)
    # a grey level of three channels
    Q = np.linalg.qr(np.c_[np.ones(3), np.random.default_rng(0).normal(size=(3, 2))])[0]
    grey = jnp.array([0.4])
    colors, mean = observe_linear(process, Q, grey)(jax.random.key(0), jnp.ones((5, 3)), jnp.ones((5, 3)), t)
    np.testing.assert_allclose(mean @ Q[:, :1], np.full((5, 1), process.alpha(t) * 0.4), rtol=1e-9)
    np.testing.assert_allclose(colors @ Q[:, 1:], np.ones((5, 3)) @ Q[:, 1:], atol=1e-9)
    with pytest.raises(ValueError, match="orthonormal"):
        observe_linear(process, np.ones((3, 3)), grey)
    with pytest.raises(ValueError, match="at most 3 measurements"):
        observe_linear(process, Q, jnp.ones(4))
    with pytest.raises(ValueError, match="mask must have the shape of y"):
        observe_mask(process, mask, y[:2])
    with pytest.raises(ValueError, match="mask must have the shape of points"):
        observe_mask(process, mask, y)(jax.random.key(0), jnp.ones((3, 5)), jnp.ones((3, 5)), t)


def test_a_bad_lane_of_a_batch_stays_alone():
    """Not finite in one of several samplers side by side: the others are as without it."""
    process = VPSDE()
    sample = jax.jit(
        jax.vmap(
            lambda key, scale: pc_sample(
                key, process, lambda x, t: -scale * x, (4, 1), num_steps=25, corrector=Langevin(0.1)
            )
        )
    )
    keys = jax.random.split(jax.random.key(0), 2)
    bad, good = sample(keys, jnp.array([jnp.nan, 1.0]))
    assert np.all(np.isnan(bad))
    np.testing.assert_array_equal(good, sample(keys, jnp.ones(2))[1])


def test_grey_levels_and_bits():
    """Uniform images have the bits of 17 levels, and levels survive being made real numbers."""
    from dini_zoo.diffusion.digits import bits_per_pixel, dequantised

    np.testing.assert_allclose(bits_per_pixel(-64 * np.log(2.0)), np.log2(17), rtol=1e-12)
    pixels = np.arange(17).repeat(4)[:64][None]
    x = dequantised(jax.random.key(0), pixels)
    np.testing.assert_allclose(images.grey(np.asarray(x)).ravel() * 16, pixels[0])


@pytest.mark.parametrize("module", [losses, guidance], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_bars_of_the_full_run():
    assert_bars_met("score-sde", experiment)
