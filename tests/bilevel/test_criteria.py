"""Criteria: closed forms against refits and random noise, folds against a loop, gradients against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import bilevel

rng = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def same_data_in_any_order(monkeypatch):
    """Each test begins with the same random numbers, whichever ran before it."""
    monkeypatch.setitem(globals(), "rng", np.random.default_rng(1))


def refits(X, y, penalty):
    errors = []
    for i in range(y.size):
        rest = np.arange(y.size) != i
        w = np.linalg.solve(X[rest].T @ X[rest] + np.diag(penalty), X[rest].T @ y[rest])
        errors.append(y[i] - X[i] @ w)
    return np.mean(np.square(errors))


@pytest.mark.parametrize("shape", [(12, 4), (6, 9)])
def test_leave_one_out_is_that_of_refits(shape):
    X, y, theta = rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    value, gradient = jax.value_and_grad(lambda t: bilevel.leave_one_out(X, y, jnp.exp(t)))(theta)
    np.testing.assert_allclose(value, refits(X, y, np.exp(theta)), rtol=1e-9)
    step = 1e-5 * np.eye(shape[1])
    slopes = [(refits(X, y, np.exp(theta + e)) - refits(X, y, np.exp(theta - e))) / 2e-5 for e in step]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_leave_one_out_has_the_units_of_its_data(scale):
    X, y = rng.standard_normal((12, 4)), rng.standard_normal(12)
    scaled = bilevel.leave_one_out(scale * X, scale * y, scale**2 * np.ones(4))
    np.testing.assert_allclose(scaled, scale**2 * refits(X, y, np.ones(4)), rtol=1e-9)


def test_a_fit_that_interpolates_has_no_leave_one_out():
    assert np.isnan(bilevel.leave_one_out(np.eye(3), np.ones(3), 0.0))
    assert np.isnan(bilevel.leave_one_out(np.ones((3, 2)), np.ones(3), 0.0))


def test_sure_is_the_risk_in_the_mean():
    X, mean, sigma, penalty = rng.standard_normal((10, 3)), rng.standard_normal(10), 0.7, np.array([0.5, 2.0, 1.0])
    Y = mean + sigma * rng.standard_normal((20000, 10))
    S = X @ np.linalg.solve(X.T @ X + np.diag(penalty), X.T)
    risk = np.mean((Y @ S.T - mean) ** 2, axis=1)
    estimate = jax.jit(jax.vmap(lambda y: bilevel.sure(X, y, penalty, sigma)))(Y)
    gap = estimate - risk
    assert abs(np.mean(gap)) < 4 * np.std(gap) / np.sqrt(20000)
    assert np.std(gap) / np.sqrt(20000) < 0.01 * np.mean(risk)


def test_monte_carlo_sure_is_the_risk_of_a_lasso_in_the_mean_and_so_is_its_slope():
    """Over many draws of the noise: against the risk, which knows the mean, and its slope by differences.

    The estimate is that of observations with a variance larger by the squared step: with 0.1, three hundredths.
    """
    X, sigma, strength = rng.standard_normal((12, 4)), 0.6, 2.0
    mean = X @ np.array([1.5, -1.0, 0.0, 0.0])

    def fit(t):
        loss = lambda w, y: 0.5 * jnp.sum((X @ w - y) ** 2)
        how = dini.ProximalGradient(rtol=1e-9)
        penalty = dini.penalties.L1(t)
        return lambda y: X @ dini.minimize(loss, jnp.zeros(4), y, penalty=penalty, solver=how, on_failure="nan").x

    def both(y, key):
        estimate = lambda t: bilevel.monte_carlo_sure(fit(t), y, sigma, key, step=0.1, samples=2)
        risk = lambda t: jnp.mean((fit(t)(y) - mean) ** 2)
        step = 1e-4
        slope = (risk(strength + step) - risk(strength - step)) / (2 * step)
        return *jax.value_and_grad(estimate)(strength), risk(strength), slope

    draws = 3000
    Y = mean + sigma * rng.standard_normal((draws, 12))
    value, gradient, risk, slope = jax.jit(jax.vmap(both))(Y, jax.random.split(jax.random.key(3), draws))
    for estimate, truth in ((value, risk), (gradient, slope)):
        gap = np.asarray(estimate - truth)
        assert np.isfinite(gap).all()
        assert abs(np.mean(gap)) < 4 * np.std(gap) / np.sqrt(draws)
    assert np.std(value - risk) / np.sqrt(draws) < 0.05 * np.mean(risk)


def test_monte_carlo_sure_of_a_ridge_regression_is_near_the_closed_form():
    X, y, key = rng.standard_normal((40, 3)), rng.standard_normal(40), jax.random.key(0)
    smoother = X @ np.linalg.solve(X.T @ X + 2.0 * np.eye(3), X.T)
    found = jax.jit(lambda y: bilevel.monte_carlo_sure(lambda y: smoother @ y, y, 0.5, key, samples=4000))(y)
    # the traces' deviation is the root of twice the squared norm over the samples
    deviation = 2 * 0.25 / 40 * np.sqrt(2 * np.sum(smoother**2) / 4000)
    assert abs(found - bilevel.sure(X, y, 2.0, 0.5)) < 4 * deviation
    with pytest.raises(ValueError, match="shape of y"):
        bilevel.monte_carlo_sure(lambda y: y[:2], y, 0.5, key)
    with pytest.raises(ValueError, match="noise"):
        bilevel.monte_carlo_sure(lambda y: y, y, -1.0, key)
    with pytest.raises(ValueError, match="noise must be one number: given shape"):
        bilevel.monte_carlo_sure(lambda y: y, y, np.ones(40), key)
    with pytest.raises(ValueError, match="step must be one number: given shape"):
        bilevel.monte_carlo_sure(lambda y: y, y, 0.5, key, step=np.ones(40))
    with pytest.raises(TypeError, match="y must be real numbers: given complex"):
        bilevel.monte_carlo_sure(lambda y: y, y + 1j, 0.5, key)


@pytest.mark.parametrize("folds", [3, 4])
def test_folds_are_those_of_a_loop(folds):
    X, y = rng.standard_normal((15, 3)), rng.standard_normal(15)
    theta = np.array([0.1, -0.5, 0.4])

    def ridge(w, theta, data):
        return 0.5 * jnp.sum((data[0] @ w - data[1]) ** 2) + 0.5 * jnp.sum(jnp.exp(theta) * w**2)

    loss = lambda w, theta, data: jnp.mean((data[0] @ w - data[1]) ** 2)
    how = {"folds": folds, "solver": dini.Newton()}
    score = jax.jit(lambda t: bilevel.k_fold(loss, dini.Minimize(ridge), t, np.zeros(3), (X, y), **how))

    def by_loop(theta):
        total = 0
        for left in np.array_split(np.arange(15), folds):
            kept = np.setdiff1d(np.arange(15), left)
            w = np.linalg.solve(X[kept].T @ X[kept] + np.diag(np.exp(theta)), X[kept].T @ y[kept])
            total += np.sum((X[left] @ w - y[left]) ** 2)
        return total / 15

    np.testing.assert_allclose(score(theta), by_loop(theta), rtol=1e-9)
    slopes = [(by_loop(theta + e) - by_loop(theta - e)) / 2e-5 for e in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(jax.grad(score)(theta), slopes, rtol=1e-6)


def test_integer_data_are_numbers():
    X, y = np.array([[1, 2], [3, 5], [2, 2]]), np.array([1, 2, 4])
    for fun in (lambda X, y: bilevel.sure(X, y, 1, 0.5), lambda X, y: bilevel.leave_one_out(X, y, 0.5)):
        np.testing.assert_allclose(fun(X, y), fun(1.0 * X, 1.0 * y), rtol=1e-12)
    assert bilevel.sure(np.float32(X), y, 1, 0.5).dtype == np.float32


@pytest.mark.parametrize("shape", [(6, 9), (6, 6)])
def test_leave_one_out_with_a_small_penalty(shape):
    """The limit of a small penalty needs no small differences: the residual and I - S are an inverse."""
    X, y = np.float32(rng.standard_normal(shape)), np.float32(rng.standard_normal(shape[0]))
    for penalty in (1e-2, 1e-4, 1e-5, 1e-7):
        inverse = np.linalg.inv(np.float64(X) @ np.float64(X).T / penalty + np.eye(6))
        exact = np.mean((inverse @ y / np.diag(inverse)) ** 2)
        np.testing.assert_allclose(bilevel.leave_one_out(X, y, penalty), exact, rtol=1e-3)
    np.testing.assert_allclose(exact, refits(np.float64(X), np.float64(y), np.full(shape[1], penalty)), rtol=1e-3)


def test_a_rank_that_single_precision_cannot_tell_has_no_leave_one_out():
    X = np.float32(rng.standard_normal((6, 9)))
    assert np.isnan(bilevel.leave_one_out(np.concatenate([X, X[:1]]), np.ones(7, np.float32), 1e-7))


def test_penalties_are_not_negative():
    X, y = np.eye(3), np.ones(3)
    for fun in (lambda p: bilevel.leave_one_out(X, y, p), lambda p: bilevel.sure(X, y, p, 1.0)):
        with pytest.raises(ValueError, match="penalty must be nonnegative"):
            fun(np.array([1.0, -0.5, 1.0]))
        assert np.isnan(jax.jit(fun)(-0.5))


def test_a_fold_that_fails_is_told_of():
    fit = dini.Minimize(lambda w, t, d: jnp.mean((d - w) ** 2) + t * w**2)
    loss = lambda w, t, d: jnp.mean((d - w) ** 2)
    how = {"folds": 3, "solver": dini.GradientDescent(step_size=1e-3, max_steps=2)}
    score = lambda t, policy: bilevel.k_fold(loss, fit, t, 0.0, np.arange(6.0), **how, on_failure=policy)
    with pytest.raises(dini.SolveError, match=r"folds, .*MAX_STEPS"):
        jax.grad(score)(0.5, "raise")
    with pytest.warns(dini.SolveWarning, match="MAX_STEPS"):
        assert np.isnan(score(0.5, "warn"))
    marked = lambda t: score(t, "nan")
    every = lambda t: (jax.jvp(marked, (t,), (1.0,)), jax.grad(marked)(t), jax.vmap(score, (0, None))(t[None], "raise"))
    assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(jax.jit(every)(0.5)))
    assert np.isfinite(score(0.5, "ignore"))


def test_doors():
    fit = dini.Minimize(lambda w, t, d: jnp.sum(w**2))
    score = lambda data, **how: bilevel.k_fold(lambda w, t, d: jnp.sum(w), fit, 1.0, 0.0, data, **how)
    with pytest.raises(TypeError, match="one leading axis"):
        score((np.zeros(3), np.zeros(4)))
    with pytest.raises(ValueError, match="a sample for each fold"):
        score(np.zeros(3), folds=4)
    with pytest.raises(TypeError, match="objective of loss must return one real"):
        bilevel.k_fold(lambda w, t, d: d - w, fit, 1.0, 0.0, np.zeros(6))
    with pytest.raises(TypeError, match="inner must return a problem"):
        bilevel.k_fold(lambda w, t, d: jnp.sum(w), lambda t: t, 1.0, 0.0, np.zeros(6))
    with pytest.raises(ValueError, match="X of shape"):
        bilevel.sure(np.zeros((3, 2)), np.zeros(2), 1.0, 1.0)
