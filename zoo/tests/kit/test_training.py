"""The training loop, beside one written by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.kit.training import Trainer, batches

STEPS, BATCH = 6, 2
X = np.linspace(-1, 1, 5)[:, None]
Y = 2 * X + 1


def loss(model, batch, key):
    x, y = batch
    noise = 0.1 * jax.random.normal(key, y.shape)
    return jnp.mean((jax.vmap(model)(x) - y - noise) ** 2)


def both(model, batch, key):
    value = loss(model, batch, key)
    return value, {"twice": 2 * value}


def line(key):
    return eqx.nn.Linear(1, 1, key=key)


def by_hand(model, optimizer, order, keys):
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state, average, losses, path = optimizer.init(params), params, [], [params]
    slope = jax.jit(jax.value_and_grad(lambda params, x, y, key: loss(eqx.combine(params, static), (x, y), key)))
    for indices, key in zip(order, keys, strict=True):
        value, gradient = slope(params, X[indices], Y[indices], key)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, average, params)
        losses.append(value)
        path.append(params)
    return params, average, np.array(losses), path


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_training_is_that_by_hand_alone_and_side_by_side():
    optimizer = optax.adam(0.1)
    told = []
    trainer = Trainer(
        both, optimizer, steps=STEPS, batch=BATCH, every=3, watch=lambda model: model.bias, average=0.9, aux=True
    )
    starts, keys = jax.random.split(jax.random.key(0), 2), jax.random.split(jax.random.key(1), 2)
    together = trainer.together(eqx.filter_vmap(line)(starts), (X, Y), keys=keys)
    for i in range(2):
        course = trainer(line(starts[i]), (X, Y), key=keys[i], advance=told.append)
        for_order, for_steps = jax.random.split(keys[i])
        order = np.asarray(batches(for_order, len(X), BATCH, STEPS))
        params, average, losses, path = by_hand(line(starts[i]), optimizer, order, jax.random.split(for_steps, STEPS))
        for found in (course, together.lane(i)):
            np.testing.assert_allclose(found.model.weight, params.weight, rtol=1e-12)
            np.testing.assert_allclose(found.average.weight, average.weight, rtol=1e-12)
            np.testing.assert_allclose(found.loss, losses, rtol=1e-12)
            np.testing.assert_allclose(found.aux["twice"], 2 * losses, rtol=1e-12)
            assert found.watched.shape == (3, 1)
        # what is watched is the average
        np.testing.assert_allclose(course.watched[[0, -1]], [path[0].bias, average.bias], rtol=1e-12)
    assert told == 2 * [3, 3]


def test_models_side_by_side_may_have_learning_rates_of_their_own():
    rates, keys = jnp.array([0.1, 0.3]), jax.random.split(jax.random.key(1), 2)
    trainer = Trainer(loss, optax.inject_hyperparams(optax.sgd)(1.0), steps=STEPS, batch=BATCH)
    models = eqx.filter_vmap(line)(jax.random.split(jax.random.key(0), 2))
    state = trainer.initial(models)
    state.hyperparams["learning_rate"] = rates
    together = trainer.together(models, (X, Y), keys=keys, state=state)
    for i in range(2):
        for_order, for_steps = jax.random.split(keys[i])
        order, steps = np.asarray(batches(for_order, len(X), BATCH, STEPS)), jax.random.split(for_steps, STEPS)
        model = jax.tree.map(lambda leaf, i=i: leaf[i] if eqx.is_array(leaf) else leaf, models)
        *_, losses, _ = by_hand(model, optax.sgd(rates[i]), order, steps)
        np.testing.assert_allclose(together.loss[i], losses, rtol=1e-12)


def test_batches_go_through_all_examples():
    order = np.asarray(batches(jax.random.key(0), 5, 2, 5)).ravel()
    assert sorted(order[:5]) == sorted(order[5:]) == list(range(5))
    assert not np.array_equal(order[:5], order[5:])


def test_gradients_and_orders_of_ones_own_and_no_data():
    def gradient(model, batch, key):
        return (jnp.asarray(0.0), batch[0].sum()), jax.tree.map(jnp.ones_like, eqx.filter(model, eqx.is_inexact_array))

    model = line(jax.random.key(0))
    trainer = Trainer(loss, optax.sgd(0.5), steps=4, batch=1, gradient=gradient)
    course = trainer(model, (X, Y), key=jax.random.key(1), order=[[0], [1], [2], [3]])
    np.testing.assert_allclose(course.model.bias, model.bias - 2)
    np.testing.assert_allclose(course.aux, X[:4, 0])
    free = Trainer(lambda model, batch, key: jnp.sum(model.bias**2), optax.sgd(0.5), steps=2)
    np.testing.assert_allclose(free(model, key=jax.random.key(1)).model.bias, 0, atol=1e-15)


def test_a_transformation_that_asks_for_it_gets_the_value():
    model = line(jax.random.key(0))
    trainer = Trainer(lambda model, batch, key: jnp.sum(model.bias**2) / 2, optax.polyak_sgd(1.0), steps=1)
    # the step is (value - 0) / |gradient|² times the gradient: half of the way
    np.testing.assert_allclose(trainer(model, key=jax.random.key(1)).model.bias, model.bias / 2, rtol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1: given 0"):
        Trainer(loss, optax.sgd(0.1), steps=0)
    with pytest.raises(ValueError, match="every must divide steps, 6: given 4"):
        Trainer(loss, optax.sgd(0.1), steps=6, every=4)
    with pytest.raises(ValueError, match="batch must be from 1 to 5, the number of examples: given 9"):
        Trainer(loss, optax.sgd(0.1), steps=1, batch=9)(line(jax.random.key(0)), (X, Y), key=jax.random.key(0))
    trainer = Trainer(loss, optax.sgd(0.1), steps=6, batch=1)
    with pytest.raises(ValueError, match="order must have a row for each of the 6 steps"):
        trainer(line(jax.random.key(0)), (X, Y), key=jax.random.key(0), order=[[0]])
    # JAX takes the last example in the place of one that is not there
    with pytest.raises(ValueError, match="order must be from 0 to 4: given 0 to 5"):
        trainer(line(jax.random.key(0)), (X, Y), key=jax.random.key(0), order=[[0], [5], [1], [2], [3], [4]])
    with pytest.raises(ValueError, match="data must have arrays with an axis of examples in front, as long in each"):
        trainer(line(jax.random.key(0)), (X, Y[:4]), key=jax.random.key(0))


def test_a_loss_that_is_not_finite_is_told():
    trainer = Trainer(lambda model, batch, key: jnp.exp(jnp.sum(model.bias)), optax.sgd(-1e3), steps=4, every=2)
    model = eqx.tree_at(lambda model: model.bias, line(jax.random.key(0)), jnp.zeros(1))
    with pytest.raises(FloatingPointError, match="not finite at step 1 of 4"):
        trainer(model, key=jax.random.key(0))


def test_a_loss_carries_a_state_of_its_own():
    """A running mean of the data that each step saw: alone and side by side, with figures and without."""
    x = jnp.arange(12.0)
    model = {"a": jnp.array(2.0)}

    def loss(model, batch, key, mean):
        mean = mean + 0.5 * (jnp.mean(batch) - mean)
        return (model["a"] - mean) ** 2, mean

    def with_figures(model, batch, key, mean):
        value, mean = loss(model, batch, key, mean)
        return value, (mean, jnp.max(batch))

    order = jnp.arange(12).reshape(6, 2)
    means, a, found = [], 2.0, 1.0
    for row in np.asarray(x)[np.asarray(order)]:
        found += 0.5 * (row.mean() - found)
        means.append((a - found) ** 2)
        a -= 0.1 * 2 * (a - found)
    for fun, aux in ((loss, False), (with_figures, True)):
        trainer = Trainer(fun, optax.sgd(0.1), steps=6, batch=2, every=3, carries=True, aux=aux)
        course = trainer(model, x, key=jax.random.key(0), order=order, carried=jnp.array(1.0))
        np.testing.assert_allclose(course.loss, means, rtol=1e-12)
        np.testing.assert_allclose((course.model["a"], course.carried), (a, found), rtol=1e-12)
        if aux:
            np.testing.assert_array_equal(course.aux, [1, 3, 5, 7, 9, 11])
    both = trainer.together(
        {"a": jnp.array([2.0, 5.0])},
        x,
        keys=jax.random.split(jax.random.key(0), 2),
        order=jnp.stack([order, order]),
        carried=jnp.array([1.0, 3.0]),
    )
    assert both.lane(0).carried == course.carried != both.lane(1).carried
    with pytest.raises(ValueError, match="carries=True and no first state"):
        trainer(model, x, key=jax.random.key(0))
