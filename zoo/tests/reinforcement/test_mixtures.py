"""Gaussian mixtures as policies: densities, samples, the box's faces, what bad input gets."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dini_zoo.reinforcement.mixtures import GaussianMixturePolicy, Mixture
from dini_zoo.reinforcement.policies import Network, SquashedGaussian, drawn_log_density


def mixture(shape=(7,), K=3, d=2, *, scale=None, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return Mixture(
        jnp.asarray(rng.normal(size=(*shape, K))),
        jnp.asarray(spread * rng.normal(size=(*shape, K, d))),
        jnp.asarray(0.3 * rng.normal(size=(*shape, K, d))),
        scale,
    )


def test_the_density_is_the_brute_force_sum():
    """Exact check 1: beside SciPy's normal densities, added up; and finite where they underflow."""
    one = mixture()
    u = np.random.default_rng(1).normal(size=(7, 2))
    normal = scipy.stats.norm(one.mean, np.exp(one.log_std)).pdf(u[:, None]).prod(-1)
    brute = np.log(np.sum(scipy.special.softmax(one.logits, axis=-1) * normal, axis=-1))
    np.testing.assert_allclose(jax.jit(Mixture.log_prob)(one, u), brute, atol=1e-12, rtol=0)
    far = Mixture(jnp.zeros(2), jnp.array([[0.0], [1.0]]), jnp.zeros((2, 1)))
    assert np.sum(scipy.stats.norm.pdf([60.0, 59.0])) == 0.0
    expected = -(59.0**2) / 2 - math.log(2 * math.pi) / 2 + math.log(0.5) + math.log1p(math.exp((59**2 - 60**2) / 2))
    for dtype, rtol in ((jnp.float64, 1e-14), (jnp.float32, 1e-6)):
        at = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), far)
        found, slope = jax.value_and_grad(Mixture.log_prob, argnums=1)(at, jnp.array([60.0], dtype))
        np.testing.assert_allclose(found, expected, rtol=rtol)
        np.testing.assert_allclose(slope, [-59.0], rtol=rtol)


def test_permuted_components_are_the_same_mixture():
    """Exact check 4."""
    one, order = mixture(scale=2.0), np.array([2, 0, 1])
    other = Mixture(one.logits[:, order], one.mean[:, order], one.log_std[:, order], one.scale)
    a = np.random.default_rng(1).uniform(-1.9, 1.9, size=(7, 2))
    found = jax.jit(lambda one: (one.weights, one.log_prob(a), one.component_log_prob(a), one.mode()))
    (w, p, each, mode), (v, q, others, same) = found(one), found(other)
    np.testing.assert_allclose(v, w[:, order], rtol=1e-15)
    np.testing.assert_allclose(q, p, rtol=1e-13)
    np.testing.assert_allclose(others, each[:, order], rtol=1e-15)
    np.testing.assert_array_equal(mode, same)


def test_the_squashed_density_integrates_to_one():
    """Exact check 5."""
    told = np.array([0.2, 0.5, 0.3]), np.array([-0.6, 0.1, 0.7]), np.array([0.3, 0.4, 0.25])
    one = Mixture(jnp.log(told[0]), jnp.asarray(told[1])[:, None], jnp.log(told[2])[:, None], 1.0)
    a = np.linspace(-1, 1, 2001)[1:-1]
    density = np.exp(jax.vmap(one.log_prob)(a[:, None]))
    assert abs(np.trapezoid(density, a) - 1) < 1e-3
    # in another box: the density is that of the smaller one, stretched
    wide = Mixture(one.logits, one.mean, one.log_std, 5.0)
    np.testing.assert_allclose(jax.vmap(wide.log_prob)(5 * a[:, None]), np.log(density / 5), rtol=1e-10)


@pytest.mark.parametrize("scale", [None, pytest.param(2.0, marks=pytest.mark.thorough)])
def test_samples_have_the_density(scale):
    """Each sample's own density is that of its action, and moments are those of quadrature."""
    one, count = mixture((), scale=scale, d=1, spread=0.7), 200_000
    grid = np.linspace(-9, 9, 20_001) if scale is None else scale * np.tanh(np.linspace(-9, 9, 20_001))

    @jax.jit
    def found(one, keys):
        many = jax.vmap(one.sample)(keys)
        some = many.action[:500]
        return (
            many,
            jax.vmap(one.log_prob)(some),
            jax.vmap(one.component_log_prob)(some),
            jax.vmap(one.log_prob)(grid[:, None]),
        )

    many, whole, of_component, at_grid = found(one, jax.random.split(jax.random.key(0), count))
    np.testing.assert_allclose(whole, many.log_prob[:500], rtol=1e-9)
    own = np.asarray(of_component)[np.arange(500), np.asarray(many.component)[:500]]
    np.testing.assert_allclose(own, many.component_log_prob[:500], rtol=1e-9)
    frequency = np.bincount(many.component, minlength=3) / count
    np.testing.assert_allclose(frequency, one.weights, atol=4 * 0.5 / count**0.5)
    for power in (1, 2, 3):
        values = np.asarray(many.action[:, 0]) ** power
        expected = np.trapezoid(np.exp(at_grid) * grid**power, grid)
        assert abs(values.mean() - expected) < 4 * values.std() / count**0.5


def test_entropy_of_the_mixture_exceeds_its_components_by_at_most_that_of_the_gate():
    r""":math:`0 \le H(\pi) - \sum_i w_i H(p_i) \le H(w)`: equal to the latter where components are far apart."""
    for spread, lowest in ((0.05, 0.0), (60.0, 0.99)):
        one = mixture((), K=3, d=1, spread=spread, seed=3)
        u = np.linspace(-150, 150, 200_001)
        log_density = np.asarray(jax.vmap(one.log_prob)(u[:, None]))
        whole = -np.trapezoid(np.exp(log_density) * log_density, u)
        w = np.asarray(one.weights)
        parts = np.sum(w * (np.asarray(one.log_std)[:, 0] + 0.5 * math.log(2 * math.pi * math.e)))
        of_gate = -np.sum(w * np.log(w))
        assert lowest * of_gate - 1e-9 <= whole - parts <= of_gate + 1e-9


def alone(mean, log_std):
    """One component in one dimension."""
    return Mixture(jnp.zeros_like(mean)[None], mean[None, None], log_std[None, None], 1.0)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.thorough)])
def test_the_box_and_its_faces(dtype):
    """Finite on a face, and for samples that rounding has put there; a sample's density is right all the same."""

    @jax.jit
    def found(faces, far, mean, small, z, keys):
        on_face = jax.vmap(alone(0 * mean, 0 * mean).log_prob)(faces[:, None])
        drawn = jax.vmap(alone(far, -mean).draw)(keys)
        lost = jax.vmap(alone(mean, small).draw)(keys)
        again = jax.vmap(alone(mean, small).draws_log_prob)(lost)
        return on_face, drawn, lost, again, drawn_log_density(z, mean + jnp.exp(small) * z, small, None)

    z = np.linspace(-2, 2, 5)
    told = (np.array([1.0, -1.0, 3.0]), 30.0, 1.0, -18.0, z)
    on_face, drawn, lost, again, density = found(
        *(jnp.asarray(one, dtype) for one in told), jax.random.split(jax.random.key(0), 20)
    )
    assert np.all(np.isfinite(on_face))
    assert np.all(np.asarray(drawn.action) == 1.0)
    u = np.asarray(drawn.latent, float).squeeze()  # log(1 - tanh²) is log 4 - 2 u there
    expected = -(((u - 30) * np.e) ** 2) / 2 + 1 - math.log(2 * math.pi) / 2 - (math.log(4) - 2 * u)
    np.testing.assert_allclose(np.squeeze(drawn.log_prob), expected, rtol=1e-5)
    # a deviation below the mean's last digit: the noise knows what the latent has lost
    np.testing.assert_allclose(density, -(z**2) / 2 + 18 - math.log(2 * math.pi) / 2, rtol=1e-6)
    np.testing.assert_allclose(again, lost.log_prob, rtol=1e-6)


def test_draws_of_all_components_have_the_mixtures_density():
    @jax.jit
    def found(one, draws):
        held = lambda logits: Mixture(logits, one.mean, one.log_std).draws_log_prob(draws, hold_weights=True).sum()
        each = jax.vmap(one.latent_log_prob, 1, 1)(draws.latent)
        return one.draws_log_prob(draws), each, jax.grad(held)(one.logits)

    one = mixture((4,), scale=1.5)
    together, each, slope = found(one, one.draw(jax.random.key(0)))
    assert together.shape == (4, 3)
    np.testing.assert_allclose(together, each, rtol=1e-12)
    np.testing.assert_array_equal(slope, 0.0)


def networks(K=3, d=2, **options):
    for_trunk, for_gate = jax.random.split(jax.random.key(0))
    trunk, gate = Network([4, 8, 2 * K * d], for_trunk), Network([4, 8, K], for_gate)
    return GaussianMixturePolicy(trunk, gate, components=K, action_size=d, **options)


def test_a_policy_is_a_mixture_for_each_state():
    @eqx.filter_jit
    def found(policy, states, keys):
        many, drawn = jax.vmap(policy)(states), jax.vmap(policy.sample)(keys, states)
        densities = jax.vmap(policy.log_prob)(states, drawn.action)
        means = jax.vmap(lambda key: policy.mode(states[0], key))(jax.random.split(keys[0], 200))
        return many, drawn, densities, jax.vmap(policy.mode)(states), jax.vmap(policy.sample_all)(keys, states), means

    policy = networks(scale=2.0, bounds=(-0.1, 0.1))
    states = np.random.default_rng(1).normal(size=(5, 4))
    many, drawn, densities, greedy, of_all, means = found(policy, states, jax.random.split(jax.random.key(2), 5))
    assert many.mean.shape == (5, 3, 2)
    assert np.min(many.log_std) == -0.1
    assert np.max(many.log_std) == 0.1
    best = np.argmax(many.logits, axis=-1)
    np.testing.assert_allclose(greedy, 2 * np.tanh(np.asarray(many.mean)[np.arange(5), best]), rtol=1e-12)
    np.testing.assert_allclose(densities, drawn.log_prob, rtol=1e-6)
    assert of_all.action.shape == (5, 3, 2)
    assert np.all(np.abs(of_all.action) < 2)
    # a drawn component's mean: each of them, in time
    assert len(np.unique(np.round(means, 9), axis=0)) == 3


@pytest.mark.thorough
def test_one_component_is_the_squashed_gaussian():
    """The field's own, with the same network and key: to the last bit."""
    policy = networks(K=1, scale=2.0)
    plain = SquashedGaussian(policy.trunk, bound=2.0)
    state = jnp.arange(4.0)
    draws = policy.sample_all(jax.random.key(5), state)
    action, density = plain.sample(jax.random.key(5), state)
    np.testing.assert_array_equal(draws.action[0], action)
    np.testing.assert_array_equal(draws.log_prob[0], density)
    np.testing.assert_allclose(policy.log_prob(state, action), plain.log_probability(state, action), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: Mixture(one.logits[..., :0], one.mean[..., :0, :], one.log_std[..., :0, :]), "components"),
        (lambda one: Mixture(one.logits[..., :2], one.mean, one.log_std), "mean"),
        (lambda one: Mixture(one.logits, one.mean, one.log_std[..., :1]), "log_std"),
        (lambda one: Mixture(one.logits.at[0, 0].set(jnp.nan), one.mean, one.log_std), "logits"),
        (lambda one: Mixture(one.logits.at[0, 0].set(jnp.inf), one.mean, one.log_std), "logits"),
        (lambda one: Mixture(one.logits, one.mean, one.log_std, 0.0), "scale"),
        (lambda one: Mixture(one.logits, one.mean, one.log_std, -1.0), "scale"),
        (lambda one: one.log_prob(jnp.zeros((7, 3))), "action"),
        (lambda one: Mixture(jnp.zeros(()), one.mean, one.log_std), "logits"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=0, action_size=1), "components"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=1, action_size=0), "action_size"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=1, action_size=1, scale=0.0), "scale"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=1, action_size=1, bounds=(1.0, 0.0)), "bounds"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=1, action_size=1, log_std=[0.0]), "log_std"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=2, action_size=1)(jnp.zeros(4)), "gate"),
        (lambda _: GaussianMixturePolicy(jnp.sin, jnp.sin, components=4, action_size=1)(jnp.zeros(4)), "trunk"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        change(mixture())
