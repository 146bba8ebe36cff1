"""Functions of eigenvalues and singular values: against SciPy's and their derivatives against differences, at ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from dini.numerics.spectral import divided_difference, singular_function, symmetric_function


def scaled_tanh(s, scale):
    return jnp.tanh(scale * s)


def symmetric(n, seed=0):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return (a + a.T) / 2


TIES = np.diag([2.0, 2.0, -1.0, 0.0])


@pytest.mark.parametrize("x", [symmetric(4), TIES, np.zeros((3, 3)), symmetric(1)], ids=["any", "ties", "zero", "one"])
def test_symmetric_against_the_exponential(x):
    t = symmetric(len(x), 1)
    run = jax.jit(lambda x: symmetric_function(jnp.exp, x))
    value, along = jax.jvp(run, (x,), (t,))
    want, slope = scipy.linalg.expm_frechet(x, t)
    np.testing.assert_allclose(value, want, atol=1e-12)
    np.testing.assert_allclose(along, slope, atol=1e-10)
    jacobian = jax.jacrev(run)(x)
    np.testing.assert_allclose(np.tensordot(jacobian, t, 2), slope, atol=1e-10)


def nearest_orthogonal_like(x, scale):
    """U tanh(scale S) V^T by the eigenvectors of [[0, X], [X^T, 0]]."""
    m, n = x.shape
    block = np.block([[np.zeros((m, m)), x], [x.T, np.zeros((n, n))]])
    values, u = np.linalg.eigh(block)
    return ((u * np.tanh(scale * values)) @ u.T)[:m, m:]


RECTANGLES = {
    "wide": np.random.default_rng(0).standard_normal((3, 5)),
    "tall": np.random.default_rng(0).standard_normal((4, 2)),
    "ties": np.diag([2.0, 2.0, 0.0])[:, :2] + 0.0,
    "tied and rank-deficient": np.diag([2.0, 2.0, 0.0, 0.0])[:3],
    "zero": np.zeros((2, 3)),
}


@pytest.mark.by_default("tall")
@pytest.mark.parametrize("name", RECTANGLES)
def test_singular_values(name):
    x = RECTANGLES[name]
    t = np.random.default_rng(1).standard_normal(x.shape)
    run = jax.jit(lambda x, c: singular_function(scaled_tanh, x, c))
    np.testing.assert_allclose(run(x, 0.7), nearest_orthogonal_like(x, 0.7), atol=1e-12)
    h = 1e-5
    want = (nearest_orthogonal_like(x + h * t, 0.7 + h) - nearest_orthogonal_like(x - h * t, 0.7 - h)) / (2 * h)
    got = jax.jvp(run, (x, 0.7), (t, 1.0))[1]
    np.testing.assert_allclose(got, want, atol=1e-8)
    back = jax.vjp(run, x, 0.7)[1](jnp.asarray(t))
    forward = jax.jacfwd(run, (0, 1))(x, 0.7)
    np.testing.assert_allclose(back[0], np.tensordot(t, forward[0], 2), atol=1e-12)
    np.testing.assert_allclose(back[1], np.sum(t * forward[1]), atol=1e-12)


def test_second_derivatives_without_ties():
    x, t = RECTANGLES["wide"], np.ones((3, 5))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(singular_function(scaled_tanh, x, 0.7)))))
    h = 1e-5
    want = (slope(x + h * t) - slope(x - h * t)) / (2 * h)
    np.testing.assert_allclose(jax.jvp(slope, (x,), (t,))[1], want, atol=1e-8)


def test_transformations_and_types():
    batch = np.stack([symmetric(3, seed) for seed in range(4)])
    exponential = jax.jit(lambda x: symmetric_function(jnp.exp, x))
    got = exponential(batch)
    np.testing.assert_allclose(got, [scipy.linalg.expm(x) for x in batch], atol=1e-12)
    np.testing.assert_allclose(jax.vmap(exponential)(batch), got, atol=1e-12)
    # in batches too, each derivative is the matrix's own
    slopes = jax.jvp(exponential, (batch,), (batch[::-1],))[1]
    want = [scipy.linalg.expm_frechet(x, t)[1] for x, t in zip(batch, batch[::-1], strict=True)]
    np.testing.assert_allclose(slopes, want, atol=1e-10)
    many = np.stack([RECTANGLES["wide"], RECTANGLES["wide"] + 1])
    run = jax.jit(lambda x: jax.jvp(lambda x: singular_function(scaled_tanh, x, 0.5), (x,), (jnp.ones_like(x),))[1])
    np.testing.assert_allclose(run(many), [run(x) for x in many], atol=1e-12)
    single = singular_function(scaled_tanh, jnp.ones((2, 3), jnp.float32), 0.5)
    assert single.dtype == jnp.float32
    assert singular_function(scaled_tanh, jnp.ones((2, 3), jnp.bfloat16), 0.5).dtype == jnp.bfloat16
    assert singular_function(scaled_tanh, jnp.zeros((0, 3)), 0.5).shape == (0, 3)
    assert symmetric_function(jnp.exp, jnp.zeros((0, 0))).shape == (0, 0)


def test_divided_differences_keep_their_digits_near_ties():
    a = 1.0
    for gap in (0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 1.0):
        got = divided_difference(jnp.exp, jnp.asarray(a), jnp.asarray(a + gap))
        want = np.exp(a) * (np.expm1(gap) / gap if gap else 1.0)
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_bad_matrices_raise():
    with pytest.raises(ValueError, match="square"):
        symmetric_function(jnp.exp, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="needs a matrix"):
        singular_function(jnp.tanh, jnp.ones(3))
    with pytest.raises(TypeError, match="real floating-point"):
        singular_function(jnp.tanh, jnp.ones((2, 2), int))
