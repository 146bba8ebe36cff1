"""Tune a penalty by hypergradients of random splits, as many at each step as a test of their spread asks for."""

import functools

import jax
import jax.numpy as jnp
from sklearn import datasets, preprocessing

import dini
from dini_zoo.optimizers.adadagrad import BatchSizeController, accumulate, adagrad_norm, norm_test

TRAIN = 60  # of 442 patients; the others validate


def objective(w, log_strengths, X, y):
    """What training minimizes: a penalty of its own strength for each weight."""
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * jnp.sum(jnp.exp(log_strengths) * w**2)


def validation_loss(log_strengths, key, X, y):
    """The error, on most patients, of weights that a random few give."""
    order = jax.random.permutation(key, len(y))
    train, validation = order[:TRAIN], order[TRAIN:]
    w = dini.minimize(objective, jnp.zeros(X.shape[1]), log_strengths, X[train], y[train]).x
    return 0.5 * jnp.mean((X[validation] @ w - y[validation]) ** 2)


def main():
    """Print how many splits a step takes, and the mean loss of many splits before and after."""
    X, y = datasets.load_diabetes(return_X_y=True)
    X, y = jnp.asarray(preprocessing.scale(X)), jnp.asarray(preprocessing.scale(y))
    loss = functools.partial(validation_loss, X=X, y=y)
    controller, optimizer = BatchSizeController(4, 256), adagrad_norm(1.0, 1e-6)

    @jax.jit
    def step(log_strengths, state, control, key):
        # arrays of one length for all sizes: parts of eight that only fill up are skipped
        keys = jax.random.split(key, controller.largest)
        live = (jnp.arange(controller.largest) < control.size).astype(float)
        found = accumulate(lambda key: jax.grad(loss)(log_strengths, key), keys, weights=live, micro_batch=8)
        updates, state = optimizer.update(found.mean, state)
        control = controller.update(control, norm_test(found, eta=0.7))
        return log_strengths + updates, state, control

    @jax.jit
    def mean_loss(log_strengths):
        return jnp.mean(jax.lax.map(functools.partial(loss, log_strengths), jax.random.split(jax.random.key(1), 64)))

    log_strengths = jnp.full(X.shape[1], -4.0)
    first, state, control, sizes = mean_loss(log_strengths), optimizer.init(log_strengths), controller.init(), []
    for key in jax.random.split(jax.random.key(0), 40):
        sizes.append(int(control.size))
        log_strengths, state, control = step(log_strengths, state, control, key)
    last = mean_loss(log_strengths)
    print("splits a step:", *sizes[::6], f"- {sum(sizes)} in all; {len(sizes) * sizes[-1]} had all steps been as exact")
    print(f"validation loss {first:.4f} -> {last:.4f}")
    print("strengths", *(f"{strength:.2f}" for strength in jnp.exp(log_strengths)))
    assert last < first
    assert sizes[0] == controller.initial < sizes[-1]


if __name__ == "__main__":
    main()
