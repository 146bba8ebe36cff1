"""Regularised autoencoders: optima in closed form, energies, Jacobians, Metropolis chains, bad input."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from scipy import stats

from dini_zoo.diffusion.regularised_autoencoders import (
    Residual,
    TiedAutoencoder,
    dae_loss,
    jacobian_asymmetry,
    langevin,
    line,
    linear_reconstruction,
    losses,
    metropolis_hastings,
    networks,
    optima,
    path_log_ratio,
    random_walk,
    rcae_loss,
    rcae_on_grid,
    report,
    sampling,
    score_from_reconstruction,
    score_matching_loss,
    squared_jacobian,
)
from dini_zoo.diffusion.regularised_autoencoders.experiment import experiment

C = np.array([[0.5, 0.2], [0.2, 0.3]])
M = np.array([0.4, -1.0])


def residual(size):
    """A network whose last layer is not zero, as it is before training."""
    network = Residual(size, width=8, key=jax.random.key(0))
    last = jax.random.normal(jax.random.key(5), (size, 8))
    return eqx.tree_at(lambda one: one.weights[2], network, last)


def test_optima_on_a_line_are_those_of_the_specification():
    """Reconstructions at two points and errors of the score, for four scales, of both objectives."""
    found = line.errors(tuple(report.LINE))
    for i, (s, known) in enumerate(report.LINE.items()):
        ours = (
            found.at_zero[i],
            found.at_half[i],
            found.contractive[i],
            found.denoising_at_zero[i],
            found.denoising[i],
        )
        np.testing.assert_allclose(ours, known, atol=6e-6, err_msg=str(s))


def test_the_solve_on_a_line_has_a_derivative_and_no_units():
    """In the scale against differences, and with everything a million times larger; tiny densities at the ends."""
    grid = jnp.linspace(-5.0, 5.0, 401)
    at = lambda s, unit: rcae_on_grid(lambda x: -((x / unit) ** 4), grid * unit, s * unit)[230] / unit
    value, slope = jax.jit(lambda s: (at(s, 1.0), jax.grad(at)(s, 1.0)))(0.3)
    step = 1e-5
    np.testing.assert_allclose(slope, (at(0.3 + step, 1.0) - at(0.3 - step, 1.0)) / (2 * step), rtol=1e-6)
    for unit in (1e6, 1e-6):
        np.testing.assert_allclose(at(0.3, unit), value, rtol=1e-8)


def test_both_objectives_are_least_at_the_known_reconstruction_of_normal_data():
    """With points whose moments are exact the gradient vanishes, in a linear reconstruction's matrix and offset."""
    s, n = 0.4, 4000
    root = np.linalg.cholesky(C)
    # of both objectives' expectations only two moments enter
    signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    x = jnp.asarray(M + signs @ root.T)
    A = C @ np.linalg.inv(C + s**2 * np.eye(2))

    def loss(model, objective, key):
        r = lambda x: M + (x - M) @ model[0].T + model[1]
        return rcae_loss(r, x, s) if objective == "rcae" else dae_loss(r, jnp.tile(x, (n, 1)), s, key)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    best, other = (jnp.asarray(A), jnp.zeros(2)), (jnp.asarray(A) + 0.1, jnp.zeros(2))
    for part in gradient(best, "rcae", jax.random.key(0)):
        np.testing.assert_allclose(part, 0.0, atol=1e-12)
    keys = jax.random.split(jax.random.key(0), 8)
    drawn = np.stack([np.asarray(gradient(best, "dae", key)[0]) for key in keys])
    # estimates of zero with an error of about their spread over √8
    assert np.all(np.abs(drawn.mean(axis=0)) < 6 * drawn.std(axis=0) / np.sqrt(8) + 1e-12)
    assert np.abs(gradient(other, "dae", keys[0])[0]).min() > 10 * drawn.std()


def test_a_tied_layer_has_an_energy():
    s = 0.3
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    for activation in ("sigmoid", "tanh"):
        r = TiedAutoencoder(3, 5, activation=activation, key=jax.random.key(0))
        r = eqx.tree_at(lambda r: (r.b, r.c), r, (jnp.linspace(-1.0, 1.0, 5), jnp.array([0.1, 0.2, -0.3])))
        score = score_from_reconstruction(r, s)
        slope = jax.jit(jax.vmap(jax.grad(lambda x, r=r: r.energy(x, s))))(x)
        np.testing.assert_allclose(-slope, score(x), atol=1e-6)
        step = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)))
        y = x + step / jnp.linalg.norm(step, axis=1, keepdims=True)
        np.testing.assert_allclose(path_log_ratio(score, x, y), r.energy(x, s) - r.energy(y, s), atol=1e-5)
        np.testing.assert_allclose(jacobian_asymmetry(r, x), 0.0, atol=1e-12)
    free = residual(3)
    assert np.all(np.asarray(jacobian_asymmetry(free, x)) > 0.01)


def test_rules_are_antisymmetric_but_for_the_end_point():
    x, y = (jnp.asarray(np.random.default_rng(i).normal(size=(5, 2))) for i in range(2))
    score = lambda x: jnp.stack([jnp.sin(x[:, 1]), x[:, 0] ** 2], axis=1)
    for rule in sampling.RULES:
        both = path_log_ratio(score, x, y, rule) + path_log_ratio(score, y, x, rule)
        if rule == "end point":
            assert np.all(np.abs(np.asarray(both)) > 1e-3)
        else:
            np.testing.assert_allclose(both, 0.0, atol=1e-13)
    # four points are exact for a polynomial of degree seven
    power = lambda x: x**7
    gap = path_log_ratio(power, x, y) - jnp.sum(y**8 - x**8, axis=1) / 8
    np.testing.assert_allclose(gap, 0.0, atol=1e-11)


def test_random_products_estimate_the_jacobian():
    r, x = residual(4), jax.random.normal(jax.random.key(1), (3, 4))
    exact = squared_jacobian(r, x)
    J = jax.vmap(jax.jacrev(lambda x: r(x[None])[0]))(x)
    np.testing.assert_allclose(exact, jnp.sum(J**2, axis=(1, 2)), rtol=1e-12)
    estimate = jax.jit(jax.vmap(lambda key: squared_jacobian(r, x, key=key, probes=1)))
    drawn = estimate(jax.random.split(jax.random.key(2), 4000))
    assert np.all(np.abs(drawn.mean(axis=0) - exact) < 3 * drawn.std(axis=0) / np.sqrt(4000))


def test_linear_reconstructions_are_the_least():
    """The gradient of each objective in the coefficients vanishes; of normal data the score is known; the derivative
    in the scale is that of differences."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 1)))
    features = lambda x: jnp.concatenate([x, x**2, jnp.sin(x)])
    s, key = 0.5, jax.random.key(0)
    for objective, loss in (
        ("contractive", lambda r: rcae_loss(r, x, s)),
        ("denoising", lambda r: dae_loss(r, x, s, key)),
    ):
        found = linear_reconstruction(features, x, s, objective=objective, ridge=0.0, key=key)
        slope = jax.grad(lambda c, loss=loss, r=found: loss(optima.LinearReconstruction(features, c)))(
            found.coefficients
        )
        np.testing.assert_allclose(slope, 0.0, atol=1e-9)
    value = jax.jit(lambda s: linear_reconstruction(features, x, s).coefficients[2, 0])
    step = 1e-5
    difference = (value(0.5 + step) - value(0.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.5), difference, rtol=1e-6)
    linear = linear_reconstruction(lambda x: x, x, s, ridge=0.0)
    second = float(jnp.mean(x**2))
    np.testing.assert_allclose(1 + linear.coefficients[0, 0], second / (second + s**2), rtol=1e-12)


def test_score_matching_is_least_at_the_score():
    """Of a normal law with the sample's own variance."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 1)))
    loss = lambda a: score_matching_loss(lambda x: -a * x, x)
    best = 1 / jnp.mean(x**2)
    np.testing.assert_allclose(jax.grad(loss)(best), 0.0, atol=1e-12)
    np.testing.assert_allclose(loss(best), -0.5 * best, rtol=1e-12)


def test_chains_have_the_law_that_they_should_have():
    """By a known density and two proposals; refusals where a ratio is not a number, and beyond a radius."""
    n = 2000
    score = lambda x: -x / 0.25
    ratio = lambda x, y: jnp.sum(x**2 - y**2, axis=1) / 0.5
    x0 = jnp.zeros((n, 1))

    @jax.jit
    def ends(key):
        walk = metropolis_hastings(key, x0, ratio, random_walk(0.8), steps=60)
        # a score that is wrong by a half still proposes steps of the right law
        drift = metropolis_hastings(key, x0, ratio, langevin(lambda x: 0.5 * score(x), 0.7), steps=60)
        return walk, drift

    for found in ends(jax.random.key(0)):
        assert stats.kstest(np.asarray(found.x[:, 0]) / 0.5, "norm").pvalue > 1e-3
        assert 0.3 < found.acceptance < 0.95
        assert found.furthest < 3
    broken = lambda x, y: jnp.where(y[:, 0] > 0, jnp.nan, 0.0)
    found = metropolis_hastings(jax.random.key(0), x0, broken, random_walk(0.5), steps=5, radius=1.0)
    assert found.invalid > 0
    for infinite in (jnp.inf, -jnp.inf):
        broken = lambda x, y, infinite=infinite: jnp.where(y[:, 0] > 0, infinite, 0.0)
        endless = metropolis_hastings(jax.random.key(0), x0, broken, random_walk(0.5), steps=5, radius=1.0)
        assert endless.invalid == found.invalid
        np.testing.assert_array_equal(endless.x, found.x)
    assert np.all((found.x <= 0) & (found.x >= -1))


def test_bad_input():
    x, key, r = jnp.ones((3, 2)), jax.random.key(0), lambda x: x
    for loss in (
        lambda s: dae_loss(r, x, s, key),
        lambda s: rcae_loss(r, x, s),
        lambda s: score_from_reconstruction(r, s),
    ):
        with pytest.raises(ValueError, match="s must be positive"):
            loss(0.0)
    with pytest.raises(ValueError, match="r must return points of the shape"):
        dae_loss(lambda x: x[:, :1], x, 0.1, key)
    with pytest.raises(ValueError, match=r"x must (be a batch of points|have the shape \(n, d\))"):
        rcae_loss(r, x[0], 0.1)
    with pytest.raises(ValueError, match="needs a key"):
        rcae_loss(r, x, 0.1, probes=2)
    with pytest.raises(ValueError, match="rule must be one of"):
        path_log_ratio(r, x, x, "simpson")
    with pytest.raises(ValueError, match="b must have the shape"):
        path_log_ratio(r, x, x[:1])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        metropolis_hastings(key, x, lambda x, y: x[:, 0], random_walk(1.0), steps=0)
    with pytest.raises(ValueError, match="grid must rise"):
        rcae_on_grid(lambda x: x, jnp.array([0.0, 1.0, 3.0]), 0.1)
    with pytest.raises(ValueError, match="needs a key for its noise"):
        linear_reconstruction(lambda x: x, x, 0.1, objective="denoising")
    with pytest.raises(ValueError, match="activation must be one of"):
        TiedAutoencoder(2, 3, activation="relu", key=key)


@pytest.mark.parametrize("module", [losses, networks, optima, sampling], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_bars_of_the_full_run():
    assert_bars_met("regularised-autoencoders", experiment)
