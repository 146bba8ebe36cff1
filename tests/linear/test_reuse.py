"""Derivatives that use what the solve has left behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear
from dini.linear._reused import ReusedCholesky

D = 100
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((150, D)) / 10, np.sign(rng.standard_normal(150))


def logistic(w, strength):
    return jnp.sum(jnp.logaddexp(0, -Y * (X @ w))) + 0.5 * strength * jnp.vdot(w, w)


PROBLEM = dini.Minimize(logistic)
DENSE = dini.Implicit(linear_solver=dini.linear.Dense())


def fit(strength, init=None, how=None, problem=PROBLEM):
    init = jnp.zeros(D) if init is None else init
    return dini.solve(problem, dini.Newton(tol=1e-6), init, strength, differentiation=how or dini.Implicit()).x


def closed_form(w, strength):
    """The derivative of the solution in the penalty's strength."""
    p = 1 / (1 + np.exp(Y * (X @ w)))
    return np.linalg.solve(X.T @ ((p * (1 - p))[:, None] * X) + strength * np.eye(D), -np.asarray(w))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_newtons_factor_gives_the_derivative_without_another():
    w = np.asarray(fit(0.1))
    forward, reverse = jax.jacfwd(fit)(0.1), jax.jacrev(fit)(0.1)
    np.testing.assert_allclose(forward, closed_form(w, 0.1), rtol=1e-9)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10)


@pytest.mark.thorough
def test_higher_order_derivatives_pass_through_the_reused_factor():
    def total(strength, how=None):
        return jnp.sum(fit(strength, how=how) ** 2)

    ours, dense = (jax.hessian(lambda s, how=how: total(s, how))(0.1) for how in (None, DENSE))
    np.testing.assert_allclose(ours, dense, rtol=1e-8)


def test_a_solve_that_starts_at_its_solution_has_no_factor_and_makes_one():
    w = fit(0.1)
    again = jax.jacrev(lambda s: fit(s, w))(0.1)
    np.testing.assert_allclose(again, closed_form(np.asarray(w), 0.1), rtol=1e-9)


@pytest.mark.thorough
def test_in_a_batch():
    strengths = jnp.array([0.05, 0.3])
    together = jax.vmap(jax.grad(lambda s: fit(s).sum()))(strengths)
    apart = [closed_form(np.asarray(fit(s)), float(s)).sum() for s in strengths]
    np.testing.assert_allclose(together, apart, rtol=1e-9)


def test_a_singular_hessian_is_seen_in_the_factor():
    def flat(w, strength):
        return jnp.sum((w[: D // 2] - strength) ** 2) + (w[D // 2 :].sum() - strength) ** 2

    with pytest.raises(Exception, match="singular"):
        jax.block_until_ready(jax.grad(lambda s: fit(s, problem=dini.Minimize(flat)).sum())(0.1))


@pytest.mark.parametrize("spread", [0, 3])
def test_a_factor_nearby_serves_badly_scaled_unknowns(spread):
    """Its errors are small in its own norm, which is not the Euclidean one: the residual may grow at first."""
    rng = np.random.default_rng(0)
    scales = np.logspace(-spread, spread, 80)
    X = rng.normal(size=(300, 80)) * scales
    near, here = X.T @ X, jnp.asarray(X.T @ ((1 + 1e-2 * rng.normal(size=300))[:, None] * X))
    solver = ReusedCholesky(jnp.linalg.cholesky(near), jnp.asarray(True))
    for b in (np.eye(80)[0], np.eye(80)[-1], rng.normal(size=80)):
        got = linear.solve(lambda v: here @ v, jnp.asarray(b), structure="positive definite", solver=solver)
        want = np.linalg.solve(here, b)
        assert np.linalg.norm(scales * (got - want)) <= 1e-9 * np.linalg.norm(scales * want)
