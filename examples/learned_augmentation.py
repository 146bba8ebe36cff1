"""Learn how far to move images for training: python examples/learned_augmentation.py learned_augmentation.png.

With `--full` for more of a grid, a random search and a check of the derivative.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import dini

dini.keep_programs()

TRAIN, VALIDATION, COPIES, FEATURES = 100, 600, 6, 96
NAMES = ["shift across", "shift down", "rotation", "zoom", "shear", "noise"]
SHAPE = (FEATURES + 1, 10)
START = np.array([-3.0] * 6 + [-6.5])
BOX = dini.sets.Box(np.array([-6.0] * 6 + [-9.0]), np.array([1.0] * 6 + [0.0]))


def data(seed):
    """Return images and labels to train on, to validate, and for the test."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    X, y = jnp.asarray(X[order].reshape(-1, 8, 8) / 16.0), jnp.asarray(y[order])
    ends = [0, TRAIN, TRAIN + VALIDATION, len(y)]
    return [(X[a:b], y[a:b]) for a, b in itertools.pairwise(ends)]


# --8<-- [start:augment]
def sampled(image, rows, columns):
    """Return an image between its pixels, by cubic convolution (Keys 1981): smooth in where it is looked at."""

    def weights(at):
        t = jnp.abs(at[:, None] - jnp.arange(8.0))
        near, far = (1.5 * t - 2.5) * t**2 + 1.0, ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
        return jnp.where(t < 1.0, near, jnp.where(t < 2.0, far, 0.0))

    return jnp.sum((weights(rows) @ image) * weights(columns), axis=1)


def augmented(image, strengths, draws):
    """Return an image moved by random amounts of the given strengths, with noise, flat."""
    right, down, turn, zoom, shear = strengths[:5] * draws[:5]
    at = jnp.stack(jnp.meshgrid(jnp.arange(8.0), jnp.arange(8.0), indexing="ij")).reshape(2, 64) - 3.5
    rotation = jnp.array([[jnp.cos(turn), -jnp.sin(turn)], [jnp.sin(turn), jnp.cos(turn)]])
    rows, columns = jnp.exp(zoom) * rotation @ jnp.array([[1.0, 0.0], [shear, 1.0]]) @ at + 3.5
    return sampled(image, rows + down, columns + right) + strengths[5] * draws[5:]


# --8<-- [end:augment]
def features(images):
    """Return fixed random features of flat images, and a one."""
    W = np.random.default_rng(0).normal(size=(64, FEATURES)) / 2.0
    return jnp.concatenate([jnp.tanh((images - 0.3) @ W), jnp.ones((len(images), 1))], axis=1)


def loss(w, X, y):
    """Return the mean cross-entropy."""
    scores = X @ w
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0])


# --8<-- [start:fit]
def fit(theta, data):
    """Return the problem of a fit to augmented copies, with the same random amounts whatever the strengths."""
    images, labels = data
    draws = jax.random.normal(jax.random.key(0), (COPIES, len(labels), 69))
    copy = jax.vmap(augmented, (0, None, 0))
    X = jnp.concatenate([copy(images, jnp.exp(theta[:6]), now) for now in draws])
    X, y = features(X), jnp.tile(labels, COPIES)
    return dini.Minimize(lambda w: loss(w, X, y) + 0.5 * jnp.exp(theta[6]) * jnp.sum(w**2))


def validated(w, theta, data):
    """Return the loss on images as they are."""
    return loss(w, features(data[0].reshape(-1, 64)), data[1])


def learn(train, validation):
    """Return the strengths and the penalty after 30 steps, as logarithms."""
    method = dini.bilevel.HOAG(validated, lambda theta: fit(theta, train), constraint=BOX)
    state = method.init(START, jnp.zeros(SHAPE), validation)
    for _ in range(30):
        state = method.step(state, validation)
    return state.theta


# --8<-- [end:fit]
@jax.jit
def judged(theta, train, test):
    """Return the loss and the accuracy of a fit on images as they are."""
    w = dini.solve(fit(theta, train), dini.LBFGS(rtol=1e-3), jnp.zeros(SHAPE)).x
    X = features(test[0].reshape(-1, 64))
    return loss(w, X, test[1]), jnp.mean(jnp.argmax(X @ w, axis=1) == test[1])


def gradient_error(train, validation):
    """Return how far the hypergradient is from a difference along a random direction, relative."""

    @jax.jit
    def at(theta):
        how = {"outer_args": (validation,), "solver": dini.LBFGS(rtol=1e-10)}
        return dini.bilevel.value_and_hypergradient(validated, lambda t: fit(t, train), theta, jnp.zeros(SHAPE), **how)

    direction = jax.random.normal(jax.random.key(1), START.shape)
    difference = (at(START + 1e-4 * direction).value - at(START - 1e-4 * direction).value) / 2e-4
    return float(abs(jnp.vdot(at(START).gradient, direction) / difference - 1))


def searched(candidates, train, validation):
    """Return the candidate with the smallest loss in validation."""
    return min(candidates, key=lambda theta: float(judged(theta, train, validation)[0]))


def compare(parts, grid, random):
    """Return the strengths that each way of choosing them chooses."""
    train, validation, _ = parts
    theta = lambda strength, penalty: jnp.array([strength] * 6 + [penalty])
    none = [theta(-jnp.inf, penalty) for penalty in (-8.0, -6.5, -5.0)]
    chosen = {"none": searched(none, train, validation)}
    chosen["one strength for all, by a grid"] = searched([theta(s, -6.5) for s in grid], train, validation)
    if random:
        drawn = np.random.default_rng(0).uniform([-5.0] * 6 + [-8.0], [-0.5] * 6 + [-5.0], (random, 7))
        chosen[f"{random} random searches"] = searched(list(jnp.asarray(drawn)), train, validation)
    return chosen | {"by hypergradients": learn(train, validation)}


def main():
    """Choose the strengths in several ways, compare, and draw images where a file is named."""
    jax.config.update("jax_enable_x64", True)
    full = "--full" in sys.argv
    parts = train, validation, test = data(0)
    if full:
        error = gradient_error(train, validation)
        print(f"hypergradient against a difference: {error:.1e} relative")
        assert error < 1e-5
    chosen = compare(parts, (-3.5, -3.0, -2.5, -2.0, -1.5) if full else (-3.0, -2.0), 6 if full else 0)
    losses = {}
    for name, theta in chosen.items():
        (validated, _), (tested, accuracy) = (judged(theta, train, on) for on in (validation, test))
        losses[name] = float(validated)
        print(f"{name}: validation loss {validated:.3f}, test loss {tested:.3f}, test accuracy {accuracy:.3f}")
    learned = chosen["by hypergradients"]
    print("strengths:", ", ".join(f"{name} {s:.3f}" for name, s in zip(NAMES, jnp.exp(learned), strict=False)))
    assert min(losses, key=losses.__getitem__) == "by hypergradients"
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], learned)


def draw(path, theta):
    """Draw four images of the training, and copies of each with the learned strengths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(3, 6, figsize=(6.4, 3.6), layout="constrained")
    X, y = data(0)[0]
    images = [X[jnp.argmax(y == digit)] for digit in (2, 4, 7)]
    for row, key in zip(range(3), jax.random.split(jax.random.key(5), 3), strict=True):
        draws = jax.random.normal(key, (5, 69))
        copies = [augmented(images[row], jnp.exp(theta[:6]), now).reshape(8, 8) for now in draws]
        for axis, image in zip(axes[row], [images[row], *copies], strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    axes[0, 0].set_title("given")
    axes[0, 3].set_title("as the fit sees it, learned strengths")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
