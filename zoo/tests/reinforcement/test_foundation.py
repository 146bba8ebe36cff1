"""What the systems share: episodes and their clocks, returns, replay, policies, linear systems with exact values."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import dini
from dini_zoo.reinforcement import environments, linear_quadratic, policies, replay, trajectories
from dini_zoo.reinforcement.environments import Environment, gymnax_environment
from dini_zoo.reinforcement.linear_quadratic import LinearQuadratic, double_integrator, expected_return, riccati_gain
from dini_zoo.reinforcement.policies import Network, SquashedGaussian
from dini_zoo.reinforcement.replay import Replay
from dini_zoo.reinforcement.trajectories import discounted_returns, generalized_advantages, rollout


@pytest.mark.parametrize("module", [environments, linear_quadratic, policies, replay, trajectories])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def counting(end: int, horizon: int) -> Environment:
    """A counter that is over at `end`."""
    return Environment(
        reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
        step=lambda key, s, a: (s + 1, s + 1, s[0], s[0] + 1 >= end),
        horizon=horizon,
        observations=1,
        actions=1,
    )


def test_a_time_out_is_no_end():
    """The clock's stroke is `truncated`; at the same step as an end of the process, it is the end that is said."""
    for end, horizon, terminal, truncated in ((9, 3, 0, 1), (3, 3, 1, 0), (2, 3, 1, 0)):
        world = counting(end, horizon)
        running = world.start(jax.random.key(0))
        for _ in range(min(end, horizon)):
            running, seen = world.advance(jax.random.key(1), running, jnp.zeros(1))
        assert (int(seen.terminal), int(seen.truncated)) == (terminal, truncated)
        # what was reached is shown, and the next episode has begun
        assert seen.next_observation[0] == min(end, horizon)
        assert running.observation[0] == 0
        assert running.time == 0


def test_returns_and_advantages_by_hand():
    reward, mask = jnp.array([1.0, 2.0, 3.0, 7.0]), jnp.array([True, True, True, False])
    np.testing.assert_allclose(discounted_returns(reward, 0.5, mask=mask), [2.75, 3.5, 3.0, 0.0])
    np.testing.assert_allclose(
        discounted_returns(reward, 0.5, mask=mask, discount_from="start"), [2.75, 1.75, 0.75, 0.0]
    )
    np.testing.assert_allclose(discounted_returns(reward[:2], 0.5, bootstrap=8.0), [4.0, 6.0])
    value, following = jnp.array([1.0, -1.0, 2.0, 0.5]), jnp.array([-1.0, 4.0, 0.5, 3.0])
    # the second step ends an episode by the clock, the last one by its end
    terminal, ended = jnp.array([False, False, False, True]), jnp.array([False, True, False, True])
    found = generalized_advantages(reward, value, following, terminal, ended, discount=0.9, decay=0.8)
    last = 7.0 - 0.5
    third = 3.0 + 0.9 * 0.5 - 2.0 + 0.72 * last
    second = 2.0 + 0.9 * 4.0 + 1.0
    first = 1.0 - 0.9 - 1.0 + 0.72 * second
    np.testing.assert_allclose(found, [first, second, third, last], rtol=1e-14)


def test_replay_keeps_the_newest_and_its_runs_do_not_wrap():
    held = Replay.like(jnp.zeros((), jnp.int32), 5).extend(jnp.arange(3)).extend(jnp.arange(3, 7))
    assert sorted(held.items.tolist()) == [2, 3, 4, 5, 6]
    assert held.count == 5
    runs = np.asarray(held.sample_runs(jax.random.key(0), 400, 3))
    assert set(runs[:, 0]) == {2, 3, 4}
    assert np.all(np.diff(runs, axis=1) == 1)
    drawn = np.asarray(Replay.like(jnp.zeros(()), 9).extend(jnp.array([1.0, 2.0])).sample(jax.random.key(1), 200))
    assert set(drawn) == {1.0, 2.0}


def test_the_squashed_density():
    """As the change of variables by scipy and differences, it integrates to one, and no saturated action breaks it."""
    network = lambda seen: jnp.array([0.4, -0.2])
    policy = SquashedGaussian(network, bound=2.0)
    action = np.linspace(-2, 2, 4003)[1:-1]
    density = jnp.exp(jax.vmap(lambda a: policy.log_probability(jnp.zeros(1), a[None]))(jnp.asarray(action)))
    h = 1e-6
    slope = (np.arctanh((action + h) / 2) - np.arctanh((action - h) / 2)) / (2 * h)
    inner = np.abs(action) < 1.9
    exact = scipy.stats.norm.pdf(np.arctanh(action / 2), 0.4, np.exp(-0.2)) * slope
    np.testing.assert_allclose(density[inner], exact[inner], rtol=1e-6)
    assert abs(np.trapezoid(density, action) - 1) < 1e-3
    for dtype in (jnp.float32, jnp.float64):
        edge = jnp.asarray([2.0], dtype)
        assert jnp.isfinite(policy.log_probability(jnp.zeros(1), edge))
        far = jax.grad(lambda u: policies.log_slope(u))(jnp.asarray(30.0, dtype))
        np.testing.assert_allclose(far, -2.0, rtol=1e-6)


def test_the_network_begins_as_said():
    network = Network([400, 300, 200], jax.random.key(0), last_scale=0.1)
    np.testing.assert_allclose(jnp.std(network.layers[0].weight), np.sqrt(2 / 400), rtol=0.02)
    np.testing.assert_allclose(jnp.std(network.layers[1].weight), 0.1 / np.sqrt(300), rtol=0.02)
    assert all(not jnp.any(layer.bias) for layer in network.layers)
    moved = policies.polyak(network, Network([400, 300, 200], jax.random.key(1)), 0.0)
    assert eqx.tree_equal(moved, network)


def test_riccati_gains_and_their_derivatives():
    """The gain is scipy's, and its derivative that of differences of scipy's."""

    def by_scipy(cost: float) -> np.ndarray:
        A, B = np.array([[1.0, 0.2], [0.0, 1.0]]), np.array([[0.0], [0.2]])
        root = np.sqrt(0.9)
        P = scipy.linalg.solve_discrete_are(root * A, root * B, np.diag([1.0, 0.1]), cost * np.eye(1))
        return np.linalg.solve(cost * np.eye(1) + 0.9 * B.T @ P @ B, 0.9 * B.T @ P @ A)

    def gain(cost: jax.Array) -> jax.Array:
        one = double_integrator(discount=0.9)
        return riccati_gain(eqx.tree_at(lambda one: one.R, one, cost * jnp.eye(1)))

    found, slope = jax.jvp(gain, (jnp.asarray(0.1),), (jnp.asarray(1.0),))
    np.testing.assert_allclose(found, by_scipy(0.1), rtol=1e-9)
    np.testing.assert_allclose(slope, (by_scipy(0.1 + 1e-5) - by_scipy(0.1 - 1e-5)) / 2e-5, rtol=1e-6)


def test_exact_values_of_linear_policies():
    """The recursion gives the optimum of the specification of Fisher-non-degenerate policies, and rollouts' mean."""
    problem = double_integrator(noise=0.01, discount=0.9)
    value = lambda K: expected_return(problem, K.reshape(1, 2), 0.25 * jnp.eye(2), 20, variance=1.0)
    np.testing.assert_allclose(value(jnp.zeros(2)), -14.29674004, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(value)(jnp.zeros(2)), [23.9233612, 23.1442736], rtol=1e-8)
    best = dini.minimize(lambda K: -value(K), jnp.zeros(2), solver=dini.Newton(tol=1e-10))
    np.testing.assert_allclose(best.x, [1.86212444, 2.06959584], rtol=1e-8)
    np.testing.assert_allclose(-best.value, -3.23048157, rtol=1e-8)

    world = linear_quadratic.environment(problem, lambda key: 0.5 * jax.random.normal(key, (2,)), 20)
    K = jnp.array([[0.3, 0.8]])
    policy = lambda key, seen: -K @ seen + jax.random.normal(key, (1,))
    total = lambda key: discounted_returns(rollout(world, policy, key).reward, 0.9)[0]
    drawn = np.asarray(jax.jit(jax.vmap(total))(jax.random.split(jax.random.key(0), 20_000)))
    assert abs(drawn.mean() - value(K)) < 4 * drawn.std() / np.sqrt(len(drawn))


#: Of rank two, with equal eigenvalues: noise along the axes (1, 1, 1) / √3 and (1, -1, 0) / √2 alone.
SINGULAR = 0.04 * (np.ones((3, 3)) / 3 + np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 0]]) / 2)


def test_a_covariance_of_noise_may_be_singular():
    """Noise stays in the range of W and has its covariance; the value is that of the recursion of the moments."""
    A = jnp.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.7]])
    B = jnp.array([[0.0], [0.5], [1.0]])
    problem = LinearQuadratic(A, B, jnp.eye(3), 0.1 * jnp.eye(1), jnp.asarray(SINGULAR), 0.9)
    world = linear_quadratic.environment(problem, lambda key: jnp.zeros(3), 12)
    state, action = jnp.array([0.3, -0.2, 0.5]), jnp.array([0.4])
    step = jax.jit(jax.vmap(lambda key: world.step(key, state, action)[0]))
    noise = np.asarray(step(jax.random.split(jax.random.key(0), 20_000))) - np.asarray(A @ state + B @ action)
    np.testing.assert_allclose(noise @ [1, 1, -2], 0, atol=1e-14)
    np.testing.assert_allclose(noise.T @ noise / len(noise), SINGULAR, atol=4 * 0.04 * np.sqrt(2 / len(noise)))

    K = riccati_gain(problem)
    total = lambda key: discounted_returns(rollout(world, lambda key, seen: -K @ seen, key).reward, 0.9)[0]
    drawn = np.asarray(jax.jit(jax.vmap(total))(jax.random.split(jax.random.key(1), 20_000)))
    value = expected_return(problem, K, jnp.zeros((3, 3)), 12)
    assert abs(drawn.mean() - value) < 4 * drawn.std() / np.sqrt(len(drawn))
    # no noise at all is a covariance too
    still = eqx.tree_at(lambda one: one.W, problem, jnp.zeros((3, 3)))
    quiet = linear_quadratic.environment(still, lambda key: state, 12)
    np.testing.assert_array_equal(quiet.step(jax.random.key(0), state, action)[0], A @ state + B @ action)


def test_the_root_of_a_covariance_and_its_derivative():
    root = linear_quadratic.covariance_root
    for W in (SINGULAR, np.zeros((3, 3)), np.eye(3), np.diag([1.0, 1e-6, 0.0])):
        L = np.asarray(root(jnp.asarray(W)))
        np.testing.assert_allclose(L @ L.T, W, atol=1e-16 + 1e-14 * abs(W).max())
        np.testing.assert_array_equal(np.linalg.matrix_rank(L), np.linalg.matrix_rank(W))
    # along a curve of singular covariances, and of an identity, whose eigenvalues are equal
    turned = lambda t: jnp.array([[jnp.cos(t), -jnp.sin(t), 0], [jnp.sin(t), jnp.cos(t), 0], [0, 0, 1]])
    along = lambda t: turned(t) @ (jnp.asarray(SINGULAR) * (1 + t)) @ turned(t).T
    through = lambda t: jnp.eye(3) + t * jnp.array([[1.0, 2, 0], [2, 0, 1], [0, 1, 3]])
    for curve in (along, through):
        of = lambda t, curve=curve: root(curve(t))
        difference = (of(1e-5) - of(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.jacfwd(of)(0.0), difference, atol=1e-9)
        np.testing.assert_allclose(jax.jacrev(of)(0.0), difference, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_root_of_a_covariance_in_unlike_units(dtype):
    """No noise is lost, and indefinite matrices are refused, where elements are far below rounding of the largest."""
    units = np.array([1e6, 1.0, 1e-9])
    rank_two = SINGULAR / 0.04
    for correlations in (rank_two, np.eye(3) + 0.2, np.array([[1, 0.3, 0], [0.3, 1, 0], [0, 0, 0]])):
        W = (units[:, None] * correlations * units).astype(dtype)
        L = np.asarray(linear_quadratic.covariance_root(jnp.asarray(W)), float)
        np.testing.assert_allclose(
            (L / units[:, None]) @ (L / units[:, None]).T, correlations, atol=20 * np.finfo(dtype).eps
        )
    for correlations in (np.array([[1, 0, 0], [0, 1, 1.1], [0, 1.1, 1]]), np.diag([1.0, 1, -1])):
        W = (units[:, None] * correlations * units).astype(dtype)
        with pytest.raises(ValueError, match="W must be"):
            linear_quadratic.covariance_root(jnp.asarray(W))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spectrum", [(0, 1, 1), (0, 0, 1), (0, 1e-3, 1)])
def test_a_covariance_after_a_change_of_basis(dtype, spectrum):
    """Rounding leaves variances and covariances where there are none, below zero and not symmetric: it is no noise."""
    random = np.random.default_rng(0)
    there = np.linalg.qr(random.normal(size=(50, 3, 3)))[0].astype(dtype)
    D = np.diag(np.asarray(spectrum, dtype))
    back = there.swapaxes(-1, -2)
    given = jnp.asarray(back @ (there @ D @ back) @ there)
    assert (np.linalg.eigvalsh(given)[:, 0] < 0).any()
    L = np.asarray(jax.vmap(linear_quadratic.covariance_root)(given))
    np.testing.assert_allclose(L @ L.swapaxes(-1, -2), np.broadcast_to(D, L.shape), atol=100 * np.finfo(dtype).eps)
    for one in given:
        linear_quadratic.covariance_root(one)


@pytest.mark.parametrize("W", [np.diag([1.0, -1e-3]), np.array([[1.0, 0.5], [0.0, 1.0]]), np.full((2, 2), np.nan)])
def test_what_is_no_covariance_is_refused(W):
    make = lambda W: LinearQuadratic(jnp.eye(2), jnp.eye(2), jnp.eye(2), jnp.eye(2), W, 0.9)
    with pytest.raises(ValueError, match="W must be"):
        linear_quadratic.covariance_root(jnp.asarray(W))
    with pytest.raises(ValueError, match="W must be"):
        make(jnp.asarray(W))
    traced = jax.jit(jax.vmap(lambda W: expected_return(make(W), 0.5 * jnp.eye(2), jnp.eye(2), 3)))
    assert np.isfinite(traced(jnp.stack([jnp.eye(2), jnp.asarray(W)]))).tolist() == [True, False]


def test_the_expert_of_the_plane():
    """The returns that the specification of Lipschitz rewards gives for its expert, and for doing nothing."""
    problem = double_integrator(2, velocity_cost=0.1, action_cost=0.05, discount=0.97)
    starts = np.random.default_rng(0).uniform(-1.5, 1.5, (64, 2))
    world = linear_quadratic.environment(problem, lambda key: jnp.zeros(4), 40, bound=1.0)
    K = riccati_gain(problem)

    def total(K: jax.Array, start: jax.Array) -> jax.Array:
        begun = eqx.tree_at(lambda one: one.reset, world, lambda key: (start, start))
        policy = lambda key, seen: jnp.clip(-K @ seen, -1, 1)
        return jnp.sum(rollout(begun, policy, jax.random.key(0)).reward)

    over = jax.jit(jax.vmap(total, (None, 0)))
    states = jnp.concatenate([jnp.asarray(starts), jnp.zeros((64, 2))], 1)
    np.testing.assert_allclose(jnp.mean(over(K, states)), -9.927065, atol=1e-6)
    np.testing.assert_allclose(jnp.mean(over(0 * K, states)), -68.258876, atol=1e-6)


def test_tasks_of_gymnax_and_their_clocks():
    """A pendulum's time-out is none of its ends; a cart that falls is over."""
    pytest.importorskip("gymnax", reason="the extra `reinforcement` is not installed")
    with jax.enable_x64(False):
        pendulum = gymnax_environment("Pendulum-v1", horizon=5)
        assert (pendulum.observations, pendulum.actions, pendulum.bound) == (3, 1, 2.0)
        found = jax.jit(lambda key: rollout(pendulum, lambda key, seen: jnp.ones(1), key))(jax.random.key(0))
        assert found.reward.shape == (5,)
        assert not np.any(found.terminal)
        assert np.all(found.mask)
        cart = gymnax_environment("CartPole-v1")
        found = jax.jit(lambda key: rollout(cart, lambda key, seen: jnp.asarray(1), key))(jax.random.key(0))
        length = int(found.mask.sum())
        assert 5 < length < 20
        assert np.flatnonzero(found.terminal).tolist() == [length - 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: counting(3, 0), "horizon must be at least 1"),
        (lambda: gymnax_environment("Ant"), "name must be one of"),
        (lambda: rollout(counting(3, 3), lambda k, s: s, jax.random.key(0), 4), "steps must be from 1 to"),
        (lambda: Replay.like(jnp.zeros(()), 0), "capacity must be at least 1"),
        (lambda: Replay.like(jnp.zeros(()), 2).extend(jnp.zeros(3)), "items must be at most the capacity, 2"),
        (lambda: Replay.like(jnp.zeros(()), 2).sample_runs(jax.random.key(0), 1, 3), "length must be from 1"),
        (lambda: Network([3], jax.random.key(0)), "sizes must hold"),
        (lambda: SquashedGaussian(lambda seen: seen, bound=0.0), "bound must be positive"),
        (lambda: discounted_returns(jnp.ones(2), 0.9, mask=jnp.ones(3, bool)), "mask must have the shape"),
        (lambda: double_integrator(discount=1.5), "discount must be in"),
        (lambda: LinearQuadratic(jnp.eye(3), jnp.ones((2, 1)), jnp.eye(2), jnp.eye(1)), "B must have the shape"),
        (lambda: LinearQuadratic(jnp.eye(1) * jnp.nan, jnp.eye(1), jnp.eye(1), jnp.eye(1)), "must be finite"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_unsteady_system_has_no_gain():
    """What no action can hold has no finite cost to go: said, and not returned."""
    held = riccati_gain(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), double_integrator(discount=0.9)))
    np.testing.assert_allclose(held, riccati_gain(double_integrator(discount=0.9)), rtol=1e-5)
    lost = LinearQuadratic(2.0 * jnp.eye(1), jnp.zeros((1, 1)), jnp.eye(1), jnp.eye(1))
    with pytest.raises(dini.SolveError, match="FixedPointIteration"):
        riccati_gain(lost)
