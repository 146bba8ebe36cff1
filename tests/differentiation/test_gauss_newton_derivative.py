"""The Gauss-Newton matrix in the place of the Hessian, in the derivative of least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

APPROXIMATE = dini.Implicit(hessian="gauss-newton")
T = np.linspace(0.0, 2.0, 7)
NOISE = 0.2 * np.random.default_rng(0).normal(size=7)


def residuals(x, y):
    return x[0] * jnp.exp(-x[1] * T) - y


def fit(y, how, **parts):
    return dini.least_squares(residuals, jnp.array([1.0, 0.8]), y, differentiation=how, **parts).x


def formula(y, x, weights=None):
    """Minus the inverse of the Gauss-Newton matrix times the mixed derivative, that of J' W r in y."""
    J = np.asarray(jax.jacobian(residuals)(x, y))
    W = np.diag(np.ones(7) if weights is None else weights)
    return np.linalg.solve(J.T @ W @ J, J.T @ W)


EXACT = 1.5 * np.exp(-0.7 * T)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_by_the_formula():
    y = jnp.asarray(EXACT + NOISE)
    run = jax.jit(lambda y: (fit(y, APPROXIMATE), jax.jacfwd(fit)(y, APPROXIMATE), jax.jacrev(fit)(y, APPROXIMATE)))
    x, forward, backward = run(y)
    np.testing.assert_allclose(forward, formula(y, x), rtol=1e-6)
    np.testing.assert_allclose(backward, forward, rtol=1e-10)
    # it is another derivative than that of the solution
    exact = jax.jit(lambda y: jax.jacfwd(fit)(y, dini.Implicit()))(y)
    assert np.abs(forward - exact).max() > 0.01 * np.abs(exact).max()
    # where the residuals vanish it is the same
    x, forward, _ = run(jnp.asarray(EXACT))
    h = 1e-5
    for i, column in enumerate(np.eye(7)[:2]):
        up, down = (run(jnp.asarray(EXACT + t * column))[0] for t in (h, -h))
        np.testing.assert_allclose(forward[:, i], (up - down) / (2 * h), rtol=1e-5)


@pytest.mark.thorough
def test_with_bounds_and_by_conjugate_gradients():
    y = jnp.asarray(EXACT + NOISE)
    box = dini.sets.Box(0.0, jnp.array([9.0, 0.6]))
    by_cg = dini.Implicit(hessian="gauss-newton", linear_solver=dini.linear.CG())
    for how in (APPROXIMATE, by_cg):
        run = jax.jit(lambda y, how=how: (fit(y, how, constraint=box), jax.jacrev(fit)(y, how, constraint=box)))
        x, jacobian = run(y)
        assert x[1] == 0.6
        decay = np.exp(-0.6 * T)
        np.testing.assert_allclose(jacobian, [decay / (decay @ decay), np.zeros(7)], atol=1e-7)


def test_the_curvature_of_a_loss():
    """Of the bounded loss of Cauchy, log(1 + s); far residuals, whose curvature is negative, count for nothing."""
    outlier = np.zeros(7)
    outlier[3] = 4.0
    y = jnp.asarray(EXACT + NOISE + outlier)
    loss = lambda s: jnp.log1p(s)
    run = jax.jit(lambda y: (fit(y, APPROXIMATE, loss=loss), jax.jacfwd(fit)(y, APPROXIMATE, loss=loss)))
    x, jacobian = run(y)
    s = np.asarray(residuals(x, y)) ** 2
    curvature = 1 / (1 + s) - 2 * s / (1 + s) ** 2
    assert curvature[3] < 0
    J = np.asarray(jax.jacobian(residuals)(x, y))
    # the mixed derivative is exact: it has the negative curvature
    want = np.linalg.solve(J.T @ np.diag(np.maximum(curvature, 0)) @ J, J.T @ np.diag(curvature))
    np.testing.assert_allclose(jacobian, want, atol=1e-5)


@pytest.mark.thorough
def test_no_certificate_calls_it_exact():
    loss = lambda x, y: jnp.sum(x**2)
    problem, solver, start = dini.LeastSquares(residuals), dini.LevenbergMarquardt(), jnp.array([1.0, 0.8])
    how = {"differentiation": APPROXIMATE, "on_failure": "ignore"}
    judged = [
        dini.certified.value_and_grad(loss, problem, solver, start, jnp.asarray(y), **how)[1:]
        for y in (EXACT + NOISE, EXACT)
    ]
    assert [bool(certificate.reliable) for _, certificate in judged] == [False, True]
    right = dini.certified.value_and_grad(loss, problem, solver, start, jnp.asarray(EXACT + NOISE))[1]
    off = np.linalg.norm(judged[0][0] - right) / np.linalg.norm(right)
    assert off <= judged[0][1].error <= 10 * off
    with pytest.raises(ValueError, match=r"needs the exact Hessian: given Implicit\(hessian='gauss-newton'"):
        dini.certified.vjp(problem, start, (jnp.asarray(EXACT),), start, differentiation=APPROXIMATE)
    with pytest.raises(ValueError, match=r"approximation, which certify=True cannot certify"):
        dini.Implicit(certify=True, hessian="gauss-newton")


def test_where_it_does_not_belong():
    with pytest.raises(TypeError, match=r"needs residuals, a LeastSquares problem: given Minimize"):
        dini.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), differentiation=APPROXIMATE)
    with pytest.raises(ValueError, match=r"hessian must be one of 'exact', 'gauss-newton': given 'gn'"):
        dini.Implicit(hessian="gn")
    with pytest.raises(ValueError, match=r"condition or hessian='gauss-newton', not both"):
        dini.Implicit(condition=dini.conditions.Stationary(), hessian="gauss-newton")
