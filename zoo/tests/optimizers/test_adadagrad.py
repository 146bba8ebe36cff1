"""Batches that grow by tests: the tests' figures, merging, the sizes, the loop, AdaGrad-Norm, the experiment's bars."""

import doctest
import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.optimizers.adadagrad import (
    Batches,
    BatchSizeController,
    GrowingBatch,
    Moments,
    accumulate,
    across,
    adagrad_norm,
    augmented_inner_product_test,
    directional_moments,
    gradient_moments,
    inner_product_test,
    inner_products,
    merge,
    moments,
    norm_test,
    orthogonality_test,
    scale_by_samples,
)
from dini_zoo.optimizers.adadagrad.experiment import experiment

G = np.array([[1.0, 2, 0], [3, -1, 1], [2, 0, 2], [0, 1, -1]])


@jax.jit
def both(estimates):
    """The moments of estimates and of their products with the mean's direction."""
    found = moments(estimates)
    return found, moments(inner_products(estimates, found.direction))


@functools.cache
def random_estimates(b=30, d=5, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(b, d)) @ random.normal(size=(d, d)) + 0.5


@jax.jit
def all_tests(estimates):
    found, along = both(estimates)
    return jnp.stack(
        [
            norm_test(found, 0.5),
            norm_test(found, 0.5, coordinatewise=True),
            norm_test(found, 0.5, debias=True),
            inner_product_test(found, along, 0.5),
            orthogonality_test(found, along, 1.0),
            augmented_inner_product_test(found, along, 0.5, 1.0),
        ]
    )


def test_the_figures_of_the_specification():
    found, along = both(G)
    np.testing.assert_allclose(found.mean, [1.5, 0.5, 0.5])
    assert float(found.total_variance) == pytest.approx(5.0)
    assert float(found.squared_norm) == pytest.approx(2.75)
    # of the products with g itself: the direction is of length one
    assert float(along.variance * found.squared_norm) == pytest.approx(4.08333, abs=1e-5)
    expected = [7.2727, 26.667, 13.3333, 2.15978, 1.27824, 2.15978]
    np.testing.assert_allclose(all_tests(G), expected, rtol=2e-5)
    assert BatchSizeController(4, 100).update(BatchSizeController(4, 100).init(), norm_test(found, 0.5)).size == 8


def test_by_the_definitions():
    x = random_estimates()
    g, b = x.mean(axis=0), len(x)
    norm = g @ g
    across_mean = x - np.outer(x @ g, g) / norm
    trace = lambda rows: np.sum(np.var(rows, axis=0, ddof=1))
    expected = [
        trace(x) / (0.25 * norm),
        np.max(np.var(x, axis=0, ddof=1) / (0.25 * g**2)),
        trace(x) / (0.25 * max(norm - trace(x) / b, 0)),
        np.var(x @ g, ddof=1) / (0.25 * norm**2),
        trace(across_mean) / norm,
    ]
    expected.append(max(expected[3:]))
    np.testing.assert_allclose(all_tests(x), expected, rtol=1e-10)


def test_what_does_not_change_the_sizes():
    x = random_estimates()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    before, rotated, scaled = all_tests(x), all_tests(x @ rotation), all_tests(1e-30 * x)
    others = np.array([0, 2, 3, 4, 5])
    np.testing.assert_allclose(rotated[others], before[others], rtol=1e-9)
    assert abs(rotated[1] / before[1] - 1) > 0.01
    np.testing.assert_allclose(scaled, before, rtol=1e-9)
    stretched = all_tests(x * [1, 10, 0.1, 3, 7])
    np.testing.assert_allclose(stretched[1], before[1], rtol=1e-9)
    assert abs(stretched[0] / before[0] - 1) > 0.01


def test_coordinates_without_spread_or_mean():
    def size(rows, **how):
        found = lambda rows: norm_test(moments(rows), 0.5, coordinatewise=True, **how)
        return float(jax.jit(found)(np.array(rows)))

    quiet = [[1.0, 5.0, 0.0], [3.0, 5.0, 0.0]]
    assert size(quiet) == pytest.approx(2 / (0.25 * 4))
    # a mean of zero with a spread: no batch is large enough
    noise = [[1.0, 5.0, 1.0], [3.0, 5.0, -1.0]]
    assert size(noise) == math.inf
    assert size(noise, quantile=0.5) == pytest.approx(2 / (0.25 * 4))
    assert size([[1.0, 2.0], [1.0, 2.0]]) == 0
    # the debiased signal of a coordinate is its square less its variance over b: 4 - 2 / 2
    assert size(quiet, debias=True) == pytest.approx(2 / (0.25 * 3))


def test_no_signal_asks_for_the_largest_batch():
    found, along = both(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    controller = BatchSizeController(2, 64)
    for required in (norm_test(found, 0.5), inner_product_test(found, along, 0.5), orthogonality_test(found, along, 1)):
        assert required == math.inf
        assert controller.update(controller.init(), required).size == 64
    # a mean that is smaller than its own error has nothing left
    assert norm_test(moments(np.array([[1.1], [-1.0]])), 0.5, debias=True) == math.inf


def tree(rows):
    return {"w": rows[:, :4].reshape(-1, 2, 2), "b": rows[:, 4]}


def test_parts_are_merged_exactly():
    rows, cuts = random_estimates(), [(1, 13), (10, 20), (0, 29)]

    @jax.jit
    def found(rows):
        parts = [[moments(tree(part)) for part in jnp.split(rows, cut) if len(part)] for cut in cuts]
        whole = moments(tree(rows))
        # what is empty changes nothing
        empty = merge(whole, moments(tree(rows), np.zeros(30)))
        return whole, empty, [functools.reduce(merge, part) for part in parts]

    whole, empty, merged = found(rows)
    for one in merged:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), one, whole)
    np.testing.assert_allclose(whole.deviations["b"] / 29, np.var(rows[:, 4], ddof=1))
    jax.tree.map(np.testing.assert_array_equal, empty, whole)


def test_devices_with_parts_of_different_sizes():
    rows, weights = random_estimates(), np.ones((3, 10))
    weights[1, 4:] = 0
    weights[2] = 0
    pooled = jax.vmap(lambda x, w: across(moments(x, w), "devices"), axis_name="devices")
    found = jax.jit(pooled)(rows.reshape(3, 10, 5), weights)
    expected = jax.jit(moments)(rows[:14])
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], found)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), own, expected)
    # the specification's example: two shards of two
    found = jax.jit(pooled)(G.reshape(2, 2, 3), np.ones((2, 2)))
    np.testing.assert_allclose(np.sum(found.deviations, axis=1) / 3, 5.0)


def test_rows_that_fill_up_change_nothing():
    rows = random_estimates()
    padded = np.concatenate([rows, np.full((2, 5), np.nan)])
    weights = np.concatenate([np.ones(30), np.zeros(2)])
    found, expected = jax.jit(lambda x, w: (moments(x, w), moments(x[:30])))(padded, weights)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-13), found, expected)


def model_loss(params, example):
    x, y = example
    return jnp.sum((jnp.tanh(x @ params["w"]) + params["b"] - y) ** 2)


def test_gradients_in_parts_and_along_a_direction():
    random = np.random.default_rng(2)
    params = {"w": jnp.asarray(random.normal(size=(3, 2))), "b": jnp.asarray(random.normal(size=2))}
    batch = random.normal(size=(11, 3)), random.normal(size=(11, 2))

    @jax.jit
    def found(weights):
        whole, value = gradient_moments(model_loss, params, batch, weights=weights)
        parts, same = gradient_moments(model_loss, params, batch, weights=weights, micro_batch=4)
        along = directional_moments(model_loss, params, batch, whole.direction, weights=weights, micro_batch=4)
        return whole, value, parts, same, along

    weights = np.concatenate([np.ones(7), np.zeros(4)])
    whole, value, parts, same, along = found(weights)
    first = jax.tree.map(lambda leaf: leaf[:7], batch)
    values, each = jax.jit(jax.vmap(jax.value_and_grad(model_loss), (None, 0)))(params, first)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-11)
    for one, other in zip((whole, along), both(each), strict=True):
        jax.tree.map(close, one, other)
    jax.tree.map(close, parts, whole)
    expected = np.mean(values)
    close(value, expected)
    close(same, expected)


def test_half_precision_is_summed_in_single():
    rows = jnp.asarray(np.random.default_rng(0).normal(1, 0.01, (3000, 1)), jnp.bfloat16)
    found = moments(rows)
    assert found.mean.dtype == jnp.float32
    exact = np.asarray(rows, float)
    assert float(found.mean[0]) == pytest.approx(exact.mean(), rel=1e-5)
    assert float(found.variance[0]) == pytest.approx(exact.var(ddof=1), rel=1e-4)


def test_the_size_that_is_asked_for_is_enough():
    rows, eta = random_estimates(400, 5, 3), 0.3
    size = math.ceil(norm_test(moments(rows), eta))
    drawn = np.random.default_rng(4).integers(0, 400, (3000, size))
    g = rows.mean(axis=0)
    error = np.mean(np.sum((rows[drawn].mean(axis=1) - g) ** 2, axis=1)) / (g @ g)
    assert 0.7 * eta**2 < error <= 1.3 * eta**2


def test_bad_input_to_the_tests():
    found, along = both(G)
    with pytest.raises(ValueError, match="eta must be positive: given 0"):
        norm_test(found, 0.0)
    with pytest.raises(ValueError, match="theta must be positive"):
        inner_product_test(found, along, -1.0)
    with pytest.raises(ValueError, match="nu must be positive"):
        augmented_inner_product_test(found, along, 1.0, 0.0)
    with pytest.raises(ValueError, match="quantile must be above 0 and at most 1"):
        norm_test(found, 0.5, quantile=0.0)
    with pytest.raises(ValueError, match="at least 2 estimates"):
        norm_test(moments(G[:1]), 0.5)
    with pytest.raises(ValueError, match="finite"):
        norm_test(moments(np.array([[1.0], [np.inf]])), 0.5)
    with pytest.raises(ValueError, match="their mean is then"):
        inner_product_test(found, moments(inner_products(G, found.mean)), 0.5)
    with pytest.raises(ValueError, match="moments of numbers"):
        inner_product_test(found, found, 0.5)
    with pytest.raises(ValueError, match="as long in each"):
        moments({"a": np.zeros((3, 2)), "b": np.zeros(4)})
    with pytest.raises(ValueError, match="one number for each of the 4 examples"):
        moments(G, np.ones(3))
    with pytest.raises(ValueError, match="micro_batch must be at least 1"):
        accumulate(lambda x: x, G, micro_batch=0)


def test_what_is_not_finite_inside_of_jit():
    controller = BatchSizeController(2, 64)

    @jax.jit
    def step(rows):
        found, along = both(rows)
        sizes = (norm_test(found, 0.5), norm_test(found, 0.5, coordinatewise=True, quantile=0.1))
        asked = jnp.stack([*sizes, augmented_inner_product_test(found, along, 0.5, 1.0)])
        return jax.vmap(lambda required: controller.update(controller.init(), required))(asked)

    for bad in (np.nan, np.inf):
        state = step(np.where(np.arange(12).reshape(4, 3) == 5, bad, G))
        np.testing.assert_array_equal(state.size, 64)
        assert not np.any(state.sound)
    assert np.all(step(G).sound)
    with pytest.raises(ValueError, match="required must be a number: given NaN"):
        controller.update(controller.init(), math.nan)


def test_the_batch_never_shrinks_and_is_a_multiple():
    controller = BatchSizeController(8, 64, every=2, multiple_of=8)
    state, sizes = controller.init(), []
    for required in (60.0, 9.0, 30.0, 3.0, math.inf, 63.9):
        state = controller.update(state, required)
        sizes.append(int(state.size))
    # each second one counts: 9, 3, 63.9
    assert sizes == [8, 16, 16, 16, 16, 64]
    assert not controller.due(state)
    # at the largest nothing counts any more, NaN neither
    assert controller.update(state._replace(steps=jnp.asarray(1)), math.nan).sound


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 8), "initial must be at least 2"),
        ((8, 4), "largest must be at least initial, 8: given 4"),
        ((8, 16, 0), "every must be at least 1"),
        ((8, 20, 1, 8), "largest must be a multiple of multiple_of, 8: given 20"),
    ],
)
def test_bad_controllers(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchSizeController(*arguments)


def test_passes_and_fresh_samples():
    batches = Batches(10, np.random.default_rng(0))
    first = [batches.draw(size) for size in (3, 5)]
    seen = np.concatenate([indices[weights > 0] for indices, weights in first])
    assert [len(indices) for indices, _ in first] == [4, 8]
    assert len(set(seen)) == 8
    # two are left: a pass restarts
    assert sorted(batches.draw(10)[0][:10]) == list(range(10))
    fresh = Batches(10, np.random.default_rng(0), fresh=True, length=16)
    for _ in range(5):
        indices, weights = fresh.draw(9)
        assert len(indices) == 16
        assert len(set(indices[weights > 0])) == 9
    with pytest.raises(ValueError, match="size must be from 1 to 10"):
        batches.draw(11)
    with pytest.raises(ValueError, match="at most 4, the arrays' length"):
        Batches(10, np.random.default_rng(0), length=4).draw(5)


def test_batches_are_those_of_the_data():
    """JAX clamps an index that is too large: the last example would be seen again and again, without a word."""
    loop = GrowingBatch(lambda w, x: jnp.sum((w - x) ** 2), optax.sgd(0.1), BatchSizeController(4, 40), None)
    state = loop.init(jnp.zeros(()))
    for count in (50, 30):
        with pytest.raises(ValueError, match=rf"of the 40 examples of the data: given Batches\({count}\)"):
            loop.step(state, jnp.zeros(40), Batches(count, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="as long in each"):
        loop.step(state, (jnp.zeros(40), jnp.zeros(30)), Batches(40, np.random.default_rng(0)))


def test_a_step_is_taken_before_its_batch_is_tested():
    x = jnp.asarray(np.random.default_rng(0).normal(3.0, 1.0, 40))
    schedule = lambda samples: -0.1 * (1 + samples)
    loop = GrowingBatch(
        lambda w, x: 0.5 * (w - x) ** 2,
        scale_by_samples(schedule),
        BatchSizeController(4, 40),
        lambda found, along: norm_test(found, 0.2) + 0 * along().mean,
        micro_batch=8,
    )
    state, batches, same = loop.init(jnp.zeros(())), Batches(40, np.random.default_rng(1), length=40), 0.0
    copy, size, samples = Batches(40, np.random.default_rng(1)), 4, 0
    for _ in range(3):
        state, step = loop.step(state, x, batches)
        rows = same - np.asarray(x)[copy.draw(size)[0][:size]]
        assert step.size == size
        assert step.loss == pytest.approx(np.mean(rows**2) / 2)
        required = np.var(rows, ddof=1) / (0.04 * np.mean(rows) ** 2)
        assert step.required == pytest.approx(required)
        same += schedule(samples) * np.mean(rows)
        assert float(state.params) == pytest.approx(same)
        samples, size = samples + size, min(40, max(size, math.ceil(required)))
        assert (state.samples, int(state.control.size)) == (samples, size)
    assert size > 4
    with pytest.raises(ValueError, match="not finite after 0 samples"):
        loop.step(loop.init(jnp.asarray(np.nan)), x, batches)


def test_adagrad_norm_by_hand():
    slope = jax.grad(lambda x: 0.5 * jnp.sum(x["a"] ** 2))

    def course(optimizer, start):
        def step(carried, _):
            x, state = carried
            updates, state = optimizer.update(slope(x), state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x["a"]

        return jax.lax.scan(step, (start, optimizer.init(start)), length=3)[1]

    expected = [1.00124766, 0.55403462, 0.31381776]
    start = {"a": jnp.asarray(2.0)}
    ways = (
        adagrad_norm(1.0),
        optax.chain(optax.identity(), adagrad_norm(optax.constant_schedule(1.0))),
        optax.inject_hyperparams(adagrad_norm)(learning_rate=1.0, initial_accumulator=0.01),
    )
    for found in jax.jit(lambda start: [course(optimizer, start) for optimizer in ways])(start):
        np.testing.assert_allclose(found, expected, atol=1e-8)
    lanes = jax.jit(jax.vmap(lambda x: course(ways[0], {"a": x})))(jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(lanes[0], expected, atol=1e-8)
    assert lanes[1, 0] == pytest.approx(1 - 1 / math.sqrt(1.01))
    # one norm for all of a tree, and none for what is masked
    params = {"a": jnp.array([3.0, 0.0]), "b": jnp.asarray(4.0), "c": jnp.asarray(7.0)}
    masked = optax.masked(adagrad_norm(1.0, 11.0), {"a": True, "b": True, "c": False})
    updates, _ = masked.update(params, masked.init(params))
    np.testing.assert_allclose(updates["a"], [-0.5, 0])
    np.testing.assert_allclose([updates["b"], updates["c"]], [-4 / 6, 7])
    with pytest.raises(ValueError, match="initial_accumulator must be positive: given 0"):
        adagrad_norm(1.0, 0.0)


def test_adagrad_norm_in_half_precision():
    params = jnp.ones(3, jnp.bfloat16)
    optimizer = adagrad_norm(1.0, 1000.0)
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(params, state)
    assert updates.dtype == jnp.bfloat16
    assert float(state[0].accumulator) == 1009.0  # in bfloat16 it would still be a thousand


def test_rates_by_samples_need_the_batch():
    optimizer = scale_by_samples(optax.constant_schedule(-1.0))
    state = optimizer.init(None)._replace(samples=jnp.asarray(2**31 - 5, jnp.int32))
    assert optimizer.update(jnp.ones(2), state, batch_size=8)[1].samples == 2**31 - 1
    with pytest.raises(ValueError, match="batch_size="):
        optimizer.update(jnp.ones(2), optimizer.init(None))


@pytest.mark.parametrize(
    "name", ["moments", *(f"adadagrad.{name}" for name in ("adagrad_norm", "controller", "loop", "sizes"))]
)
def test_examples_run(name):
    with jax.enable_x64(False):
        assert doctest.testmod(importlib.import_module(f"dini_zoo.optimizers.{name}")).failed == 0


def test_moments_are_a_tree():
    assert isinstance(jax.jit(lambda found: found)(moments(G)), Moments)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("adadagrad", experiment)
