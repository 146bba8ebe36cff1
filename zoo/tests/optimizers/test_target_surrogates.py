"""Target-based surrogates: bounds and gradients, exact cases, every inner solver and metric, bad input, the bars."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.optimizers.classifiers import Perceptron
from dini_zoo.optimizers.target_surrogates import (
    SSO,
    AdaGrad,
    Armijo,
    Diagonal,
    Divergence,
    NewtonDiagonal,
    TargetSearch,
    armijo_gradient_descent,
    exponential,
    inverse_sqrt,
    minimize_surrogate,
    per_example,
    sso_step,
    target_armijo,
    target_surrogate,
)
from dini_zoo.optimizers.target_surrogates.experiment import experiment
from dini_zoo.optimizers.target_surrogates.racing import orders
from dini_zoo.optimizers.target_surrogates.tasks import cart_pole, expert_gain


def linear(w, batch):
    return batch[0] @ w


def square(z, batch):
    return 0.5 * jnp.sum((z - batch[1]).reshape(len(z), -1) ** 2, axis=1)


def logistic(z, batch):
    return jnp.logaddexp(0, z) - batch[1] * z


@pytest.fixture(scope="module")
def wide():
    """Fewer examples than parameters: the model reaches all targets."""
    random = np.random.default_rng(0)
    return random.normal(size=(4, 6)), random.normal(size=4)


@pytest.fixture(scope="module")
def tall():
    """More examples than parameters."""
    random = np.random.default_rng(1)
    return random.normal(size=(9, 3)), (random.normal(size=9) > 0).astype(float)


# the surrogate


def networks(count):
    """A network with one output, a batch, and many of its parameters."""
    random = np.random.default_rng(2)
    batch = random.normal(size=(12, 3)), (random.normal(size=12) > 0).astype(float)
    make = lambda key: Perceptron((3, 5, 1), key=key, activation=jnp.tanh)
    params = jax.vmap(make)(jax.random.split(jax.random.key(0), count))
    return lambda net, batch: jax.vmap(net)(batch[0])[:, 0], batch, params


@pytest.mark.parametrize(("loss", "eta", "holds"), [(logistic, 4.0, True), (square, 1.0, True), (square, 4.0, False)])
def test_it_bounds_the_loss_from_above_if_the_step_size_is_that_of_its_smoothness(loss, eta, holds):
    predict, batch, params = networks(1000)
    others = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), params)

    def gap(one, other):
        z = predict(one, batch)
        surrogate = target_surrogate(predict, one, batch, per_example(loss)(z, batch), eta)
        value = lambda at: jnp.mean(loss(predict(at, batch), batch))
        return value(one) + surrogate(other) - value(other), surrogate(one)

    gaps, here = jax.jit(jax.vmap(gap))(params, others)
    assert bool(jnp.all(gaps >= -1e-10)) == holds
    np.testing.assert_array_equal(here, 0)


def test_its_gradient_at_the_center_is_that_of_the_loss():
    predict, batch, params = networks(3)

    @jax.jit
    @jax.vmap
    def both(net):
        value = lambda net: jnp.mean(logistic(predict(net, batch), batch))
        gradients = per_example(logistic)(predict(net, batch), batch)
        return jax.grad(value)(net), jax.grad(target_surrogate(predict, net, batch, gradients, 0.7))(net)

    for one, other in zip(*map(jax.tree.leaves, both(params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_by_hand():
    # one example with two targets, moved from (1, 2) to (2, 4)
    predict = lambda w, batch: w[None]
    given = predict, jnp.array([1.0, 2.0]), None, jnp.array([[3.0, -1.0]]), 0.5
    at = jnp.array([2.0, 4.0])
    assert target_surrogate(*given)(at) == 3 - 2 + (1 + 4)
    weighted = target_surrogate(*given, jnp.array([2.0, 0.5]))
    assert weighted(at) == 3 - 2 + (2 + 2)
    # least squares: the same up to a constant, here that of (η G)² / (2 η h)
    constant = 0.5 * 0.5 * (9 / 2 + 1 / 0.5)
    np.testing.assert_allclose(0.5 * jnp.sum(weighted.residuals(at) ** 2), weighted(at) + constant)


def test_targets_may_be_trees():
    batch = jnp.arange(6.0).reshape(3, 2)
    tree = lambda w, x: {"a": x @ w, "b": (x @ w[:, :1])[:, 0]}
    flat = lambda w, x: jnp.concatenate([x @ w, x @ w[:, :1]], axis=1)
    w, new = jnp.ones((2, 2)), jnp.array([[0.0, 1.0], [2.0, 3.0]])
    g = jnp.arange(9.0).reshape(3, 3)

    @jax.jit
    def both():
        one = target_surrogate(tree, w, batch, {"a": g[:, :2], "b": g[:, 2]}, 0.3)
        other = target_surrogate(flat, w, batch, g, 0.3)
        halved = lambda surrogate: optax.tree.norm(surrogate.residuals(new), squared=True) / 2
        return (one(new), halved(one)), (other(new), halved(other))

    np.testing.assert_allclose(*both(), rtol=1e-12)


def test_the_metric_may_cover_other_data():
    x, w = jnp.eye(3), jnp.zeros(3)
    g = jnp.array([1.0])
    part = target_surrogate(lambda w, x: x @ w, w, x[:1], g, 1.0)
    whole = target_surrogate(lambda w, x: x @ w, w, x[:1], g, 1.0, proximal=x)
    new = jnp.array([1.0, 2.0, 2.0])
    assert part(new) == pytest.approx(1 + 1 / 2)
    assert whole(new) == pytest.approx(1 + 9 / 6)
    with pytest.raises(TypeError, match="least squares"):
        whole.residuals(new)


# exact cases


@pytest.mark.parametrize(("data", "loss"), [("wide", square), ("tall", logistic)])
def test_targets_take_the_projection_of_a_gradient_step(data, loss, request):
    """Onto what the model can reach, which for the wide data is everything."""
    batch = request.getfixturevalue(data)
    X, w = batch[0], jnp.linspace(-1, 1, batch[0].shape[1])
    settings = {"eta": 0.8, "inner": dini.LBFGS(atol=1e-13), "steps": 200, "tol": 1e-12}
    new, _, info = jax.jit(lambda w: sso_step(linear, w, batch, per_example(loss), **settings))(w)
    onto = X @ np.linalg.pinv(X)
    np.testing.assert_allclose(X @ new, X @ w - 0.8 * onto @ per_example(loss)(X @ w, batch), atol=1e-9)
    assert info.inner.steps < 200
    assert np.allclose(onto, np.eye(len(X))) == (data == "wide")


def test_one_armijo_step_on_half_squares_is_one_on_the_loss(tall):
    w = jnp.array([0.3, -0.2, 0.5])
    settings = Armijo(first=2.0)
    new, _, info = sso_step(linear, w, tall, per_example(square), eta=1.0, inner=settings, steps=1)
    value = lambda w: jnp.mean(square(linear(w, tall), tall))
    descended, done = armijo_gradient_descent(value, w, 1, first=2.0)
    np.testing.assert_allclose(new, descended, rtol=1e-14)
    # by hand: the largest of 2, 1.8, 1.62, ... that decreases the loss by a tenth of what its slope promises
    gradient = jax.grad(value)(w)
    good = lambda eta: value(w - eta * gradient) <= value(w) - 0.1 * eta * jnp.sum(gradient**2)
    trials = next(k for k in range(100) if good(2.0 * 0.9**k))
    np.testing.assert_allclose(new, w - 2.0 * 0.9**trials * gradient, rtol=1e-12)
    assert trials > 0
    assert int(info.inner.evaluations) == int(done.evaluations) == trials + 2


def test_newtons_metric_and_an_exact_inner_solve_are_reweighted_least_squares(tall):
    X, y = tall
    w = jnp.array([0.1, 0.4, -0.3])
    curvature = lambda z, batch: jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)
    metric = NewtonDiagonal(curvature, floor=0.0)
    inner = dini.LevenbergMarquardt(atol=1e-13)
    new, _, _ = sso_step(
        linear, w, tall, per_example(logistic), eta=1.0, inner=inner, steps=60, metric=metric, tol=1e-12
    )
    p = 1 / (1 + np.exp(-X @ w))
    weights = p * (1 - p)
    response = X @ w + (y - p) / weights
    expected = np.linalg.solve(X.T @ (weights[:, None] * X), X.T @ (weights * response))
    np.testing.assert_allclose(new, expected, rtol=1e-8)


def test_in_the_entropy_geometry_the_surrogate_is_a_divergence_from_the_mirror_step():
    random = np.random.default_rng(3)
    before, after, g = random.normal(size=(3, 5, 4))
    predict, eta = lambda w, _: jax.nn.softmax(w), 0.6

    def divergence(w):
        half = jax.nn.log_softmax(jax.nn.log_softmax(before) - eta * g)
        p = jax.nn.softmax(w)
        return jnp.sum(p * (jnp.log(p) - half)) / (5 * eta)

    def surrogate(w):
        return target_surrogate(predict, before, None, g, eta, dini.conditions.KL())(w)

    def same(w):
        """With a function in the place of the geometry."""
        return target_surrogate(predict, before, None, g, eta, lambda p, q: jnp.sum(p * jnp.log(p / q)))(w)

    slopes = jax.jit(lambda w: [jax.value_and_grad(f)(w) for f in (surrogate, same, divergence)])
    (one, slope), (other, _), (truth, expected) = slopes(after)
    np.testing.assert_allclose(slope, expected, atol=1e-12)
    np.testing.assert_allclose(one, truth - slopes(before)[2][0], rtol=1e-9)
    np.testing.assert_allclose(other, one, rtol=1e-9)


def test_adagrad_sums_squares_of_each_example_over_its_visits():
    metric = AdaGrad(examples=3, floor=0.5)
    state = metric.init(jnp.zeros((2, 1)))
    weights = []
    for index, g in (((0, 2), (3.0, 1.0)), ((2, 1), (2.0, 6.0)), ((0, 1), (4.0, 8.0))):
        found, state = metric.update(state, None, jnp.array(g)[:, None], None, jnp.array(index))
        weights.append(found.diagonal[:, 0])
    np.testing.assert_allclose(weights, 0.5 + np.array([[3, 1], [np.sqrt(5), 6], [5, 10]]))
    one = AdaGrad(floor=0.5)
    found, state = one.update(one.init(jnp.zeros((2, 1))), jnp.zeros((2, 1)), jnp.array([[3.0], [1.0]]), None, None)
    np.testing.assert_allclose(found.diagonal, 0.5 + np.sqrt(5))
    assert state.squares == 5


# step sizes


def test_step_sizes_in_target_space():
    np.testing.assert_allclose([inverse_sqrt(6.0)(t) for t in (0, 3)], [6, 3])
    np.testing.assert_allclose([exponential(2.0, 4)(t) for t in (0, 1, 3)], [2 * 4**-0.25, 1, 0.5])
    z = jnp.array([1.0, -2.0])
    loss = lambda z: 1.5 * jnp.sum(z**2)
    # 3 z is the gradient; η (1 - 3 η / 2) ≥ η / 2 up to η = 1 / 3
    found = target_armijo(loss, z, 3 * z, 1.0)
    k = int(np.ceil(np.log(1 / 3) / np.log(0.9)))
    assert int(found.trials) == 1 + k
    np.testing.assert_allclose(found.eta, 0.9**k)
    # uphill nothing is found, and the search ends at its least step
    lost = target_armijo(loss, z, -3 * z, 1.0, low=0.01)
    assert (float(lost.eta), bool(lost.found)) == (0.01, False)
    assert target_armijo(loss, z, 3 * z, 1e9, high=0.2).eta == 0.2


def test_a_search_that_fails_does_not_shrink_the_next_one(tall):
    search = TargetSearch(first=2.0, expand=1.0)
    wrong = lambda z, batch: jnp.where(batch[2], -1.0, 1.0) * (z - batch[1])
    sso = SSO(linear, wrong, search, 1, loss=square)
    w, batch = jnp.zeros(3), (*tall, jnp.asarray(False))
    step = jax.jit(sso.update)
    etas, found, state = [], [], sso.init(w, batch)
    for bad in (False, True, False):
        w, state, info = step(w, state, (*tall, jnp.asarray(bad)))
        etas.append(float(info.eta))
        found.append(bool(info.searched))
    assert found == [True, False, True]
    # half of a square has the condition's bound at one
    first = 2 * 0.9 ** int(np.ceil(np.log(0.5) / np.log(0.9)))
    np.testing.assert_allclose(etas, [first, 1e-4, first])


def test_a_schedule_counts_batches(tall):
    sso = SSO(linear, per_example(square), optax.exponential_decay(0.8, 1, 0.5), steps=2)
    _, state, info = sso.run(jnp.zeros(3), [tall] * 3)
    np.testing.assert_allclose(info.eta, [0.8, 0.4, 0.2])
    assert int(state.count) == 3
    assert int(state.evaluations) == int(jnp.sum(info.inner.evaluations))


# inner solvers


@pytest.mark.parametrize(
    "inner",
    [
        dini.GradientDescent(),
        dini.LBFGS(line_search=dini.solvers.StrongWolfe()),
        dini.NonlinearCG(line_search=dini.solvers.HagerZhang()),
        dini.GaussNewton(),
        dini.Newton(),
        optax.adam(0.3),
        optax.lbfgs(),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_every_inner_solver_comes_to_the_surrogates_minimum(inner, wide):
    w, X = jnp.zeros(6), wide[0]
    new, _, info = jax.jit(
        lambda w: sso_step(linear, w, wide, per_example(square), eta=0.5, inner=inner, steps=300, tol=1e-9)
    )(w)
    np.testing.assert_allclose(X @ new, 0.5 * wide[1], atol=1e-6)
    assert 0 < int(info.inner.steps) <= 300
    assert bool(info.finite)


@pytest.mark.parametrize(
    "inner",
    [dini.LBFGS(), dini.TrustRegionNewtonCG(), dini.NelderMead(), dini.LevenbergMarquardt(), optax.sgd(0.1), Armijo()],
    ids=lambda inner: type(inner).__name__,
)
def test_one_inner_step_moves(inner, tall):
    """Solvers of dini first look at where they are, and some trials are in vain: neither is a step of the method."""
    w = jnp.array([0.3, -0.2, 0.5])
    given = {"eta": 1.0, "inner": inner, "tol": 0.0}
    run = jax.jit(lambda w, m: sso_step(linear, w, tall, per_example(square), steps=m, **given)[::2])
    (new, info), (_, three) = run(w, 1), run(w, 3)
    assert not np.array_equal(new, w)
    assert bool(info.inner.moved)
    assert (int(info.inner.steps), int(three.inner.steps)) == (1, 3)
    # the count begins with the first move
    looks = int(info.inner.evaluations)
    if not isinstance(inner, Armijo):
        assert int(three.inner.evaluations) == looks + 2


def test_where_nothing_can_move_the_steps_end(tall):
    w = jnp.linalg.lstsq(tall[0], tall[1])[0]
    for inner in (dini.LBFGS(), Armijo()):
        _, _, info = sso_step(linear, w, tall, lambda z, _: 0 * z, eta=1.0, inner=inner, steps=5)
        assert not info.inner.moved
    with pytest.raises(ValueError, match=r"lower_bound must be below zero.*given 0\.0"):
        SSO(linear, per_example(square), 1.0, inner=dini.PolyakSGD())


def test_one_inner_step_of_sgd_is_stochastic_gradient_descent_and_its_state_goes_on(tall):
    """Momentum that is carried from batch to batch is that of optax on the losses."""
    rule = optax.sgd(0.1, momentum=0.9)
    sso = SSO(linear, per_example(logistic), 0.7, 1, rule, carry=True)
    value = lambda w, batch: jnp.mean(logistic(linear(w, batch), batch))
    batches = [(tall[0][i : i + 3], tall[1][i : i + 3]) for i in (0, 3, 6)]
    w = expected = jnp.array([1.0, -1.0, 0.5])
    w, _, _ = sso.run(w, batches)
    state = rule.init(expected)
    for batch in batches:
        updates, state = rule.update(jax.grad(value)(expected, batch), state)
        expected = optax.apply_updates(expected, updates)
    np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_the_number_of_inner_steps_may_be_traced_and_runs_side_by_side(tall):
    step = lambda w, eta, m: sso_step(linear, w, tall, per_example(logistic), eta=eta, steps=m)[0]
    w = jnp.ones((2, 3))
    etas, counts = jnp.array([0.5, 2.0]), jnp.array([1, 4])
    both = jax.jit(jax.vmap(step))(w, etas, counts)
    for i in range(2):
        np.testing.assert_allclose(both[i], step(w[i], float(etas[i]), int(counts[i])), rtol=1e-12)


@pytest.mark.parametrize("inner", [Armijo(), dini.LBFGS(), dini.LevenbergMarquardt(), optax.adam(0.1)])
def test_single_precision_stays_single(tall, inner):
    """Where double precision is on, too; here with the weights of AdaGrad and a search for the step size."""
    batch = jax.tree.map(jnp.float32, tall)
    sso = SSO(linear, per_example(square), TargetSearch(), 2, inner, metric=AdaGrad(), loss=square)
    step = lambda w: sso.update(w, sso.init(w, batch), batch)
    w, state, info = jax.eval_shape(step, jnp.zeros(3, jnp.float32))
    assert (w.dtype, state.eta.dtype, info.inner.error.dtype) == (jnp.float32,) * 3


def test_what_is_random_is_the_same_in_all_inner_steps(tall):
    """A mask from a key in the batch: the surrogate is zero where it was made."""

    def masked(w, batch):
        keep = jax.random.bernoulli(batch[2], 0.5, batch[0].shape)
        return (keep * batch[0]) @ w

    w, batch = jnp.ones(3), (*tall, jax.random.key(0))
    surrogate = target_surrogate(masked, w, batch, jnp.ones(9), 1.0)
    assert surrogate(w) == 0
    new, _, info = sso_step(masked, w, batch, per_example(square), eta=1.0, steps=20)
    value = lambda w: jnp.mean(square(masked(w, batch), batch))
    assert value(new) < value(w)
    assert info.inner.steps > 1


# bad input


def test_bad_input_is_refused(tall):
    w = jnp.zeros(3)
    with pytest.raises(ValueError, match="eta must be positive"):
        SSO(linear, per_example(square), 0.0)
    with pytest.raises(ValueError, match="eta must be positive"):
        target_surrogate(linear, w, tall, jnp.zeros(9), -1.0)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        SSO(linear, per_example(square), 1.0, 0)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        SSO(linear, per_example(square), 1.0, 1.5)
    with pytest.raises(ValueError, match="eta must be one number"):
        target_surrogate(linear, w, tall, jnp.zeros(9), jnp.ones(9))
    with pytest.raises(TypeError, match="that takes steps"):
        SSO(linear, per_example(square), 1.0, inner=dini.solvers.Function(lambda problem, x: x))
    with pytest.raises(ValueError, match=r"shapes, \[\(9,\)\]: given \[\(9, 1\)\]"):
        sso_step(linear, w, tall, lambda z, batch: z[:, None], eta=1.0)
    with pytest.raises(ValueError, match="tree like the targets"):
        target_surrogate(linear, w, tall, {"z": jnp.zeros(9)}, 1.0)
    with pytest.raises(ValueError, match="finite"):
        target_surrogate(linear, w, tall, jnp.full(9, jnp.nan), 1.0)
    with pytest.raises(ValueError, match="needs the loss"):
        SSO(linear, per_example(square), TargetSearch())
    with pytest.raises(TypeError, match="inner solver must be"):
        SSO(linear, per_example(square), 1.0, inner="adam")
    with pytest.raises(TypeError, match="cannot be carried"):
        SSO(linear, per_example(square), 1.0, inner=dini.LBFGS(), carry=True)
    with pytest.raises(TypeError, match="least squares"):
        minimize_surrogate(lambda w: jnp.sum(w**2), w, dini.LevenbergMarquardt(), 3)
    with pytest.raises(TypeError, match="least squares"):
        sso_step(linear, w, tall, per_example(square), eta=1.0, inner=dini.GaussNewton(), metric=Divergence(jnp.vdot))
    with pytest.raises(ValueError, match="metric must be"):
        SSO(linear, per_example(square), 1.0, metric="manhattan")
    with pytest.raises(ValueError, match="diagonal metric must be positive"):
        target_surrogate(linear, w, tall, jnp.zeros(9), 1.0, jnp.array([-1.0]))
    with pytest.raises(ValueError, match="needs the index"):
        sso_step(linear, w, tall, per_example(square), eta=1.0, metric=AdaGrad(examples=9))
    adagrad = SSO(linear, per_example(square), 1.0, metric=AdaGrad(examples=8))
    state = adagrad.init(w, tall)
    with pytest.raises(ValueError, match="index must be from 0 to 7: given 0 to 8"):
        adagrad.update(w, state, tall, jnp.arange(9))
    for wrong in (jnp.mean, jnp.sum):
        loss = lambda z, batch, wrong=wrong: wrong(square(z, batch))
        with pytest.raises(ValueError, match=r"9 examples, neither their mean nor their sum: given shape \(\)"):
            sso_step(linear, w, tall, per_example(loss), eta=1.0)
        with pytest.raises(ValueError, match="neither their mean nor their sum"):
            sso_step(linear, w, tall, per_example(square), eta=TargetSearch(), loss=loss)
    with pytest.raises(ValueError, match="between 0 and 1"):
        target_armijo(jnp.sum, w, w, 1.0, factor=1.0)
    with pytest.raises(ValueError, match="at least one batch"):
        SSO(linear, per_example(square), 1.0).run(w, [])


def test_gradients_that_are_not_finite_move_nothing(tall):
    broken = lambda z, batch: z.at[0].set(jnp.nan)
    sso = SSO(linear, broken, 1.0, metric=AdaGrad())
    w = jnp.ones(3)
    state = sso.init(w, tall)
    new, after, info = jax.jit(sso.update)(w, state, tall)
    assert not info.finite
    np.testing.assert_array_equal(new, w)
    assert after.metric.squares == 0
    with pytest.raises(FloatingPointError, match="batch 0"):
        sso.run(w, [tall])


def test_an_example_that_is_not_there_moves_nothing(tall):
    """An index that a program computes cannot be looked at: JAX would take the last example's sums."""
    sso, w = SSO(linear, per_example(square), 1.0, metric=AdaGrad(examples=8)), jnp.ones(3)
    new, _, info = jax.jit(sso.update)(w, sso.init(w, tall), tall, jnp.arange(9))
    assert not info.finite
    np.testing.assert_array_equal(new, w)


def test_a_diagonal_metric_broadcasts(tall):
    w, g = jnp.ones(3), jnp.ones(9)
    narrow, full = (target_surrogate(linear, w, tall, g, 1.0, Diagonal(h)) for h in (jnp.array(3.0), 3 * jnp.ones(9)))
    np.testing.assert_allclose(narrow(2 * w), full(2 * w), rtol=1e-12)


# the experiment


def test_the_expert_and_the_pole():
    np.testing.assert_allclose(expert_gain(), [-0.859015, -1.077451, -7.173512, -1.735996], atol=2e-6)
    # at rest and upright, a push of 10 N: gymnasium's formulas by hand
    push = 10 / 1.1
    turn = -push / (0.5 * (4 / 3 - 0.1 / 1.1))
    state = cart_pole(jnp.zeros(4), jnp.asarray(3.0))
    np.testing.assert_allclose(state, [0, 0.02 * (push - 0.05 * turn / 1.1), 0, 0.02 * turn], rtol=1e-12)


def test_orders_are_whole_permutations():
    order = orders(7, 3, 5, np.random.default_rng(0))
    assert order.shape == (5, 3)
    for epoch in (order[:2], order[2:4]):
        assert len(np.unique(epoch)) == 6


@pytest.mark.parametrize("name", ["inner", "method", "stepsizes", "surrogate"])
def test_examples_run(name):
    module = importlib.import_module(f"dini_zoo.optimizers.target_surrogates.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("target-surrogates", experiment)
