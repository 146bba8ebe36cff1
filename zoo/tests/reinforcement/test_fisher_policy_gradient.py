"""Transported momentum: its estimators against exact values, its recursions against what they must reduce to."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.reinforcement.fisher_policy_gradient import (
    AtLookahead,
    AtMidpoint,
    ByWeights,
    PolicyTask,
    benchmark,
    collection,
    decay,
    fit_baseline,
    harpg,
    harpg_midpoint,
    igt_lookahead,
    log_weight,
    lookahead_norm,
    n_harpg,
    n_pg_igt,
    normalized,
    policy_gradient,
    policy_hvp,
    quadratic_features,
    rewards_to_go,
    search,
    storm_pg,
    storm_transport,
    transport_state,
    transported_momentum,
    vanilla_pg,
)
from dini_zoo.reinforcement.fisher_policy_gradient.experiment import experiment
from dini_zoo.reinforcement.linear_quadratic import expected_return
from dini_zoo.reinforcement.trajectories import Trajectory, rollout

AT, ALONG = np.array([[0.3, 0.8]]), np.array([[1.0, -0.5]])
GRADIENT, PRODUCT = (3.44753069, 1.91226685), (-6.39513714, -1.02064002)
HOW = {"discount": benchmark.DISCOUNT}


# exact values


def test_the_exact_problem_is_the_specifications():
    K = jnp.zeros((1, 2))
    value, slope = jax.jit(jax.value_and_grad(benchmark.value))(K)
    np.testing.assert_allclose(value, -14.29674004, atol=5e-9)
    np.testing.assert_allclose(slope[0], (23.9233617, 23.1442736), atol=5e-8)
    g, curved = jax.jit(lambda at, u: jax.jvp(jax.grad(benchmark.value), (at,), (u,)))(AT, ALONG)
    np.testing.assert_allclose(g[0], GRADIENT, atol=5e-9)
    np.testing.assert_allclose(curved[0], PRODUCT, atol=5e-9)


@pytest.mark.thorough
def test_the_optimum_by_minimize_and_by_root():
    found = benchmark.truth()
    np.testing.assert_allclose(found.optimum, (1.86212444, 2.06959584), atol=1e-8)
    np.testing.assert_allclose(found.root, found.optimum, atol=1e-8)
    np.testing.assert_allclose(found.best, -3.23048157, atol=1e-8)
    np.testing.assert_allclose(found.curvatures, (-0.6536, -0.2670), atol=1e-4)
    # without a horizon later states count more, and so does the gain; it cannot be better with one
    assert 0 < found.stationary_gap < 1e-2
    assert np.all(found.stationary > found.optimum)


def estimates(count, seed=0):
    """Means and standard errors of both estimators, and of the product without the score term."""

    def one(key):
        traj = benchmark.sample(key, AT)
        gradient = lambda K: policy_gradient(benchmark.log_prob, K, traj, **HOW)
        g, curved = jax.jvp(gradient, (jnp.asarray(AT),), (jnp.asarray(ALONG),))
        return jnp.stack([g[0], policy_hvp(benchmark.log_prob, AT, traj, ALONG, **HOW)[0], curved[0]])

    keys = jax.random.split(jax.random.key(seed), count)
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=2**12))(keys))
    return found.mean(axis=0), found.std(axis=0) / np.sqrt(count)


def assert_unbiased(count, away):
    mean, deviation = estimates(count)
    assert np.all(np.abs(mean[0] - GRADIENT) < 4 * deviation[0])
    assert np.all(np.abs(mean[1] - PRODUCT) < 4 * deviation[1])
    assert np.max(np.abs(mean[2] - PRODUCT) / deviation[2]) > away


def test_both_estimators_are_unbiased():
    assert_unbiased(2**14, 20)


@pytest.mark.thorough
def test_both_estimators_are_unbiased_at_full_scale():
    assert_unbiased(2**18, 100)


def test_the_transport_identity():
    old, new = jnp.array([[0.3, 0.8]]), jnp.array([[0.7, 0.5]])
    move, gradient = new - old, jax.grad(benchmark.value)
    points, weights = np.polynomial.legendre.leggauss(20)
    curved = jax.jit(jax.vmap(lambda q: jax.jvp(gradient, (old + q * move,), (move,))[1]))((points + 1) / 2)
    found = np.tensordot(weights / 2, curved, 1)
    np.testing.assert_allclose(found, gradient(new) - gradient(old), atol=1e-10)


def test_midpoints_are_uniform_on_the_segment():
    optimizer = n_harpg(0.3)
    old, new = jnp.array([1.0, 2.0]), jnp.array([3.0, 1.0])
    state = optimizer.init(old)
    _, state = optimizer.update(jnp.ones(2), state, old, transport=jnp.zeros(2))
    keys = jax.random.split(jax.random.key(0), 2000)
    found = jax.jit(jax.vmap(lambda key: harpg_midpoint(key, new, state)))(keys)
    q = (np.asarray(found.params) - np.asarray(old)) / (np.asarray(new) - np.asarray(old))
    np.testing.assert_allclose(q[:, 0], q[:, 1], atol=1e-12)
    np.testing.assert_allclose(np.sort(q[:, 0]), (np.arange(2000) + 0.5) / 2000, atol=0.04)
    np.testing.assert_allclose(found.move[0], new - old)


# a process of three steps with two choices, where means over all courses are exact


STEPS, GAMMA, REST = 3, 0.7, 2.5


def course(actions, bad=0.0):
    """The trajectory of given choices: the second one ends the process, with a reward that grows with time.

    `bad` stands where nothing was played."""
    actions = jnp.asarray(actions)
    alive = jnp.cumprod(jnp.concatenate([jnp.ones(1, int), 1 - actions[:-1]])) > 0
    t = jnp.arange(STEPS, dtype=float)
    reward = jnp.where(actions == 1, 1.0 + t**2, -0.3 * (t + 1))
    blank = lambda x: jnp.where(alive, x, bad)
    return Trajectory(
        blank(t + 1)[:, None], actions, blank(reward), alive, blank(t + 2)[:, None], alive & (actions == 1)
    )


def choice(theta, observation, action):
    """A logistic law of the choice."""
    logit = theta["slope"] * observation[0] + theta["offset"]
    return jax.nn.log_sigmoid(jnp.where(action == 1, logit, -logit))


COURSES = np.array([(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)])
THETA = {"slope": np.array(0.4), "offset": np.array(-0.9)}
U = {"slope": np.array(1.0), "offset": np.array(-2.0)}


def gain(actions, rest):
    """The discounted return of a course, by hand; `rest` is what is to come where the process is not over."""
    total = 0.0
    for t, action in enumerate(actions):
        if action == 1:
            return total + GAMMA**t * (1.0 + t**2)
        total -= GAMMA**t * 0.3 * (t + 1)
    return total + GAMMA**STEPS * rest


def exact(theta, rest=0.0):
    """The mean return over all courses."""
    total = 0.0
    for actions in COURSES:
        density = 1.0
        for t, action in enumerate(actions):
            p = jax.nn.sigmoid(theta["slope"] * (t + 1.0) + theta["offset"])
            density *= p if action == 1 else 1 - p
            if action == 1:
                break
        total += density * gain(actions, rest)
    return total


def means(theta, u, bad, **how):
    """Means of both estimates over all courses."""

    def one(actions):
        traj = course(actions, bad)
        steps = jax.vmap(lambda o, a: choice(theta, o, a))(jnp.nan_to_num(traj.observation), traj.action)
        weight = jnp.exp(jnp.sum(jnp.where(traj.mask, steps, 0)))
        both = (policy_gradient(choice, theta, traj, **how), policy_hvp(choice, theta, traj, u, **how))
        return jax.tree.map(lambda leaf: weight * leaf, both)

    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), jax.vmap(one)(jnp.asarray(COURSES)))


@pytest.mark.parametrize(("bad", "rest"), [(0.0, None), (np.nan, None), (np.nan, REST)])
def test_means_over_all_courses_are_exact(bad, rest):
    """With ends of the process in the middle, whatever stands after them, and with a value after the clock alone."""
    how = {"discount": GAMMA, "baseline": lambda t, o: 0.8 + 0.1 * t - 0.3 * o[0]}
    if rest is not None:
        how["bootstrap"] = lambda observation: jnp.asarray(rest) + 0 * observation[0]
    g, curved = jax.jit(lambda theta, u: means(theta, u, bad, **how))(THETA, U)
    objective = jax.grad(lambda theta: exact(theta, rest or 0.0))
    truth, product = jax.jvp(objective, (THETA,), (U,))
    for name in THETA:
        np.testing.assert_allclose(g[name], truth[name], rtol=1e-10)
        np.testing.assert_allclose(curved[name], product[name], rtol=1e-10)


def test_discounts_from_the_step_are_of_no_gradient():
    found = rewards_to_go(course((0, 0, 1)), discount=GAMMA, discount_from="step")
    np.testing.assert_allclose(found, [gain((0, 0, 1), 0), -0.6 + 0.7 * 5, 5.0])
    np.testing.assert_allclose(
        rewards_to_go(course((0, 0, 1)), discount=GAMMA), np.asarray(found) * GAMMA ** np.arange(3)
    )
    one = jax.jit(lambda theta: means(theta, U, 0.0, discount=GAMMA, discount_from="step")[0])(THETA)
    assert abs(one["slope"] - jax.grad(exact)(THETA)["slope"]) > 0.1


def test_weights_are_ratios_of_densities():
    other = {"slope": jnp.array(0.1), "offset": jnp.array(-0.2)}
    traj = course((0, 1, 0), np.nan)
    p = lambda theta, t: jax.nn.sigmoid(theta["slope"] * t + theta["offset"])
    density = lambda theta: (1 - p(theta, 1.0)) * p(theta, 2.0)
    found = log_weight(choice, other, THETA, traj)
    np.testing.assert_allclose(jnp.exp(found), density(other) / density(THETA), rtol=1e-12)
    change = storm_transport(jnp.array([3.0]), jnp.array([2.0]), jnp.log(0.25))
    np.testing.assert_allclose(change, [2.5])
    # too large for the precision: to be seen
    assert np.isinf(storm_transport(jnp.array([3.0]), jnp.array([2.0]), jnp.array(1e4)))


def test_no_derivative_passes_through_what_was_sampled():
    """A simulator that can be differentiated adds no term along its paths."""

    def estimate(scale):
        traj = course((0, 0, 1))
        traj = traj._replace(observation=scale * traj.observation, reward=scale * traj.reward)
        return policy_gradient(choice, THETA, traj, discount=GAMMA)["slope"]

    assert jax.grad(estimate)(1.3) == 0


# recursions


PATH = np.array([0.5, 0.9, 0.8, 1.6, 1.1, 1.15, 0.7])


def along(path, optimizer, oracle):
    """What the momentum is along parameters that are prescribed, with the mean gradient of a quadratic."""
    state, found = optimizer.init(jnp.asarray(path[0])), []
    for theta in path:
        _, state = optimizer.update(-2 * oracle(theta, state), state, jnp.asarray(theta))
        found.append(float(state.momentum))
    return np.array(found)


@pytest.mark.parametrize("eta", [0.3, 1.0, decay(1.0, 0.8), lambda count: 0.9 / (1 + count % 3)])
def test_transport_has_no_bias_on_a_quadratic(eta):
    """Of `a ~ N(θ, s²)` with the reward `-a²`: the recursion is linear, so the mean gradients make its mean."""
    optimizer = transported_momentum(eta, corrected=False)
    np.testing.assert_allclose(along(PATH, optimizer, igt_lookahead), -2 * PATH, atol=1e-13)
    # without transport old parameters stay in the mean, with their weights
    share = eta if callable(eta) else lambda count: eta
    expected, mean = [], 0.0
    for t, theta in enumerate(PATH):
        now = 1.0 if t == 0 else share(t)
        mean = (1 - now) * mean + now * -2 * theta
        expected.append(mean)
    np.testing.assert_allclose(along(PATH, optimizer, lambda theta, state: theta), expected, atol=1e-13)


def test_the_bandits_gradient_is_that_of_its_mean_reward():
    """By Gauss-Hermite quadrature, which is exact here."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    s, theta = 0.6, 0.8
    log_prob = lambda mean, o, a: -0.5 * ((a - mean) / s) ** 2

    def one(node):
        a = theta + s * node
        bandit = Trajectory(
            *(jnp.zeros((1,)), a[None], -(a[None] ** 2)), jnp.ones(1, bool), jnp.zeros(1), jnp.ones(1, bool)
        )
        return policy_gradient(log_prob, theta, bandit, discount=1.0), policy_hvp(
            log_prob, theta, bandit, 1.0, discount=1.0
        )

    g, curved = jax.jit(jax.vmap(one))(jnp.asarray(nodes))
    weights = weights / weights.sum()
    np.testing.assert_allclose([weights @ g, weights @ curved], [-2 * theta, -2.0], rtol=1e-10)


def test_a_correction_by_exact_curvature_has_no_bias():
    optimizer = transported_momentum(0.2, corrected=True)
    state, last = optimizer.init(jnp.asarray(PATH[0])), PATH[0]
    for theta in PATH:
        d, state = optimizer.update(jnp.asarray(-2 * theta), state, jnp.asarray(theta), transport=-2.0 * (theta - last))
        last = theta
        np.testing.assert_allclose(d, -2 * theta, atol=1e-13)


def test_storm_is_its_formula():
    random = np.random.default_rng(0)
    optimizer = transported_momentum(0.3, corrected=True)
    state, d = optimizer.init(jnp.zeros(3)), np.zeros(3)
    for t in range(4):
        g, old, weight = random.normal(size=3), random.normal(size=3), np.exp(random.normal())
        change = storm_transport(jnp.asarray(g), jnp.asarray(old), np.log(weight))
        found, state = optimizer.update(jnp.asarray(g), state, jnp.zeros(3), transport=change)
        d = g + (0.0 if t == 0 else 0.7) * (d - weight * old)
        np.testing.assert_allclose(found, d, rtol=1e-12)


def fields(key, params):
    """A trajectory of the linear policy with few steps."""
    world = benchmark.environment(benchmark.problem(), lambda key: 0.5 * jax.random.normal(key, (2,)), 4)
    return rollout(world, lambda key, seen: -params @ seen + jax.random.normal(key, (1,)), key)


def test_without_a_memory_the_methods_are_plain_ones():
    """Bit by bit, with the same keys, and optimizers of optax that know nothing of momentum."""
    task = PolicyTask(fields, benchmark.log_prob, 0.9)
    plain = optax.chain(normalized(), optax.scale_by_learning_rate(decay(0.3, 1.0), flip_sign=False))
    lone = optax.scale_by_learning_rate(lambda count: 0.03 * (2 / (count + 2)) ** 0.5, flip_sign=False)

    def looped(optimizer, key, split):
        K = jnp.zeros((1, 2))
        state = optimizer.init(K)
        keys = jax.random.split(jax.random.split(key)[1], 5)
        path = []
        for one in keys:
            path.append(K)
            drawn = task.draw(jax.random.split(one)[0] if split else one, K, 3)
            updates, state = optimizer.update(task.mean_gradient(K, drawn), state, K)
            K = optax.apply_updates(K, updates)
        return jnp.stack(path)

    def all_of(key):
        start = {"params": jnp.zeros((1, 2)), "key": key, "steps": 5}
        ours = search(task, n_pg_igt(0.3, 1.0), AtLookahead(), **start, samples=3).path.params
        second = search(task, harpg(0.03, 1.0), AtMidpoint(), **start, samples=6).path.params
        return ours, looped(plain, key, False), second, looped(lone, key, True)

    ours, theirs, second, fourth = jax.jit(all_of)(jax.random.key(3))
    assert len(np.unique(ours)) > 5
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(second, fourth)


# numbers that are hard, and bad input


def test_directions_of_small_large_and_no_gradients():
    one = lambda tree: normalized().update(tree, optax.EmptyState())[0]
    for size in (1e-30, 1.0, 1e30):
        found = one({"a": jnp.array([3 * size], jnp.float32), "b": jnp.array(4 * size, jnp.float32)})
        np.testing.assert_allclose([found["a"][0], found["b"]], [0.6, 0.8], rtol=1e-6)
        assert found["b"].dtype == jnp.float32
    np.testing.assert_array_equal(one(jnp.zeros(2)), [0, 0])
    assert np.all(np.isnan(one(jnp.array([1.0, jnp.nan]))))


def test_what_is_not_finite_is_told():
    optimizer = n_pg_igt(0.3)
    x = jnp.ones(2)
    state = optimizer.init(x)
    assert transport_state(state).finite
    for gradient, finite in ((jnp.ones(2), True), (jnp.array([jnp.inf, 1.0]), False), (jnp.ones(2), False)):
        _, state = optimizer.update(gradient, state, x)
        assert bool(transport_state(state).finite) == finite
    # so is a schedule that leaves its interval
    optimizer = transported_momentum(lambda count: jnp.where(count > 15, 1.5, 0.5), corrected=False)
    state = optimizer.init(x)
    for t in range(18):
        d, state = optimizer.update(x, state, x)
        assert np.all(np.isfinite(d)) == (t <= 15)


def test_one_bad_lane_leaves_the_others_alone():
    task = PolicyTask(fields, benchmark.log_prob, 0.9, features=quadratic_features(4, 0.9))
    starts = jnp.array([[[0.0, 0.0]], [[jnp.nan, 0.0]]])
    lane = lambda start: search(task, storm_pg(0.3), ByWeights(), start, jax.random.key(0), steps=3, samples=2)
    found = jax.jit(jax.vmap(lane))(starts)
    assert np.all(np.isfinite(found.params[0]))
    np.testing.assert_array_equal(found.path.finite[:, -1], [True, False])


def test_the_look_ahead_and_its_length():
    optimizer = transported_momentum(0.25, corrected=False)
    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    state = optimizer.init(x)
    assert lookahead_norm(x, state) == 0
    _, state = optimizer.update(x, state, x)
    moved = jax.tree.map(lambda leaf: leaf + 1, x)
    ahead = igt_lookahead(moved, state)
    np.testing.assert_allclose(ahead["a"], moved["a"] + 3)
    np.testing.assert_allclose(lookahead_norm(moved, state), 3 * np.sqrt(3))


def test_the_baseline_is_a_ridge_regression():
    features = lambda t, o: jnp.stack([jnp.ones(()), o[0], 1.0 * t])
    # one with a NaN where nothing was played
    trajs = jax.tree.map(lambda *parts: jnp.stack(parts), course((0, 0, 1)), course((0, 1, 0), np.nan))
    found = jax.jit(lambda trajs: fit_baseline(features, trajs, discount=GAMMA, ridge=0.1))(trajs)
    phi = np.array([(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 1, 0), (1, 2, 1)], float)
    gains = [gain((0, 0, 1), 0), -0.7 * 0.6 + 0.49 * 5, 0.49 * 5, gain((0, 1, 0), 0), 0.7 * 2]
    expected = np.linalg.solve(phi.T @ phi + 0.1 * np.eye(3), phi.T @ gains)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert quadratic_features(20, 0.9)(3, jnp.ones(2)).shape == (12,)


def test_bad_input_is_refused():
    x, traj = jnp.zeros(2), course((0, 0, 1))
    plain, corrected = (transported_momentum(0.5, corrected=one) for one in (False, True))
    state = plain.init(x)
    estimate = lambda **how: policy_gradient(choice, THETA, how.pop("traj", traj), **({"discount": 0.9} | how))
    bad = {
        "eta must be": [lambda: n_pg_igt(0.1, 0.0), lambda: n_harpg(0.1, 1.5), lambda: harpg(0.1, lambda t: 1.0 + t)],
        "step must be": [lambda: n_pg_igt(0.0), lambda: vanilla_pg(-1.0), lambda: storm_pg(lambda t: -0.1)],
        "power must be": [lambda: decay(1.0, -1.0)],
        "third argument": [lambda: plain.update(x, state)],
        "the gradient must be": [lambda: plain.update(jnp.zeros(3), state, x), lambda: plain.update((x,), state, x)],
        "given `transport`": [lambda: corrected.update(x, corrected.init(x), x)],
        "no place": [lambda: plain.update(x, state, x, transport=x)],
        "transport must be": [lambda: corrected.update(x, corrected.init(x), x, transport=jnp.zeros(3))],
        "found 0": [lambda: igt_lookahead(x, optax.sgd(0.1).init(x))],
        "discount must be": [lambda: estimate(discount=0.0), lambda: estimate(discount=1.1)],
        "one trajectory": [lambda: estimate(traj=jax.tree.map(lambda leaf: leaf[None], traj))],
        "at least one step": [lambda: estimate(traj=jax.tree.map(lambda leaf: leaf[:0], traj))],
        "tangent must be": [lambda: policy_hvp(choice, THETA, traj, {"slope": 1.0}, discount=0.9)],
        "samples must be": [lambda: search(benchmark.TASK, n_harpg(1.0), AtMidpoint(), x, None, steps=1, samples=1)],
        "steps must be": [lambda: search(benchmark.TASK, n_harpg(1.0), AtMidpoint(), x, None, steps=0, samples=2)],
        "ridge must be": [lambda: fit_baseline(lambda t, o: o, traj, discount=0.9, ridge=0.0)],
        "horizon must be": [lambda: quadratic_features(0, 0.9)],
    }
    for words, calls in bad.items():
        for call in calls:
            with pytest.raises(ValueError, match=words):
                call()
    with pytest.raises(TypeError, match="floats"):
        n_pg_igt(0.1).init(jnp.zeros(2, int))


# costly ones


@pytest.mark.thorough
def test_means_over_all_measurements_are_exact():
    """Of the stochastic bilevel problem: hypergradients by `dini.bilevel` with the score term."""
    task, theta = collection.TASK, {"logits": np.array([0.3, -0.2, 0.1, 0.5]), "penalty": np.array(-0.4)}
    u = {"logits": np.array([1.0, -0.5, 0.3, 2.0]), "penalty": np.array(0.7)}

    def one(z):
        weight = jnp.exp(collection.log_density(theta, z))
        g, curved = jax.jvp(lambda t: task.gradient(t, z, 0.9), (theta,), (u,))
        return jax.tree.map(lambda leaf: weight * leaf, (g, task.hvp(theta, z, u, 0.9), curved))

    found = jax.jit(jax.vmap(one))(jnp.asarray(collection.OUTCOMES))
    g, curved, scoreless = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), found)
    truth, product = jax.jit(lambda t, u: jax.jvp(jax.grad(collection.objective), (t,), (u,)))(theta, u)
    for name in theta:
        np.testing.assert_allclose(g[name], truth[name], atol=1e-7)
        np.testing.assert_allclose(curved[name], product[name], atol=1e-7)
    assert np.max(np.abs(scoreless["logits"] - product["logits"])) > 0.01


@pytest.mark.thorough
def test_a_value_after_the_clock_is_that_of_more_steps():
    """The exact value of what is to come, in the place of as many steps again."""
    problem, K = benchmark.problem(), jnp.asarray(AT)
    later = lambda K, s: expected_return(problem, K, jnp.outer(s, s), benchmark.HORIZON, variance=1.0)
    whole = lambda K: expected_return(problem, K, 0.25 * jnp.eye(2), 2 * benchmark.HORIZON, variance=1.0)

    def one(key):
        how = {"discount": benchmark.DISCOUNT, "bootstrap": lambda s: later(K, s)}
        return policy_gradient(benchmark.log_prob, K, benchmark.sample(key, K), **how)[0]

    keys = jax.random.split(jax.random.key(1), 2**16)
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=2**12))(keys))
    # what comes later also depends on the later policy: that part is no part of the estimate
    moments = lambda K: jax.vmap(lambda s: later(K, s))
    traj = jax.jit(lambda keys: jax.lax.map(lambda key: benchmark.sample(key, K).next_observation[-1], keys))(keys)
    rest = benchmark.DISCOUNT**benchmark.HORIZON * jax.grad(lambda L: jnp.mean(moments(L)(traj)))(K)[0]
    expected = jax.grad(whole)(K)[0] - rest
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * found.std(axis=0) / 2**8)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["methods", "score", "search", "transport"])
def test_examples(name):
    module = importlib.import_module(f"dini_zoo.reinforcement.fisher_policy_gradient.{name}")
    with jax.enable_x64(False):
        found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("fisher-policy-gradient", experiment)
