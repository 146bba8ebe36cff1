"""Patterns of Jacobians against the Jacobians themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree

from dini.linear import Linearized, NotSparse, Pattern, sparsity
from dini.linear._sparsity import detect

N = 12
INDEX = np.array([3, 1, 4, 1, 5])
MATRIX = np.random.default_rng(0).normal(size=(N, N))
ROWS = np.array([[0, 1], [2, 3], [4, 5]])


def fori(x):
    return lax.fori_loop(0, N, lambda i, c: c.at[i].add(x[i] ** 2), x)


def recurrence(x):
    return lax.scan(lambda c, t: (c + t**2, c * t), x[0], x)[1]


def long_scan(x):
    return lax.scan(lambda c, t: (c, c * t), x[0], jnp.arange(1.0, 3000.0))[1]


def power_step(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(jnp.roll(c[1], 1))), (0, x))[1]


def stencil(x):
    u = jnp.pad(x.reshape(3, 4), 1)
    return (4 * u[1:-1, 1:-1] - u[2:, 1:-1] - u[:-2, 1:-1] - u[1:-1, 2:] - u[1:-1, :-2] + u[1:-1, 1:-1] ** 3).ravel()


EXACT = {
    "elementwise": lambda x: jnp.sin(x) * x**2 / (1 + x**2),
    "concatenate": lambda x: (3 - 2 * x) * x - jnp.concatenate([jnp.zeros(1), x[:-1]]),
    "at add, set": lambda x: x.at[1:].add(x[:-1] ** 2).at[::2].set(0.0),
    "scatter": lambda x: x.at[INDEX].add(x[2] ** 2),
    "scatter out of bounds": lambda x: x.at[np.array([1, 50])].add(x[2] ** 2, mode="drop"),
    "gather": lambda x: x[INDEX] ** 2,
    "gather twice": lambda x: x.reshape(3, 4)[np.array([0, 2])][:, np.array([1, 1, 0])],
    "gather rows under vmap": lambda x: jax.vmap(lambda a: a[INDEX[:3] % 4] ** 2)(x.reshape(3, 4)),
    "gather with fill": lambda x: x.at[np.array([1, 99])].get(mode="fill", fill_value=0.0) ** 2,
    "computed indices": lambda x: x[jnp.arange(N)[::-1]] * x,
    "roll": lambda x: jnp.roll(x, 2) * x,
    "convolve": lambda x: jnp.convolve(x**2, jnp.array([1.0, 2, 1]), mode="same"),
    "convolution of groups": lambda x: lax.conv_general_dilated(
        (x**2).reshape(1, 2, 3, 2),
        jnp.ones((4, 1, 2, 2)),
        (1, 1),
        [(1, 0), (1, 1)],
        feature_group_count=2,
        lhs_dilation=(2, 1),
    ),
    "convolution with strides": lambda x: lax.conv_general_dilated(
        (x**2).reshape(2, 3, 2), jnp.ones((2, 2, 4)), (2,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC")
    ),
    "matrix": lambda x: MATRIX @ x,
    "matrix from the right": lambda x: jnp.einsum("ij,jk->ik", x.reshape(3, 4) ** 2, MATRIX[:4, :5]),
    "matrix from the left": lambda x: jnp.einsum("kj,ij->ik", jnp.ones((5, 4)), x.reshape(3, 4) ** 2),
    "batched product": lambda x: jnp.einsum("bij,bkj->bik", x.reshape(2, 2, 3) ** 2, jnp.ones((2, 2, 3))),
    "product of both": lambda x: jnp.einsum("ij,ik->jk", x.reshape(3, 4), x.reshape(3, 4)),
    "cumsum": lambda x: jnp.cumsum(x.reshape(3, 4) ** 2, axis=1),
    "cumsum reversed": lambda x: lax.cumsum(x.reshape(3, 4) ** 2, axis=0, reverse=True),
    "mean": lambda x: x.reshape(3, 4) - x.reshape(3, 4).mean(1, keepdims=True),
    "fori_loop": fori,
    "scan": recurrence,
    "scan reversed": lambda x: lax.scan(lambda c, t: (c, t**2 + c), 1.0, x, reverse=True)[1],
    "long scan": long_scan,
    "cond": lambda x: lax.cond(x[0] > 0, lambda x: x * 2 + jnp.roll(x, 1), lambda x: jnp.roll(x, 1), x),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (20,), (5,)) ** 2,
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:3] ** 2, (4,)),
    "where": lambda x: jnp.where(x > 0, x, x[::-1]) + 0.1 * x + 0.1 * x[::-1],
    "pad, negative and between": lambda x: lax.pad(x.reshape(3, 4), 0.0, ((1, -1, 0), (0, 2, 1))) ** 2,
    "pad with data": lambda x: lax.pad(x, x[0], [(-1, 2, 1)]),
    "split": lambda x: jnp.split(x, 3)[1] ** 2,
    "transpose, flip": lambda x: jnp.flip(x.reshape(3, 4).T, 0) ** 2,
    "tree": lambda x: {"a": x[3:] ** 2, "b": x[:2].sum()},
    "checkpoint": lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.roll(x, 1)))(x),
    "gradient": jax.grad(lambda x: jnp.sum(jnp.diff(x) ** 4) + jnp.sum(x[::3] ** 3)),
    "five-point stencil": stencil,
    "logsumexp": lambda x: jax.scipy.special.logsumexp(x.reshape(4, 3), axis=1),
    "optimization barrier": lambda x: lax.optimization_barrier((x[:2], x[2:]))[1],
    "constant": lambda x: jnp.ones(3),
}
SUPERSET = {
    "sort": jnp.sort,
    "while": power_step,
    "fft": lambda x: jnp.fft.fft(x).real,
    "solve": lambda x: jnp.linalg.solve(jnp.eye(3) + jnp.outer(x[:3], x[:3]), x[3:6]),
    "index from data": lambda x: lax.dynamic_slice(x.reshape(3, 4), (jnp.argmax(x) % 3, 0), (2, 4)) ** 2,
    "update at an index from data": lambda x: lax.dynamic_update_slice(x, x[:3] ** 2, (jnp.argmax(x) % 3,)),
    "relu": jax.nn.relu,
}


def nonzeros(fun):
    """Return where the Jacobian is nonzero at any of five random points."""
    points = jnp.asarray(np.random.default_rng(1).normal(size=(5, N)))
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda x: ravel_pytree(fun(x))[0])))
    return np.any(np.asarray(jacobian(points)) != 0, axis=0)


def dense(pattern):
    return pattern.csr.toarray() != 0


@pytest.mark.parametrize("name", EXACT)
def test_pattern_is_exact(name):
    pattern = sparsity(EXACT[name], jnp.ones(N))
    np.testing.assert_array_equal(dense(pattern), nonzeros(EXACT[name]))


@pytest.mark.parametrize("name", SUPERSET)
def test_what_is_not_known_is_a_superset(name):
    truth = nonzeros(SUPERSET[name])
    assert truth.any()
    assert not np.any(truth & ~dense(sparsity(SUPERSET[name], jnp.ones(N))))


@pytest.mark.parametrize("name", ["at add, set", "computed indices", "gradient", "fori_loop", "five-point stencil"])
def test_pattern_inside_of_a_compiled_program(name):
    """Indices that a function computes are data of its linearization, but not of the function."""
    fun, found = EXACT[name], []

    def probe(x):
        found.append(detect(Linearized(fun, x), x))
        found.append(detect(jax.linearize(fun, x)[1], x))
        return x

    jax.jit(probe)(jnp.ones(N))
    truth = nonzeros(fun)
    np.testing.assert_array_equal(dense(found[0]), truth)
    assert not np.any(truth & ~dense(found[1]))


def test_integer_arguments_count_with_their_values():
    edges = jnp.array([[0, 3], [3, 5]])

    def laplacian(x, weight, edges):
        i, j = edges[:, 0], edges[:, 1]
        flow = weight * (x[i] - x[j])
        return jnp.zeros_like(x).at[i].add(flow).at[j].add(-flow)

    pattern = sparsity(laplacian, jnp.ones(N), jnp.zeros(2), edges)
    assert set(zip(pattern.rows.tolist(), pattern.columns.tolist(), strict=True)) == {
        (0, 0), (0, 3), (3, 0), (3, 3), (3, 5), (5, 3), (5, 5),
    }  # fmt: skip


def test_trees_and_mixed_dtypes():
    x = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones((2, 2))}
    pattern = sparsity(lambda x: {"a": x["b"][0].astype(jnp.float32), "b": x["b"] * x["a"][None]}, x)
    expected = np.zeros((6, 6), bool)
    expected[[0, 1], [2, 3]] = True  # a reads the first row of b
    expected[np.arange(2, 6), np.arange(2, 6)] = True
    expected[np.arange(2, 6), [0, 1, 0, 1]] = True
    np.testing.assert_array_equal(dense(pattern), expected)


def test_a_dense_map_is_told():
    with pytest.raises(NotSparse, match="mixes too many elements"):
        sparsity(lambda x: x * jnp.sum(x**2), jnp.ones(20_000))


def test_large_banded_maps():
    def fun(x):
        y = jnp.pad(x, 1)
        return (3 - 2 * x) * x - y[:-2] - 2 * y[2:] + 1

    pattern = sparsity(fun, jnp.ones(100_000))
    assert pattern.count == 3 * 100_000 - 2
    assert pattern.bandwidth == (1, 1)
    assert pattern.coloring[0] == 3


@pytest.mark.by_default("five-point stencil", "matrix", "at add, set")
@pytest.mark.parametrize("name", ["five-point stencil", "gradient", "matrix", "at add, set", "computed indices"])
def test_coloring_and_assembly(name):
    fun = EXACT[name]
    x = jnp.asarray(np.random.default_rng(2).normal(size=N))
    pattern = sparsity(fun, x)
    total, colors = pattern.coloring
    for row in range(N):
        in_row = colors[pattern.columns[pattern.rows == row]]
        assert np.unique(in_row).size == in_row.size
    assert total <= {"five-point stencil": 7, "gradient": 3, "matrix": N, "at add, set": 2, "computed indices": 2}[name]
    products = jax.linearize(fun, x)[1]
    matrix = np.zeros((N, N))
    matrix[pattern.rows, pattern.columns] = jax.jit(lambda x: pattern.values(products, x))(x)
    np.testing.assert_allclose(matrix, jax.jacfwd(fun)(x), rtol=1e-12, atol=1e-12)


def test_patterns():
    first = Pattern([2, 0, 2], [1, 1, 1], (3, 2))
    assert first.count == 2
    assert first == Pattern.of(np.array([[0, 1], [0, 0], [0, 5]]))
    assert hash(first) == hash(Pattern.of(first.csr))
    assert first != Pattern([2, 0], [1, 0], (3, 2))
    assert first != "pattern"
    assert first.transposed == Pattern([1, 1], [0, 2], (2, 3))
    assert Pattern.banded(4, 1, 0) == Pattern.of(np.tri(4) - np.tri(4, k=-2))
    assert Pattern([], [], (2, 2)).bandwidth == (0, 0)
    with pytest.raises(ValueError, match="outside the shape"):
        Pattern([3], [0], (3, 2))
    with pytest.raises(ValueError, match="as many rows as columns"):
        Pattern([1], [0, 1], (3, 2))
    with pytest.raises(ValueError, match="needs a matrix"):
        Pattern.of(np.ones(3))
    with pytest.raises(ValueError, match="needs a pattern of shape"):
        first.require_square(3, "Banded")
