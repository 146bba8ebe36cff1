"""VQ-DDM: quantization, k-means as a fixed point, the tokenizer and the transformer."""

import doctest
import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

import dini
from dini_zoo.generative.vq_ddm import (
    Tokenizer,
    Transformer,
    autoregressive_sample,
    codebook_usage,
    kmeans,
    perplexity,
    quantization,
    rebuild_codebook,
    tokenizer,
    tokenizer_loss,
    transformer,
    vector_quantize,
)
from dini_zoo.generative.vq_ddm.tokenizer import windows
from dini_zoo.generative.vq_ddm.transformer import sequence_nats

# the package has the function under this name
KMEANS = importlib.import_module("dini_zoo.generative.vq_ddm.kmeans")


def test_quantization():
    """The nearest entries, in any units and far from zero; derivatives straight through; both losses."""
    random = np.random.default_rng(0)
    h, Z = random.normal(size=(3, 5, 2)), random.normal(size=(7, 2))
    truth = np.argmin(((h[..., None, :] - Z) ** 2).sum(axis=-1), axis=-1)
    quantize = jax.jit(vector_quantize)
    found = quantize(h, Z)
    np.testing.assert_array_equal(found.indices, truth)
    np.testing.assert_allclose(found.quantized, Z[truth], atol=1e-12)
    error = np.mean((h - Z[truth]) ** 2)
    np.testing.assert_allclose(found.losses, [error, error], rtol=1e-12)
    for scale, offset in ((1e6, 0.0), (1e-6, 0.0), (1.0, 1e3)):
        moved = quantize(*(jnp.asarray(scale * one + offset, jnp.float32) for one in (h, Z)))
        np.testing.assert_array_equal(moved.indices, truth)
    w = random.normal(size=h.shape)

    @jax.jit
    def slopes(h, Z):
        parts = lambda h, Z: (lambda q: (jnp.sum(w * q.quantized), *q.losses))(vector_quantize(h, Z))
        return jax.jacobian(parts, argnums=(0, 1))(h, Z)

    through, codebook, commitment = slopes(h, Z)
    np.testing.assert_allclose(through[0], w, atol=1e-12)
    np.testing.assert_array_equal(through[1], np.zeros_like(Z))
    np.testing.assert_array_equal(codebook[0], np.zeros_like(h))
    np.testing.assert_array_equal(commitment[1], np.zeros_like(Z))
    np.testing.assert_allclose(commitment[0], 2 * (h - Z[truth]) / h.size, atol=1e-12)
    by_hand = np.zeros_like(Z)
    np.add.at(by_hand, truth, 2 * (Z[truth] - h) / h.size)
    np.testing.assert_allclose(codebook[1], by_hand, atol=1e-12)
    # one bad feature shows, and leaves the others
    bad = quantize(jnp.asarray(h).at[1, 2, 0].set(jnp.nan), Z)
    assert bad.indices[1, 2] == -1
    assert np.isnan(bad.quantized[1, 2, 0])
    np.testing.assert_array_equal(np.delete(bad.indices.ravel(), 7), np.delete(truth.ravel(), 7))
    with pytest.raises(ValueError, match=r"codebook must (be of|have the) shape \(K, d\)"):
        vector_quantize(h, Z[:, :1])


def test_usage():
    codes = jnp.array([0] * 10 + [1] * 9 + [3] * 11)
    np.testing.assert_allclose(codebook_usage(codes, 4), 0.5)
    np.testing.assert_allclose(codebook_usage(codes, 4, min_count=9), 0.75)
    np.testing.assert_allclose(perplexity(jnp.arange(6) % 3, 5), 3.0, rtol=1e-12)
    np.testing.assert_allclose(perplexity(jnp.zeros(6, int), 5), 1.0, rtol=1e-12)
    with pytest.raises(ValueError, match="indices must be from 0 to 3: given 0 to 4"):
        codebook_usage(jnp.array([0, 4]), 4)


def test_kmeans_is_scikit_learns_and_its_derivative_that_of_means():
    random = np.random.default_rng(1)
    X = random.normal(size=(60, 2)) + 4 * random.integers(0, 3, size=(60, 1))
    start = X[:5]
    solve = jax.jit(kmeans)
    ours = solve(X, start)
    theirs = KMeans(5, init=start, n_init=1, tol=0.0, algorithm="lloyd").fit(X)
    np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, atol=1e-12)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-12)
    assert np.sum(ours.sizes) == 60
    np.testing.assert_array_equal(KMEANS.lloyd_map(ours.centers, jnp.asarray(X)), ours.centers)
    # the exact derivative: a mean's, of the features of each
    truth = (np.asarray(ours.labels) == np.arange(5)[:, None]) / np.asarray(ours.sizes)[:, None]
    weights = random.normal(size=(5, 2))
    for mode in (dini.Implicit(), dini.OneStep()):
        slope = jax.jit(
            jax.grad(lambda X, mode=mode: jnp.vdot(weights, kmeans(X, start, differentiation=mode).centers))
        )(X)
        np.testing.assert_allclose(slope, truth.T @ weights, atol=1e-10)
    v, h = random.normal(size=X.shape), 1e-6
    difference = (solve(X + h * v, start).centers - solve(X - h * v, start).centers) / (2 * h)
    np.testing.assert_allclose(np.vdot(weights, difference), np.vdot(truth.T @ weights, v), rtol=1e-6)


def test_an_empty_center_stays_and_has_no_derivative():
    X, start = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [50.0]])
    found = kmeans(X, start)
    np.testing.assert_array_equal(found.centers.ravel(), [1.0, 50.0])
    np.testing.assert_array_equal(found.sizes, [3, 0])
    slope = jax.jacobian(lambda X: kmeans(X, start).centers)(X)[:, 0, :, 0]
    np.testing.assert_allclose(slope, [[1 / 3] * 3, [0.0] * 3], atol=1e-12)


def test_re_building():
    """Duplicates are refused, single precision ends exactly, and every center has features."""
    X = np.random.default_rng(2).normal(size=(100, 2)).astype(np.float32) + np.float32(100)
    found = rebuild_codebook(jax.random.key(0), X, 8)
    assert np.all(found.sizes > 0)
    assert found.centers.dtype == jnp.float32
    again = [X[np.asarray(found.labels) == k].mean(axis=0) for k in range(8)]
    np.testing.assert_allclose(found.centers, again, rtol=1e-6)
    with pytest.raises(ValueError, match="8 different rows or more for as many codes: given 3"):
        rebuild_codebook(jax.random.key(0), np.repeat(X[:3], 5, axis=0), 8)
    with pytest.raises(ValueError, match="features must be finite"):
        rebuild_codebook(jax.random.key(0), X * np.nan, 8)
    with pytest.raises(ValueError, match="5 centers need as many features or more: given 4"):
        kmeans(X[:4], X[:5])


def test_the_tokenizer():
    """What each half sees; with a frozen encoder gradients reach decoder and codebook only."""
    x = jnp.arange(64.0).reshape(1, 8, 8, 1)
    seen = windows(x, 4, 2).reshape(4, 4, 4, 4)
    padded = np.pad(np.arange(64.0).reshape(8, 8), 1)
    for i, j in ((0, 0), (1, 2), (3, 3)):
        np.testing.assert_array_equal(seen[i, j], padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4])
    model = Tokenizer(6, 3, widths=(4, 16), key=jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (7, 64))
    # an entry at one place is seen in its own block of pixels and in those beside it
    entries = jnp.zeros((2, 16, 3)).at[1, 5].set(1.0)
    one, other = model.decode(entries).reshape(2, 8, 8)
    changed = np.asarray(one != other)
    assert changed[:6, :6].all()
    assert not changed[6:].any()
    assert not changed[:, 6:].any()
    slope = eqx.filter_jit(eqx.filter_grad(lambda m, x: tokenizer_loss(m, x, frozen=True)))(model, images)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(slope.encoder))
    assert np.any(slope.codebook)
    assert all(np.any(leaf) for leaf in slope.decoder.weights)


def test_the_transformer():
    """Causal logits depend on what is in front alone; a step is one or one each; known codes stay."""
    z = jax.random.randint(jax.random.key(0), (3, 4), 0, 5)
    causal, whole = (
        Transformer(5, 4, causal=c, width=8, heads=2, layers=1, key=jax.random.key(1)) for c in (True, False)
    )
    # the last layer is zero at first
    given = jax.random.normal(jax.random.key(2), (5, 8))
    causal, whole = (eqx.tree_at(lambda one: one.last[0], one, given) for one in (causal, whole))
    changed = z.at[:, 2].set((z[:, 2] + 1) % 5)
    say = eqx.filter_jit(lambda network, z, t: network(z, t))
    np.testing.assert_allclose(say(causal, z, None)[:, :3], say(causal, changed, None)[:, :3], atol=1e-12)
    assert not np.allclose(say(causal, z, None)[:, 3], say(causal, changed, None)[:, 3])
    steps = jnp.array([2, 7, 7])
    for i, one in enumerate(say(whole, z, steps)):
        np.testing.assert_allclose(one, say(whole, z, steps[i])[i], atol=1e-12)
    assert not np.allclose(say(whole, z, 2), say(whole, changed, 2))
    # drawn in raster order, by the law of the next code
    n = 20_000
    table = jax.nn.log_softmax(jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))
    chain = lambda z, t: jnp.stack([jnp.broadcast_to(table[0], (len(z), 3)), table[z[:, 0]]], axis=1)
    free = jax.jit(lambda key: autoregressive_sample(chain, key, (n, 2)))(jax.random.key(3))
    shares = np.bincount(3 * free[:, 0] + free[:, 1], minlength=9).reshape(3, 3) / n
    np.testing.assert_allclose(shares, np.exp(table[0][:, None] + table), atol=0.015)
    nats = sequence_nats(chain(free, None), free)
    np.testing.assert_allclose(nats, -(table[0][free[:, 0]] + table[free[:, 0], free[:, 1]]), atol=1e-12)
    known, mask = jnp.array([[2, 1]]), jnp.array([False, True])
    kept = autoregressive_sample(chain, jax.random.key(4), (50, 2), known=known, mask=mask)
    assert np.all(kept[:, 1] == 1)
    lost = autoregressive_sample(lambda z, t: chain(z, t) * jnp.nan, jax.random.key(4), (2, 2))
    assert np.all(lost == -1)
    with pytest.raises(ValueError, match="z must be sequences of 4 codes"):
        causal(z[:, :3])


MODULES = [quantization, tokenizer, transformer, KMEANS]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split(".")[-1])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0
