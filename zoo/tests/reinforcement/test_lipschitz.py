"""Penalties on slopes, local Lipschitz constants, bounds on the slope of a value: exact values, units, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.reinforcement.lipschitz import (
    KINDS,
    euclidean,
    gradient_penalty,
    interpolate_points,
    lipschitz_bound,
    lipschitz_bound_sqrt,
    local_lipschitz,
)

linear = lambda w, z: w @ jnp.concatenate(z)


@jax.jit
def linear_penalties(key, w, k, batches):
    """Of all kinds, one-sided and two-sided."""
    found = []
    for kind in KINDS:
        for shared in (True, False):
            points = interpolate_points(key, *batches, kind, shared=shared)
            found.append([gradient_penalty(linear, w, points, target=k, one_sided=one) for one in (True, False)])
    return jnp.array(found)


def test_penalties_of_a_linear_score_are_exact_for_all_points():
    """Exact check 1; and the same in other units and with slope zero, whose derivative is finite."""
    random = np.random.default_rng(0)
    batches = tuple((random.normal(size=(5, 4)), random.normal(size=(5, 2))) for _ in range(2))
    w = random.normal(size=6)
    for scale, share in ((1.0, 0.7), (1.0, 1.3), (1e6, 0.7), (1e-6, 0.7), (1e-170, 0.7), (1e150, 0.5)):
        norm = scale * np.linalg.norm(w)
        found = linear_penalties(jax.random.key(1), scale * w, share * norm, batches)
        excess = norm - share * norm
        np.testing.assert_allclose(found, np.tile([max(0.0, excess) ** 2, excess**2], (6, 1)), rtol=1e-12)
    slope = jax.jacobian(lambda w: linear_penalties(jax.random.key(1), w, 0.5, batches))(np.zeros(6))
    assert np.all(slope == 0)
    found = linear_penalties(jax.random.key(1), np.zeros(6), 0.5, batches)
    np.testing.assert_allclose(found, np.tile([0, 0.25], (6, 1)))
    single = jax.jit(euclidean)(np.float32([3e-30, 4e-30]))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, 5e-30, rtol=1e-6)


def test_penalties_of_a_quadratic_score_between_two_points():
    """Exact check 2: the mean over all points of the line."""
    score = lambda d, z: z @ (d * z) / 2
    p, e = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])

    @jax.jit
    def found(key):
        points = interpolate_points(key, jnp.tile(p, (1_000_000, 1)), jnp.tile(e, (1_000_000, 1)))
        on_line = jnp.max(jnp.abs(points.sum(axis=1) - 1))
        return on_line, [gradient_penalty(score, jnp.array([1.0, 3.0]), points, one_sided=one) for one in (0, 1)]

    on_line, penalties = found(jax.random.key(0))
    assert on_line < 1e-12
    np.testing.assert_allclose(penalties, (0.9226005, 0.9223217), atol=1e-3)
    # and the integrals themselves
    u = (np.arange(200_000) + 0.5) / 200_000
    norms = np.hypot(u, 3 * (1 - u))
    np.testing.assert_allclose(np.mean((norms - 1) ** 2), 0.9226005, atol=1e-7)
    np.testing.assert_allclose(np.mean(np.maximum(norms - 1, 0) ** 2), 0.9223217, atol=1e-7)


def test_points_are_where_they_are_said_to_be():
    p, e = (np.zeros((20_000, 2)), np.zeros((20_000, 3))), (np.ones((20_000, 2)), np.ones((20_000, 3)))
    key = jax.random.key(0)
    states, actions = interpolate_points(key, p, e)
    assert np.all(states[:, :1] == states)
    assert np.all(actions == states[:, :1])
    mixed = interpolate_points(key, (p[0], np.float32(p[1])), (e[0], np.float32(e[1])))
    assert mixed[1].dtype == np.float32
    np.testing.assert_allclose(mixed[0][:, 0], mixed[1][:, 0], atol=1e-6)
    apart, other = interpolate_points(key, p, e, shared=False)
    assert np.all(apart[:, :1] == apart)
    assert np.all(other[:, :1] == other)
    assert abs(np.corrcoef(apart[:, 0], other[:, 0])[0, 1]) < 0.05
    np.testing.assert_allclose((states.mean(), states.var()), (1 / 2, 1 / 12), atol=0.01)
    for kind, center in (("dragan", 1.0), ("nagard", 0.0)):
        for cloud in interpolate_points(key, p, e, kind, std=2.0):
            np.testing.assert_allclose((cloud.mean(), cloud.std()), (center, 2.0), atol=0.05)


def test_the_penalty_is_differentiated_through_the_inner_gradient():
    """Exact check 6: beside differences."""
    random = np.random.default_rng(1)
    weights = {"W": random.normal(size=(5, 3)), "b": random.normal(size=5), "v": random.normal(size=5)}
    score = lambda p, z: p["v"] @ jnp.tanh(p["W"] @ z + p["b"])
    points = random.normal(size=(4, 3))
    flat, restore = jax.flatten_util.ravel_pytree(weights)
    for one_sided in (True, False):
        loss = jax.jit(lambda flat, one=one_sided: gradient_penalty(score, restore(flat), points, one_sided=one))
        slope, h = jax.grad(loss)(flat), 1e-6
        differences = [(loss(flat + h * e) - loss(flat - h * e)) / (2 * h) for e in np.eye(len(flat))]
        assert np.linalg.norm(slope) > 0.1
        np.testing.assert_allclose(slope, differences, atol=1e-6)


def test_slopes_are_spectral_norms():
    random = np.random.default_rng(2)
    M = random.normal(size=(3, 4))
    points = (random.normal(size=(6, 2)), random.normal(size=(6, 2)))
    bent = lambda z, scale: {"out": scale * jnp.tanh(M @ jnp.concatenate(z))}
    steepest = jax.jit(lambda scale: local_lipschitz(lambda z: bent(z, scale), points))
    jacobians = jax.vmap(jax.jacobian(lambda z: jnp.tanh(M @ z)))(np.concatenate(points, axis=1))
    expected = np.linalg.norm(jacobians, 2, axis=(1, 2)).max()
    for scale in (1.0, 1e-200, 1e200):
        np.testing.assert_allclose(steepest(scale), scale * expected, rtol=1e-10)
    np.testing.assert_allclose(
        local_lipschitz(lambda z: z[0] @ z[0] / 2, points), np.linalg.norm(points[0], axis=1).max()
    )


def action_value_slope(F, G, K, r, gamma):
    """Of a linear system with a linear reward and the policy `K s`: closed form."""
    closed, reward = F + G @ K, r[:2] + K.T @ r[2:]
    value = np.linalg.solve(np.eye(2) - gamma * closed.T, reward)
    return r + gamma * np.concatenate([F.T @ value, G.T @ value])


def test_the_rigorous_bound_holds_where_the_published_one_does_not():
    """Exact check 3."""
    F, G, K = np.array([[0.8, 0.1], [0, 0.7]]), np.array([[0], [0.2]]), -np.array([[0.3, 0.2]])
    r = np.array([0.6, -0.3, 0.2])
    np.testing.assert_allclose(action_value_slope(F, G, K, r, 0.95), (2.36760942, -0.29129404, 0.13935851), atol=1e-8)
    true = np.linalg.norm(action_value_slope(F, G, K, r, 0.5))
    np.testing.assert_allclose(true, 1.06249828, atol=1e-8)
    J, delta = np.hstack([F, G]), np.linalg.norm(r)
    points = (np.zeros((1, 2)), np.zeros((1, 1)))
    A = local_lipschitz(lambda z: F @ z[0] + G @ z[1], points)
    B = local_lipschitz(lambda s: K @ s, points[0])
    np.testing.assert_allclose((A, B), (np.linalg.norm(J, 2), np.linalg.norm(K)), rtol=1e-12)
    np.testing.assert_allclose(lipschitz_bound(delta, A, B, 0.5), 1.24776984, atol=1e-8)
    published = lipschitz_bound_sqrt(delta, np.linalg.norm(J), np.linalg.norm(K), 0.5)
    np.testing.assert_allclose(published, 0.83368787, atol=1e-8)
    assert published < true < lipschitz_bound(delta, A, B, 0.5)


def test_bounds_over_a_horizon_and_where_there_is_none():
    q = 0.9 * 0.8 * np.sqrt(1 + 0.5**2)
    for n in (1, 30):
        found = lipschitz_bound(2.0, 0.8, 0.5, 0.9, n)
        np.testing.assert_allclose(found, 2 * (1 - q**n) / (1 - q), rtol=1e-12)
        np.testing.assert_allclose(
            lipschitz_bound_sqrt(2.0, 0.8, 0.5, 0.9, n), 2 * np.sqrt(sum((0.72**2) ** np.arange(n)))
        )
        assert found <= lipschitz_bound(2.0, 0.8, 0.5, 0.9)
    assert lipschitz_bound(1.0, 1.0, 0.0, 1.0) == np.inf
    assert lipschitz_bound(1.0, 1.0, 0.0, 1.0, 7) == 7
    # the state stays as it is, the reward is its first entry
    np.testing.assert_allclose(lipschitz_bound(1.0, 1.0, 0.0, 0.9), 10)
    np.testing.assert_allclose(lipschitz_bound_sqrt(1.0, 1.0, 0.0, 0.9), 2.294157, atol=1e-6)
    np.testing.assert_allclose(lipschitz_bound(0.5 * 2.0, 0.8, 0.5, 0.9), lipschitz_bound(2.0, 0.8, 0.5, 0.9) / 2)
    slope = jax.grad(lambda A: lipschitz_bound(1.0, A, 0.0, 0.9, 5))(0.0)
    np.testing.assert_allclose(slope, 0.9)


def test_bad_input_is_refused():
    z, score = np.zeros((3, 2)), lambda w, z: w @ z
    with pytest.raises(ValueError, match="target must be zero or more"):
        gradient_penalty(score, np.ones(2), z, target=-1.0)
    with pytest.raises(ValueError, match="must return one number for one example"):
        gradient_penalty(lambda w, z: w * z, np.ones(2), z)
    with pytest.raises(ValueError, match="number of points must be at least 1: given 0"):
        gradient_penalty(score, np.ones(2), z[:0])
    with pytest.raises(ValueError, match=r"must have the same arrays: given \(3, 2\) and \(2, 2\)"):
        interpolate_points(jax.random.key(0), z, z[:2])
    with pytest.raises(ValueError, match="kind must be one of 'wgan'"):
        interpolate_points(jax.random.key(0), z, z, "none")
    with pytest.raises(ValueError, match="std must be positive"):
        interpolate_points(jax.random.key(0), z, z, "dragan", std=0.0)
    for bound in (lipschitz_bound, lipschitz_bound_sqrt):
        with pytest.raises(ValueError, match="gamma must be from 0 to 1"):
            bound(1.0, 1.0, 1.0, 1.1)
        with pytest.raises(ValueError, match="A must be zero or more"):
            bound(1.0, -1.0, 1.0, 0.9)
        with pytest.raises(ValueError, match="horizon must be at least 1"):
            bound(1.0, 1.0, 1.0, 0.9, 0)
