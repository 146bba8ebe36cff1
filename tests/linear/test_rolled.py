"""Short loops in place of a library's factorizations: the same numbers, and what they must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.linear import _rolled


def given(size, dtype):
    rng = np.random.default_rng(size)
    a, b = rng.normal(size=(size, size)), rng.normal(size=size)
    return jnp.asarray(a, dtype), jnp.asarray(a @ a.T + 0.1 * np.eye(size), dtype), jnp.asarray(b, dtype)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("size", [1, 5, _rolled.PIVOTED, _rolled.ROLLED])
def test_solutions_are_numpys(size, dtype):
    """Both factorizations and the transposed one; that of Cholesky whatever the units of the unknowns are."""
    a, positive, b = given(size, dtype)
    units = jnp.asarray(2.0 ** np.linspace(-30, 30, size).round(), dtype)

    @jax.jit
    def run(a, positive, b):
        scaled = units[:, None] * positive * units[None, :]
        lower, factors = _rolled.cholesky(scaled), _rolled.lu(a)
        inverse = _rolled.lower_solve(lower, jnp.diag(units))
        found = _rolled.cholesky_solve(lower, units * b) * units, inverse.T @ (inverse @ b)
        return found, (_rolled.lu_solve(factors, b), _rolled.lu_solve(factors, b, transposed=True)), lower

    *found, lower = run(a, positive, b)
    assert (np.triu(lower, 1) == 0).all()
    for matrices, solutions in zip(((positive, positive), (a, a.T)), found, strict=True):
        for matrix, x in zip(np.asarray(matrices, np.float64), np.asarray(solutions, np.float64), strict=True):
            backward = np.abs(matrix @ x - b).max() / (np.abs(matrix).sum(1).max() * np.abs(x).max())
            assert backward < 10 * size * jnp.finfo(dtype).eps


def test_what_is_not_positive_definite_is_not_a_number():
    """As LAPACK's: all of the factor, wherever the first pivot that is not positive stands."""
    for bad in (jnp.diag(jnp.array([1.0, -1.0, 1.0])), jnp.diag(jnp.array([1.0, 1.0, 0.0])), jnp.full((3, 3), jnp.nan)):
        assert np.isnan(_rolled.cholesky(bad)).all()


def test_pivots_of_zero():
    """Rows are exchanged; a column without a pivot leaves finite factors, in which the zero shows."""
    swapped = jnp.array([[0.0, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(_rolled.lu_solve(_rolled.lu(swapped), jnp.array([2.0, 8.0])), [2.0, 1.0])
    factors, _ = _rolled.lu(jnp.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [3.0, 6.0, 1.0]]))
    assert np.isfinite(factors).all()
    assert (np.diagonal(factors) == 0).sum() == 1


def test_batches_and_derivatives_are_the_librarys():
    """Lanes, Jacobians and second derivatives; a program of lanes calls LAPACK."""
    a, positive, b = given(6, jnp.float64)

    def norms(t):
        lower, factors = _rolled.cholesky(positive + t * jnp.eye(6)), _rolled.lu(a + t * jnp.eye(6))
        return jnp.sum(_rolled.cholesky_solve(lower, b) ** 2) + jnp.sum(_rolled.lu_solve(factors, b) ** 2)

    def known(t):
        t = t * np.eye(6)
        return np.sum(np.linalg.solve(positive + t, b) ** 2) + np.sum(np.linalg.solve(a + t, b) ** 2)

    ts = jnp.array([0.3, 0.7])
    np.testing.assert_allclose(jax.jit(jax.vmap(norms))(ts), [known(t) for t in (0.3, 0.7)], rtol=1e-10)
    slopes = jax.jit(jax.vmap(jax.grad(norms)))(ts)
    differences = [(known(t + 1e-6) - known(t - 1e-6)) / 2e-6 for t in (0.3, 0.7)]
    np.testing.assert_allclose(slopes, differences, rtol=1e-6)
    second = jax.jit(jax.grad(jax.grad(norms)))(0.3)
    slope = jax.jit(jax.grad(norms))
    np.testing.assert_allclose(second, (slope(0.3 + 1e-5) - slope(0.3 - 1e-5)) / 2e-5, rtol=1e-5)
    text = jax.jit(jax.vmap(norms)).lower(ts).as_text()
    assert "lapack_dpotrf" in text
    assert "lapack_dgetrf" in text


def test_a_small_gradient_calls_no_library():
    """The first gradient of twenty unknowns, a minimum's and an equation's, needs neither LAPACK nor SciPy."""
    weights = jnp.linspace(0.5, 2.0, 20)
    minimum = lambda a: dini.minimize(lambda x, a: jnp.sum(weights * jnp.cosh(x) - a * x), jnp.zeros(20), a).x
    root = lambda a: dini.root(lambda x, a: x + 0.1 * jnp.tanh(jnp.roll(x, 1)) - a, jnp.zeros(20), a).x
    for solve in (minimum, root):
        text = jax.jit(jax.grad(lambda a, solve=solve: jnp.sum(solve(a)))).lower(0.5).as_text()
        assert "lapack" not in text
