"""Clipped means: the formula, chunks, what is not finite, numbers far from one, and their sensitivity under attack."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.privacy.diff2 import Clients, clip_per_example, clipped_difference_mean, clipped_mean, clipping
from dini_zoo.privacy.diff2.local import draw_batch

#: clients that are unequal, 41 records, and chunks of 7: the last one has 6 records
SIZES = (5, 11, 25)


def gradient(x, z):
    """Some function of a tree with values of all lengths."""
    return {"w": jnp.sin(x["w"] * z) * z, "c": jnp.sum(x["w"] * z**2) * x["c"]}


POINT = {"w": jnp.array([0.3, -1.2, 0.7]), "c": jnp.array(0.4)}
OTHER = {"w": jnp.array([0.1, -1.0, 0.9]), "c": jnp.array(0.7)}


def records(random, scale=1.0):
    return scale * random.standard_normal((sum(SIZES), 3))


def by_hand(vectors, sizes, radius):
    """The mean over clients, with loops."""
    means, start = [], 0
    for size in sizes:
        total = 0.0
        for v in vectors[start : start + size]:
            total = total + v * min(1.0, radius / max(np.linalg.norm(v), 1e-300))
        means.append(total / size)
        start += size
    return np.mean(means, axis=0)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("microbatch", [None, 7])
def test_the_formula(microbatch):
    data = records(np.random.default_rng(0))
    clients = Clients(jnp.asarray(data), SIZES)
    at = lambda x: np.stack([flat(gradient(x, z)) for z in data])
    mean, difference = at(POINT), at(POINT) - at(OTHER)
    run = jax.jit(
        lambda c1, c2: (
            clipped_mean(gradient, POINT, clients, c1, microbatch=microbatch),
            clipped_difference_mean(gradient, POINT, OTHER, clients, c2, microbatch=microbatch),
        )
    )
    for c1, c2 in ((0.8, 0.2), (0.01, 1e-4), (np.inf, np.inf), (0.0, 0.0)):
        for found, vectors, radius in zip(run(c1, c2), (mean, difference), (c1, c2), strict=True):
            np.testing.assert_allclose(flat(found.mean), by_hand(vectors, SIZES, radius), rtol=1e-12, atol=1e-15)
            norms = np.linalg.norm(vectors, axis=1)
            assert found.clipped == pytest.approx(np.mean(norms > radius))
            assert found.lost == 0


def test_the_sensitivity_under_attack():
    """200 random neighbors, in a chunk of any length and in clients of any size, and the worst ones: never above."""
    random = np.random.default_rng(1)
    # long and short vectors, one record replaced by any other in each neighbor
    data = np.stack([records(random, 10.0 ** random.uniform(-3, 3)) for _ in range(200)])
    spot = random.integers(sum(SIZES), size=200)
    spot[:40] = sum(SIZES) - 1  # the last one of the ragged chunk
    spot[40:80] = 0  # in the smallest client
    neighbor = data.copy()
    neighbor[np.arange(200), spot] = random.standard_normal((200, 3)) * 10.0 ** random.uniform(-3, 3, (200, 1))
    neighbor[np.arange(10), spot[:10]] = np.nan
    c1, c2 = 0.7, 0.05

    @jax.jit
    @jax.vmap
    def means(data):
        clients = Clients(data, SIZES)
        one = clipped_mean(gradient, POINT, clients, c1, microbatch=7).mean
        two = clipped_difference_mean(gradient, POINT, OTHER, clients, c2, microbatch=7).mean
        return one, two

    bound = 2 / (len(SIZES) * min(SIZES))
    assert Clients(jnp.asarray(data[0]), SIZES).effective == 2 / bound
    for one, other, radius in zip(means(jnp.asarray(data)), means(jnp.asarray(neighbor)), (c1, c2), strict=True):
        changes = np.array([np.linalg.norm(flat(a) - flat(b)) for a, b in zip(_lanes(one), _lanes(other), strict=True)])
        assert np.all(changes <= bound * radius * (1 + 1e-12))
        assert changes.max() > 0.3 * bound * radius, "the attack is too weak to find anything"


def _lanes(tree):
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(200)]


def test_the_bound_is_attained_and_equal_weights_of_chunks_would_break_it():
    """Two opposite vectors in the smallest client; and the published code's mean of chunks' means, which fails."""
    fun = lambda x, z: z - x
    data = np.zeros((sum(SIZES), 1))
    attack = [data.copy(), data.copy()]
    attack[0][0], attack[1][0] = 1e6, -1e6
    mean = lambda data: clipped_mean(fun, 0.0, Clients(jnp.asarray(data), SIZES), 1.0, microbatch=7).mean
    change = float(mean(attack[0])[0] - mean(attack[1])[0])
    assert change == pytest.approx(2 / (3 * 5), rel=1e-12)
    # one client of 41 records in chunks of 20, 20 and 1: the mean of their means gives the last one 1/3
    wrong = lambda data: np.mean([np.clip(chunk, -1, 1).mean() for chunk in np.split(data[:, 0], (20, 40))])
    attack[0][[0, -1], 0], attack[1][[0, -1], 0] = (0, 1e6), (0, -1e6)
    assert wrong(attack[0]) - wrong(attack[1]) > 10 * 2 / 41
    single = lambda data: clipped_mean(fun, 0.0, Clients.equal(jnp.asarray(data)), 1.0, microbatch=20).mean
    assert float(single(attack[0])[0] - single(attack[1])[0]) == pytest.approx(2 / 41, rel=1e-12)


def test_what_is_not_finite_counts_as_zero():
    data = records(np.random.default_rng(2))
    bad = data.copy()
    bad[3, 1], bad[40, 0] = np.nan, np.inf
    of = lambda data: clipped_mean(gradient, POINT, Clients(jnp.asarray(data), SIZES), 0.5, microbatch=7)
    found = of(bad)
    assert found.lost == 2
    vectors = np.stack([flat(gradient(POINT, z)) for z in data])
    vectors[[3, 40]] = 0.0
    np.testing.assert_allclose(flat(found.mean), by_hand(vectors, SIZES, 0.5), rtol=1e-12)


def test_numbers_far_from_one():
    """In single precision, where squares of these vanish or overflow, in a batch with ordinary ones."""
    run = jax.jit(clip_per_example)
    with jax.enable_x64(False):
        vectors = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], jnp.float32)
        for unit in (1e-30, 1e-6, 1e6, 1e30):
            batch = jnp.concatenate([vectors * jnp.float32(unit), vectors])
            for radius in (1.0, unit):
                clipped, long, lost = run(batch, jnp.float32(radius))
                exact = np.asarray(batch, float)
                norm = np.linalg.norm(exact, axis=1, keepdims=True)
                wanted = exact * np.minimum(1, radius / np.where(norm > 0, norm, 1))
                np.testing.assert_allclose(np.asarray(clipped, float), wanted, rtol=1e-5, atol=1e-37)
                np.testing.assert_array_equal(long, norm[:, 0] > radius * (1 + 1e-6))
                assert not np.any(lost)
                assert clipped.dtype == jnp.float32
        # longer than any number, or than the radius by as much: counted, and not silently something else
        for vast in (3e38, 1.5e38):
            clipped, long, lost = run(jnp.full((6, 2), vast, jnp.float32), jnp.float32(1.0))
            assert np.all(lost)
            assert not np.any(long)
            assert not np.any(np.asarray(clipped))


def test_batches_of_a_client():
    """Distinct records of that client, each as often as another."""
    clients = Clients(jnp.arange(sum(SIZES)), SIZES)
    draw = jax.jit(jax.vmap(lambda key, client: draw_batch(key, clients, client, 4), in_axes=(0, None)))
    for client, (start, size) in enumerate(zip((0, 5, 16), SIZES, strict=True)):
        drawn = np.asarray(draw(jax.random.split(jax.random.key(client), 2000), client))
        assert drawn.min() == start
        assert drawn.max() == start + size - 1
        assert all(len(set(row)) == 4 for row in drawn)
        often = np.bincount(drawn.ravel() - start, minlength=size) / 2000
        np.testing.assert_allclose(often, 4 / size, atol=5 * np.sqrt(4 / size / 2000))


def test_bad_input():
    with pytest.raises(ValueError, match="max_norm must be zero or more: given -1"):
        clipped_mean(gradient, POINT, Clients.equal(jnp.ones((4, 3))), -1.0)
    with pytest.raises(ValueError, match="max_norm must be zero or more: given nan"):
        clip_per_example(jnp.ones((2, 2)), np.nan)
    with pytest.raises(ValueError, match="microbatch must be at least 1: given 0"):
        clipped_mean(gradient, POINT, Clients.equal(jnp.ones((4, 3))), 1.0, microbatch=0)
    with pytest.raises(ValueError, match="sizes must be those of clients with a record each"):
        Clients(jnp.ones((4, 3)), (4, 0))
    with pytest.raises(ValueError, match="sizes must add up to the 4 records"):
        Clients(jnp.ones((4, 3)), (4, 1))
    with pytest.raises(ValueError, match="count must divide the 4 records: given 3"):
        Clients.equal(jnp.ones((4, 3)), 3)
    with pytest.raises(ValueError, match="parts must have a client at least"):
        Clients.of([])
    with pytest.raises(ValueError, match="axis of examples in front"):
        Clients.equal((jnp.ones((4, 3)), jnp.ones(3)))
    with pytest.raises(ValueError, match="batch must be at most 5, the smallest client's records: given 6"):
        draw_batch(jax.random.key(0), Clients(jnp.ones(41), SIZES), 0, 6)


def test_the_docstrings():
    with jax.enable_x64(False):
        failed, tried = doctest.testmod(clipping)
    assert tried
    assert not failed
