"""Penalties: proximal operators that are optimal and firmly nonexpansive, derivatives, distances to kinks."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import penalties

PENALTIES = {
    "l1": penalties.L1(0.7),
    "l1, weights": penalties.L1(np.array([0.7, 0.1, 0.2, 1.5, 0.3])),
    "elastic net": penalties.ElasticNet(0.7, 0.5),
    "ridge": penalties.Ridge(0.7),
    "group lasso": penalties.GroupLasso(0.7),
}
POINT = np.array([1.45, -0.9, 0.35, 2.1, -1.7])
STEP = 0.9
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


def differences(run, values, directions, h=1e-6):
    ahead, behind = ([v + s * d for v, d in zip(values, directions, strict=True)] for s in (h, -h))
    return (run(*ahead) - run(*behind)) / (2 * h)


@pytest.mark.parametrize("name", PENALTIES)
def test_derivatives(name):
    """In the point, the step size and the parameters, against central differences, away from kinks."""
    leaves, treedef = jax.tree.flatten(PENALTIES[name])
    values = [*(jnp.asarray(leaf) for leaf in leaves), jnp.asarray(STEP), jnp.asarray(POINT)]
    rng = np.random.default_rng(0)
    directions = [jnp.asarray(rng.standard_normal(value.shape)) for value in values]
    run = lambda *values: jax.tree.unflatten(treedef, values[:-2]).prox(values[-1], values[-2])
    got = jax.jvp(run, tuple(values), tuple(directions))[1]
    np.testing.assert_allclose(got, differences(run, values, directions), atol=1e-8)
    jacobian = jax.jacrev(lambda x: PENALTIES[name].prox(x, STEP))(POINT)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-12)
    assert np.linalg.eigvalsh(jacobian).min() >= -1e-12
    assert np.linalg.eigvalsh(jacobian).max() <= 1 + 1e-12


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("x", [np.zeros(5), np.full(5, 0.7), np.ones(5)], ids=["zero", "threshold", "one"])
def test_derivatives_are_finite_at_kinks(name, x):
    apply = lambda x: PENALTIES[name].prox(x, 1.0)
    assert np.isfinite(jax.jacrev(apply)(jnp.asarray(x))).all()
    assert np.isfinite(jax.jacfwd(apply)(jnp.asarray(x))).all()


@pytest.mark.parametrize("name", PENALTIES)
def test_within_the_distance_to_a_kink_derivatives_hold(name):
    penalty, prox = PENALTIES[name], PROX[name]
    rng = np.random.default_rng(1)
    directional = jax.jit(lambda x, t: jax.jvp(lambda u: penalty.prox(u, STEP), (x,), (t,))[1])
    for _ in range(10):
        x = rng.standard_normal(5) * 2
        distance = jax.jit(penalty.kink_distance)(x, STEP)
        assert distance.shape == ()
        assert distance >= 0
        for _ in range(10):
            offset, t = rng.standard_normal((2, 5))
            y = x + offset / np.linalg.norm(offset) * min(float(distance), 3.0) * rng.uniform(0.5, 0.999)
            if distance > 1e-2:  # else the differences reach over the kink
                got = directional(y, t)
                np.testing.assert_allclose(got, differences(lambda y: prox(y, STEP), [y], [t], 1e-7), atol=1e-6)


def test_distances_to_kinks():
    x = jnp.array([3.0, -0.6, 0.2])
    np.testing.assert_allclose(penalties.L1(0.5).kink_distance(x, 2.0), 0.4)
    np.testing.assert_allclose(penalties.L1(jnp.array([0.5, 0.0, 0.0])).kink_distance(x, 2.0), 2.0)
    np.testing.assert_allclose(penalties.ElasticNet(0.5, 3.0).kink_distance(x, 2.0), 0.4)
    np.testing.assert_allclose(penalties.GroupLasso(0.5).kink_distance(jnp.array([3.0, 4.0]), 2.0), 4.0)
    rows = penalties.GroupLasso(0.5, axis=-1)
    np.testing.assert_allclose(rows.kink_distance(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 2.0), 0.5)
    assert penalties.Ridge(0.5).kink_distance(x, 2.0) == jnp.inf
    own = penalties.Custom(lambda x: 0.5 * jnp.sum(x**2), lambda x, step: x / (1 + step))
    assert jnp.isnan(own.kink_distance(x, 2.0))
    # trees, steps like the tree, no elements, single precision, batches
    tree = {"a": jnp.array([3.0]), "b": jnp.array([[0.9]])}
    np.testing.assert_allclose(penalties.L1(1.0).kink_distance(tree, {"a": 2.5, "b": 0.5}), 0.4)
    assert penalties.L1(1.0).kink_distance(jnp.zeros(0), 1.0) == jnp.inf
    assert penalties.L1(1.0).kink_distance(jnp.zeros(2, jnp.float32), 1.0).dtype == jnp.float32
    np.testing.assert_allclose(
        jax.vmap(penalties.L1(0.5).kink_distance, (0, None))(jnp.stack([x, 2 * x]), 2.0), [0.4, 0.2]
    )


def test_rows():
    x = jnp.array([[3.0, 0.0], [1.0, 1.0]])
    rows = penalties.GroupLasso(1.0, axis=-1)
    np.testing.assert_allclose(rows.prox(x, 1.0)[1], x[1] * (1 - 1 / np.sqrt(2)))
    assert rows.separates_rows(x)
    np.testing.assert_allclose(rows.row(1, x).prox(x[1], 1.0), rows.prox(x, 1.0)[1])
