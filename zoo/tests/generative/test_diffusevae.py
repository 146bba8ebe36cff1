"""DiffuseVAE: both formulations, guidance, the loss, inversion with its derivative, priors of codes, bad input.

Chains, samplers and the autoencoder's loss have their exact checks in `diffusion/test_chains.py` and
`test_autoencoders.py`; here are those that need the refiner.
"""

import doctest
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from sklearn import mixture

import dini
from dini_zoo.diffusion.chains import Chain, linear_betas, spaced
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
