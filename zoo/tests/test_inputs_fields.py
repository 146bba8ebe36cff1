"""What was accepted without a word in bilevel, diffusion, equations and generative; as in `test_inputs.py`.

A check of traced values marks what the public function returns, and an object that is made of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def refused(call, words, kind=(ValueError, TypeError)):
    with pytest.raises(kind, match=words):
        call()


def lanes(function, values):
    """Of each value whether the result is NaN, where it is traced."""
    return np.isnan(jax.vmap(function)(jnp.asarray(values))).reshape(len(values), -1).any(axis=1).tolist()


def test_settings_that_are_traced_mark_what_is_made_of_them():
    from dini_zoo.diffusion.chains import Chain
    from dini_zoo.diffusion.mean_reverting import MeanRevertingSDE
    from dini_zoo.diffusion.processes import VESDE, VPSDE
    from dini_zoo.generative.continuous_speculative_decoding import Gaussian

    assert lanes(lambda b: VPSDE(b, 20.0).alpha(0.5), [0.1, -1.0, 30.0]) == [False, True, True]
    assert lanes(lambda s: VESDE(s, 50.0).sigma(0.5), [0.1, -1.0, 60.0]) == [False, True, True]
    assert lanes(lambda b: Chain.of_betas(jnp.stack([b, 0.2])).alpha_bar, [0.1, -0.1, 1.5]) == [False, True, True]
    assert lanes(lambda s: Gaussian(jnp.zeros(1), s[None])(jnp.ones(1)), [1.0, -1.0, 0.0]) == [False, True, True]
    steady = lambda s: MeanRevertingSDE(lambda t: 1.0 * t, jnp.ones_like, s)
    assert lanes(lambda s: steady(s).sigma(0.5), [1.0, -1.0]) == [False, True]
    # derivatives of what is right are those of before
    assert jax.grad(lambda s: VESDE(s, 50.0).sigma(1.0))(0.1) == pytest.approx(0, abs=1e-3)


def test_levels_that_are_no_vector():
    from dini_zoo.diffusion.chains import Chain

    refused(lambda: Chain.of_betas(jnp.full((2, 2), 0.1)), r"betas must have the shape \(T,\)")
    assert len(Chain.of_betas([0.1, 0.2])) == 2


def test_known_codes_that_are_none():
    from dini_zoo.generative.vq_ddm import MultinomialDiffusion, autoregressive_sample, cosine_alphas

    network = lambda z, t: jnp.zeros((*z.shape, 3))
    diffusion = MultinomialDiffusion.of_alphas(cosine_alphas(3), 3)
    mask, key = jnp.array([True, False]), jax.random.key(0)
    for sample in (autoregressive_sample, diffusion.sample):
        draw = lambda known, sample=sample, mask=mask: sample(network, key, (1, 2), known=known, mask=mask)
        assert draw(jnp.array([2, 0]))[0, 0] == 2
        for wrong in (-1, 3):
            refused(lambda draw=draw, wrong=wrong: draw(jnp.array([wrong, 0])), "known must be from 0 to 2")
        refused(
            lambda draw=draw: draw(jnp.array([2, 0]), mask=jnp.array([1, 0])), r"mask must be (of booleans|Booleans)"
        )
        refused(lambda draw=draw: draw(jnp.array([2, 0, 1])), "known must broadcast")
        found = jax.jit(jax.vmap(draw))(jnp.array([[2, 0], [3, 0], [-1, 0]]))
        assert found[:, 0, 0].tolist() == [2, -1, -1]
    noised = lambda z, t: diffusion.noised(key, z, t)
    refused(lambda: noised(jnp.array([[3]]), 0), "z0 must be from 0 to 2")
    refused(lambda: noised(jnp.array([[1]]), jnp.zeros((1, 1), int)), "t must have the shape")
    assert (jax.vmap(noised, (0, None))(jnp.array([[[1]], [[3]]]), 0)[:, 0, 0] == -1).tolist() == [False, True]
    assert (jax.vmap(noised, (None, 0))(jnp.array([[1]]), jnp.array([0, 5]))[:, 0, 0] == -1).tolist() == [False, True]


def test_tokens_that_are_none():
    from dini_zoo.diffusion.masked import token_probabilities

    law = lambda x: token_probabilities(jnp.zeros((3, 2)), x, mask=2)
    np.testing.assert_allclose(law(jnp.array([0, 1, 2])), [[1, 0], [0, 1], [0.5, 0.5]])
    for wrong in (-1, 3):
        refused(lambda wrong=wrong: law(jnp.array([0, 1, wrong])), "x must be from 0 to 1")
    assert np.isnan(jax.jit(law)(jnp.array([0, 3, 2]))).any(axis=1).tolist() == [False, True, False]


def test_rows_and_steps_that_there_are_not():
    from dini_zoo.bilevel.self_tuning_networks import HyperEmbedding
    from dini_zoo.diffusion.chains import Chain
    from dini_zoo.generative.smooth_diffusion.regularizer import data_of_noise

    layer = HyperEmbedding(4, 2, n_hyper=1, key=jax.random.key(0))
    row = lambda i: layer(i, jnp.ones(1))
    refused(lambda: row(jnp.array([4])), "i must be from 0 to 3")
    assert lanes(row, [3, 4, -1]) == [False, True, True]
    chain = Chain.of_betas(jnp.array([0.1, 0.2]))
    told = lambda i: data_of_noise(lambda x, t: x, chain, jnp.ones((1, 1)), i)(jnp.ones((1, 1)))[0]
    refused(lambda: told(2), "i must be from 0 to 1")
    assert lanes(told, [1, 2, -1]) == [False, True, True]


def test_increments_outside_of_the_grid():
    from dini_zoo.equations.fractional_sde.brownian import GridBrownianPath

    path = GridBrownianPath(np.array([0.0, 0.5, 1.0]), (1,), key=jax.random.key(0))
    assert np.isfinite(path.evaluate(0.5, 1.0)).all()
    for ends in ((-0.5, 0.0), (1.0, 1.5)):
        refused(lambda ends=ends: path.evaluate(*ends), "must be from 0 to 1")


def test_a_projection_of_integers_and_of_other_trees():
    from dini_zoo.bilevel.bo_rep import project_to_ball

    np.testing.assert_allclose(project_to_ball(jnp.array([3, 4]), jnp.zeros(2), 1.0), [0.6, 0.8], rtol=1e-6)
    refused(lambda: project_to_ball(jnp.ones((2, 1)), jnp.zeros(2), 1.0), "tree must have the shape of center")
    assert np.isnan(project_to_ball(jnp.ones(2), jnp.array([jnp.nan, 0.0]), 1.0)).all()
    assert lanes(lambda radius: project_to_ball(jnp.ones(2), jnp.zeros(2), radius), [1.0, -1.0]) == [False, True]


def test_a_schedule_of_steps_may_end_at_zero():
    from dini_zoo.bilevel.sd_darts import arch_gradient

    run = lambda xi: arch_gradient(
        lambda w, a, _: (w - a) ** 2, lambda w, a, _: w**2, 1.0, 1.0, None, None, mode="second", xi=xi
    )
    assert lanes(run, [0.25, 0.0, -1.0]) == [False, False, True]


def test_tokens_until_beyond_the_sequence():
    from dini_zoo.diffusion.chains import Chain
    from dini_zoo.generative.continuous_speculative_decoding import GaussianHead, Model, sequential_decode

    head = GaussianHead(Chain.of_betas(jnp.array([0.1, 0.5])), lambda u, t, c: u, 1)
    run = lambda until: sequential_decode(
        jax.random.key(0), Model(lambda tokens: tokens[:, 0], head), jnp.ones((1, 1)), 2, until=until
    )
    for wrong in (0, 3):
        refused(lambda wrong=wrong: run(wrong), "until")
    assert run(1).shape == (2, 1)


def test_counts_that_are_fractions():
    from dini_zoo.privacy.diff2.budget import calibrate
    from dini_zoo.privacy.private_gsd import Categorical, Domain
    from dini_zoo.privacy.private_gsd.queries import mixed_marginals

    refused(lambda: calibrate(1.0, 1e-5, rounds=20.5, restart_every=5, sizes=[10]), "rounds")
    refused(lambda: mixed_marginals(Domain.of({"a": Categorical(3), "b": Categorical(2)}), bins=(2.5,)), "bins")
