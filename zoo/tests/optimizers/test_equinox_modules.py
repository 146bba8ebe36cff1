"""Equinox modules at the door of the optimizers: an activation is no array, and the error says what to do."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini_zoo.optimizers.adadagrad import Batches, BatchSizeController, GrowingBatch, adagrad_norm
from dini_zoo.optimizers.batch_size_scaling import hessian_noise, lanczos_learning_rate
from dini_zoo.optimizers.curvature import gauss_newton_operator, hessian_operator
from dini_zoo.optimizers.diffgrad import diffgrad
from dini_zoo.optimizers.lanczos import random_direction
from dini_zoo.optimizers.moments import directional_moments, gradient_moments
from dini_zoo.optimizers.optimistic_omd import (
    adaptive_variation,
    optimistic_adaptive_gd,
    optimistic_mirror_descent,
    optimistic_online_newton,
)
from dini_zoo.optimizers.schedule_refinement import last_iterate_transform
from dini_zoo.optimizers.target_surrogates import SSO, per_example

X = np.random.default_rng(0).normal(size=(12, 2))
MODEL = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))


def loss(model, x):
    return jnp.sum((model(x) - 1) ** 2)


CALLS = {
    "GrowingBatch": lambda model: GrowingBatch(loss, optax.sgd(0.1), BatchSizeController(2, 12), None).init(model),
    "gradient_moments": lambda model: gradient_moments(loss, model, X),
    "directional_moments": lambda model: directional_moments(loss, model, X, model),
    "hessian_operator": lambda model: hessian_operator(loss, model, X[0]),
    "gauss_newton_operator": lambda model: gauss_newton_operator(lambda model, x: model(x), jnp.sum, model, X[0]),
    "hessian_noise": lambda model: hessian_noise(loss, model, X, key=jax.random.key(0)),
    "random_direction": lambda model: random_direction(jax.random.key(0), model),
    "adagrad_norm": lambda model: adagrad_norm(0.1).init(model),
    "diffgrad": lambda model: diffgrad(0.1).init(model),
    "lanczos_learning_rate": lambda model: lanczos_learning_rate(every=1).init(model),
    "optimistic_adaptive_gd": lambda model: optimistic_adaptive_gd(1.0, 1.0, 1.0).init(model),
    "optimistic_mirror_descent": lambda model: optimistic_mirror_descent(
        None, adaptive_variation(D=1.0, G=1.0, L=1.0)
    ).init(model),
    "optimistic_online_newton": lambda model: optimistic_online_newton(None, D=1.0, G=1.0, alpha=1.0).init(model),
    "last_iterate_transform": lambda model: last_iterate_transform(optax.sgd(0.1), np.ones(3)).init(model),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_module_that_is_not_partitioned_is_named(name):
    with pytest.raises(TypeError, match=r"a tree of arrays of floats: given .* at \.\w*activation.*equinox\.partition"):
        CALLS[name](MODEL)


def test_whole_numbers_are_no_parameters():
    with pytest.raises(TypeError, match=r"params must be a tree of arrays of floats: given int\d+ at \['b'\]"):
        gradient_moments(lambda params, x: params["a"] * x[0], {"a": 1.0, "b": jnp.arange(2)}, X)


def test_what_the_error_says_to_do_works():
    arrays, static = eqx.partition(MODEL, eqx.is_inexact_array)
    loop = GrowingBatch(
        lambda arrays, x: loss(eqx.combine(arrays, static), x), optax.sgd(0.05), BatchSizeController(4, 12), None
    )
    state, batches = loop.init(arrays), Batches(12, np.random.default_rng(0))
    losses = []
    for _ in range(30):
        state, step = loop.step(state, X, batches)
        losses.append(step.loss)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


def test_target_surrogates_take_a_module_as_it_is():
    """The activation is no array, and stays what it is."""
    batch = X, X[:, 0] * X[:, 1]
    predict = lambda model, batch: jax.vmap(model)(batch[0])[:, 0]
    square = lambda z, batch: (z - batch[1]) ** 2 / 2
    value = lambda model: float(jnp.mean(square(predict(model, batch), batch)))
    for carry, inner in ((False, dini.LBFGS()), (True, optax.adam(0.1))):
        sso = SSO(predict, per_example(square), 1.0, 5, inner, carry=carry)
        trained, state, _ = sso.run(MODEL, [batch] * 3)
        assert value(trained) < 0.9 * value(MODEL)
        assert int(state.count) == 3
