"""VQ-DDM: the exact checks of its specification by their numbers, and what bad input gets."""

import doctest
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.generative.vq_ddm import MultinomialDiffusion, cosine_alphas, multinomial, schedules
from dini_zoo.generative.vq_ddm.experiment import experiment
from dini_zoo.generative.vq_ddm.multinomial import last_of_strides
from dini_zoo.generative.vq_ddm.schedules import ImportanceTimeSampler


def of(steps, codes, **options):
    return MultinomialDiffusion.of_alphas(cosine_alphas(steps), codes, **options)


def matrices(alphas, codes):
    """One-step transitions, in NumPy."""
    return [a * np.eye(codes) + (1 - a) / codes for a in alphas]


def test_the_posterior_is_that_of_bayes():
    """Exact checks 1 and 2: the posterior, the plug-in form and the mixture, by numbers and by brute force."""
    diffusion, alphas = of(10, 4), cosine_alphas(10)
    steps, p0 = matrices(alphas, 4), np.array([0.1, 0.6, 0.2, 0.1])

    @jax.jit
    def laws(z_t, t):
        codes = diffusion.log_onehot(jnp.arange(4))[:, None]
        told = jnp.broadcast_to(jnp.log(p0), (4, 1, 4))
        z = jnp.full((4, 1), z_t)
        mixture = MultinomialDiffusion(diffusion.log_alpha, 4, rule="mixture").reverse_logits(told, z, t)
        found = diffusion.posterior_logits(codes, z, t), diffusion.reverse_logits(told, z, t), mixture
        return [jnp.exp(one)[:, 0] for one in found]

    for t, z_t in itertools.product((0, 1, 5, 9), range(4)):
        before = np.linalg.multi_dot([np.eye(4), np.eye(4), *steps[:t]])
        # z_0 in rows: q(z_{t-1} | z_0) q(z_t | z_{t-1}), normalized
        joint = before * steps[t][:, z_t]
        truth = joint / joint.sum(axis=1, keepdims=True)
        posterior, plug_in, mixture = laws(z_t, t)
        np.testing.assert_allclose(posterior, truth, atol=1e-12)
        np.testing.assert_allclose(mixture[0], p0 @ truth, atol=1e-12)
        plug = (p0 @ before) * steps[t][:, z_t]
        np.testing.assert_allclose(plug_in[0], plug / plug.sum(), atol=1e-12)
    of_2, of_1, of_3 = laws(2, 5)[0][1], laws(1, 5)[0][1], laws(3, 5)
    np.testing.assert_allclose(of_2, [0.0302229148, 0.3160179383, 0.6235362321, 0.0302229148], atol=1e-10)
    np.testing.assert_allclose(of_1[:2], [0.0045719484, 0.9862841548], atol=1e-10)
    np.testing.assert_allclose(of_3[1][0], [0.0376684770, 0.1292077691, 0.0559763355, 0.7771474184], atol=1e-10)
    np.testing.assert_allclose(of_3[2][0], [0.0562373205, 0.1991348322, 0.0848168229, 0.6598110243], atol=1e-10)


def test_the_schedules():
    """Exact checks 3 and 5."""
    rooted, plain, long = cosine_alphas(10), cosine_alphas(10, power=1.0), cosine_alphas(100)
    np.testing.assert_allclose(np.cumprod(rooted)[[5, 9]], [0.5837890370, 0.0049083321], atol=1e-10)
    np.testing.assert_allclose(np.cumprod(plain)[[5, 9]], [0.3408096398, 2.409172e-5], atol=1e-10)
    np.testing.assert_allclose([long[0], np.prod(long)], [0.9996843094, 4.92805e-4], atol=1e-9)
    diffusion = of(10, 4)
    level = np.exp(diffusion.log_alpha_bar[-1])
    whole = np.linalg.multi_dot(matrices(rooted, 4))
    np.testing.assert_allclose(whole, level * np.eye(4) + (1 - level) / 4, atol=1e-12)
    rows = jnp.exp(diffusion.q_logits(diffusion.log_onehot(jnp.arange(4)[:, None]), 9))[:, 0]
    np.testing.assert_allclose(rows, whole, atol=1e-12)
    # a respaced chain has the same levels, and keeps the original steps
    some = diffusion.respaced([2, 5, 9])
    np.testing.assert_allclose(some.log_alpha_bar, diffusion.log_alpha_bar[jnp.array([2, 5, 9])], atol=1e-12)
    np.testing.assert_array_equal(some.steps, [2, 5, 9])
    np.testing.assert_array_equal(some.respaced([0, 2]).steps, [2, 9])
    for length, count in ((50, 50), (50, 1), (50, 7), (4000, 100)):
        found = last_of_strides(length, count)
        assert len(set(found)) == count
        assert found[-1] == length - 1
        assert found[0] >= 0


def test_a_perfect_model_pays_for_the_prior_alone():
    """Exact check 4; by hand at t = 0; and the prior's divergence by its definition."""
    diffusion = of(10, 4)
    z0 = jnp.array([[1, 3, 0]])
    terms = jax.jit(lambda logits, z_t, t: diffusion.terms(logits, z0, z_t, t))
    for t in (0, 1, 5, 9):
        assert abs(terms(diffusion.log_onehot(z0), jnp.array([[2, 3, 1]]), t)[0]) < 1e-12
    stay, other = np.diag(matrices(cosine_alphas(10), 4)[0])[0], matrices(cosine_alphas(10), 4)[0][0, 1]
    uniform = terms(jnp.zeros((1, 3, 4)), jnp.array([[2, 3, 1]]), 0)[0]
    # of three positions one kept its code
    np.testing.assert_allclose(uniform, -np.log(stay) - 2 * np.log(other), rtol=1e-12)
    last = np.linalg.multi_dot(matrices(cosine_alphas(10), 4))[0]
    np.testing.assert_allclose(diffusion.prior, np.sum(last * np.log(4 * last)), rtol=1e-9)
    exact = jax.jit(lambda key: diffusion.bound(lambda z, t: diffusion.log_onehot(z0), key, z0))(jax.random.key(0))
    np.testing.assert_allclose(exact, 3 * diffusion.prior, rtol=1e-9)
    # in single precision, also where the level is tiny, and where nothing is forgotten
    small = MultinomialDiffusion(jnp.float32([-12.0]), 4).prior
    np.testing.assert_allclose(small, 1.5 * np.exp(-24.0), rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(MultinomialDiffusion(jnp.zeros(1), 4).prior, np.log(4), rtol=1e-12)


def test_the_bound_by_enumeration():
    """Exact check 7: which p0 each rule wants."""
    data = np.array([0.6, 0.3, 0.1])
    entropy = -np.sum(data * np.log(data))

    def enumerated(steps, rule, posterior):
        diffusion = of(steps, 3, rule=rule)
        z0, z_t = (one.reshape(-1, 1) for one in jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"))

        @jax.jit
        def term(t):
            told = jnp.broadcast_to(jnp.log(data), (9, 1, 3))
            logits = diffusion.denoised_logits(told, z_t, t) if posterior else told
            noised = jnp.take_along_axis(diffusion.q_logits(diffusion.log_onehot(z0), t)[:, 0], z_t, axis=1)
            return jnp.sum(jnp.asarray(data)[z0[:, 0]] * jnp.exp(noised[:, 0]) * diffusion.terms(logits, z0, z_t, t))

        return sum(float(term(t)) for t in range(steps)) + diffusion.prior, diffusion

    found, diffusion = enumerated(20, "plug-in", False)
    np.testing.assert_allclose(found, 0.8979468761, atol=1e-9)
    marginal = data @ np.linalg.multi_dot(matrices(np.exp(np.asarray(diffusion.log_alpha)), 3))
    # the bound has the divergence of the last level given the data, which is no less than the marginal's
    np.testing.assert_allclose(entropy, 0.8979457249, atol=1e-10)
    np.testing.assert_allclose(found - entropy, np.sum(marginal * np.log(3 * marginal)), atol=1e-9)
    np.testing.assert_allclose(enumerated(20, "mixture", True)[0], 0.8979468761, atol=1e-9)
    np.testing.assert_allclose(enumerated(20, "plug-in", True)[0], 1.3238630652, atol=1e-9)


@pytest.mark.thorough
def test_the_bound_by_enumeration_of_many_steps():
    """Exact check 7 at T = 200, and a uniform p0."""
    data = np.array([0.6, 0.3, 0.1])
    for steps, told, expected in ((200, np.log(data), 0.8979457364), (20, np.zeros(3), np.log(3))):
        diffusion = of(steps, 3)
        z0, z_t = (one.reshape(-1, 1) for one in jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"))

        @jax.jit
        def term(t, told, diffusion=diffusion, z0=z0, z_t=z_t):
            noised = jnp.take_along_axis(diffusion.q_logits(diffusion.log_onehot(z0), t)[:, 0], z_t, axis=1)
            terms = diffusion.terms(jnp.broadcast_to(told, (9, 1, 3)), z0, z_t, t)
            return jnp.sum(jnp.asarray(data)[z0[:, 0]] * jnp.exp(noised[:, 0]) * terms)

        total = sum(float(term(t, jnp.asarray(told))) for t in range(steps)) + diffusion.prior
        np.testing.assert_allclose(total, expected, atol=2e-9)


TABLE = jnp.log(jnp.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]))


def independent(z, t):
    """A network that knows each position's law, and that positions are independent: right for the plug-in."""
    return jnp.broadcast_to(TABLE.astype(jnp.float32), (*z.shape, 3))


def test_samples_and_completions():
    """Exact check 6, and the law of what is drawn, on all steps and on some."""
    n = 20_000
    diffusion = of(20, 3)
    known = jnp.array([[2, 0]])
    draw = jax.jit(
        lambda key, mask: diffusion.sample(independent, key, (n, 2), known=known, mask=mask), static_argnums=()
    )
    key = jax.random.key(0)
    plain = jax.jit(lambda key: diffusion.sample(independent, key, (n, 2)))(key)
    np.testing.assert_array_equal(draw(key, jnp.zeros(2, bool)), plain)
    np.testing.assert_array_equal(draw(key, jnp.ones(2, bool)), np.broadcast_to(known, (n, 2)))
    half = draw(key, jnp.array([True, False]))
    assert np.all(half[:, 0] == 2)
    few = jax.jit(lambda key: diffusion.sample(independent, key, (n, 2), steps=4))(key)
    for drawn, places in ((plain, (0, 1)), (half, (1,)), (few, (0, 1))):
        for place in places:
            shares = np.bincount(drawn[:, place], minlength=3) / n
            np.testing.assert_allclose(shares, np.exp(TABLE[place]), atol=0.015)


def test_what_is_known_tells_of_the_rest():
    """Two codes that are equal in the data: with one known, so is the other. A network sees the original steps."""
    seen = []

    def network(z, t):
        seen.append(t)
        # the law of each given the other alone, by Bayes
        return diffusion.q_logits(diffusion.log_onehot(z[:, ::-1]), jnp.searchsorted(diffusion.steps, t))

    diffusion = of(40, 3)
    mask = jnp.array([False, True])
    known = jnp.arange(300)[:, None] % 3
    found = jax.jit(lambda key: diffusion.sample(network, key, (300, 2), known=known, mask=mask))(jax.random.key(1))
    assert np.mean(found[:, 0] == known[:, 0]) > 0.93
    both = jax.jit(lambda key: diffusion.sample(network, key, (300, 2)))(jax.random.key(2))
    assert np.mean(both[:, 0] == both[:, 1]) > 0.93
    with jax.disable_jit():
        told = []
        diffusion.sample(
            lambda z, t: told.append(int(t)) or jnp.zeros((*z.shape, 3)), jax.random.key(0), (1, 2), steps=4
        )
    assert told == [39, 29, 19, 9]


def test_the_loss_estimates_the_bound():
    """Uniformly and by importance, the mean of estimates is the sum over steps; a training carries the sampler."""
    diffusion = of(6, 3)
    z0 = jnp.broadcast_to(jnp.array([0, 1]), (60_000, 2))
    times = ImportanceTimeSampler.initial(6)
    estimate = jax.jit(lambda key, times: diffusion.estimate(independent, key, z0, times))
    for i in range(8):
        found = estimate(jax.random.key(i), times)
        times = times.updated(found.t, found.terms)
    assert np.all(times.counts > 10)
    assert not np.allclose(times.probabilities, 1 / 6)
    np.testing.assert_allclose(np.sum(times.probabilities), 1, rtol=1e-12)
    by_importance = estimate(jax.random.key(9), times).nats
    uniform = jax.jit(lambda key: diffusion.estimate(independent, key, z0).nats)(jax.random.key(10))
    bound = jnp.mean(jax.jit(lambda key: diffusion.bound(independent, key, z0))(jax.random.key(11)))
    for nats in (by_importance, uniform):
        assert abs(jnp.mean(nats) - bound) < 5 * jnp.std(nats) / np.sqrt(len(nats)) + 0.01
    # terms that are not finite leave the state as it was, and duplicates count once
    again = times.updated(jnp.array([2, 2, 3]), jnp.array([2.0, 4.0, jnp.nan]))
    np.testing.assert_allclose(again.squares[2], 0.9 * times.squares[2] + 0.1 * 10.0)
    np.testing.assert_array_equal(again.squares[3], times.squares[3])
    np.testing.assert_array_equal(again.counts - times.counts, [0, 0, 2, 0, 0, 0])


def test_what_is_not_finite_shows():
    """A network that fails in one sequence spoils it alone; what is known stays; what is no code has no law."""
    diffusion = of(5, 3)

    def network(z, t):
        logits = jnp.zeros((*z.shape, 3))
        return logits.at[1, 0, 2].set(jnp.where(t == 2, jnp.nan, 0.0))

    mask = jnp.array([False, False, True])
    found = diffusion.sample(network, jax.random.key(0), (3, 3), known=jnp.array([0, 0, 1]), mask=mask)
    np.testing.assert_array_equal(found[1], [-1, -1, 1])
    assert np.all(found[jnp.array([0, 2])] >= 0)
    loss = jax.jit(lambda z: diffusion.loss(independent, jax.random.key(0), z))
    assert np.isnan(loss(jnp.array([[0, 3]])))
    assert np.isfinite(loss(jnp.array([[0, 2]])))
    # derivatives in logits that rule codes out
    ruled = jnp.array([[[0.0, -jnp.inf, 0.0]]])
    slope = jax.grad(lambda logits: diffusion.terms(logits, jnp.array([[0]]), jnp.array([[1]]), 2)[0])(ruled)
    assert np.all(np.isfinite(slope))


def test_what_is_refused():
    diffusion = of(5, 3)
    z0 = jnp.zeros((2, 2), int)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="logarithms of chances"):
        MultinomialDiffusion(cosine_alphas(5), 3)
    with pytest.raises(ValueError, match="categories must be at least 2"):
        of(5, 1)
    with pytest.raises(ValueError, match="rule must be one of"):
        of(5, 3, rule="other")
    with pytest.raises((ValueError, TypeError), match="z0 must be whole numbers"):
        diffusion.loss(independent, key, z0 + 0.5)
    with pytest.raises(ValueError, match="z0 must be from 0 to 2: given 0 to 3"):
        diffusion.loss(independent, key, z0.at[0, 0].set(3))
    with pytest.raises(ValueError, match=r"(have the|of) shape \(n, N\)"):
        diffusion.loss(independent, key, z0[0])
    with pytest.raises(ValueError, match=r"logits of shape \(2, 2, 3\): given \(2, 2, 4\)"):
        diffusion.loss(lambda z, t: jnp.zeros((*z.shape, 4)), key, z0)
    with pytest.raises(ValueError, match="known and mask belong together"):
        diffusion.sample(independent, key, (2, 2), known=z0)
    with pytest.raises(ValueError, match=r"mask must broadcast .* \(2, 2\): given \(3,\)"):
        diffusion.sample(independent, key, (2, 2), known=z0, mask=jnp.ones(3, bool))
    with pytest.raises((ValueError, TypeError), match=r"mask must be (of booleans|Booleans)"):
        diffusion.sample(independent, key, (2, 2), known=z0, mask=z0)
    with pytest.raises(ValueError, match="known must be from 0 to 2"):
        diffusion.sample(independent, key, (2, 2), known=z0 - 1, mask=jnp.ones(2, bool))
    with pytest.raises(ValueError, match="steps must be from 1 to 5"):
        diffusion.sample(independent, key, (2, 2), steps=6)
    with pytest.raises(ValueError, match=r"steps must rise from 0 or more to the last, 4"):
        diffusion.sample(independent, key, (2, 2), steps=[0, 2])
    with pytest.raises(ValueError, match="t must be from 0 to 4"):
        diffusion.q_logits(jnp.zeros((1, 1, 3)), 5)


@pytest.mark.parametrize("module", [multinomial, schedules], ids=lambda module: module.__name__.split(".")[-1])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("vq-ddm", experiment)
