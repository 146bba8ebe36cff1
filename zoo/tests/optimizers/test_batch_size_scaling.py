"""Learning rates and batch sizes: the formulas against random matrices, noise, scaling rules, the learner, the bars."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.kit.run import Run
from dini_zoo.optimizers import batch_size_scaling
from dini_zoo.optimizers.batch_size_scaling import (
    batch_extreme_eigenvalues,
    covariance_top_eigenvalue,
    critical_batch_size,
    effective_batch_size,
    heavy_ball,
    hessian_noise,
    lanczos_learning_rate,
    max_learning_rate,
    overlap,
    scale_learning_rate,
)
from dini_zoo.optimizers.batch_size_scaling.experiment import experiment
from dini_zoo.optimizers.batch_size_scaling.study import Matrices, Settings, random_matrices
from dini_zoo.optimizers.batch_size_scaling.training import Rates, permuted


def test_the_figures_of_the_specification():
    top, bottom = batch_extreme_eigenvalues(3.0, -1.5, 400 * 0.25, np.array([4, 8, 16, 64, 256]))
    np.testing.assert_allclose(top, [10.0, 7.0711, 5.0833, 3.5208, 3.1302], atol=1e-4)
    assert float(bottom[-1]) == pytest.approx(-1.760, abs=1e-3)
    assert float(bottom[0]) == pytest.approx(-10.0)
    # a spectrum of one sign: the other end is that of the noise
    assert float(batch_extreme_eigenvalues(3.0, 0.5, 100.0, 64)[1]) == pytest.approx(-2.5)
    # all data have no noise
    assert [float(x) for x in batch_extreme_eigenvalues(3.0, -1.0, 100.0, 50, 50)] == [3.0, -1.0]
    assert float(effective_batch_size(50, 200)) == pytest.approx(1 / (1 / 50 - 1 / 200))


def test_random_matrices():
    told = Matrices(size=300, batches=(4, 16, 256), draws=3)
    for b, draws in random_matrices(told, Run(Settings())).items():
        expected = batch_extreme_eigenvalues(3.0, -1.5, 300 * 0.25, b)
        np.testing.assert_allclose(np.mean(draws, axis=0), expected, rtol=0.04)


def test_overlap_and_covariance_by_chance():
    random = np.random.default_rng(0)
    noise = random.normal(size=(400, 400))
    E = 0.5 * (noise + noise.T) / np.sqrt(2 * 32)
    _, vectors = np.linalg.eigh(np.diag(np.append(3.0, np.zeros(399))) + E)
    assert vectors[0, -1] ** 2 == pytest.approx(float(overlap(3.0, 100.0, 32)), abs=0.05)
    for spike in (6.0, 1.2):
        # one draw's spike has a relative deviation of the root of 2 / 400
        X = random.normal(size=(20, 400, 200)) * np.sqrt(np.append(spike, np.ones(199)))
        tops = [np.linalg.eigvalsh(x.T @ x / 400)[-1] for x in X]
        assert np.mean(tops) == pytest.approx(float(covariance_top_eigenvalue(spike, 1.0, 0.5)), rel=0.05)


def example_loss(w, example):
    x, y = example
    return (jnp.tanh(x @ w["w"]) - y) ** 2 + w["b"] ** 4 * x[0]


def test_noise_against_dense_hessians():
    random = np.random.default_rng(0)
    data = random.normal(size=(9, 3)), random.normal(size=9)
    w = {"w": jnp.asarray(random.normal(size=3)), "b": jnp.asarray(0.7)}
    direction = {"w": jnp.asarray(random.normal(size=3)), "b": jnp.asarray(0.3)}

    @jax.jit
    def found(w):
        along = hessian_noise(example_loss, w, data, direction, micro_batch=4)
        around = hessian_noise(example_loss, w, data, key=jax.random.key(0), num_probes=400)
        ravelled, back = jax.flatten_util.ravel_pytree(w)
        dense = lambda example: jax.hessian(lambda v: example_loss(back(v), example))(ravelled)
        return along, around, jax.vmap(dense)(data)

    along, around, H = found(w)
    v = jax.flatten_util.ravel_pytree(direction)[0]
    E = np.asarray(H - np.mean(H, axis=0))
    assert float(along) == pytest.approx(np.mean(np.sum((E @ (v / np.linalg.norm(v))) ** 2, axis=1)))
    # of random directions the mean is that of all: the squared norm over their number
    assert float(around) == pytest.approx(np.mean(np.sum(E**2, axis=(1, 2))) / 4, rel=0.15)
    with pytest.raises(ValueError, match="a direction, or a key"):
        hessian_noise(example_loss, w, data)
    with pytest.raises(ValueError, match="num_probes must be at least 1"):
        hessian_noise(example_loss, w, data, key=jax.random.key(0), num_probes=0)


def test_scaling_rules():
    far = {"largest": 2.0, "noise": 1e8}
    near = {"largest": 2.0, "noise": 1e-4}
    assert float(scale_learning_rate(0.1, 8, 32, **far)) == pytest.approx(0.4, rel=1e-4)
    assert float(scale_learning_rate(0.1, 8, 32, **near)) == pytest.approx(0.1, rel=1e-4)
    assert float(scale_learning_rate(0.1, 8, 32)) == pytest.approx(0.4)
    assert float(scale_learning_rate(0.1, 8, 32, "adaptive")) == pytest.approx(0.2)
    # at the critical batch the rate is half of the largest
    critical = critical_batch_size(2.0, 64.0)
    assert float(max_learning_rate(2.0, 64.0, critical)) == pytest.approx(0.5)
    assert float(max_learning_rate(2.0, 64.0, 100, 100)) == pytest.approx(1.0)
    # the rate is that of the sharpest direction where the formula's spike is outside of the noise
    top, _ = batch_extreme_eigenvalues(2.0, -1.0, 64.0, 40)
    assert float(max_learning_rate(2.0, 64.0, 40)) == pytest.approx(2 / float(top))
    rates = jax.jit(jax.vmap(lambda b: scale_learning_rate(0.1, 8, b, largest=2.0, noise=64.0)))(jnp.array([8.0, 16.0]))
    np.testing.assert_allclose(rates, [0.1, 0.15])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_extreme_eigenvalues(1.0, -1.0, -2.0, 4), "noise must be at least 0: given -2"),
        (lambda: batch_extreme_eigenvalues(1.0, -1.0, 2.0, 0.5), "batch_size must be at least 1"),
        (
            lambda: batch_extreme_eigenvalues(1.0, -1.0, 2.0, 40, 30),
            "batch_size must be at most num_data, 30: given 40",
        ),
        (lambda: batch_extreme_eigenvalues(np.nan, -1.0, 2.0, 4), "largest must be a number: given nan"),
        (lambda: batch_extreme_eigenvalues(1.0, np.nan, 2.0, 4), "smallest must be a number: given nan"),
        (lambda: batch_extreme_eigenvalues(1.0, -1.0, np.nan, 4), "noise must be at least 0: given nan"),
        (lambda: batch_extreme_eigenvalues(1.0, -1.0, 2.0, 4, np.nan), "num_data must be at least 1: given nan"),
        (lambda: overlap(np.nan, 2.0, 4), "spike must be a number: given nan"),
        (lambda: covariance_top_eigenvalue(np.nan, 1.0, 1.0), "spike must be a number: given nan"),
        (lambda: hessian_noise(lambda w, x: w @ w * x, jnp.ones(2), jnp.ones(3), jnp.zeros(2)), "direction must be"),
        (lambda: max_learning_rate(-1.0, 2.0, 4), "largest must be positive"),
        (lambda: scale_learning_rate(-0.1, 8, 32), "learning_rate must be positive"),
        (lambda: covariance_top_eigenvalue(1.0, 0.0, 1.0), "bulk must be positive"),
        (lambda: scale_learning_rate(0.1, 8, 32, "adam"), "kind must be 'sgd' or 'adaptive': given 'adam'"),
        (lambda: scale_learning_rate(0.1, 8, 32, largest=1.0), "both largest and noise"),
        (lambda: scale_learning_rate(0.1, 8, 32, "adaptive", largest=1.0, noise=1.0), "of SGD's rule"),
        (lambda: heavy_ball(1.0, 2.0), "largest must be at least bulk, 2.0: given 1.0"),
        (lambda: heavy_ball(1.0, 0.0), "bulk must be positive"),
        (lambda: lanczos_learning_rate(0, every=1), "num_steps must be at least 1"),
        (lambda: lanczos_learning_rate(every=0), "every must be at least 1"),
        (lambda: lanczos_learning_rate(every=1, safety=0), "safety must be positive"),
        (lambda: lanczos_learning_rate(every=1, floor=2), "floor must be above 0"),
        (lambda: lanczos_learning_rate(every=1, smoothing=1), "smoothing must be at least 0 and below 1"),
        (lambda: lanczos_learning_rate(every=1, rule="polyak"), "rule must be"),
        (lambda: lanczos_learning_rate(every=1).update(1.0, None), "value_fn"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_of_numbers_that_cannot_be_nothing_plausible_comes():
    """Inside of a program nobody can raise: a comparison with NaN is false, and the other branch has a number."""
    nan = np.nan
    cases = {
        batch_extreme_eigenvalues: [
            (nan, nan, 2.0, 8, 100),
            (3.0, -1.0, nan, 8, 100),
            (3.0, -1.0, 2.0, nan, 100),
            (3.0, -1.0, 2.0, 8, nan),
            (3.0, -1.0, 2.0, 8, 4),
            (3.0, -1.0, 2.0, 0.5, 4),
            (3.0, -1.0, -2.0, 8, 100),
        ],
        overlap: [(nan, 2.0, 8, 100), (3.0, nan, 8, 100), (3.0, 2.0, 8, 4), (0.0, nan, 8, 100)],
        covariance_top_eigenvalue: [(nan, 1.0, 0.5), (3.0, nan, 0.5), (3.0, 1.0, nan), (3.0, -1.0, 0.5)],
        effective_batch_size: [(nan, 100), (8, nan), (8, 4), (0.5, 4)],
        critical_batch_size: [(-1.0, 2.0), (nan, 2.0), (2.0, -1.0)],
        max_learning_rate: [(-1.0, 2.0, 8, 100), (2.0, -2.0, 8, 100), (2.0, 2.0, 8, 4)],
        heavy_ball: [(1.0, 4.0, 1.0), (nan, 1.0, 1.0), (4.0, -1.0, 1.0)],
    }
    for function, given in cases.items():
        columns = [jnp.asarray(column, float) for column in zip(*given, strict=True)]
        for found in jax.tree.leaves(jax.jit(jax.vmap(function))(*columns)):
            assert np.all(np.isnan(found)), function
    # a start and its noise, however small, are of one length
    loss, data = (lambda w, a: 0.5 * jnp.sum(a * w**2)), jnp.array([[1.0, 5.0], [3.0, 5.0]])
    assert float(hessian_noise(loss, jnp.zeros(2), data, jnp.array([1e-200, 0.0]))) == pytest.approx(1.0)


def test_the_heavy_ball_converges_at_polyaks_rate():
    d = jnp.geomspace(1.0, 100.0, 12)
    rate, momentum = heavy_ball(100.0, 1.0)
    optimizer = optax.sgd(rate, momentum=momentum)

    def step(carried, _):
        w, state = carried
        updates, state = optimizer.update(d * w, state)
        w = optax.apply_updates(w, updates)
        return (w, state), jnp.linalg.norm(w)

    norms = jax.jit(lambda w: jax.lax.scan(step, (w, optimizer.init(w)), length=300)[1])(jnp.ones(12))
    contraction = (norms[299] / norms[149]) ** (1 / 150)
    assert float(contraction) == pytest.approx((10 - 1) / (10 + 1), rel=0.05)


def test_the_learner_looks_and_steps():
    d = jnp.array([1.0, 4.0, 100.0])
    loss = lambda w, c: 0.5 * c * jnp.sum(d * w**2)
    optimizer = lanczos_learning_rate(3, every=2, safety=0.5)

    @jax.jit
    def course(curvatures):
        def step(carried, c):
            w, state = carried
            value_fn = lambda w: loss(w, c)
            slope = jax.grad(value_fn)(w)
            updates, new = optimizer.update(slope, state, w, value_fn=value_fn)
            return (optax.apply_updates(w, updates), new), (w, slope, updates, new)

        start = jnp.ones(3)
        return jax.lax.scan(step, (start, optimizer.init(start)), curvatures)[1]

    # the second and the fourth are not looked at; then a lower one, no curvature, and one that is not finite
    _, slope, updates, state = course(jnp.array([1.0, 7.0, 0.2, 7.0, 0.0, 1.0, jnp.nan]))
    np.testing.assert_allclose(state.largest, [100, 100, 76, 76, 76, 76, 76], rtol=1e-5)
    assert state.steps[-1] == 7
    # three Lanczos steps have the whole spectrum: the bulk is one of its values
    first = state.learning_rate[0], state.momentum[0]
    choices = [heavy_ball(100.0, mu, 0.5) for mu in (1.0, 4.0, 100.0)]
    assert any(np.allclose(first, choice, rtol=1e-4) for choice in choices)
    velocity = slope[0]
    np.testing.assert_allclose(updates[0], -state.learning_rate[0] * velocity, rtol=1e-6)
    velocity = state.momentum[1] * velocity + slope[1]
    np.testing.assert_allclose(updates[1], -state.learning_rate[1] * velocity, rtol=1e-6)
    np.testing.assert_allclose(state.learning_rate[4:], state.learning_rate[3])
    # a bulk at zero is taken for a thousandth
    singular = lambda w: 50 * w[0] ** 2
    ones = jnp.ones(300)
    _, state = jax.jit(lambda w: optimizer.update(w, optimizer.init(w), w, value_fn=singular))(ones)
    np.testing.assert_allclose([state.learning_rate, state.momentum], heavy_ball(100.0, 0.1, 0.5), rtol=1e-4)


def test_the_rate_along_the_gradient():
    optimizer = lanczos_learning_rate(every=1, rule="rayleigh", safety=1.0, initial_learning_rate=0.3)
    d = jnp.array([1.0, 3.0])
    w = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}
    loss = lambda w, sign: sign * 0.5 * (d[0] * w["a"][0] ** 2 + d[1] * w["b"][0] ** 2)

    @jax.jit
    def stepped(sign):
        value_fn = lambda w: loss(w, sign)
        return optimizer.update(jax.grad(value_fn)(w), optimizer.init(w), w, value_fn=value_fn)

    g = np.array([1.0, 6.0])
    updates, state = stepped(1.0)
    rate = (g @ g) / (g @ (d * g))
    assert float(state.learning_rate) == pytest.approx(rate)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], -rate * g, rtol=1e-6)
    # along a direction of negative curvature there is no such step
    assert float(stepped(-1.0)[1].learning_rate) == pytest.approx(0.3)


def test_the_slope_of_rates():
    rates = Rates({2: 0.1, 8: 0.4, 32: 1.6, 512: 1.6}, {b: [0.01, 2.0] for b in (2, 8, 32, 512)}, {})
    assert rates.slope(2, 32) == pytest.approx(1)
    assert rates.slope(500, 600) is None
    assert rates.inside
    order = permuted(np.random.default_rng(0), 10, 4, 3)
    assert order.shape == (6, 4)
    assert all(len(set(epoch.ravel())) == 8 for epoch in np.split(order, 3))


@pytest.mark.parametrize("name", ["eigenvalues", "learner", "rates"])
def test_examples_run(name):
    with jax.enable_x64(False):
        assert doctest.testmod(importlib.import_module(f"{batch_size_scaling.__name__}.{name}")).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("batch-size-scaling", experiment, but=("Hessians: rise with b",))
