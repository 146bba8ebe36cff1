"""The equilibrium classifier: its exact gradient, dini's beside it, training by hand, the experiment."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.implicit.deep_equilibrium import (
    Params,
    Reference,
    contraction,
    initial,
    layer,
    look,
    loss,
    report,
    train,
    trainer,
)
from dini_zoo.implicit.deep_equilibrium.equilibrium import MARGIN, recurrent
from dini_zoo.implicit.deep_equilibrium.experiment import experiment
from dini_zoo.implicit.deep_equilibrium.reference import fixed_point
from dini_zoo.kit.data import Sample, Split
from dini_zoo.kit.modes import cosine, distance

CLASSES, PIXELS, HIDDEN, IMAGES = 3, 5, 4, 6
SOLVER = dini.Anderson(tol=1e-12)


@pytest.fixture(scope="module")
def sample():
    random = np.random.RandomState(0)
    return Sample(random.rand(IMAGES, PIXELS), np.eye(CLASSES)[np.arange(IMAGES) % CLASSES])


@pytest.fixture(scope="module")
def params():
    """Weights far from those before training: the layer's norm is above one."""
    random = np.random.RandomState(1)
    shapes = ((HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, PIXELS), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,))
    return Params(*(0.6 * random.randn(*shape) for shape in shapes))


def gradient(params, sample, mode):
    return jax.jit(jax.grad(lambda params: loss(params, sample, mode, SOLVER)[0]))(params)


def test_the_exact_gradient_is_that_of_central_differences(params, sample):
    reference = Reference.at(params, sample)
    width = 1e-6
    for name in Params._fields:
        leaf, slope = getattr(params, name), np.asarray(getattr(reference.gradient, name))
        for index in np.ndindex(*leaf.shape):
            unit = np.zeros_like(leaf)
            unit[index] = width
            above, below = (Reference.at(params._replace(**{name: leaf + s * unit}), sample).loss for s in (1, -1))
            assert slope[index] == pytest.approx((above - below) / (2 * width), rel=1e-6, abs=1e-9)
    assert reference.slope_error(params, sample) < 1e-7
    assert distance(reference.gradient, reference.gradient) == 0
    assert cosine(reference.gradient, reference.gradient) == pytest.approx(1)


def test_the_implicit_gradient_is_that_of_the_dense_adjoint(params, sample):
    reference = Reference.at(params, sample)
    slope = jax.value_and_grad(lambda params: loss(params, sample, dini.Implicit(), SOLVER), has_aux=True)
    (value, (scores, solution)), found = jax.jit(slope)(params)
    np.testing.assert_allclose(solution.x, fixed_point(params, sample.X), atol=1e-11)
    np.testing.assert_allclose(layer(solution.x, sample.X, params), solution.x, atol=1e-11)
    np.testing.assert_allclose(scores, solution.x @ params.V.T + params.c)
    assert float(value) == pytest.approx(reference.loss)
    assert distance(found, reference.gradient) < 1e-10


def test_truncated_modes_are_partial_sums_of_the_adjoint(params, sample):
    # the layer of these weights does not contract: its series has no sum, and is not given for a derivative
    with pytest.raises(Exception, match="the map must contract"):
        jax.block_until_ready(gradient(params, sample, dini.Neumann(2)))
    params = jax.tree.map(lambda weights: 0.3 * weights, params)
    assert contraction(params, sample.X).radius < 1
    z, V = fixed_point(params, sample.X), params.V
    P = np.asarray(jax.nn.softmax(z @ V.T + params.c))
    slope = (P - sample.Y) @ V / IMAGES
    W = np.asarray(recurrent(params))
    # one more term of u = sum_i (W^T D)^i slope
    two = slope + (slope * (1 - z**2)) @ W
    free, neumann = gradient(params, sample, dini.JacobianFree()), gradient(params, sample, dini.Neumann(2))
    np.testing.assert_allclose(free.U, (slope * (1 - z**2)).T @ sample.X, atol=1e-10)
    np.testing.assert_allclose(neumann.U, (two * (1 - z**2)).T @ sample.X, atol=1e-10)
    # one step of Anderson's method is differentiated as one of the layer
    one = gradient(params, sample, dini.OneStep())
    for ours, theirs in zip(one, free, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_layer_is_monotone_and_contracts_at_first(params):
    W = np.asarray(recurrent(params))
    assert np.linalg.eigvalsh(np.eye(HIDDEN) - (W + W.T) / 2).min() >= MARGIN - 1e-12
    for seed in range(3):
        first = jax.jit(initial, static_argnums=(1, 2, 3))(jax.random.key(seed), 64, 40, 10)
        assert np.linalg.norm(recurrent(first), 2) < 1


def test_the_contraction_is_that_of_the_jacobian(params, sample):
    found = contraction(params, sample.X)
    z = fixed_point(params, sample.X)
    jacobians = [
        np.asarray(jax.jacobian(layer)(jnp.asarray(z[i]), jnp.asarray(sample.X[i]), params)) for i in range(IMAGES)
    ]
    assert found.norm == pytest.approx(max(np.linalg.norm(J, 2) for J in jacobians))
    assert found.radius == pytest.approx(max(np.abs(np.linalg.eigvals(J)).max() for J in jacobians))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_training_is_adam_by_hand(params, sample):
    mode, epochs = dini.Implicit(), 2
    split = Split(sample, sample, sample)
    see = look(split, mode, SOLVER)
    fit = trainer(mode, SOLVER, see, examples=IMAGES, batch=2, epochs=epochs, learning_rate=0.01)
    course = train(fit, params, sample, seed=3, advance=lambda steps: None)
    random, optimizer = np.random.RandomState(3), optax.adam(0.01)
    slope = jax.jit(jax.grad(lambda params, sample: loss(params, sample, mode, SOLVER)[0]))
    found, state = params, optimizer.init(params)
    for _ in range(epochs):
        for part in random.permutation(IMAGES).reshape(-1, 2):
            updates, state = optimizer.update(slope(found, Sample(sample.X[part], sample.Y[part])), state)
            found = optax.apply_updates(found, updates)
    for ours, theirs in zip(course.at(-1), found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(course.loss[0], loss(params, sample, mode, SOLVER)[0])
    assert course.failures == 0
    assert course.loss.shape == (epochs + 1,)
    with pytest.raises(ValueError, match="batch must divide the number of examples, 6: given 4"):
        trainer(mode, SOLVER, see, examples=IMAGES, batch=4, epochs=1, learning_rate=0.01)


def test_decay_leaves_out_errors_of_the_solve():
    def found(*series):
        errors = {"implicit": SimpleNamespace(errors=[1e-6] * len(series))}
        settings = SimpleNamespace(series=(1, 2, 4))
        return report.decay(SimpleNamespace(settings=settings, series=np.array(series), ways=errors))

    factors = found([1e-1, 1e-2, 1.1e-4], [1e-1, 1e-3, 1e-5], [1e-1, 1e-5, 1e-5], [1e-5, 1e-6, 1e-6])
    # down to 1e-4, in three terms and in one; with fewer than two errors above that there is no factor
    assert factors[0] == pytest.approx((1.1e-3) ** (1 / 3))
    assert factors[1] == pytest.approx(1e-2)
    assert factors[2:] == [None, None]


@pytest.mark.slow
def test_the_bars_at_full_scale():
    result = assert_bars_met("deep-equilibrium", experiment)
    exact, auto, long = (result.courses[name] for name in ("implicit", "auto", result.settings.longest))
    np.testing.assert_allclose(auto.loss, exact.loss, rtol=1e-3)
    np.testing.assert_allclose(long.loss, exact.loss, rtol=1e-2)
    assert result.ways["implicit"].memory == result.doubled
