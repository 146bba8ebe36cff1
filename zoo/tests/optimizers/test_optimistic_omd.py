"""Optimistic mirror descent: figures by hand, its inequality, dini's sets and mirror maps, the ensemble, the bars."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from outputs import assert_bars_met

import dini
from dini_zoo.optimizers.optimistic_omd import (
    Euclidean,
    QuadraticNorm,
    adagrad_norm,
    adaptive_variation,
    constant,
    convex_bound,
    decreasing,
    dynamic_ensemble,
    follow,
    optimistic_adaptive_gd,
    optimistic_mirror_descent,
    optimistic_online_newton,
    path_length,
    pool,
    project_in_norm,
    regret,
    strongly_convex,
)
from dini_zoo.optimizers.optimistic_omd.baselines import optimistic_ftrl
from dini_zoo.optimizers.optimistic_omd.environments import duality_gap, game, in_hindsight, moving
from dini_zoo.optimizers.optimistic_omd.experiment import experiment
from dini_zoo.optimizers.optimistic_omd.study import growth

BALL, SIMPLEX = dini.sets.L2Ball(1.0), dini.sets.Simplex()


def linear(x, g):
    """The gradient of a linear loss."""
    return g


def played(learner, items, start, gradient=linear):
    return jax.jit(lambda items, start: follow(learner, gradient, items, start))(items, start)


# by hand


def test_four_rounds_of_the_specification():
    rule = adaptive_variation(D=2.0, G=2.0, L=1.0)
    learner = optimistic_mirror_descent(dini.sets.Box(-1.0, 1.0), rule)
    state, found = learner.init(0.0), []
    update, play = jax.jit(learner.update), jax.jit(learner.play)
    for c in (0.5, -0.5, 0.9, 0.1):
        x, eta = play(state), rule.step_size(state.rule)
        state = update(state, x - c)
        found.append((x, state.center, eta))
    expected = [
        (0, 0.13363062, 0.26726124),
        (0.26696395, -0.07089310, 0.26666667),
        (-0.27255960, 0.23742124, 0.26294130),
        (0.53617600, 0.12628860, 0.25478855),
    ]
    np.testing.assert_allclose(found, expected, atol=6e-9)
    assert not state.flags.exceeded


def test_step_sizes_see_past_gradients_only():
    gradients = [3.0, 1.0, 4.0]
    variation = np.cumsum([0, 3.0**2, 2.0**2])
    for rule, expected in (
        (adaptive_variation(2.0, 5.0, 0.5), 2 / np.sqrt(10 + 100 + variation)),
        (strongly_convex(0.5), [4, 2, 4 / 3]),
        (decreasing(2.0, 5.0), 0.4 / np.sqrt([1, 2, 3])),
        (adagrad_norm(2.0, 5.0), 2 / np.sqrt(2 * (25 + np.cumsum([0, 9, 1])))),
        (constant(0.3), [0.3] * 3),
    ):
        state, found = rule.init(jnp.zeros(())), []
        for g in gradients:
            found.append(float(rule.step_size(state)))
            state = rule.update(state, jnp.asarray(g))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    rule = adaptive_variation(1.0, 1.0, 1.0, norm=lambda g: jnp.max(jnp.abs(g)))
    assert rule.update(rule.init(jnp.zeros(2)), jnp.array([3.0, -4.0])).squares == 16


# what is proved of it


@pytest.mark.parametrize("rule", ["constant", "adaptive"])
def test_the_inequality_holds_on_every_path(rule):
    """A thousand sequences of random linear losses, against a random point of the ball each."""
    random = np.random.default_rng(0)
    items = random.normal(size=(1000, 15, 3))
    u = in_hindsight(random.normal(size=(1000, 1, 3)))
    steps = constant(0.4) if rule == "constant" else adaptive_variation(2.0, 5.0, 0.3)
    learner = optimistic_mirror_descent(BALL, steps)

    def excess(items, u):
        def step(state, g):
            x, eta = learner.play(state), steps.step_size(state.rule)
            new = learner.update(state, g)
            square = lambda v: jnp.sum(v**2)
            gain = square(u - state.center) - square(u - new.center)
            stay = square(x - state.center) + square(x - new.center)
            return new, g @ (x - u) - eta * square(g - state.last) - (gain - stay) / (2 * eta)

        return jnp.sum(jax.lax.scan(step, learner.init(jnp.zeros(3)), items)[1])

    found = jax.jit(jax.vmap(excess))(items, u)
    assert found.max() <= 1e-9


def test_the_experiments_bound():
    assert convex_bound(2.0, 1.8, 1.0, 0.0, 1.8**2) == pytest.approx(101.37, abs=0.01)
    assert convex_bound(2.0, 2.8, 1.0, 10_000.0, 2.8**2) == pytest.approx(1536.8, abs=0.1)


def test_without_a_guess_it_is_mirror_descent_and_with_a_perfect_one_regret_is_bounded():
    items = np.random.default_rng(1).normal(size=(400, 3))
    eta = 0.1
    points, _ = played(optimistic_mirror_descent(BALL, constant(eta), hint="none"), items, jnp.zeros(3))
    zero, _ = played(optimistic_mirror_descent(BALL, constant(eta), hint=lambda t, g: 0 * g), items, jnp.zeros(3))
    x, expected = np.zeros(3), []
    for g in items:
        expected.append(x)
        x = in_hindsight((x - eta * g)[None])
    np.testing.assert_allclose(points, expected, atol=1e-12)
    np.testing.assert_allclose(zero, points, atol=1e-12)

    told = jnp.asarray(items)
    points, _ = played(optimistic_mirror_descent(BALL, constant(eta), hint=lambda t, _: told[t]), items, jnp.zeros(3))
    best = -items.sum(axis=0) / np.linalg.norm(items.sum(axis=0))
    found = regret(lambda x, g: g @ x, items, points, best)
    # 1/(2 η) of the squared distance from the start
    assert found[-1] <= 1 / (2 * eta)
    # without the guess it is more
    assert regret(lambda x, g: g @ x, items, zero, best)[-1] > 1 / (2 * eta)


# sets and mirror maps of dini


def test_in_the_entropy_geometry_it_is_optimistic_hedge():
    items = np.random.default_rng(2).normal(size=(30, 4))
    eta, start = 0.3, np.array([0.1, 0.2, 0.3, 0.4])
    learner = optimistic_mirror_descent(SIMPLEX, constant(eta), geometry=dini.conditions.KL())
    points, _ = played(learner, items, start)
    before = np.vstack([np.zeros((1, 4)), items])[:-1]
    scores = np.log(start) - eta * (np.cumsum(before, axis=0) + before)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(points, expected, rtol=1e-9)


def test_any_set_any_geometry_and_trees():
    """Two learners on a product of sets are each on their own, and a geometry of the user's serves as one of ours."""
    random = np.random.default_rng(3)
    items = {"a": random.normal(size=(20, 2)), "b": random.normal(size=(20, 3))}
    sets = {"a": BALL, "b": SIMPLEX}
    rule = constant(0.5)
    start = {"a": np.zeros(2), "b": np.ones(3) / 3}
    both, _ = played(optimistic_mirror_descent(dini.sets.Product(sets), rule), items, start)
    for name, one in sets.items():
        own = dini.conditions.Geometry(mirror_map=lambda x: x, projection=one.project)
        for geometry in (Euclidean(), own):
            alone, _ = played(optimistic_mirror_descent(one, rule, geometry=geometry), items[name], start[name])
            np.testing.assert_allclose(both[name], alone, atol=1e-12)


INTERVALS = dini.sets.Product({"a": dini.sets.Box(-0.5, 0.4), "b": dini.sets.NonNegative()})


@pytest.mark.parametrize("constraint", [BALL, SIMPLEX, INTERVALS], ids=lambda one: type(one).__name__)
def test_projections_in_a_quadratic_norm(constraint):
    """No point of the set is nearer: the variational inequality; and the derivative is that of differences."""
    random = np.random.default_rng(4)
    root = random.normal(size=(3, 3))
    H, y = root @ root.T + 0.3 * np.eye(3), np.array([1.5, -0.4, 0.8])
    tree = (lambda v: {"a": v[:2], "b": v[2:]}) if constraint is INTERVALS else lambda v: v
    flat = lambda v: ravel_pytree(v)[0]
    direction, bend = random.normal(size=3), random.normal(size=(3, 3))
    bend = bend + bend.T

    @jax.jit
    def project(y, H):
        return jax.jvp(lambda y, H: flat(project_in_norm(H, tree(y), constraint)), (y, H), (direction, bend))

    p, slope = project(y, H)
    assert constraint.residual(tree(p)) < 1e-7
    others = jax.jit(jax.vmap(lambda v: flat(constraint.project(tree(v)))))(2 * random.normal(size=(300, 3)))
    assert ((others - p) @ H @ (y - p)).max() <= 1e-6
    h = 1e-4
    (ahead, _), (behind, _) = (project(y + s * direction, H + s * bend) for s in (h, -h))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), atol=2e-4)


def test_inside_of_a_ball_nothing_moves_and_the_matrix_may_be_a_multiple_of_the_identity():
    y = np.array([0.3, -0.2])
    project = lambda y: project_in_norm(2 * jnp.eye(2), y, BALL)
    both = jax.jit(lambda y: (project(y), jax.jacrev(project)(y)))
    value, slope = both(y)
    np.testing.assert_allclose(value, y, atol=1e-12)
    np.testing.assert_allclose(slope, np.eye(2), atol=1e-12)
    # the Euclidean projection: y / |y|
    value, slope = both(10 * y)
    unit, size = y / np.linalg.norm(y), np.linalg.norm(10 * y)
    np.testing.assert_allclose(value, unit, rtol=1e-9)
    np.testing.assert_allclose(slope, (np.eye(2) - np.outer(unit, unit)) / size, atol=1e-9)


def test_a_whole_run_is_differentiable_in_the_settings():
    items = np.random.default_rng(5).normal(size=(12, 3))

    def lost(D, scale):
        learner = optimistic_mirror_descent(dini.sets.L2Ball(scale), adaptive_variation(D, 3.0, 0.2))
        points, _ = follow(learner, lambda x, a: x - a, items, jnp.zeros(3))
        return 0.5 * jnp.sum((points - items) ** 2)

    value = jax.jit(lost)
    slopes = jax.jit(jax.grad(lost, (0, 1)))(2.0, 0.5)
    h = 1e-5
    truth = [(value(2 + h, 0.5) - value(2 - h, 0.5)) / (2 * h), (value(2.0, 0.5 + h) - value(2.0, 0.5 - h)) / (2 * h)]
    np.testing.assert_allclose(slopes, truth, rtol=1e-6)


# the Newton step


def test_three_rounds_of_the_newton_step_in_one_dimension():
    """H grows by β g² / 2, the same in both steps of a round; here with a tree, and a quadratic program."""
    G, beta = 2.0, 0.5
    intervals = dini.sets.Product({"a": dini.sets.Box(-0.2, 0.2)})
    learner = optimistic_online_newton(intervals, D=2.0, G=G, beta=beta, refresh=2)
    items = np.array([0.9, -0.8, 0.7, 0.7])
    points, state = played(learner, {"a": items}, {"a": 0.0}, lambda x, a: {"a": x["a"] - a["a"]})
    center, last, H, expected = 0.0, 0.0, 1 + beta * G**2 / 2, []
    for a in items:
        x = np.clip(center - last / H, -0.2, 0.2)
        expected.append(x)
        last = x - a
        center = np.clip(center - last / H, -0.2, 0.2)
        H += beta / 2 * last**2
    np.testing.assert_allclose(points["a"], expected, atol=1e-7)
    assert max(expected) == 0.2
    np.testing.assert_allclose(state.matrix, [[H]], rtol=1e-12)
    np.testing.assert_allclose(state.inverse, [[1 / H]], rtol=1e-12)


def test_the_inverse_is_kept_up_by_rank_one():
    items = np.random.default_rng(6).normal(size=(9, 3))
    learner = optimistic_online_newton(None, D=1.0, G=9.0, alpha=0.1, refresh=5)
    _, state = played(learner, items, jnp.zeros(3))
    beta = 0.5 * min(1 / 36, 0.1)
    H = (1 + beta * 81 / 2) * np.eye(3) + beta / 2 * items.T @ items
    np.testing.assert_allclose(state.matrix, H, rtol=1e-12)
    np.testing.assert_allclose(state.inverse, np.linalg.inv(H), rtol=1e-10, atol=1e-14)
    geometry = QuadraticNorm(H)
    x, y = items[0], items[1]
    np.testing.assert_allclose(geometry.divergence(x, y), 0.5 * (x - y) @ H @ (x - y))
    np.testing.assert_allclose(geometry.step(x, y, 0.3, None), x - 0.3 * np.linalg.solve(H, y), rtol=1e-10)


# the ensemble


def test_the_pool_is_a_geometric_grid():
    found = pool(D=2.0, G=1.8, L=1.0, horizon=2000)
    np.testing.assert_allclose(found, [2 / (1.8 * np.sqrt(16_000)) * 2**i for i in range(4)] + [0.125])
    assert len(pool(D=2.0, G=2.3, L=1.0, horizon=2000)) == 6
    assert len(pool(D=2.0, G=0.1, L=1.0, horizon=3)) == 1


def test_two_layers_by_hand():
    """Every quantity of the specification, in plain loops."""
    D, G, L, T = 2.0, 4.0, 0.5, 40
    items = np.random.default_rng(7).normal(size=(T, 3)) / 2
    etas = pool(D, G, L, T)
    N = len(etas)
    assert N > 1
    points, _ = played(dynamic_ensemble(BALL, D=D, G=G, L=L, horizon=T), items, jnp.zeros(3), lambda x, a: x - a)
    centers, own, before = (np.zeros((N, 3)) for _ in range(3))
    last, losses, variation = np.zeros(3), np.zeros(N), 0.0
    for t, a in enumerate(items):
        correction = 2 * L * ((own - before) ** 2).sum(axis=1)
        rate = 1 / (8 * D**2 * L)
        if variation:
            rate = min(rate, np.sqrt(np.log(N) / (D**2 * variation)))
        p = np.exp(-rate * (losses + own @ last + correction))
        x = p / p.sum() @ own
        np.testing.assert_allclose(points[t], x, atol=1e-12)
        g = x - a
        losses += own @ g + correction
        variation += ((g - last) ** 2).sum() if t else 0.0
        centers = np.stack([in_hindsight((c - eta * g)[None]) for c, eta in zip(centers, etas, strict=True)])
        before, last = own, g
        own = np.stack([in_hindsight((c - eta * g)[None]) for c, eta in zip(centers, etas, strict=True)])


def test_of_one_member_the_ensemble_is_that_member():
    items = np.random.default_rng(8).normal(size=(25, 3))
    ensemble = dynamic_ensemble(BALL, D=2.0, G=9.0, L=1.0, horizon=25, etas=[0.1])
    member = optimistic_mirror_descent(BALL, constant(0.1))
    one, other = (played(each, items, jnp.zeros(3), lambda x, a: x - a)[0] for each in (ensemble, member))
    np.testing.assert_allclose(one, other, atol=1e-12)


# without a set


def test_for_optax_it_is_the_learner_in_the_whole_space():
    items = np.random.default_rng(9).normal(size=(15, 2))
    points, _ = played(optimistic_mirror_descent(None, adaptive_variation(1.5, 2.0, 0.7)), items, np.array([1.0, 2.0]))
    optimizer = optimistic_adaptive_gd(1.5, 2.0, 0.7)

    def step(carried, g):
        x, state = carried
        updates, state = optimizer.update(g, state)
        return (optax.apply_updates(x, updates), state), x

    x = jnp.array([1.0, 2.0])
    found = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), items)[1])(x)
    np.testing.assert_allclose(found, points, atol=1e-12)
    scaled = optax.chain(optimizer, optax.scale(0.5))
    updates, _ = scaled.update(items[0], scaled.init(x), x)
    np.testing.assert_allclose(2 * updates, found[1] - found[0], rtol=1e-12)


def test_ftrl_forgets_nothing():
    """Gradients that push out of the set must be undone before the point moves."""
    learner = optimistic_ftrl(dini.sets.Box(-1.0, 1.0), constant(1.0))
    points, _ = played(learner, np.array([-3.0, 0.0, 1.0, 0.0, 1.5, 0.0]), 0.0)
    np.testing.assert_allclose(points, [0, 1, 1, 1, 1, -1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_precision_is_that_of_the_start(dtype):
    """Where double precision is on, too."""
    start, items = jnp.zeros(2, dtype), jnp.ones((3, 2), dtype)
    for rule in (adaptive_variation(1.0, 1.0, 1.0), decreasing(1.0, 1.0), adagrad_norm(1.0, 1.0)):
        points, state = jax.eval_shape(
            lambda rule=rule: follow(optimistic_mirror_descent(BALL, rule), linear, items, start)
        )
        assert points.dtype == state.center.dtype == dtype
        # half precision cannot count to a thousand
        assert jax.tree.leaves(state.rule)[0].dtype == jnp.float32
    if dtype == jnp.float32:
        ensemble = dynamic_ensemble(BALL, D=1.0, G=1.0, L=1.0, horizon=9)
        newton = optimistic_online_newton(BALL, D=1.0, G=1.0, beta=1.0)
        for learner in (ensemble, newton):
            assert jax.eval_shape(lambda one=learner: follow(one, linear, items, start))[0].dtype == dtype


# flags and bad input


def test_long_gradients_are_flagged_and_used_and_broken_ones_left_out():
    learner = optimistic_mirror_descent(None, adaptive_variation(1.0, 1.0, 1.0))
    update = jax.jit(learner.update)
    state = learner.init(jnp.zeros(2))
    fine = update(state, jnp.array([0.6, 0.8]))
    assert not fine.flags.exceeded
    long = update(state, jnp.array([3.0, 4.0]))
    assert long.flags.exceeded
    np.testing.assert_allclose(long.center, 5 * fine.center, rtol=0.3)
    broken = update(fine, jnp.array([jnp.nan, 0.0]))
    assert broken.flags.broken
    assert not broken.flags.exceeded
    np.testing.assert_array_equal(broken.center, fine.center)
    assert broken.count == fine.count == 1
    assert update(broken, jnp.zeros(2)).flags.broken


def test_bad_input_is_refused():
    for settings in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, np.inf)):
        with pytest.raises(ValueError, match="must be positive"):
            adaptive_variation(*settings)
    for make in (constant, strongly_convex):
        with pytest.raises(ValueError, match="must be positive"):
            make(0.0)
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        dynamic_ensemble(BALL, D=2.0, G=1.0, L=1.0, horizon=0)
    with pytest.raises(TypeError, match="horizon"):
        dynamic_ensemble(BALL, D=2.0, G=1.0, L=1.0)
    with pytest.raises(ValueError, match="etas must be a vector"):
        dynamic_ensemble(BALL, D=2.0, G=1.0, L=1.0, horizon=5, etas=0.1)
    with pytest.raises(TypeError, match=r"dini\.sets"):
        optimistic_mirror_descent(1.0, constant(0.1))
    for make in (
        lambda wild: optimistic_mirror_descent(wild, constant(0.1)),
        lambda wild: optimistic_online_newton(wild, D=1.0, G=1.0, beta=1.0),
        lambda wild: dynamic_ensemble(wild, D=1.0, G=1.0, L=1.0, horizon=5),
    ):
        with pytest.raises(ValueError, match="must be convex"):
            make(dini.sets.L2Sphere(1.0))
    with pytest.raises(TypeError, match="StepRule"):
        optimistic_mirror_descent(BALL, 0.1)
    with pytest.raises(TypeError, match="geometry must have"):
        optimistic_mirror_descent(BALL, constant(0.1), geometry="euclidean")
    with pytest.raises(TypeError, match="hint must be"):
        optimistic_mirror_descent(BALL, constant(0.1), hint="next")
    with pytest.raises(ValueError, match="Exactly one"):
        optimistic_online_newton(BALL, D=1.0, G=1.0)
    with pytest.raises(ValueError, match="refresh"):
        optimistic_online_newton(BALL, D=1.0, G=1.0, beta=1.0, refresh=0)
    learner = optimistic_mirror_descent(BALL, constant(0.1))
    state = learner.init(jnp.zeros(2))
    with pytest.raises(ValueError, match="shapes of the point"):
        learner.update(state, jnp.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        learner.update(state, jnp.array([0.0, jnp.inf]))
    with pytest.raises(ValueError, match="comparator"):
        regret(lambda x, a: x @ a, np.ones((4, 2)), np.ones((4, 2)), np.ones(3))


# the experiment


def test_regret_and_path_length():
    items = np.array([[1.0, 0], [0, 1.0], [0, 3.0]])
    points = np.zeros((3, 2))
    loss = lambda x, a: 0.5 * jnp.sum((x - a) ** 2)
    np.testing.assert_allclose(regret(loss, items, points, items), [0.5, 1, 5.5])
    assert path_length(items) == pytest.approx(np.sqrt(2) + 2)
    # against the best fixed point so far, in one pass
    found = growth(points, items)
    for t in range(3):
        u = in_hindsight(items[: t + 1])
        assert found[t] == pytest.approx(float(regret(loss, items[: t + 1], points[: t + 1], u)[-1]))


def test_worlds_and_the_game():
    A = game()
    assert np.linalg.norm(A, 2) == pytest.approx(1)
    x, y = np.random.default_rng(10).normal(size=(2, 5))
    assert duality_gap(x, y) == pytest.approx(np.linalg.norm(A.T @ x) + np.linalg.norm(A @ y))
    random = np.random.default_rng(11)
    centers = {name: moving(name, 40, random) for name in ("static", "slow", "switch", "drift")}
    np.testing.assert_allclose([np.linalg.norm(c, axis=1) for c in centers.values()][1:], 0.8)
    assert path_length(centers["static"]) == 0
    assert len(np.unique(centers["switch"], axis=0)) == 20
    np.testing.assert_allclose(path_length(centers["drift"]), 39 * 1.6 * np.sin(0.15))


@pytest.mark.parametrize("name", ["ensemble", "geometry", "learner", "newton", "transformation", "regret"])
def test_examples_run(name):
    module = importlib.import_module(f"dini_zoo.optimizers.optimistic_omd.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("optimistic-omd", experiment)
