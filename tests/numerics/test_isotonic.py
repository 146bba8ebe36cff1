"""Isotonic regression beside SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import isotonic_regression as reference

from dini.numerics.isotonic import isotonic_regression

# a case's programs are its own: each case in one test, each test with one case
pytestmark = pytest.mark.by_default("once")

run = jax.jit(isotonic_regression, static_argnames=("increasing", "axis"))
KINDS = {
    "noise": lambda n, rng: rng.standard_normal(n),
    "walk": lambda n, rng: np.cumsum(rng.standard_normal(n)),
    "ties": lambda n, rng: np.round(2 * rng.standard_normal(n)),
    "falling": lambda n, rng: 1e-3 * rng.standard_normal(n) - np.arange(n),
    "rising": lambda n, rng: np.arange(n) ** 2.0,
    "late": lambda n, rng: np.where(np.arange(n) == n - 1, -(float(n) ** 2), np.arange(n)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 16, 17, 100, 1000])
def test_agrees_with_scipy(kind, n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        y, w = KINDS[kind](n, rng), rng.random(n) + 0.1
        top = np.abs(y).max()
        np.testing.assert_allclose(run(y, w), reference(y, weights=w).x, atol=1e-13 * top)
        np.testing.assert_allclose(run(y, increasing=False), reference(y, increasing=False).x, atol=1e-13 * top)


def outlier(rng, y, w):
    y[rng.integers(y.size)] = -1e9


def light_outlier(rng, y, w):
    i = rng.integers(y.size)
    y[i], w[i] = -1e9, 1e-12


def heavy_beside_light(rng, y, w):
    w[:] = np.where(rng.random(w.size) < 0.5, 1e5, 1e-2)


@pytest.mark.parametrize("n", [16, 40, 300])
@pytest.mark.parametrize("change", [outlier, light_outlier, heavy_beside_light])
def test_a_block_knows_nothing_of_what_is_large_elsewhere(change, n):
    """In single precision: the error of a level is relative to what was pooled there."""
    rng = np.random.default_rng(n)
    for _ in range(20):
        y, w = rng.standard_normal(n), rng.random(n) + 0.1
        change(rng, y, w)
        y, w = y.astype(np.float32), w.astype(np.float32)
        solved = reference(y.astype(float), weights=w.astype(float))
        sizes = np.add.reduceat(w * np.abs(y), solved.blocks[:-1]) / np.add.reduceat(w, solved.blocks[:-1])
        scale = np.repeat(sizes, np.diff(solved.blocks))
        np.testing.assert_array_less(np.abs(run(y, w) - solved.x), 1e-5 * scale)


@pytest.mark.slow
def test_long_sequences():
    y = np.random.default_rng(0).standard_normal(100_000)
    np.testing.assert_allclose(run(y), reference(y).x, atol=1e-11)
    np.testing.assert_allclose(run(y.astype(np.float32)), reference(y).x, atol=1e-3)


LONG = 100_000


def one_block(rng):
    return 100 - np.arange(LONG) / LONG, np.ones(LONG)


def one_block_with_weights(rng):
    return 100 - np.arange(LONG) / LONG, rng.random(LONG) + 0.1


def some_long_blocks_among_single_elements(rng):
    tenth, place = np.divmod(np.arange(LONG), 10_000)
    return 2e4 * tenth + np.where(place < 3000, 3000 - place, 3000 + place), rng.random(LONG) + 0.1


@pytest.mark.thorough
@pytest.mark.parametrize("case", [one_block, one_block_with_weights, some_long_blocks_among_single_elements])
def test_means_of_long_blocks_keep_their_digits(case):
    """In single precision, the errors of values and derivatives are some roundings, however many elements are pooled.

    Against SciPy's blocks and sums in double precision.
    """
    rng = np.random.default_rng(0)
    y, w = (u.astype(np.float32) for u in case(rng))
    solved = reference(y.astype(float), weights=w.astype(float))
    few = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(run(y, w), solved.x, rtol=few)

    def means(u):
        mass = np.add.reduceat(w.astype(float), solved.blocks[:-1])
        return np.repeat(np.add.reduceat(w * u.astype(float), solved.blocks[:-1]) / mass, np.diff(solved.blocks))

    dy, v = ((u + 100).astype(np.float32) for u in rng.standard_normal((2, LONG)))
    along = lambda u: run(u, w)
    forward = jax.jvp(along, (y,), (dy,))[1]
    np.testing.assert_allclose(forward, means(dy), rtol=few)
    # the transpose: the means of v / w with the weights w, times w
    (backward,) = jax.vjp(along, y)[1](v)
    np.testing.assert_allclose(backward, w * means(v / w.astype(float)), rtol=few)
    # in a batch, one of which is another problem
    pair = jax.vmap(lambda u: jax.jvp(along, (u,), (dy,))[1])(np.stack([y, np.arange(LONG, dtype=np.float32)]))
    np.testing.assert_allclose(pair[0], means(dy), rtol=few)
    np.testing.assert_allclose(pair[1], dy, rtol=few)


@pytest.mark.by_default("5")
@pytest.mark.parametrize("n", [5, 40])
def test_derivatives(n):
    """In the sequence and the weights, against central differences; twice; in reverse."""
    rng = np.random.default_rng(n)
    y, dy, dw, v = rng.standard_normal((4, n))
    w = rng.random(n) + 0.5
    along = lambda s: run(y + s * dy, w + s * dw)
    h = 1e-6
    got = jax.jvp(along, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(got, (along(h) - along(-h)) / (2 * h), atol=1e-8)
    back = jax.vjp(run, y, w)[1](v)
    np.testing.assert_allclose(back[0] @ dy + back[1] @ dw, v @ got, atol=1e-12)
    slope = jax.jit(jax.grad(lambda s: along(s) @ v))
    np.testing.assert_allclose(jax.grad(slope)(0.0), (slope(1e-5) - slope(-1e-5)) / 2e-5, atol=1e-7)
    # the Jacobian averages over the blocks
    level = reference(y).x
    same = level[:, None] == level[None, :]
    np.testing.assert_allclose(jax.jacrev(run)(y), same / same.sum(1, keepdims=True), atol=1e-14)


@pytest.mark.thorough
def test_batches_axes_and_single_precision():
    y = np.random.default_rng(0).standard_normal((3, 40, 2))
    want = np.stack([[reference(y[i, :, j]).x for j in range(2)] for i in range(3)]).transpose(0, 2, 1)
    np.testing.assert_allclose(run(y, axis=1), want, atol=1e-14)
    np.testing.assert_allclose(jax.vmap(lambda u: run(u, axis=0))(y), want, atol=1e-14)
    single = run(y.astype(np.float32), axis=1)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, want, atol=1e-6)
    assert run(jnp.zeros((3, 0))).shape == (3, 0)
    assert run(jnp.arange(3)).dtype == jnp.zeros(()).dtype
    np.testing.assert_allclose(run(y, np.full(40, 2.0)[:, None], axis=1), want, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-310, 1e-305, 1.7e308])
def test_the_smallest_and_the_largest_numbers_end_the_search(scale):
    y = scale * np.random.default_rng(5).uniform(-1, 1, 300)
    got = np.asarray(run(y))
    # sums beyond the largest number give NaN
    if scale < 1 or np.isfinite(got).all():
        np.testing.assert_allclose(got, scale * reference(y / scale).x, atol=1e-12 * scale + 1e-307)
    else:
        assert np.isnan(got).all()


def test_nan_is_returned_and_bad_weights_are_refused():
    assert np.isnan(run(jnp.full(40, jnp.nan).at[0].set(0.0))).any()
    with pytest.raises(ValueError, match="weights must be positive"):
        isotonic_regression(jnp.ones(2), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="must broadcast against y"):
        isotonic_regression(jnp.ones(2), np.ones(3))


@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_traced_weight_that_is_not_positive_gives_nan(n, bad):
    assert np.isnan(run(jnp.arange(float(n)), jnp.ones(n).at[3].set(bad))[3])
