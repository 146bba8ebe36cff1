"""Refined schedules: formulas and bounds, the theorem behind them, their place in optax, the experiment's bars."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met
from scipy import optimize
from sklearn import datasets

from dini_zoo.optimizers.schedule_refinement import (
    array_schedule,
    bounds,
    conversion,
    conversion_bound,
    fit_schedule,
    general_bound,
    last_iterate_transform,
    last_iterate_weights,
    learning,
    linear_decay_schedule,
    optimize_schedule,
    record_grad_norm,
    recorded_grad_norms,
    recording,
    refine_schedule,
    schedules,
)
from dini_zoo.optimizers.schedule_refinement.experiment import experiment
from dini_zoo.optimizers.schedule_refinement.study import powers, studies
from dini_zoo.optimizers.schedule_refinement.sweeps import Task
from dini_zoo.optimizers.schedule_refinement.tasks import NoisyDigits, Planes, Regression

NORMS = np.array([4.0, 2.0, 1.0, 1.0, 2.0])


def test_weights_give_the_steps_of_the_specification():
    # w = 1/16, 1/4, 1, 1, 1/4 and 1/4, 1/2, 1, 1, 1/2
    squared, plain = (
        [0.06097561, 0.2195122, 0.48780488, 0.09756098, 0],
        [0.23076923, 0.38461538, 0.46153846, 0.15384615, 0],
    )
    for w, expected, power in ((NORMS**-2, squared, 2), (1 / NORMS, plain, 1)):
        np.testing.assert_allclose(last_iterate_weights(w), expected, atol=5e-9)
        np.testing.assert_allclose(jax.jit(last_iterate_weights)(w), expected, atol=5e-9)
        # five norms are too few for a median of a tenth of them
        refined = refine_schedule(NORMS, power=power)
        np.testing.assert_allclose(refined, np.array(expected) / max(expected), atol=5e-8)
        np.testing.assert_allclose(refine_schedule(1e-9 * NORMS, power=power), refined, rtol=1e-12)


def test_constant_norms_give_linear_decay_exactly():
    for T in (2, 7, 100):
        t = np.arange(1, T + 1)
        linear = (1 - t / T) / (1 - 1 / T)
        np.testing.assert_allclose(refine_schedule(np.full(T, 3.7)), linear, rtol=1e-13)
        np.testing.assert_allclose(last_iterate_weights(np.full(T, 0.2)), 0.2 * (1 - t / T), atol=1e-15)
        schedule = linear_decay_schedule(1.0, T)
        np.testing.assert_allclose([schedule(count) for count in range(T + 2)], [*(1 - t / T), 0, 0], atol=1e-15)


def test_warm_up_rises_to_the_peak_and_decay_begins_there():
    schedule = linear_decay_schedule(2.0, 10, warmup=4)
    expected = [0.5, 1.0, 1.5, 2.0, *(2 * (10 - t) / 6 for t in range(5, 11)), 0.0]
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(11)), expected, atol=1e-15)


def smoothed_by_hand(norms, smoothing):
    """Medians one by one, with reflection on the right and the first norm on the left."""
    T, width = len(norms), 2 * int(smoothing * len(norms) / 2) + 1
    half, period = width // 2, 2 * (T - 1)
    reflected = lambda i: norms[(i % period) if i % period < T else period - i % period]
    at = lambda i: norms[0] if i < 0 else reflected(i)
    return np.array([np.median([at(t + d) for d in range(-half, half + 1)]) for t in range(T)])


@pytest.mark.parametrize(("T", "smoothing"), [(5, 1.0), (40, 0.1), (40, 0.33), (3, 1.0)])
def test_the_median_is_that_of_the_steps_around(T, smoothing):
    norms = np.random.default_rng(T).uniform(1, 2, T)
    smooth = smoothed_by_hand(norms, smoothing)
    np.testing.assert_array_equal(schedules.smoothed(norms, smoothing), smooth)
    w = smooth**-2.0
    steps = w * np.array([w[t + 1 :].sum() for t in range(T)])
    np.testing.assert_allclose(refine_schedule(norms, smoothing=smoothing), steps / steps.max(), rtol=1e-12)


def test_a_spike_does_not_count_and_a_rise_at_the_end_does():
    t = np.arange(200)
    norms = 1 + 0.001 * t
    spiked = norms.copy()
    spiked[50] = 1e4
    np.testing.assert_allclose(refine_schedule(spiked), refine_schedule(norms), rtol=0.02)
    # cut off at the border, medians of a rise would stop rising
    assert schedules.smoothed(norms, 0.1)[-1] > norms[-8]


def test_another_length_takes_interpolated_norms():
    norms = np.linspace(2.0, 1.0, 101)
    fine = refine_schedule(norms, total_steps=201, smoothing=0.01)
    np.testing.assert_allclose(fine, refine_schedule(np.linspace(2.0, 1.0, 201), smoothing=1e-9), rtol=1e-12)
    # the norms are interpolated, not the schedule
    assert np.abs(fine - np.interp(np.linspace(0, 1, 201), np.linspace(0, 1, 101), refine_schedule(norms))).max() > 1e-3
    assert refine_schedule(norms, total_steps=2).shape == (2,)


def test_norms_that_vanish_are_told_and_linear_decay_comes_back():
    norms = np.geomspace(1, 1e-5, 60)
    with pytest.warns(UserWarning, match=r"fall to 1e-05 of their greatest.*`floor` limits the fall"):
        found = refine_schedule(norms)
    np.testing.assert_allclose(found, refine_schedule(np.ones(60)))
    # most norms of such a run may be tiny
    with pytest.warns(UserWarning, match="fall to"):
        refine_schedule(np.where(np.arange(60) < 10, 1.0, 1e-4))
    found = refine_schedule(norms, floor=0.1)
    np.testing.assert_allclose(found, refine_schedule(np.maximum(norms, 0.1), smoothing=1e-9), rtol=0.2)
    # as in a healthy run whose noise fades
    refine_schedule(np.geomspace(1, 0.019, 60))


@pytest.mark.slow
def test_digits_that_are_learned_exactly_are_told():
    """With any batches: the share of the least norm is about a thousandth, now above, now below."""
    noisy = NoisyDigits.make(0.3)
    labels = np.eye(10)[datasets.load_digits().target]
    clean = noisy._replace(Y=jnp.asarray(labels), least=0.0)
    task = clean.task(16, 2246, [np.random.default_rng(seed) for seed in range(6)])
    linear = np.tile(1 - np.arange(1, 2247) / 2246, (1, 6, 1))
    for norms in task.runs(optax.sgd, linear, np.array([4.0]), 2)[1][0]:
        with pytest.warns(UserWarning, match="fall to"):
            refine_schedule(norms)


def test_a_long_run_takes_no_longer_than_its_length():
    norms = np.random.default_rng(0).uniform(1, 2, 100_000)
    assert refine_schedule(norms, smoothing=0.001).shape == norms.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 0.0, 2.0],), r"grad_norms must be finite and positive: given 0.0 at index 1"),
        (([1.0, np.nan],), r"grad_norms must be finite and positive: given nan at index 1"),
        (([1.0],), r"grad_norms must be a row of at least 2 numbers: given the shape \(1,\)"),
        (([[1.0, 2.0]],), r"grad_norms must be a row"),
        ((NORMS, {"power": 0.0}), r"power must be finite and positive: given 0.0"),
        ((NORMS, {"smoothing": 0.0}), r"smoothing must be in \(0, 1\]: given 0.0"),
        ((NORMS, {"smoothing": 1.5}), r"smoothing must be in"),
        ((NORMS, {"floor": -0.1}), r"floor must be in \[0, 1\]: given -0.1"),
        ((NORMS, {"total_steps": 1}), r"total_steps must be at least 2: given 1"),
        ((NORMS, {"total_steps": 2.5}), r"total_steps must be a whole number"),
    ],
)
def test_bad_norms_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        refine_schedule(arguments[0], **dict(*arguments[1:]))


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"warmup must be less than total_steps, 5: given 5"):
        linear_decay_schedule(1.0, 5, warmup=5)
    with pytest.raises(ValueError, match=r"values must be a row of at least 1 number: given the shape \(0,\)"):
        array_schedule([])
    with pytest.raises(ValueError, match=r"w must be finite and positive: given -1.0 at index 1"):
        last_iterate_weights([1.0, -1.0])
    with pytest.raises(ValueError, match=r"weights must be a row"):
        last_iterate_transform(optax.sgd(1.0), 1.0)
    with pytest.raises(ValueError, match=r"ord must be 1 or 2: given 3"):
        record_grad_norm(3, size=5)
    with pytest.raises(ValueError, match=r"size must be at least 1: given 0"):
        record_grad_norm(size=0)
    with pytest.raises(ValueError, match=r"one record of gradient norms in it: there are 0"):
        recorded_grad_norms(optax.sgd(1.0).init(jnp.zeros(2)))
    with pytest.raises(ValueError, match=r"D must be finite and positive: given -1"):
        optimize_schedule(NORMS, -1.0)
    with pytest.raises(ValueError, match=r"G must be finite and positive: given 0.0"):
        optimize_schedule(NORMS - 1)
    with pytest.raises(ValueError, match="between runs"):
        jax.jit(refine_schedule)(NORMS)
    with pytest.raises(ValueError, match=r"at least 3 finite numbers"):
        fit_schedule([1.0, np.inf, 0.0])


def test_an_array_is_a_schedule_in_optax():
    values, gradients = np.array([1.0, 0.5, 0.25]), np.ones((5, 2))

    def moves(values, scale):
        optimizer = optax.inject_hyperparams(optax.sgd)(array_schedule(values, scale))

        def step(state, gradient):
            update, state = optimizer.update(gradient, state)
            return state, update[0]

        return jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1]

    # one schedule and one learning rate a lane
    found = jax.jit(jax.vmap(moves))(np.stack([values, values[::-1]]), np.array([0.1, 2.0]))
    np.testing.assert_allclose(found[0], [-0.1, -0.05, -0.025, 0, 0], rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(found[1], [-0.5, -1.0, -2.0, 0, 0], rtol=1e-7, atol=1e-15)


def test_norms_are_recorded_in_order_and_nothing_changes():
    gradients = np.random.default_rng(0).normal(size=(3, 7, 4))

    def state(order, size):
        optimizer = optax.chain(record_grad_norm(order, size=size), optax.clip_by_global_norm(0.1), optax.sgd(0.1))

        def run(gradients):
            def step(state, g):
                tree = {"a": g[:1], "b": [g[1:3], (g[3:] * 1j).astype(complex)], "none": None}
                updates, state = optimizer.update(tree, state)
                return state, jnp.real(updates["b"][0])

            params = {"a": jnp.zeros(1), "b": [jnp.zeros(2), jnp.zeros(1, complex)], "none": None}
            return jax.lax.scan(step, optimizer.init(params), gradients)

        return jax.jit(jax.vmap(run))(gradients)

    for order in (1, 2):
        whole = np.linalg.norm(gradients, order, axis=2)
        final, updates = state(order, 7)
        np.testing.assert_allclose(recorded_grad_norms(final), whole, rtol=1e-12)
        # the norm is that before clipping
        clipped = gradients[..., 1:3] * -0.01 / np.linalg.norm(gradients, axis=2, keepdims=True)
        np.testing.assert_allclose(updates, clipped, rtol=1e-10)
    # the last four of seven, and a buffer that is not full
    np.testing.assert_allclose(recorded_grad_norms(state(2, 4)[0]), whole[:, 3:], rtol=1e-12)
    assert recorded_grad_norms(state(2, 50)[0]).shape == (3, 7)
    low = record_grad_norm(1, size=1)
    _, final = low.update(jnp.full(70, 1000.0, jnp.float16), low.init(jnp.zeros(70)))
    assert recorded_grad_norms(final) == 70_000
    _, masked = optax.masked(low, {"on": True, "off": False}).update(
        {"on": jnp.ones(2), "off": jnp.ones(3)},
        optax.masked(low, {"on": True, "off": False}).init({"on": 0.0, "off": 0.0}),
    )
    assert recorded_grad_norms(masked) == 2


def test_the_last_iterate_of_a_base_learner():
    w = np.random.default_rng(0).uniform(0.5, 2, 6)
    target = np.array([1.0, -2.0])

    def descent(optimizer, steps):
        def step(carried, _):
            x, state = carried
            updates, state = optimizer.update(jnp.sign(x - target) + 0.1 * (x - target), state, x)
            return (x + updates, state), x + updates

        x = jnp.zeros(2)
        return jax.jit(lambda: jax.lax.scan(step, (x, optimizer.init(x)), length=steps)[1])()

    # gradient descent with the steps of the theorem; afterwards nothing moves
    found = descent(last_iterate_transform(optax.sgd(1.0), w), 8)
    np.testing.assert_allclose(found, descent(optax.sgd(array_schedule(last_iterate_weights(w))), 8), rtol=1e-12)
    # a base that looks at its own points, here projected gradient descent, by hand
    low = jnp.array([-0.3, -0.4])

    def projected(updates, state, params):
        return jnp.maximum(params - 0.5 * updates, low) - params, state

    base = optax.GradientTransformation(lambda params: optax.EmptyState(), projected)
    x = z = np.zeros(2)
    expected = []
    for t in range(6):
        g = np.sign(x - target) + 0.1 * (x - target)
        after = np.maximum(z - 0.5 * w[t] * g, low)
        x, z = x + w[t + 1 :].sum() / w.sum() * (after - z), after
        expected.append(x)
    np.testing.assert_allclose(descent(last_iterate_transform(base, w), 6), expected, rtol=1e-12)


def test_the_bounds_of_the_specification():
    best = NORMS**-2 / np.sqrt(np.sum(NORMS**-2.0))
    np.testing.assert_allclose(conversion_bound(best, NORMS, 1.0), 0.62469505, atol=5e-9)
    constant = np.full(5, 1 / np.linalg.norm(NORMS))
    np.testing.assert_allclose(conversion_bound(constant, NORMS, 1.0), 1.0198039, atol=5e-8)
    # linear decay has D G / sqrt T
    np.testing.assert_allclose(conversion_bound(np.full(16, 3 / (2 * 4.0)), 2.0, 3.0), 3 * 2 / 4, rtol=1e-13)


def test_the_general_bound_is_its_sums_and_its_minimum_that_of_the_specification():
    eta, G = np.array([0.3, 0.5, 0.2]), np.array([1.0, 2.0, 3.0])
    squares = (eta * G) ** 2
    by_hand = (4 + squares.sum()) / 2 + 0.5 * (
        eta[0] * squares.sum() / (eta[1:].sum() * eta.sum()) + eta[1] * squares[1:].sum() / (eta[2] * eta[1:].sum())
    )
    np.testing.assert_allclose(general_bound(eta, G, 2.0), by_hand, rtol=1e-13)
    for T, linear, constant, least in ((100, 0.204660, 0.248543, 0.200114), (20, 0.481173, 0.476851, 0.432254)):
        bound = jax.jit(lambda c, shape: general_bound(jnp.exp(c) * shape, 1.0, 1.0))
        for shape, expected in ((1 - np.arange(1, T) / T, linear), (np.ones(T), constant)):
            tuned = optimize.minimize_scalar(lambda c, shape=shape: float(bound(c, shape)), tol=1e-6)  # noqa: B023
            assert tuned.fun == pytest.approx(expected, abs=1e-6)
        eta = jax.jit(optimize_schedule)(jnp.ones(T))
        assert general_bound(eta, 1.0, 1.0) == pytest.approx(least, abs=1e-6)


def test_the_best_schedule_is_differentiable_in_norms_and_distance():
    random = np.random.default_rng(0)
    G, direction, weights = np.exp(0.3 * random.normal(size=8)), random.normal(size=8), random.normal(size=8)
    value = jax.jit(jax.value_and_grad(lambda G, D: weights @ optimize_schedule(G, D), argnums=(0, 1)))
    (_, slopes), h = value(G, 2.0), 1e-5
    difference = (value(G + h * direction, 2.0)[0] - value(G - h * direction, 2.0)[0]) / (2 * h)
    np.testing.assert_allclose(slopes[0] @ direction, difference, rtol=1e-5)
    # steps are proportional to the distance, and inversely to the norms
    np.testing.assert_allclose(slopes[1], value(G, 2.0)[0] / 2, rtol=1e-8)
    np.testing.assert_allclose(value(3 * G, 2.0)[0], value(G, 2.0)[0] / 3, rtol=1e-5)


def test_the_planes_have_the_minimum_of_their_program():
    planes = Planes.make(4, np.random.default_rng(0))
    # no point of a fine search around the solution is lower, and it is where the distance says
    value = lambda x, i: np.max(planes.A[i] @ x + planes.c[i])
    for i in range(4):
        found = optimize.minimize(value, planes.start[i], args=(i,), method="Nelder-Mead", options={"maxiter": 4000})
        assert planes.least[i] <= found.fun + 1e-9
    shares = planes.gaps(1 - np.arange(1, 11) / 10)
    x, i = planes.start[0], 0
    for t in range(1, 10):
        step = planes.distance[i] / (planes.slope[i] * np.sqrt(10)) * (1 - t / 10)
        x = x - step * planes.A[i][np.argmax(planes.A[i] @ x + planes.c[i])]
    expected = (value(x, 0) - planes.least[0]) * np.sqrt(10) / (planes.distance[0] * planes.slope[0])
    np.testing.assert_allclose(shares[0], expected, rtol=1e-10)
    assert np.all(shares <= 1)


def test_the_regression_has_the_optimum_of_the_specification():
    regression = Regression.make(200, 20)
    assert regression.least == pytest.approx(0.6945627514, abs=1e-9)
    task = regression.task(50, [np.random.default_rng(0)])
    assert task.given.shape == (3, 50, 20)
    # noise with the mean squared norm of sigma squared
    assert np.mean(np.sum(task.given[0, :20] ** 2, axis=1)) == pytest.approx(100, rel=0.2)
    x = np.ones(20)
    slope = jax.grad(task.excess)(x)
    np.testing.assert_allclose(task.gradient(x, 0.0), slope, rtol=1e-12)


def test_studies_keep_groups_and_lanes_apart():
    """A quadratic function, whose iterates are known: products of what each step leaves."""
    given = np.stack([np.full((6, 1), c) for c in (1.0, 1.0, 0.5, 0.5)])
    task = Task(jnp.ones(1), lambda x, c: c * x, lambda x: x[0] ** 2, given)
    found = studies(task, "SGD", powers((-3, -2)), ("linear", "flat"), 2, 0.1)
    u = np.arange(1, 7) / 6
    for study, c in zip(found, (1.0, 0.5), strict=True):
        for name, values in (("linear", 1 - u), ("flat", np.ones(6))):
            ends = [np.prod(1 - rate * c * values) ** 2 for rate in (1 / 8, 1 / 4)]
            np.testing.assert_allclose(study.swept[name].excess, np.repeat(ends, 2).reshape(2, 2), rtol=1e-12)
        linear = np.cumprod(1 - 0.25 * c * (1 - u))
        np.testing.assert_allclose(study.norms, c * np.append(1.0, linear[:-1]), rtol=1e-12)
        np.testing.assert_allclose(study.swept["refined"].values, refine_schedule(study.norms), rtol=1e-12)


def test_learned_knots_have_the_derivative_of_differences_and_lower_the_excess():
    given = np.ones((1, 6, 1))
    task = Task(jnp.ones(1), lambda x, c: 4 * c * x, lambda x: x[0] ** 2, given)
    steps, u = 0.1 * (1 - np.arange(1, 7) / 6), np.array([0.3, -0.2, 0.5])
    value = jax.jit(jax.value_and_grad(lambda u: learning.last_excess(u, task, optax.sgd, jnp.asarray(steps))))
    knots = steps * np.exp(np.interp(np.arange(1, 7) / 6, [0, 0.5, 1], u))
    np.testing.assert_allclose(value(u)[0], np.prod(1 - 4 * knots) ** 2, rtol=1e-12)
    for i in range(3):
        h = 1e-6 * np.eye(3)[i]
        np.testing.assert_allclose(value(u)[1][i], (value(u + h)[0] - value(u - h)[0]) / 2e-6, rtol=1e-6)
    found = learning.learn_schedule(task, optax.sgd, jnp.asarray(steps), knots=3, tries=6)
    assert np.prod(1 - 4 * np.asarray(found)) ** 2 < 0.5 * value(np.zeros(3))[0]


def test_examples_run():
    assert all(doctest.testmod(module).failed == 0 for module in (schedules, conversion, recording, bounds))


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("schedule-refinement", experiment)
