"""Continuous speculative decoding: exact checks of laws and counts, closed forms, what must not change, bad input."""

import dataclasses
import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed
from scipy import integrate, stats

from dini_zoo.diffusion.chain_sampling import chain_sample
from dini_zoo.diffusion.chains import Chain
from dini_zoo.generative.continuous_speculative_decoding import (
    Gaussian,
    GaussianHead,
    Model,
    accept_resample,
    acceptance,
    closed_form,
    decoding,
    gaussians,
    heads,
    overlap,
    pair,
    reflected,
    rows,
    sequential_decode,
    speculative_decode,
)
from dini_zoo.generative.continuous_speculative_decoding.experiment import experiment
from dini_zoo.generative.continuous_speculative_decoding.study import PARTS


def line(mean, std):
    """A law on a line."""
    return Gaussian(jnp.array([mean]), jnp.array([std]))


def head(slope, predictor=None):
    """A short one."""
    predictor = predictor or (lambda u, i, c: slope * c + 0.1 * jnp.tanh(u))
    return GaussianHead(Chain.of_betas(jnp.array([0.1, 0.3, 0.5])), predictor, 2)


def shifted(tokens):
    """The token before each position."""
    return jnp.concatenate([jnp.zeros_like(tokens[:1]), tokens[:-1]])


# one token


def test_rules_on_one_pair_have_their_laws():
    """Exact check 2: a formula by quadrature, and draws of every rule; check 4: one proposal a token."""
    np.testing.assert_allclose(overlap(line(0.0, 1.0), line(0.6, 0.8)), 0.725799, atol=5e-7)
    known = {1.0: (0.725799, 0.6, 0.8), 2.0: (0.859243, 0.328808, 0.846470), 4.0: (0.931374, 0.175668, 0.894466)}
    program, n = pair.program(), 40_000
    rules = [(sigma, 1.0, law) for sigma, law in known.items()] + [(1.0, 42.0, (1.0, 0.0, 1.0))]
    for i, (sigma, relax, law) in enumerate(rules):
        if relax == 1:
            found = pair.published_law(sigma + 1e-12)
            np.testing.assert_allclose((found.acceptance, found.mean, found.std), law, atol=1e-6)
        ours = pair.tried(program, jax.random.key(i), sigma, relax, n, 1).ours
        errors = (0.5, law[2], law[2] / np.sqrt(2))
        for one, other, error in zip((ours.acceptance, ours.mean, ours.std), law, errors, strict=True):
            assert abs(one - other) < 4.5 * error / np.sqrt(n)
    assert ours.acceptance == 1
    one = pair.tried(program, jax.random.key(9), 1.0, 1.0, n, 1)
    # a rejected draft takes 1 / (1 - A) proposals: variance 5.3 over all tokens
    assert abs(one.proposals - 1) < 4.5 * np.sqrt(5.3 / n)


def test_a_gaussian_is_made_of_another_by_either_method():
    """Exact check 3, in two dimensions: acceptance by the overlap, mean and covariance of the target."""
    q, p = (
        Gaussian(jnp.array([0.3, -0.2]), jnp.array([0.5, 2.0])),
        Gaussian(jnp.array([0.1, 1.1]), jnp.array([0.5, 2.0])),
    )
    n = 40_000

    @jax.jit
    def drawn(keys):
        def one(key):
            draft, *tests = jax.random.split(key, 3)
            x = q.sample(draft)
            mirror = accept_resample(tests[0], x, q, p, method="reflection")
            return x, mirror, accept_resample(tests[1], x, lambda y: q(y), lambda y: p(y), p.sample)

        return jax.lax.map(one, keys, batch_size=2000)

    x, mirror, loop = drawn(jax.random.split(jax.random.key(0), n))
    distance = np.hypot(0.2 / 0.5, 1.3 / 2.0)
    expected = 2 * stats.norm.cdf(-distance / 2)
    np.testing.assert_allclose(overlap(q, p), expected, rtol=1e-12)
    for found in (mirror, loop):
        assert abs(found.accepted.mean() - expected) < 4.5 * 0.5 / np.sqrt(n)
        z = (np.asarray(found.x) - p.mean) / p.std
        assert np.all(np.abs(z.mean(axis=0)) < 4.5 / np.sqrt(n))
        assert np.all(np.abs(np.cov(z.T) - np.eye(2)) < 4.5 * np.sqrt(2 / n))
        np.testing.assert_array_equal(found.x[found.accepted], x[found.accepted])
        assert not np.any(found.failed)
    np.testing.assert_array_equal(mirror.proposals, np.zeros(n))
    np.testing.assert_array_equal(loop.proposals > 0, ~loop.accepted)
    # a reflection changes what lies along the means, and keeps what lies across
    across = np.array([1.3 / 2.0, 0.2 / 0.5])
    moved = jax.vmap(lambda y: reflected(q, p, y))(x)
    np.testing.assert_allclose(((moved - p.mean) / p.std) @ across, ((x - q.mean) / q.std) @ across, atol=1e-12)


def test_the_coupling_is_an_optimal_transport():
    """dini's transport on a grid, for a cost that is concave in the distance, is acceptance with reflection."""
    law, grid = pair.on_a_grid(1.2, 37)
    plan = pair.transport_plan(law, grid)
    np.testing.assert_allclose(pair.reflection_plan(law, grid), plan, atol=1e-14)
    assert abs(np.trace(plan) - overlap(line(0.0, 1.0), line(1.2, 1.0))) < 3e-3
    # the mass that is moved is least as well: a linear program without a unique solution, but with one value
    with jax.enable_x64(True):
        couplings = pair.TransportationPolytope(jnp.asarray(law), jnp.asarray(law[::-1]))
        stay = couplings.project(300.0 * jnp.eye(len(law)))
    np.testing.assert_allclose(np.diag(stay), np.diag(plan), atol=1e-14)


def test_the_overlap_on_a_line():
    """Against quadrature, for scales apart and alike, and in any unit."""
    pairs = ((0.0, 1.0), (0.6, 0.8), (0.0, 0.8), (2.0, 3.0), (1.0, 1 + 1e-7), (0.0, 1 + 1e-9), (1e-3, 1.0), (9.0, 0.01))
    for unit in (1.0, 1e6, 1e-6):
        found = jax.vmap(lambda m, s, unit=unit: overlap(line(0.0 * m, unit + 0 * m), Gaussian(m[None], s[None])))(
            *(unit * jnp.array(row) for row in zip(*pairs, strict=True))
        )
        for (m, s), ours in zip(pairs, found, strict=True):
            least = lambda x, m=m, s=s: np.minimum(stats.norm.pdf(x), stats.norm.pdf(x, m, s))
            x = np.unique(np.concatenate([np.linspace(-9, 12, 200_001), m + s * np.linspace(-9, 9, 20_001)]))
            np.testing.assert_allclose(ours, integrate.trapezoid(least(x), x), atol=2e-8)
    slope = jax.grad(lambda m: overlap(line(0.0, 1.0), line(m, 1.0)))(0.5)
    np.testing.assert_allclose(slope, -stats.norm.pdf(0.25), rtol=1e-9)
    with pytest.raises(ValueError, match="equal standard deviations beyond one dimension"):
        overlap(Gaussian(jnp.zeros(2), jnp.ones(2)), Gaussian(jnp.zeros(2), jnp.array([1.0, 2.0])))
    unequal = jax.jit(lambda std: overlap(Gaussian(jnp.zeros(2), jnp.ones(2)), Gaussian(jnp.zeros(2), std)))
    assert np.isnan(unequal(jnp.array([1.0, 2.0])))


def test_tokens_of_logits():
    """The law is the target's, exactly as its probabilities say; a token of no probability is never accepted."""
    q, p = jnp.log(jnp.array([0.5, 0.3, 0.2, 0.0])), jnp.log(jnp.array([2.0, 4.0, 0.0, 2.0]))
    n = 40_000

    def one(key):
        draft, test = jax.random.split(key)
        return accept_resample(test, jax.random.categorical(draft, q), q, p)

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), n))
    shares = np.bincount(np.asarray(found.x), minlength=4) / n
    assert shares[2] == 0
    assert np.all(np.abs(shares - [0.25, 0.5, 0, 0.25]) < 4.5 * 0.5 / np.sqrt(n))
    assert abs(found.accepted.mean() - 0.55) < 4.5 * 0.5 / np.sqrt(n)
    assert not np.any(found.failed)
    # one law in two forms, in single precision: whatever rounding rejects becomes a token of it
    same = jax.random.normal(jax.random.key(1), (1000,), jnp.float32)
    many = jax.vmap(lambda key: accept_resample(key, jnp.array(3), same, same + 5.0))
    found = many(jax.random.split(jax.random.key(2), 1000))
    assert np.mean(found.x == 3) > 0.998


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_equal_laws_accept_always(dtype):
    """Exact check 1, of one token: also far out, and in units a million times larger or smaller."""
    keys = jax.random.split(jax.random.key(0), 200)

    def one(key, unit, far):
        law = Gaussian(unit * jnp.array([0.3, -2.0], dtype), unit * jnp.array([0.1, 3.0], dtype))
        return accept_resample(key, law.mean + far * law.std, law, law)

    many = jax.jit(jax.vmap(one, (0, None, None)))
    for unit in (1.0, 1e-6, 1e6):
        for far in (0.0, 1e3):
            found = many(keys, jnp.asarray(unit, dtype), jnp.asarray(far, dtype))
            assert np.all(found.accepted)
            assert np.all(np.isfinite(found.x))
            assert found.x.dtype == dtype


def test_what_cannot_be_drawn_is_seen():
    """It raises or is NaN and counted; the other lanes of a batch do not see it."""
    q, keys = line(0.0, 1.0), jax.random.split(jax.random.key(0), 8)

    def one(key, mean, on_failure):
        p = Gaussian(mean[None], jnp.ones(1))
        return accept_resample(key, jnp.zeros(1), q, p, max_proposals=50, on_failure=on_failure)

    means = jnp.zeros(8).at[3].set(jnp.nan)
    found = jax.jit(jax.vmap(lambda key, mean: one(key, mean, "nan")))(keys, means)
    np.testing.assert_array_equal(found.failed, np.isnan(means))
    np.testing.assert_array_equal(np.isnan(found.x[:, 0]), np.isnan(means))
    with pytest.raises(Exception, match="A token could not be drawn: its density ratio is NaN"):
        jax.block_until_ready(jax.jit(jax.vmap(lambda key, mean: one(key, mean, "raise")))(keys, means))
    # a residual that does not exist: twice the density of the target is asked for
    half = jax.jit(
        jax.vmap(
            lambda key: accept_resample(
                key, jnp.zeros(1), q, lambda x: q(x) - jnp.log(2.0), q.sample, max_proposals=50, on_failure="nan"
            )
        )
    )
    found = half(keys)
    np.testing.assert_array_equal(found.failed, ~found.accepted)
    np.testing.assert_array_equal(found.proposals, np.where(found.accepted, 0, 50))
    assert 0 < np.sum(found.failed) < 8
    found = accept_resample(keys[0], jnp.array(1), jnp.array([0.0, jnp.nan]), jnp.zeros(2), on_failure="nan")
    assert found.failed
    assert found.x == -1


def test_derivatives_are_zero():
    """Also through functions that close over what is differentiated, and a loop."""

    def value(mean):
        p = Gaussian(mean[None], jnp.ones(1))
        found = accept_resample(jax.random.key(1), jnp.full(1, -3.0), line(-4.0, 1.0), lambda x: p(x), p.sample)
        return jnp.sum(found.x)

    assert jax.grad(value)(2.0) == 0


# heads


def test_a_head_is_a_chain_with_the_noise_given():
    """Against the chain's own sampler; its last step is the clipped one; the scales of the steps before."""
    one = head(0.5)
    noise, last = jax.random.normal(jax.random.key(0), (3, 2)), jnp.array([0.4, -0.3])
    context = jnp.array([1.0, -1.0])
    mean, std, log_scale = one.last_step(noise, context)
    predict = lambda u, i: jax.vmap(lambda row: one.predictor(row, i, context))(u)
    rows_ = jnp.concatenate([last[None], noise[:0:-1]])[:, None]
    expected = chain_sample(None, noise[:1], one.chain, predict, eta=1.0, noise=rows_, last_noise=True)[0]
    np.testing.assert_allclose(mean + std * last, expected, rtol=1e-12)
    # the variances of the specification, by hand
    a = np.cumprod([0.9, 0.7, 0.5])
    small = np.sqrt((1 - a[:-1]) / (1 - a[1:]) * np.array([0.3, 0.5]))
    np.testing.assert_allclose(std, np.full(2, small[0]), rtol=1e-12)
    np.testing.assert_allclose(log_scale, 2 * np.log(small).sum(), rtol=1e-12)
    np.testing.assert_allclose(closed_form.head(closed_form.TARGET).chain.noise_std(0, last=True), 0.1264, atol=5e-5)
    # learned variances between the smaller and the larger ones, and a temperature
    learned = head(0.5, lambda u, i, c: (0.5 * c, 0.25))
    warm = GaussianHead(learned.chain, learned.predictor, 2, temperature=3.0)
    first, second = (each.last_step(noise, context) for each in (learned, warm))
    np.testing.assert_allclose(first.std, small[0] ** 0.75 * np.sqrt(0.1) ** 0.25, rtol=1e-12)
    large = 0.75 * np.log(small) + 0.125 * np.log([0.3, 0.5])
    np.testing.assert_allclose(first.log_scale, 2 * large.sum(), rtol=1e-12)
    np.testing.assert_allclose(second.std, 3 * first.std, rtol=1e-12)
    np.testing.assert_allclose(second.log_scale - first.log_scale, 4 * np.log(3), rtol=1e-12)


# sequences


def test_a_model_that_drafts_for_itself():
    """Exact check 1: every draft is kept, gamma + 1 tokens for each call, with and without a beginning."""
    target = Model(shifted, head(0.5))
    one = lambda key: speculative_decode(key, target, target, jnp.ones((1, 2)), 13, gamma=4, prefill=0.0)
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 50))
    # 5 + 5 + 2 tokens
    np.testing.assert_array_equal(found.stats.target_calls, np.full(50, 3))
    np.testing.assert_array_equal(found.stats.accepted, np.full(50, 9))
    np.testing.assert_array_equal(found.stats.tested, np.full(50, 9))
    np.testing.assert_array_equal(found.stats.proposals, np.zeros(50))
    np.testing.assert_array_equal(found.tokens[:, 0], np.ones((50, 2)))
    assert np.all(np.isfinite(found.tokens))


@pytest.mark.thorough
def test_the_target_alone():
    """Where it begins and goes on to the end, and where nothing is to be drawn."""
    target, none = Model(shifted, head(0.5)), jnp.zeros((0, 2))
    decode = jax.jit(lambda key, prefix: speculative_decode(key, target, target, prefix, 6, prefill=1.0))
    alone = decode(jax.random.key(0), none)
    assert alone.stats.target_calls == 6
    key, _ = jax.random.split(jax.random.key(0))
    np.testing.assert_allclose(alone.tokens, sequential_decode(key, target, none, 6), rtol=1e-12)
    done = decode(jax.random.key(0), jnp.ones((6, 2)))
    np.testing.assert_array_equal(done.tokens, np.ones((6, 2)))
    assert done.stats.target_calls == 0


N = 3000


@pytest.fixture(scope="module")
def alone():
    """Sequences of the target alone."""
    target = closed_form.model(closed_form.TARGET)
    first, keys = jax.random.normal(jax.random.key(1), (N, 1, 1)), jax.random.split(jax.random.key(2), N)
    many = jax.jit(jax.vmap(lambda key, first: sequential_decode(key, target, first, 17)))
    return np.asarray(many(keys, first))[:, 1:, 0]


def decoded(key, **options):
    """Sequences with the draft."""
    draft, target = closed_form.model(closed_form.DRAFT), closed_form.model(closed_form.TARGET)
    first, keys = jax.random.normal(jax.random.key(key), (N, 1, 1)), jax.random.split(jax.random.key(key + 1), N)
    one = lambda given: speculative_decode(given[0], draft, target, given[1], 17, prefill=0.0, **options)
    found = jax.jit(lambda *given: jax.lax.map(one, given, batch_size=1000))(keys, first)
    return np.asarray(found.tokens)[:, 1:, 0], found.stats


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"gamma": 3, "residual": "reflection"}, id="reflection", marks=pytest.mark.thorough),
        pytest.param({"gamma": 3, "residual": "rejection"}, id="rejection"),
        pytest.param({"gamma": 3, "residual": "reflection", "aligned": False}, id="unaligned"),
        pytest.param({"gamma": 1, "rule": "published"}, id="published", marks=pytest.mark.thorough),
    ],
)
def test_sequences_have_the_law_of_the_target(alone, options):
    """Equal variances, for which the published rule is exact too. Every token comes from some call."""
    x, stats_ = decoded(10, **options)
    assert max(map(abs, closed_form.scores(x, alone).values())) < 4.5
    gained = np.asarray(stats_.accepted + stats_.target_calls)
    np.testing.assert_array_equal(gained, np.full(N, 16))
    assert np.all(stats_.tested <= options["gamma"] * stats_.target_calls)
    assert not np.any(stats_.failed)


@pytest.mark.thorough
@pytest.mark.parametrize("options", [{"verification": "in place", "residual": "reflection"}, {"relax": 42.0}], ids=str)
def test_biased_ways_to_decode_are_seen(alone, options):
    """A control of the test above: what does not have the target's law has not."""
    x, _ = decoded(20, gamma=4, **options)
    assert abs(closed_form.scores(x, alone)["x"]) > 6


def test_rows_are_read_from_left_to_right():
    """A context does not depend on its own token and those after it, which a decoder takes for granted."""
    network = eqx.filter_jit(lambda key: rows.RowModel(3, 5, 4, hidden=6, width=7, key=key))(jax.random.key(0))
    slopes = jax.jit(jax.jacfwd(network.trunk))(jax.random.normal(jax.random.key(1), (5, 3)))
    for i in range(5):
        assert np.all(slopes[i, :, i:] == 0)
        assert i == 0 or np.all(np.any(slopes[i, :, :i] != 0, axis=(0, 2)))
    assert network.products(4) == 3 * 6 * (8 + 6) + 6 * 7 + 4 * (3 * 7 + 4 * 49 + 7 * 3)
    chain = Chain.of_betas(jnp.array([0.1, 0.3, 0.5, 0.7]))
    # a prediction of zero is wrong by the square of the data
    silent = eqx.tree_at(
        lambda one: one.predictor.outlet, network, replace_fn=lambda one: jax.tree.map(jnp.zeros_like, one)
    )
    np.testing.assert_allclose(rows.loss(silent, chain, jnp.full((2, 5, 3), 0.5), jax.random.key(2)), 0.25, rtol=1e-12)


def test_bad_input():
    key, q, p = jax.random.key(0), line(0.0, 1.0), line(0.6, 0.8)
    x = jnp.zeros(1)
    for match, call in {
        "A reflection needs equal standard deviations": lambda: accept_resample(key, x, q, p, method="reflection"),
        "instances of Gaussian": lambda: accept_resample(key, x, lambda y: q(y), p, method="reflection"),
        "needs sample_p": lambda: accept_resample(key, x, q, lambda y: p(y)),
        "both be functions, or both be logits": lambda: accept_resample(key, x, q, jnp.zeros(2)),
        "neither `method` nor": lambda: accept_resample(key, 0, jnp.zeros(2), jnp.zeros(2), method="rejection"),
        "the number of a token": lambda: accept_resample(key, x, jnp.zeros(2), jnp.zeros(2)),
        "log_p must have the shape": lambda: accept_resample(key, 0, jnp.zeros(2), jnp.zeros(3)),
        "method must be one of": lambda: accept_resample(key, x, q, p, method="other"),
        "std must be positive": lambda: line(0.0, 0.0),
        "mean must be a vector": lambda: Gaussian(0.0, 1.0),
        "two steps or more": lambda: GaussianHead(Chain.of_betas(jnp.array([0.1])), None, 1),
        "temperature .* must be positive": lambda: GaussianHead(head(1.0).chain, None, 1, temperature=0.0),
        "noise must have the shape": lambda: head(1.0).last_step(jnp.zeros((2, 2)), jnp.zeros(2)),
        "what the predictor says": lambda: head(1.0, lambda u, i, c: c).last_step(jnp.zeros((3, 2)), jnp.zeros(1)),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    traced = jax.jit(lambda std: accept_resample(key, x, q, Gaussian(x, std), method="reflection").x)
    with pytest.raises(Exception, match="A reflection needs equal standard deviations"):
        jax.block_until_ready(traced(jnp.array([0.8])))


def test_bad_input_of_the_decoder():
    key, model, none = jax.random.key(0), Model(shifted, head(0.5)), jnp.zeros((0, 2))
    decode = lambda draft=model, prefix=none, length=6, **options: speculative_decode(
        key, draft, model, prefix, length, **options
    )
    betas = lambda last: Chain.of_betas(jnp.array([0.1, 0.3, last]))
    longer = GaussianHead(Chain.of_betas(jnp.full(4, 0.3)), head(0.5).predictor, 2)
    colder = GaussianHead(head(0.5).chain, head(0.5).predictor, 2, temperature=0.9)
    noisier = GaussianHead(betas(0.6), head(0.5).predictor, 2)

    class Bare:
        noise_shape = (3, 2)

        def __init__(self, std=1.0):
            self.std = std

        def last_step(self, noise, context):
            return noise[0], jnp.full(2, self.std)

    for match, call in {
        r"share their noise, .* given \(4, 2\) and \(3, 2\)": lambda: decode(Model(shifted, longer)),
        "The temperatures of draft and target": lambda: decode(Model(shifted, colder)),
        "The schedules of draft and target": lambda: decode(Model(shifted, noisier)),
        r"prefix must have shape \(k, 2\)": lambda: decode(prefix=jnp.zeros((0, 3))),
        "length must be at least 3": lambda: decode(prefix=jnp.zeros((3, 2)), length=2),
        "gamma must be at least 1": lambda: decode(gamma=0),
        "prefill must be a share": lambda: decode(prefill=1.5),
        "rule must be one of": lambda: decode(rule="other"),
        "relax must be positive": lambda: decode(relax=0.0),
        "the exact rule alone": lambda: decode(rule="published", residual="reflection"),
        "whose last_step has a log_scale": lambda: decode(Model(shifted, Bare()), rule="published"),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    traced = jax.jit(lambda last: decode(Model(shifted, GaussianHead(betas(last), head(0.5).predictor, 2))).tokens)
    with pytest.raises(Exception, match="The schedules of draft and target"):
        jax.block_until_ready(traced(0.6))
    silent = jax.jit(lambda std: decode(Model(shifted, Bare(std))).tokens)
    with pytest.raises(Exception, match="is the standard deviation of the last step zero"):
        jax.block_until_ready(silent(0.0))
    bad = Model(lambda tokens: shifted(tokens).at[3].set(jnp.nan), head(0.5))
    found = jax.jit(lambda key: speculative_decode(key, bad, bad, none, 6, on_failure="nan"))(key)
    assert np.all(np.isfinite(found.tokens[:3]))
    assert np.all(np.isnan(found.tokens[3:]))
    assert found.stats.failed == 3


@pytest.mark.parametrize(
    "module", [acceptance, decoding, gaussians, heads], ids=lambda one: one.__name__.split(".")[-1]
)
def test_examples(module):
    with jax.enable_x64(False):
        found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.thorough
@pytest.mark.may_cost(60)
def test_all_parts_run():
    """Small, with every table, check and panel."""
    settings = dataclasses.replace(experiment.settings.tiny(), parts=PARTS)
    done = performed("continuous-speculative-decoding", experiment, settings)
    assert len(done.record.tables) == len(PARTS)
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert all(check.ours is not None and np.isfinite(check.ours) for check in done.record.verdict.checks)
    assert_drawn(experiment.draw(done.result))


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("continuous-speculative-decoding", experiment)
