"""Lanczos' method against dense eigenvalues, its quadrature, its ends; Hessians as operators."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.optimizers import curvature
from dini_zoo.optimizers import lanczos as module
from dini_zoo.optimizers.curvature import gauss_newton_operator, hessian_operator
from dini_zoo.optimizers.lanczos import extremes, lanczos, quadrature, random_direction, ritz


def symmetric(n, seed=0):
    A = np.random.default_rng(seed).normal(size=(n, n))
    return A + A.T


def tree(v):
    return {"a": v[:8].reshape(2, 4), "b": v[8:]}


def flat(v):
    return jnp.concatenate([v["a"].ravel(), v["b"]])


def test_all_steps_give_all_eigenvalues():
    H, v = symmetric(12), np.random.default_rng(1).normal(size=12)

    @jax.jit
    def found(H, v):
        # more steps than unknowns are no more
        result = lanczos(lambda t: tree(H @ flat(t)), tree(v), 20)
        return result, ritz(result)

    result, of = found(H, v)
    np.testing.assert_allclose(of.values, np.linalg.eigvalsh(H), atol=1e-8)
    V = np.stack([flat(jax.tree.map(lambda leaf, j=j: leaf[j], result.basis)) for j in range(12)])
    np.testing.assert_allclose(V @ V.T, np.eye(12), atol=1e-13)
    T = np.diag(result.alphas) + np.diag(result.betas[:-1], 1) + np.diag(result.betas[:-1], -1)
    np.testing.assert_allclose(V @ H @ V.T, T, atol=1e-12)
    assert result.steps == 12
    assert result.betas[-1] == 0
    # the quadrature is exact for polynomials
    u = v / np.linalg.norm(v)
    moments = [np.sum(of.weights * of.values**k) for k in range(4)]
    np.testing.assert_allclose(moments, [1, u @ H @ u, u @ H @ H @ u, u @ H @ H @ H @ u], rtol=1e-11)


def test_few_steps_bound_what_they_miss():
    d = np.append(np.linspace(-1, 1, 60), [-2.0, 3.0])

    @jax.jit
    def found(key):
        start = random_direction(key, d)
        of = ritz(lanczos(lambda v: d * v, start, 8))
        return extremes(lambda v: d * v, start, 8), of, start

    ends, of, start = found(jax.random.key(0))
    for pair, truth in ((ends.largest, 3.0), (ends.smallest, -2.0)):
        assert abs(pair.value - truth) <= pair.residual < 0.5
        assert float(jnp.linalg.norm(d * pair.vector - pair.value * pair.vector)) == pytest.approx(float(pair.residual))
        assert float(jnp.linalg.norm(pair.vector)) == pytest.approx(1)
    # within the spectrum, and a quadrature that is exact to the degree 2 m - 1
    assert -2 <= of.values[0] < of.values[-1] <= 3
    powers = np.arange(16)[:, None]
    np.testing.assert_allclose(
        np.sum(of.weights * of.values**powers, axis=1), np.sum(np.square(start) * d**powers, axis=1), rtol=1e-10
    )


def test_a_space_that_is_exhausted_early():
    low = np.outer(np.ones(9), np.ones(9)) / 3  # eigenvalues 3 and zero
    operators = np.stack([low, 2.5 * np.eye(9), np.zeros((9, 9))])
    start = np.random.default_rng(0).normal(size=9)

    @jax.jit
    @jax.vmap
    def found(H):
        result = lanczos(lambda v: H @ v, start, 6)
        return result.steps, ritz(result), extremes(lambda v: H @ v, start, 6)

    steps, of, ends = found(operators)
    np.testing.assert_array_equal(steps, [2, 1, 1])
    assert np.all(np.isfinite(of.values))
    np.testing.assert_allclose(np.sum(of.weights, axis=1), 1)
    np.testing.assert_allclose(ends.largest.value, [3, 2.5, 0], atol=1e-12)
    np.testing.assert_allclose(ends.smallest.value, [0, 2.5, 0], atol=1e-12)
    np.testing.assert_array_equal(np.sum(np.isinf(of.residuals[0])), 4)
    assert np.all(np.asarray(ends.largest.residual) < 1e-10)


def test_single_precision_keeps_the_basis_orthogonal():
    d = jnp.asarray(np.geomspace(1e-6, 1e3, 300), jnp.float32)

    @jax.jit
    def found(start):
        ways = {way: lanczos(lambda v: d * v, start, 60, reorthogonalize=way) for way in (True, False)}
        return {way: (result.basis @ result.basis.T, ritz(result).values) for way, result in ways.items()}

    results = found(jnp.ones(300, jnp.float32))
    gram, values = results[True]
    assert np.max(np.abs(gram - np.eye(60))) < 1e-5
    assert values.dtype == jnp.float32
    # the largest eigenvalues once each; without new orthogonalization they come as copies
    copies = lambda values: np.sum(np.abs(values / 1e3 - 1) < 1e-3)
    assert copies(values) == 1
    assert copies(results[False][1]) > 1


def test_half_precision_and_what_is_not_finite():
    d = jnp.asarray([1.0, 2.0, 4.0], jnp.bfloat16)
    of = jax.jit(lambda v: ritz(lanczos(lambda v: d * v, v, 3)))(jnp.ones(3, jnp.bfloat16))
    assert of.values.dtype == jnp.float32
    assert float(of.values[-1]) == pytest.approx(4, rel=0.02)
    bad = jax.jit(lambda v: extremes(lambda v: jnp.nan * v, v, 3).largest.value)(jnp.ones(3))
    assert np.isnan(bad)


def test_the_whole_spectrum():
    d = np.concatenate([np.full(90, 1.0), np.full(10, 5.0)])
    found = jax.jit(lambda key: quadrature(lambda v: d * v, d, key=key, num_steps=4, probes=60))(jax.random.key(0))
    assert float(found.mean(jnp.ones_like)) == pytest.approx(1)
    assert float(found.mean(jnp.sqrt)) == pytest.approx(np.mean(np.sqrt(d)), rel=0.02)
    at = np.linspace(-2, 8, 2001)
    density = found.density(at, 0.2)
    assert np.trapezoid(density, at) == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(density[at > 3], at[at > 3]) == pytest.approx(0.1, abs=0.02)
    with pytest.raises(ValueError, match="width must be positive: given 0"):
        found.density(at, 0)


def test_hessians_as_operators():
    random = np.random.default_rng(0)
    X, y, w = random.normal(size=(6, 3)), random.normal(size=6), random.normal(size=(2, 3))
    outputs = lambda w, X: jnp.tanh(X @ w[0]) + (X @ w[1]) ** 2
    squares = lambda z: jnp.sum((z - y) ** 2 + 0.1 * z**4)
    loss = lambda w, X: squares(outputs(w, X))
    v = random.normal(size=(2, 3))

    @jax.jit
    def found(w, v):
        H = jax.hessian(loss)(w, X).reshape(6, 6)
        J = jax.jacobian(outputs)(w, X).reshape(6, 6)
        curved = jax.hessian(squares)(outputs(w, X))
        ours = hessian_operator(loss, w, X)(v), gauss_newton_operator(outputs, squares, w, X)(v)
        return ours, (H @ v.ravel(), J.T @ (curved @ (J @ v.ravel())))

    for ours, dense in zip(*found(w, v), strict=True):
        np.testing.assert_allclose(ours.ravel(), dense, rtol=1e-11)


@pytest.mark.parametrize("wrong", ["operator", "start", "zero"])
def test_what_is_no_number_is_not_taken_for_an_exhausted_space(wrong):
    """Its residual is none either: with a residual of zero NaN would be an eigenvalue that is exact."""
    d = jnp.array([1.0, 2.0, jnp.nan if wrong == "operator" else 3.0, 4.0])
    start = {"operator": jnp.ones(4), "start": jnp.array([1.0, jnp.nan, 1.0, 1.0]), "zero": jnp.zeros(4)}[wrong]
    for pair in jax.jit(lambda start: extremes(lambda v: d * v, start, 4))(start):
        assert np.isnan(pair.value)
        assert np.isnan(pair.residual)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_length_of_the_start_does_not_count(scale):
    d = jnp.array([1.0, 2.0, 4.0], jnp.float32)
    found = jax.jit(lambda start: ritz(lanczos(lambda v: d * v, start, 3)))(jnp.full(3, scale, jnp.float32))
    np.testing.assert_allclose(found.values, d, rtol=1e-5)


def test_bad_input():
    double = lambda v: 2 * v
    with pytest.raises(ValueError, match="num_steps must be at least 1: given 0"):
        lanczos(double, jnp.ones(3), 0)
    with pytest.raises(ValueError, match="finite and not zero"):
        lanczos(double, jnp.zeros(3), 2)
    with pytest.raises(ValueError, match="finite and not zero"):
        lanczos(double, jnp.array([1.0, jnp.inf]), 2)
    with pytest.raises(ValueError, match="must return a tree like start"):
        lanczos(lambda v: v[:2], jnp.ones(3), 2)
    with pytest.raises(ValueError, match="real floating-point numbers: given int"):
        lanczos(double, jnp.arange(3), 2)
    with pytest.raises(ValueError, match="probes must be at least 1"):
        quadrature(double, jnp.ones(3), key=jax.random.key(0), probes=0)


@pytest.mark.parametrize("one", [module, curvature], ids=["lanczos", "curvature"])
def test_examples_run(one):
    with jax.enable_x64(False):
        assert doctest.testmod(one).failed == 0
