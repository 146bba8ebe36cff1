"""Posteriors and hyperparameters against conjugate normal laws in closed form, dini's linear response, differences."""

import doctest
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini_zoo.physics import posteriors
from dini_zoo.physics.hyperparameters import evidence, inner_problem, tune
from dini_zoo.physics.posteriors import Gaussian, laplace, mean_field, negative_log_evidence, nuts

A = np.array([[1.0, 0.4, 0.0], [0.0, 1.5, -0.3], [0.6, 0.0, 0.8], [0.2, 0.1, 2.0]])
B = np.array([1.0, -0.5, 0.3, 2.0])
#: of |A z - B|^2 / 2 + |z|^2 / 2
H = A.T @ A + np.eye(3)
MEAN, COVARIANCE = np.linalg.solve(H, A.T @ B), np.linalg.inv(H)


def linear(z):
    return 0.5 * jnp.sum((A @ z - B) ** 2) + 0.5 * jnp.sum(z**2)


def curved(z):
    return linear(z) + 0.3 * jnp.sum(jnp.cosh(z)) + 0.1 * z[0] * z[1] ** 2


def test_laplace_is_exact_for_a_normal_law():
    law = jax.jit(lambda z: laplace(linear, z))(MEAN)
    np.testing.assert_allclose(law.covariance, COVARIANCE, rtol=1e-12)
    np.testing.assert_allclose(law.deviation, np.sqrt(np.diag(COVARIANCE)), rtol=1e-12)
    np.testing.assert_array_equal(np.triu(law.root, 1), 0.0)
    draws = law.draw(jax.random.key(0), 50_000)
    np.testing.assert_allclose(np.cov(draws, rowvar=False), COVARIANCE, atol=0.01)
    # B = A z + e, both standard normal; the energy leaves out (2 pi)^(-7/2), the evidence has (2 pi)^(-4/2)
    C = A @ A.T + np.eye(4)
    exact = 0.5 * B @ np.linalg.solve(C, B) + 0.5 * np.linalg.slogdet(C)[1] - 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(negative_log_evidence(linear, MEAN), exact, rtol=1e-12)


def test_laplaces_covariance_is_dinis_linear_response():
    """The minimum of E(z) - h z moves by the covariance times h, which dini's implicit derivative knows."""

    @jax.jit
    def both(start):
        z = dini.minimize(curved, start, solver=dini.Newton()).x
        tilted = lambda h: dini.minimize(lambda z, h: curved(z) - h @ z, z, h, solver=dini.Newton()).x
        return laplace(curved, z).covariance, jax.jacobian(tilted)(jnp.zeros(3)), jax.hessian(curved)(z)

    covariance, response, hessian = both(jnp.zeros(3))
    np.testing.assert_allclose(covariance, response, rtol=1e-8)
    np.testing.assert_allclose(covariance, np.linalg.inv(hessian), rtol=1e-10)


def test_mean_field_has_the_mean_and_the_diagonal_of_the_precision():
    """The nearest law with independent coordinates has the variances 1 / H_ii, too small ones."""
    start = Gaussian(jnp.zeros(3), jnp.eye(3))
    found = jax.jit(lambda key: mean_field(linear, start, key, steps=1000, draws=100, rate=0.05))(jax.random.key(0))
    np.testing.assert_allclose(found.law.mean, MEAN, atol=5e-3)
    np.testing.assert_allclose(found.law.deviation, 1 / np.sqrt(np.diag(H)), rtol=0.03)
    gap = 0.5 * (np.log(np.diag(H)).sum() - np.linalg.slogdet(H)[1])
    assert abs(np.mean(found.bound[-200:]) - (negative_log_evidence(linear, MEAN) + gap)) < 0.02


@pytest.mark.thorough
def test_nuts_draws_from_the_law():
    start = laplace(linear, MEAN)
    found = jax.jit(lambda key: nuts(linear, start, key, warmup=300, draws=1000, chains=2))(jax.random.key(0))
    assert found.z.shape == (2, 1000, 3)
    assert np.all(np.abs(found.rhat - 1) < 0.02)
    assert not np.any(found.divergent)
    assert np.all(found.size > 300)
    error = np.sqrt(np.diag(COVARIANCE) / found.size)
    assert np.all(np.abs(found.mean - MEAN) < 4 * error)
    np.testing.assert_allclose(found.covariance, COVARIANCE, atol=0.05)
    assert found.draw(jax.random.key(1), 7).shape == (7, 3)


def test_bad_input_is_refused(monkeypatch):
    law = Gaussian(jnp.zeros(3), jnp.eye(3))
    with pytest.raises(ValueError, match=r"z must be a minimum of the energy with curvature .* eigenvalues from -"):
        laplace(lambda z: linear(z) - 4 * z[0] ** 2, MEAN)
    bad = jax.jit(lambda z: laplace(lambda z: linear(z) - 4 * z[0] ** 2, z).root)(MEAN)
    assert np.any(np.isnan(bad))
    with pytest.raises(ValueError, match=r"The energy's Hessian must be finite"):
        laplace(lambda z: jnp.sum(jnp.sqrt(z)), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"draws must be even, they are in pairs: given 3"):
        mean_field(linear, law, jax.random.key(0), draws=3)
    with pytest.raises(ValueError, match=r"chains must be at least 2: given 1"):
        nuts(linear, law, jax.random.key(0), chains=1)
    with pytest.raises(ValueError, match=r"start must be finite"):
        nuts(linear, eqx.tree_at(lambda one: one.mean, law, jnp.full(3, jnp.nan)), jax.random.key(0))
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dini-zoo\[sampling\]'"):
        nuts(linear, law, jax.random.key(0))


def residual(z, theta, data):
    """Normal observations of curved functions, with noise exp(theta), and a standard normal prior."""
    scale, y = data
    return jnp.concatenate([z, (scale @ z + 0.2 * jnp.tanh(z[0]) - y) * jnp.exp(-theta)])


def sets(count, noise, seed=0):
    random = np.random.default_rng(seed)
    scale, z = random.normal(size=(count, 20, 3)), random.normal(size=(count, 3))
    y = np.einsum("mij,mj->mi", scale, z) + 0.2 * np.tanh(z[:, :1]) + noise * random.normal(size=(count, 20))
    return scale, y


@pytest.mark.thorough
def test_the_hypergradient_is_that_of_differences():
    data = sets(2, 0.3)
    criterion, inner = evidence(residual, lambda theta: 20 * theta, data), inner_problem(residual, data)
    solver = dini.LevenbergMarquardt(rtol=1e-12, atol=1e-12)
    start = jnp.zeros((2, 3))

    @jax.jit
    def value(theta):
        z = dini.solve(inner, solver, start, theta).x
        return criterion(z, theta)

    for theta in (-1.0, 0.2):
        found = dini.bilevel.value_and_hypergradient(criterion, inner, theta, start, solver=solver, certify=True)
        h = 1e-5
        difference = (value(theta + h) - value(theta - h)) / (2 * h)
        np.testing.assert_allclose(found.gradient, difference, rtol=1e-7)
        assert found.certificate.reliable


@pytest.mark.thorough
def test_the_evidence_finds_the_noise():
    data = sets(12, 0.3)
    criterion, inner = evidence(residual, lambda theta: 20 * theta, data), inner_problem(residual, data)
    found = tune(criterion, inner, jnp.asarray(0.0), jnp.zeros((12, 3)), steps=25)
    # 240 observations, of which 36 numbers are fitted: five percent is one deviation
    assert abs(np.exp(found.theta) / 0.3 - 1) < 0.15
    assert abs(found.gradient) < 1e-3
    assert len(found.path) == 25
    with pytest.raises(ValueError, match=r"steps must be at least 1: given 0"):
        tune(criterion, inner, jnp.asarray(0.0), jnp.zeros((12, 3)), steps=0)


def test_the_example_of_the_docstring():
    with jax.enable_x64(False):
        assert doctest.testmod(posteriors, extraglobs={"jax": jax, "jnp": jnp}).failed == 0
