"""Solutions where the linear map of the derivative is singular: what is not known there is not given out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

BOTH = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
SCALES = pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
CERTIFY = pytest.mark.parametrize("certify", [False, True])
FIRST = pytest.mark.by_default("each")


def refused(derivative):
    with pytest.raises(dini.DerivativeError, match=r"unreliable|was not solved"):
        derivative()


@FIRST
@BOTH
@SCALES
@CERTIFY
@pytest.mark.parametrize("order", [2, 3])
def test_multiple_root(order, certify, scale, dtype):
    """x**m - t at t = 0: the derivative is infinite, what is found beside the root is any large number."""
    fun = lambda x, t: jnp.asarray(scale, dtype) * (x**order - t)
    mode = dini.Implicit(certify=certify)
    solve = lambda t: dini.root(fun, dtype(0.3), t, solver=dini.Newton(), differentiation=mode).x
    refused(lambda: jax.grad(solve)(dtype(0.0)))
    refused(lambda: jax.jvp(solve, (dtype(0.0),), (dtype(1.0),)))
    # the root of t = 1 is simple
    np.testing.assert_allclose(jax.grad(solve)(dtype(1.0)), 1 / order, rtol=1e-3)


@FIRST
@BOTH
@SCALES
@CERTIFY
def test_minimum_with_a_singular_hessian(certify, scale, dtype):
    """x**4 - t x**3 with t = 0 among unknowns with a regular Hessian, whose derivatives stay."""
    unit = jnp.asarray(scale, dtype)
    fun = lambda x, t: unit * (x[0] ** 4 - t[0] * x[0] ** 3 + jnp.sum((x[1:] - t[1:]) ** 2))
    mode = dini.Implicit(certify=certify)
    solve = lambda t: dini.minimize(fun, jnp.full(5, -1, dtype), t, solver=dini.Newton(), differentiation=mode).x
    t = jnp.zeros(5, dtype)
    refused(lambda: jax.grad(lambda t: jnp.sum(solve(t)))(t))
    refused(lambda: jax.jvp(solve, (t,), (jnp.eye(5, dtype=dtype)[0],)))
    # minimum 3 t / 4 for positive t
    gradient = jax.grad(lambda t: jnp.sum(dini.minimize(fun, jnp.ones(5, dtype), t, differentiation=mode).x))
    np.testing.assert_allclose(gradient(jnp.ones(5, dtype)), [0.75, 1, 1, 1, 1], rtol=2e-3)


def test_directions_without_the_degenerate_unknown_keep_their_derivative():
    fun = lambda x, t: jnp.sum((x[:1] - 1) ** 4) + jnp.sum((x[1:] - t) ** 2)
    solve = lambda t: dini.minimize(fun, jnp.zeros(5), t, solver=dini.Newton()).x
    np.testing.assert_allclose(jax.jvp(solve, (1.0,), (1.0,))[1], [0, 1, 1, 1, 1], atol=1e-6)


@BOTH
def test_decorated_solvers(dtype):
    """A double root from elsewhere, as near as a solver comes to it."""
    near = lambda init, t: jnp.asarray(t, dtype) + jnp.finfo(dtype).eps ** 0.5 * jnp.asarray(jnp.array([1, -2]), dtype)
    fun = lambda x, t: jnp.asarray([1e-4, 1e4], dtype) * (x - t) ** 2 - 0 * t
    solve = dini.custom_root(fun)(near)
    refused(lambda: jax.grad(lambda t: jnp.sum(solve(None, t)))(dtype(1.0)))
    x, t = near(None, 1.0), jnp.ones((), dtype)
    refused(lambda: dini.root_jvp(fun, x, (t,), (t,)))
    refused(lambda: dini.root_vjp(fun, x, (t,), x))


def test_system_that_is_not_symmetric():
    """A double root in a rotated direction, beside equations of other sizes."""
    M = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4)))
    N = jnp.asarray(np.random.default_rng(1).standard_normal((4, 4)))

    def fun(x, t):
        y = M @ x
        return N @ jnp.stack([y[0] ** 2 - t, 100 * (y[1] - 1), jnp.sinh(y[2]) - t, y[3] + y[2] - 1])

    solve = lambda t: dini.root(fun, jnp.linalg.solve(M, jnp.ones(4)), t, solver=dini.Newton()).x
    refused(lambda: jax.jacobian(solve)(0.0))
    refused(lambda: jax.jvp(solve, (0.0,), (1.0,)))
    want = jnp.linalg.solve(M, jnp.array([0.5, 0.0, 1 / jnp.sqrt(2.0), -1 / jnp.sqrt(2.0)]))
    np.testing.assert_allclose(jax.jacobian(solve)(1.0), want, rtol=1e-6)


def test_many_unknowns():
    """By conjugate gradients."""

    def fun(x, t):
        return jnp.sum((x - t[1])[1:] ** 2) + (x[0] - t[1]) ** 4 + t[0] * (x[0] - x[1]) ** 2

    solve = lambda t: jnp.sum(dini.minimize(fun, jnp.zeros(600), t, solver=dini.LBFGS(rtol=1e-7)).x)
    np.testing.assert_allclose(jax.grad(solve)(jnp.array([1.0, 0.5])), [0, 600], atol=1e-5)
    refused(lambda: jax.grad(solve)(jnp.array([0.0, 0.5])))


def test_a_bad_lane_is_marked_alone():
    solve = lambda t: dini.root(lambda x, t: x**2 - t, 0.3, t, solver=dini.Newton()).x
    got = jax.vmap(jax.grad(solve))(jnp.array([1.0, 0.0, 4.0]))
    np.testing.assert_allclose(got, [0.5, np.nan, 0.25], rtol=1e-6)
    got = jax.jit(jax.vmap(jax.grad(solve)))(jnp.array([1.0, 0.0, 4.0]))
    np.testing.assert_allclose(got, [0.5, np.nan, 0.25], rtol=1e-6)


def test_policies():
    def solve(t, on_failure):
        return dini.root(lambda x, t: x**2 - t, 0.3, t, solver=dini.Newton(), on_failure=on_failure).x

    assert jnp.isnan(jax.grad(solve)(0.0, "nan"))
    assert jax.grad(solve)(0.0, "ignore") > 1e3
    with pytest.warns(dini.SolveWarning, match="changes by 50 %"):
        assert jax.grad(solve)(0.0, "warn") > 1e3


def test_steps_that_were_asked_for_are_not_held_against_a_solution():
    solve = lambda t: dini.solve(dini.Root(lambda x, t: x**2 - t), dini.Newton(), 3.0, t, steps=1).x
    np.testing.assert_allclose(jax.grad(solve)(1.0), 1 / (2 * solve(1.0)), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@BOTH
def test_ill_conditioned_solutions_are_given_out(seed, dtype):
    """Units from 1e-4 to 1e4, a condition number of 1e8 (1e4 in single precision), strong curvature."""
    rng = np.random.default_rng(seed)
    spread = np.logspace(0, 4 if dtype == jnp.float64 else 2, 6)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    A = jnp.asarray(Q * spread, dtype)
    fun = lambda x, t: jnp.sum(jnp.cosh(A.T @ x - t) + (A.T @ x - t) ** 4)
    solve = lambda t: dini.minimize(fun, jnp.zeros(6, dtype), t, solver=dini.Newton()).x
    np.testing.assert_allclose(
        jax.jvp(solve, (dtype(1.5),), (dtype(1.0),))[1], np.linalg.solve(np.asarray(A, float).T, np.ones(6)), rtol=1e-2
    )
