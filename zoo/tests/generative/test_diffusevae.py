"""DiffuseVAE: both formulations, guidance, the loss, inversion, the code beside the image, priors of codes, bad input.

Chains, samplers and the autoencoder's loss have their exact checks in `diffusion/test_chains.py` and
`test_autoencoders.py`; here are those that need the refiner.
"""

import doctest
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from sklearn import mixture

import dini
from dini_zoo.diffusion.chains import Chain, linear_betas, spaced
from dini_zoo.diffusion.networks import StepNetwork, step_features
from dini_zoo.generative.autoencoders import VAE
from dini_zoo.generative.diffusevae import (
    Refiner,
    decoded,
    fit_latent_mixture,
    measures,
    priors,
    recover,
    refine,
    refiner,
    refiner_loss,
    sampling,
    training,
)
from dini_zoo.generative.diffusevae.experiment import experiment

#: Its codes are images in [0, 1] already.
IDENTITY = SimpleNamespace(encode=lambda x: (x, jnp.full_like(x, -80.0)), decode=lambda z: z)


@pytest.fixture(scope="module")
def chain():
    with jax.enable_x64(True):
        return Chain.of_betas(linear_betas(1000))


def network(x, t, c):
    """Some function of all that it is given."""
    told = jnp.asarray(t, x.dtype)[..., None] / 1000
    return jnp.tanh(0.6 * x + 0.5 * jnp.roll(c, 1, axis=-1) * c + told)


def shifted(x, t, c):
    return network(x - c, t, c)


def test_the_formulations_agree(chain):
    """With the network of x - c the second one is the first: DDIM and ancestral, with guidance and temperature."""
    few = chain.respaced(spaced(1000, 10))
    z = jax.random.uniform(jax.random.key(0), (4, 3))
    one, other = Refiner(network, dropout=0.1), Refiner(shifted, formulation=2, dropout=0.1)

    @jax.jit
    def draws(eta, guidance, temperature):
        options = {"eta": eta, "guidance": guidance, "temperature": temperature, "large": True}
        return [refine(jax.random.key(1), z, IDENTITY, kind, few, **options) for kind in (one, other)]

    seen = []
    for eta in (0.0, 1.0):
        for guidance in (0.0, 1.5):
            first, second = draws(eta, guidance, 0.7)
            np.testing.assert_allclose(first, second, atol=1e-10)
            seen.append(first)
    assert all(np.max(np.abs(a - b)) > 1e-2 for i, a in enumerate(seen) for b in seen[:i])
    plain = refine(jax.random.key(1), z, IDENTITY, one, few, temperature=0.7)
    np.testing.assert_allclose(plain, seen[0], atol=1e-12)


def test_the_network_is_given_the_original_step(chain):
    """Exact check 3 by the refiner, in both formulations: c = 0.7 is 0.85 in [0, 1]."""
    few = chain.respaced(spaced(1000, 10))

    def exact(x, t, c):
        level = chain.alpha_bar[t]
        return jnp.sqrt(1 - level) * (x - jnp.sqrt(level) * 0.3) / (level * 0.04 + 1 - level)

    start, z = jnp.array([[1.2], [-0.5]]), jnp.full((2, 1), 0.85)
    for kind in (Refiner(exact), Refiner(lambda x, t, c: exact(x - c, t, c), formulation=2)):
        drawn = refine(None, z, IDENTITY, kind, few, start=start, clip=None)
        np.testing.assert_allclose(drawn[:, 0], (0.4250725959, 0.2471552172), atol=1e-10)


def test_one_start_and_noise_make_a_function_of_the_code(chain):
    few = chain.respaced(spaced(1000, 5))
    z = jnp.broadcast_to(jax.random.uniform(jax.random.key(0), (1, 3)), (4, 3))
    draw = lambda shared: refine(jax.random.key(1), z, IDENTITY, Refiner(network), few, eta=1.0, shared=shared)
    same, free = draw(True), draw(False)
    np.testing.assert_array_equal(same, jnp.broadcast_to(same[:1], same.shape))
    assert np.max(np.abs(free - free[:1])) > 0.1


def test_the_loss(chain):
    """0 where the image is decoded exactly, and the noise is told from it; the share that is left out else."""
    x = jax.random.uniform(jax.random.key(0), (20_000, 2), minval=-1.0, maxval=1.0)

    def exact(x, t, c):
        level = chain.alpha_bar[t][:, None]
        return jnp.where(jnp.all(c == 0, axis=1, keepdims=True), 0.0, (x - jnp.sqrt(level) * c) / jnp.sqrt(1 - level))

    of = lambda network, **options: refiner_loss(Refiner(network, **options), IDENTITY, chain, x, jax.random.key(1))
    assert of(exact) < 1e-20
    moved = lambda x, t, c: exact(x - c, t, c)
    assert of(moved, formulation=2) < 1e-20
    assert of(exact, formulation=2) > 0.1
    for formulation, told in ((1, exact), (2, moved)):
        # the expected square of the noise, as often as the image is left out
        assert abs(of(told, formulation=formulation, dropout=0.25) - 0.25) < 0.02
    # codes are drawn: a network that says the image itself misses by its variance, too
    drawn = SimpleNamespace(
        encode=lambda x: (jnp.full_like(x, 0.5), jnp.full_like(x, 2 * np.log(0.1))), decode=lambda z: z
    )
    found = refiner_loss(Refiner(lambda x, t, c: c), drawn, chain, x, jax.random.key(2))
    assert abs(found - 1.04) < 0.02
    with pytest.raises(ValueError, match=r"images in \[-1, 1\]: given numbers from .* to 16"):
        refiner_loss(Refiner(exact), IDENTITY, chain, 16 * jnp.ones((2, 2)), jax.random.key(0))
    short = SimpleNamespace(encode=IDENTITY.encode, decode=lambda z: z[:, :1])
    with pytest.raises(ValueError, match="The autoencoder's reconstruction must have the shape of x"):
        refiner_loss(Refiner(exact), short, chain, x, jax.random.key(0))


@pytest.mark.parametrize("formulation", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_an_image_is_recovered_from_its_code_and_noise(chain, formulation):
    """By fixed points up to rounding; the start that is found is differentiated in the code as differences say."""
    few = chain.respaced(spaced(1000, 10))
    kind = Refiner(network if formulation == 1 else shifted, formulation=formulation)
    x = jax.random.uniform(jax.random.key(0), (2, 3), minval=-1.0, maxval=1.0)
    z, dz = jax.random.uniform(jax.random.key(1), (2, 2, 3))
    solver = dini.Anderson(rtol=1e-12, atol=1e-12)

    @jax.jit
    def there_and_back(z):
        there = lambda z: recover(x, z, IDENTITY, kind, few, solver=solver)
        fixed, slope = jax.jvp(there, (z,), (dz,))
        usual = recover(x, z, IDENTITY, kind, few, method="one step")
        back = [refine(None, z, IDENTITY, kind, few, start=start, clip=None) for start in (fixed, usual)]
        return fixed, slope, back

    _, slope, (exact, usual) = there_and_back(z)
    np.testing.assert_allclose(exact, x, atol=1e-9)
    assert np.max(np.abs(usual - x)) > 1e-3
    h = 1e-5
    difference = (there_and_back(z + h * dz)[0] - there_and_back(z - h * dz)[0]) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-8)


# the code beside the image


def told(x, t, c, z):
    """Some function of all that it is given, the code among it."""
    return network(x, t, c) + jnp.sin(z @ jnp.array([[0.5, -1.0, 2.0], [1.0, 0.3, -0.7]]))


def halved(z):
    """Images of three pixels of codes of two numbers."""
    return jax.nn.sigmoid(z @ jnp.array([[1.0, -1.0, 0.5], [0.2, 0.6, -2.0]]))


#: Its codes are two numbers, its images three.
FLAT = SimpleNamespace(encode=lambda x: (x[:, :2], jnp.full_like(x[:, :2], -80.0)), decode=halved)


@pytest.fixture(scope="module")
def networks():
    """The same one without a code and with one."""
    with jax.enable_x64(True):
        make = lambda **options: StepNetwork(3, condition=3, width=8, features=6, key=jax.random.key(0), **options)
        return make(), make(code=2)


@pytest.fixture
def points():
    """Points, steps, images and codes, five of each."""
    keys = jax.random.split(jax.random.key(3), 3)
    x, c = (jax.random.normal(key, (5, 3)) for key in keys[:2])
    return x, jnp.array([0, 3, 50, 400, 999]), c, jax.random.normal(keys[2], (5, 2))


def silenced(network):
    """Its map of the code is zero."""
    return eqx.tree_at(lambda one: one.embedding, network, jax.tree.map(jnp.zeros_like, network.embedding))


@pytest.mark.parametrize("formulation", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_a_map_of_zeros_is_no_code(networks, points, chain, formulation):
    """Bit for bit: the network, the loss with dropout, and what is drawn with guidance."""
    (plain, coded), (x, t, c, z), few = networks, points, chain.respaced(spaced(1000, 5))
    assert all(map(np.array_equal, jax.tree.leaves(plain.layers), jax.tree.leaves(coded.layers)))
    silent = silenced(coded)
    np.testing.assert_array_equal(silent(x, t, c, z), plain(x, t, c))
    np.testing.assert_array_equal(silent(x, 7, c, z), plain(x, 7, c))

    @eqx.filter_jit
    def found(refiner):
        drawn = refine(jax.random.key(2), z, FLAT, refiner, few, eta=1.0, guidance=0.7)
        return refiner_loss(refiner, FLAT, chain, jnp.tanh(x), jax.random.key(1)), drawn

    made = lambda network, z_cond: Refiner(network, formulation=formulation, dropout=0.4, z_cond=z_cond)
    without, zero, with_code = found(made(plain, False)), found(made(silent, True)), found(made(coded, True))
    assert without[0] == zero[0] != with_code[0]
    np.testing.assert_array_equal(without[1], zero[1])
    assert np.max(np.abs(with_code[1] - zero[1])) > 1e-3


def test_a_code_is_added_to_the_features_of_the_step(networks, points):
    """By hand, with the layers that there are; of each example its own code, whose derivative reaches it alone."""
    (_, coded), (x, t, c, z) = networks, points
    (first, last), layers = coded.embedding, coded.layers
    embedded = step_features(t, 6) + jax.nn.silu(z @ first.weight.T + first.bias) @ last.weight.T + last.bias
    h = jnp.concatenate([x, c, embedded], axis=1)
    for layer in layers[:-1]:
        h = jax.nn.silu(h @ layer.weight.T + layer.bias)
    np.testing.assert_allclose(coded(x, t, c, z), h @ layers[-1].weight.T + layers[-1].bias, rtol=1e-12)
    slopes = jax.jacobian(lambda z: coded(x, t, c, z))(z)
    own = np.array([slopes[i, :, i] for i in range(5)])
    assert np.all(np.max(np.abs(own), axis=(1, 2)) > 1e-4)
    assert np.sum(np.abs(slopes)) == pytest.approx(np.sum(np.abs(own)), rel=1e-12)
    # where none is given, as where it is left out
    np.testing.assert_array_equal(coded(x, t, c), coded(x, t, c, jnp.zeros((5, 2))))


def test_the_formulations_agree_with_a_code(chain, points):
    """As without one, and the null branch of guidance has neither image nor code."""
    few, (x, t, c, z) = chain.respaced(spaced(1000, 10)), points
    moved = lambda x, t, c, z: told(x - c, t, c, z)
    one, other = Refiner(told, dropout=0.1, z_cond=True), Refiner(moved, formulation=2, dropout=0.1, z_cond=True)
    first, second = (refine(jax.random.key(1), z, FLAT, kind, few, eta=1.0, guidance=1.5) for kind in (one, other))
    np.testing.assert_allclose(first, second, atol=1e-10)
    expected = 2.5 * told(x, t, c, z) - 1.5 * told(x, t, 0 * c, 0 * z)
    np.testing.assert_allclose(one.model(c, 1.5, z=z)(x, t), expected, rtol=1e-12)
    np.testing.assert_allclose(other.model(c, 1.5, z=z)(x + c, t), expected, rtol=1e-12)


def test_a_sample_and_its_noise_have_derivatives_in_the_code(chain, points):
    """What is drawn depends on the code beside its image, and an image is recovered with both."""
    few, (x, _, _, z) = chain.respaced(spaced(1000, 5)), points
    still = SimpleNamespace(decode=lambda z: jnp.full((5, 3), 0.6))
    with_code = Refiner(told, z_cond=True)
    draw = lambda z: refine(None, z, still, with_code, few, start=x, clip=None)
    slope = jax.jvp(draw, (z,), (jnp.ones_like(z),))[1]
    difference = (draw(z + 1e-6) - draw(z - 1e-6)) / 2e-6
    assert np.all(np.abs(slope) > 1e-6)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)
    again = recover(draw(z), z, still, with_code, few, solver=dini.Anderson(rtol=1e-12, atol=1e-12))
    np.testing.assert_allclose(again, x, atol=1e-8)


@pytest.mark.parametrize("formulation", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_the_loss_with_a_code_by_hand(chain, formulation):
    """The noise is told from the code; what is added to it is the error; nothing is told where both are left out."""
    x = jax.random.uniform(jax.random.key(0), (20_000, 2), minval=0.1, maxval=1.0)
    # the code says the image, what is decoded of it something else, and never zero
    blind = SimpleNamespace(encode=lambda x: (2 * x - 1, jnp.full_like(x, -80.0)), decode=lambda z: z / 2 + 0.25)
    slope = jnp.array([0.5, -2.0])

    def exact(x, t, c, z):
        level = chain.alpha_bar[t][:, None]
        here = x - c if formulation == 2 else x
        dropped = jnp.all(z == 0, axis=1, keepdims=True)
        # image and code are left out together, example by example
        both = dropped == jnp.all(c == 0, axis=1, keepdims=True)
        found = (here - jnp.sqrt(level) * z) / jnp.sqrt(1 - level) + slope * z
        return jnp.where(both, jnp.where(dropped, 0.0, found), jnp.nan)

    of = lambda dropout: refiner_loss(
        Refiner(exact, formulation=formulation, dropout=dropout, z_cond=True), blind, chain, x, jax.random.key(1)
    )
    by_hand = np.mean((np.asarray(slope) * np.asarray(x)) ** 2)
    np.testing.assert_allclose(of(0.0), by_hand, rtol=1e-10)
    assert abs(of(0.25) - (0.75 * by_hand + 0.25)) < 0.02


def test_codes_that_do_not_fit(networks, points, chain):
    (plain, coded), (x, t, c, z) = networks, points
    for wrong in (z[:, :1], z[:1], z[0], jnp.ones((5, 3)), z[None]):
        with pytest.raises(ValueError, match=r"code must have 2 numbers for each point, the shape \(5, 2\)"):
            coded(x, t, c, wrong)
    with pytest.raises(ValueError, match="code must have 0 numbers"):
        plain(x, t, c, z)
    with pytest.raises(ValueError, match="code must be at least 0"):
        StepNetwork(3, code=-1, key=jax.random.key(0))
    with_code, without = Refiner(coded, z_cond=True), Refiner(plain)
    for wrong in (z[:1], z[0], z[None]):
        with pytest.raises(ValueError, match="z must have the shape"):
            with_code.model(c, z=wrong)
    with pytest.raises(ValueError, match="z must be given to a refiner with z_cond, and to no other: given none"):
        with_code.model(c)
    with pytest.raises(ValueError, match=r"and to no other: given an array of shape \(5, 2\)"):
        without.model(c, z=z)
    with pytest.raises(TypeError, match="z_cond must be True or False"):
        Refiner(coded, z_cond=2)
    vae, few = VAE(3, 2, widths=(4,), key=jax.random.key(0)), chain.respaced([0, 500])
    with pytest.raises(ValueError, match="z must have 2 numbers a code"):
        refine(jax.random.key(0), jnp.zeros((5, 3)), vae, with_code, few)


def test_the_experiment_trains_with_the_code(points):
    """The refiner's map of the code is moved, and its samples are drawn with the code."""
    chain = Chain.of_betas(linear_betas(1000).astype("float32"))
    with jax.enable_x64(False):
        vae = VAE(64, 2, widths=(4,), key=jax.random.key(0))
        made = training.Diffusions(chain, 4, training.Budget(2, 8, average=0.9), code=2)
        second = made.train(training.SECOND, vae, jax.random.key(1), lambda steps: None)
        z = jnp.asarray(points[3], "float32")
        draw = lambda z: sampling.refined(
            second, chain.respaced([0, 500]), z, jnp.full((5, 64), 0.6), jnp.zeros((5, 64))
        )
        drawn = draw(z)
        assert np.all(np.max(np.abs(drawn - draw(-z)), axis=1) > 0)
    assert (second.network.code, second.z_cond, second.formulation) == (2, True, 2)
    assert drawn.shape == (5, 64)
    assert np.all(np.isfinite(drawn))


# priors


def test_the_mixture_is_scikit_learns():
    random = np.random.default_rng(0)
    z = np.concatenate([random.normal(size=(300, 2)) * (1.0, 0.2) + 3, random.normal(size=(100, 2)) - 3])
    found = fit_latent_mixture(z, 2, seed=1)
    known = mixture.GaussianMixture(2, reg_covar=1e-3, random_state=1).fit(z)
    np.testing.assert_allclose(found.log_prob(jnp.asarray(z)), known.score_samples(z), rtol=1e-8)
    np.testing.assert_allclose(np.sort(found.weights), (0.25, 0.75), atol=1e-3)
    with pytest.raises(ValueError, match="the number of codes must be at least 30: given 20"):
        fit_latent_mixture(z[:20])
    with pytest.raises(ValueError, match=r"z must (be codes in rows|have the shape)"):
        fit_latent_mixture(z[0])
    with pytest.raises(ValueError, match="z must be finite"):
        fit_latent_mixture(np.full((50, 2), np.nan), 2)
    with pytest.raises(ValueError, match="ridge must be positive"):
        fit_latent_mixture(z, 2, ridge=0.0)


def test_edges():
    """Of a plane there are none; a paraboloid has the sum of its second derivatives everywhere."""
    i, j = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
    images = jnp.asarray(np.stack([2 * i - j + 1, i**2 - 3 * j**2, i * j]).reshape(3, 64))
    np.testing.assert_allclose(measures.laplacian(images), np.outer((0.0, -4.0, 0.0), np.ones(36)), atol=1e-12)


# what is refused


def test_guidance_needs_a_training_without_images(chain):
    few, z = chain.respaced([0, 500]), jnp.zeros((2, 3))
    with pytest.warns(UserWarning, match="never trained so: train it with dropout"):
        refine(jax.random.key(0), z, IDENTITY, Refiner(network), few, guidance=1.0)


def test_bad_input(chain):
    few, z, key = chain.respaced([0, 500]), jnp.zeros((2, 3)), jax.random.key(0)
    with pytest.raises(ValueError, match="formulation must be one of 1, 2: given 3"):
        Refiner(network, formulation=3)
    for dropout in (1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="dropout must be a probability below 1"):
            Refiner(network, dropout=dropout)
    draw = lambda key=key, **options: refine(key, z, IDENTITY, Refiner(network), few, **options)
    with pytest.raises(ValueError, match="give a key, or the start itself"):
        draw(None)
    with pytest.raises(ValueError, match="needs a key"):
        draw(None, start=jnp.zeros((2, 3)), eta=1.0)
    with pytest.raises(ValueError, match="start must have the shape"):
        draw(start=jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="temperature must be zero or more"):
        draw(temperature=-1.0)
    with pytest.raises(ValueError, match="x must have the shape of the decoded images"):
        recover(jnp.zeros((2, 4)), z, IDENTITY, Refiner(network), few)
    np.testing.assert_array_equal(decoded(IDENTITY, jnp.array([[0.0, 0.5, 1.0]])), [(-1.0, 0.0, 1.0)])


@pytest.mark.parametrize("module", [refiner, priors], ids=lambda one: one.__name__.rpartition(".")[2])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("diffusevae", experiment)
