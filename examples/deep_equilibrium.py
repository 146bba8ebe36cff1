"""A classifier whose layer is a fixed point: python examples/deep_equilibrium.py deep_equilibrium.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, linear_model, neural_network, utils

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

WIDTH, STEPS, TRAIN = 40, 200, 1200

pixels, digits = utils.shuffle(*datasets.load_digits(return_X_y=True), random_state=0)
x, y = jnp.array(pixels / 16), jnp.array(digits)


# --8<-- [start:model]
def cell(z, x, weights):
    """One application of the layer; the weight matrix is scaled so that the map is a contraction."""
    W = 0.9 * weights["W"] / jnp.maximum(jnp.linalg.norm(weights["W"], 2), 0.9)
    return jnp.tanh(W @ z + weights["U"] @ x + weights["b"])


def logits(weights, differentiation, solver, x):
    """Return the scores of the ten digits for one image, and the number of steps to the fixed point."""
    found = dini.fixed_point(cell, jnp.zeros(WIDTH), x, weights, solver=solver, differentiation=differentiation)
    return weights["V"] @ found.x + weights["c"], found.stats.steps


def loss(weights, differentiation, solver, x, y):
    """Mean cross-entropy of a batch, and the mean number of steps."""
    scores, steps = jax.vmap(logits, (None, None, None, 0))(weights, differentiation, solver, x)
    return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean(), steps.mean()


# --8<-- [end:model]


def initial(key):
    """Return weights to start from."""
    keys = jax.random.split(key, 3)
    return {
        "W": jax.random.normal(keys[0], (WIDTH, WIDTH)) / np.sqrt(WIDTH),
        "U": jax.random.normal(keys[1], (WIDTH, 64)) / 8,
        "b": jnp.zeros(WIDTH),
        "V": jax.random.normal(keys[2], (10, WIDTH)) / np.sqrt(WIDTH),
        "c": jnp.zeros(10),
    }


ADAM, ANDERSON = optax.adam(1e-2), dini.Anderson(rtol=1e-5)
slope = jax.jit(jax.value_and_grad(loss, has_aux=True))
classes = jax.jit(lambda *given: jax.vmap(logits, (None, None, None, 0))(*given)[0].argmax(1))


def train(differentiation):
    """Return trained weights, with losses and numbers of steps along the way."""
    weights = initial(jax.random.key(0))
    state, history, update = ADAM.init(weights), [], jax.jit(ADAM.update)
    for key in jax.random.split(jax.random.key(1), STEPS):
        batch = jax.random.choice(key, TRAIN, (100,), replace=False)
        found, gradient = slope(weights, differentiation, ANDERSON, x[batch], y[batch])
        updates, state = update(gradient, state)
        weights = optax.apply_updates(weights, updates)
        history.append(found)
    return weights, np.array(history, dtype=float)


def gradient_errors(weights):
    """Return the relative errors of a directional derivative (against differences) and of a Jacobian-free gradient."""
    precise, given = dini.Anderson(rtol=1e-12), (x[:100], y[:100])
    gradient = slope(weights, dini.Implicit(), precise, *given)[1]
    rough = slope(weights, dini.JacobianFree(), precise, *given)[1]
    direction = initial(jax.random.key(2))

    def moved(step):
        there = jax.tree.map(lambda w, d: w + step * d, weights, direction)
        return slope(there, dini.Implicit(), precise, *given)[0][0]

    along = optax.tree.vdot(gradient, direction)
    exact = abs(1 - (moved(1e-5) - moved(-1e-5)) / 2e-5 / along)
    return exact, optax.tree.norm(optax.tree.sub(rough, gradient)) / optax.tree.norm(gradient)


def main():
    """Train by exact and by Jacobian-free gradients, print accuracies beside other models, and draw."""
    runs = {"implicit": train(dini.Implicit()), "Jacobian-free": train(dini.JacobianFree())}
    accuracies = {}
    for name, (weights, history) in runs.items():
        right = classes(weights, dini.Implicit(), ANDERSON, x[TRAIN:]) == y[TRAIN:]
        accuracies[name] = 100 * float(right.mean())
        print(f"{name:13s} loss {history[-10:, 0].mean():.3f}, steps to the fixed point {history[-10:, 1].mean():.1f}")
    for name, model in (
        ("logistic", linear_model.LogisticRegression(max_iter=2000)),
        ("one hidden layer", neural_network.MLPClassifier((WIDTH,), solver="lbfgs", max_iter=2000, random_state=0)),
    ):
        accuracies[name] = 100 * model.fit(x[:TRAIN], y[:TRAIN]).score(x[TRAIN:], y[TRAIN:])
    print("test accuracy:", ", ".join(f"{name} {accuracy:.1f} %" for name, accuracy in accuracies.items()))
    exact, rough = gradient_errors(runs["implicit"][0])
    print(f"error of the exact gradient {exact:.0e} (against differences), of the Jacobian-free one {rough:.2f}")
    assert exact < 1e-5 < rough
    assert accuracies["implicit"] > 90
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], {name: history for name, (_, history) in runs.items()})


def draw(path, histories):
    """Draw losses and numbers of steps along the training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained")
    for (name, history), color in zip(histories.items(), ("#0072B2", "#D55E00"), strict=True):
        for axis, column in zip(axes, history.T, strict=True):
            axis.plot(column, color=color, linewidth=2, label=name)
    axes[0].set(xlabel="step of Adam", title="loss", yscale="log")
    axes[1].set(xlabel="step of Adam", title="steps to the fixed point")
    axes[0].legend(fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
