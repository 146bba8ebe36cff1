"""Sets: feasible, idempotent, nonexpansive; derivatives against finite differences."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import sets

SETS = {
    "nonnegative": sets.NonNegative(),
    "box": sets.Box(-0.5, 1.0),
    "simplex": sets.Simplex(1.5),
    "l1 ball": sets.L1Ball(1.2),
    "l2 ball": sets.L2Ball(0.8),
}
MEMBERS = {
    "nonnegative": lambda r: np.abs(r),
    "box": lambda r: np.clip(r, -0.5, 1.0),
    "simplex": lambda r: 1.5 * np.exp(r) / np.exp(r).sum(),
    "l1 ball": lambda r: 1.2 * r / max(np.abs(r).sum(), 1.2),
    "l2 ball": lambda r: 0.8 * r / max(np.linalg.norm(r), 0.8),
}
vectors = hnp.arrays(float, 5, elements=st.floats(-5, 5, allow_subnormal=False))
settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
PROJECT = {name: jax.jit(s.project) for name, s in SETS.items()}


@pytest.mark.parametrize("name", SETS)
@settings
@hypothesis.given(x=vectors, y=vectors)
def test_projections(name, x, y):
    project = PROJECT[name]
    p, q = project(x), project(y)
    assert SETS[name].residual(p) <= 1e-12
    np.testing.assert_allclose(project(p), p, atol=1e-12)
    assert np.linalg.norm(p - q) <= np.linalg.norm(x - y) + 1e-12
    # the variational inequality <x - p, z - p> <= 0 against a member z
    assert (x - p) @ (MEMBERS[name](y) - p) <= 1e-9


@pytest.mark.parametrize("name", SETS)
def test_derivatives(name):
    """In the point and in the parameters, against central differences, away from kinks."""
    part = SETS[name]
    apply = lambda part, x: part.project(x)
    leaves, treedef = jax.tree.flatten(part)
    base = [jnp.asarray(leaf) for leaf in leaves]
    rng = np.random.default_rng(0)
    x = jnp.array([1.45, -0.9, 0.35, 2.1, -1.7])
    directions = [jnp.asarray(rng.standard_normal(leaf.shape)) for leaf in (*base, x)]
    run = lambda *values: apply(jax.tree.unflatten(treedef, values[:-1]), values[-1])
    got = jax.jvp(run, (*base, x), tuple(directions))[1]
    h = 1e-6
    ahead, behind = ([v + s * d for v, d in zip((*base, x), directions, strict=True)] for s in (h, -h))
    np.testing.assert_allclose(got, (run(*ahead) - run(*behind)) / (2 * h), atol=1e-8)
    jacobian = jax.jacrev(lambda x: apply(part, x))(x)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-12)
    assert np.linalg.eigvalsh(jacobian).min() >= -1e-12
    assert np.linalg.eigvalsh(jacobian).max() <= 1 + 1e-12


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("x", [np.zeros(3), np.array([0.5, 0.5, 0.5]), np.ones(1)], ids=["zero", "tie", "one"])
def test_derivatives_are_finite_at_kinks(name, x):
    apply = SETS[name].project
    assert np.isfinite(jax.jacrev(apply)(jnp.asarray(x))).all()
    assert np.isfinite(jax.jacfwd(apply)(jnp.asarray(x))).all()


@pytest.mark.parametrize("name", SETS)
def test_batches_and_single_precision(name):
    batch = np.random.default_rng(0).standard_normal((6, 5)) * 2
    got = jax.jit(jax.vmap(SETS[name].project))(batch)
    np.testing.assert_allclose(got, [PROJECT[name](row) for row in batch], atol=1e-14)
    with jax.enable_x64(False):
        single = SETS[name].project(jnp.asarray(batch[0], jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, got[0], atol=1e-6)


def test_simplex_of_many_sizes_against_sorting():
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 1000):
        y = rng.standard_normal(n) * 3
        u = np.sort(y)[::-1]
        c = np.cumsum(u) - 1
        rho = np.nonzero(u * np.arange(1, n + 1) > c)[0][-1]
        want = np.maximum(y - c[rho] / (rho + 1), 0)
        np.testing.assert_allclose(sets.project_simplex(jnp.asarray(y)), want, atol=1e-13)


def test_trees_products_and_rows():
    x = {"a": jnp.array([-1.0, 2.0]), "b": jnp.array([[3.0, 0.0], [1.0, 1.0]])}
    product = sets.Product({"a": sets.NonNegative(), "b": sets.Simplex(axis=-1)})
    product.check(x)
    got = product.project(x)
    np.testing.assert_allclose(got["a"], [0, 2])
    np.testing.assert_allclose(got["b"], [[1, 0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="Product does not fit"):
        product.check({"a": x["a"]})
    ball = sets.L2Ball(1.0).project(x)
    np.testing.assert_allclose(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(ball)), 1.0)
