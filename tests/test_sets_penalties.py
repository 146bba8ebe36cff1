"""Penalties: optimal, firmly nonexpansive; derivatives against finite differences."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import penalties, sets

PENALTIES = {
    "l1": penalties.L1(0.7),
    "elastic net": penalties.ElasticNet(0.7, 0.5),
    "ridge": penalties.Ridge(0.7),
    "group lasso": penalties.GroupLasso(0.7),
}
vectors = hnp.arrays(float, 5, elements=st.floats(-5, 5, allow_subnormal=False))
settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
PROX = {name: jax.jit(p.prox) for name, p in PENALTIES.items()}


@pytest.mark.parametrize("name", PENALTIES)
@settings
@hypothesis.given(x=vectors, y=vectors, step=st.floats(0.1, 3))
def test_proximal_operators(name, x, y, step):
    penalty, prox = PENALTIES[name], PROX[name]
    p, q = prox(x, step), prox(y, step)
    objective = lambda u: 0.5 * np.sum((u - x) ** 2) + step * float(penalty.value(jnp.asarray(u)))
    for direction in np.eye(5):
        assert objective(p) <= objective(p + 1e-4 * direction) + 1e-12
        assert objective(p) <= objective(p - 1e-4 * direction) + 1e-12
    # firmly nonexpansive
    assert (p - q) @ (p - q) <= (p - q) @ (x - y) + 1e-12


@pytest.mark.parametrize("name", PENALTIES)
def test_derivatives(name):
    """In the point and in the parameters, against central differences, away from kinks."""
    part = PENALTIES[name]
    apply = lambda part, x: part.prox(x, 0.9)
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


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("x", [np.zeros(3), np.array([0.5, 0.5, 0.5]), np.ones(1)], ids=["zero", "tie", "one"])
def test_derivatives_are_finite_at_kinks(name, x):
    part = PENALTIES[name]
    apply = lambda x: part.prox(x, 1.0)
    assert np.isfinite(jax.jacrev(apply)(jnp.asarray(x))).all()
    assert np.isfinite(jax.jacfwd(apply)(jnp.asarray(x))).all()


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
    rows = penalties.GroupLasso(1.0, axis=-1)
    np.testing.assert_allclose(rows.prox(x["b"], 1.0)[1], x["b"][1] * (1 - 1 / np.sqrt(2)))
    assert rows.separates_rows(x["b"])
    np.testing.assert_allclose(rows.row(1, x["b"]).prox(x["b"][1], 1.0), rows.prox(x["b"], 1.0)[1])
