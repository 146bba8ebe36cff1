"""The loss of a variational autoencoder: exact check 5 of DiffuseVAE's specification; estimates against laws."""

import doctest
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.generative import autoencoders
from dini_zoo.generative.autoencoders import VAE, normal_kl, sample_code, vae_loss


def test_the_divergence_and_its_gradient():
    """0 for the standard normal law; with gradient m, and (e^l - 1) / 2 in the log variance."""
    zero = jnp.zeros((3, 2))
    np.testing.assert_array_equal(normal_kl(zero, zero), np.zeros(3))
    mean, log_variance = jax.random.normal(jax.random.key(0), (2, 3, 4))
    slopes = jax.grad(lambda m, v: jnp.sum(normal_kl(m, v)), (0, 1))(mean, log_variance)
    np.testing.assert_allclose(slopes[0], mean, rtol=1e-12)
    np.testing.assert_allclose(slopes[1], jnp.expm1(log_variance) / 2, rtol=1e-12)
    # by definition, E log q / p, with many draws
    z = sample_code(jax.random.key(1), *(jnp.broadcast_to(one[:1], (200_000, 4)) for one in (mean, log_variance)))
    log_q = -0.5 * ((z - mean[0]) ** 2 / jnp.exp(log_variance[0]) + log_variance[0])
    assert abs(jnp.mean(jnp.sum(log_q + 0.5 * z**2, axis=1)) - normal_kl(mean, log_variance)[0]) < 0.02
    # single precision near the law that it is compared with: l² / 4 a number
    small = normal_kl(jnp.zeros((1, 1), jnp.float32), jnp.full((1, 1), 1e-3, jnp.float32))
    np.testing.assert_allclose(small, 2.5e-7, rtol=2e-3)


def test_the_loss_is_of_sums():
    """A decoder z to A z has the expected error |x - A m|² + sum of variances times squared columns."""
    n, A = 100_000, jnp.array([[1.0, 0.5], [0.0, -2.0], [0.3, 0.1]])
    mean, log_variance = jnp.array([0.4, -0.2]), jnp.array([-1.0, 0.5])
    everywhere = lambda one: jnp.broadcast_to(one, (n, 2))
    model = SimpleNamespace(encode=lambda x: (everywhere(mean), everywhere(log_variance)), decode=lambda z: z @ A.T)
    x = jnp.array([0.2, 0.9, 0.5])
    found = vae_loss(model, jnp.broadcast_to(x, (n, 3)), jax.random.key(0), beta=0.1)
    errors = jnp.sum((x - A @ mean) ** 2) + jnp.sum(jnp.exp(log_variance) * jnp.sum(A**2, axis=0))
    expected = errors + 0.1 * normal_kl(mean[None], log_variance[None])[0]
    assert abs(found / expected - 1) < 0.02


def test_the_model_and_what_is_refused():
    vae, x = VAE(6, 2, widths=(5, 4), key=jax.random.key(0)), jnp.linspace(0, 1, 18).reshape(3, 6)
    assert [layer.weight.shape for layer in vae.encoder] == [(5, 6), (4, 5), (4, 4)]
    assert [layer.weight.shape for layer in vae.decoder] == [(4, 2), (5, 4), (6, 5)]
    again = vae.decode(vae.encode(x)[0])
    assert again.shape == x.shape
    assert np.all((again > 0) & (again < 1))
    with pytest.raises(ValueError, match="beta must be zero or more"):
        vae_loss(vae, x, jax.random.key(0), beta=-1.0)
    with pytest.raises(ValueError, match="latent must be at least 1"):
        VAE(6, 0, key=jax.random.key(0))
    wrong = SimpleNamespace(encode=vae.encode, decode=lambda z: vae.decode(z)[:, :1])
    with pytest.raises(ValueError, match=r"the shape of x, \(3, 6\): given \(3, 1\)"):
        vae_loss(wrong, x, jax.random.key(0))


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(autoencoders).failed == 0
