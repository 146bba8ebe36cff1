"""Ten images that stand for a thousand: python examples/distillation.py distillation.png [--full]."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, linear_model, utils

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

STRENGTH, STEPS = 1e-2, 300 if "--full" in sys.argv else 60

pixels, digits = utils.shuffle(*datasets.load_digits(return_X_y=True), random_state=0)
x, y = jnp.array(pixels / 16), jnp.array(digits)
TRAIN = 1200


# --8<-- [start:bilevel]
def cross_entropy(W, x, y):
    """The mean loss of a linear classifier."""
    return optax.softmax_cross_entropy_with_integer_labels(x @ W, y).mean()


def inner(W, images):
    """What the classifier minimizes: its loss on ten images, one a class, and a penalty."""
    return cross_entropy(W, images, jnp.arange(10)) + 0.5 * STRENGTH * jnp.sum(W**2)


def classifier(images):
    """Return the classifier that is trained on the images alone."""
    return dini.minimize(inner, jnp.zeros((64, 10)), images, solver=dini.LBFGS(rtol=1e-9)).x


def outer(images, x, y):
    """What the images are learned for: the classifier's loss on all the real images."""
    return cross_entropy(classifier(images), x, y)


# --8<-- [end:bilevel]
def check(images):
    """Return the relative error of a hypergradient along a direction, against differences."""
    direction = jax.random.normal(jax.random.key(0), images.shape)
    along = jnp.sum(value_and_slope(images, x[:TRAIN], y[:TRAIN])[1] * direction)
    value = lambda step: value_and_slope(images + step * direction, x[:TRAIN], y[:TRAIN])[0]
    wide, narrow = ((value(step) - value(-step)) / (2 * step) for step in (1e-3, 5e-4))
    return abs(float((4 * narrow - wide) / 3 / along) - 1)  # the error of order two cancels


value_and_slope = jax.jit(jax.value_and_grad(outer))


def main():
    """Learn ten images, compare the classifiers that they and others give, and draw where a file is named."""
    means = jnp.stack([x[:TRAIN][y[:TRAIN] == digit].mean(axis=0) for digit in range(10)])
    firsts = jnp.stack([x[:TRAIN][y[:TRAIN] == digit][0] for digit in range(10)])
    error = check(means)
    print(f"hypergradient: {error:.0e} from differences, relatively")
    optimizer = optax.adam(0.05)
    images, state, losses = means, optimizer.init(means), []
    update = jax.jit(optimizer.update)
    for _ in range(STEPS):
        value, slope = value_and_slope(images, x[:TRAIN], y[:TRAIN])
        updates, state = update(slope, state)
        images = images + updates
        losses.append(float(value))
    print(f"loss on the real images {losses[0]:.3f} -> {losses[-1]:.3f}")
    fit = jax.jit(classifier)
    accuracy = lambda scores: 100 * float(jnp.mean(scores.argmax(axis=1) == y[TRAIN:]))
    results = {
        "ten images, one a class": accuracy(x[TRAIN:] @ fit(firsts)),
        "ten mean images": accuracy(x[TRAIN:] @ fit(means)),
        "ten distilled images": accuracy(x[TRAIN:] @ fit(images)),
    }
    model = linear_model.LogisticRegression(max_iter=5000).fit(np.asarray(x[:TRAIN]), digits[:TRAIN])
    results[f"all {TRAIN} images"] = 100 * model.score(np.asarray(x[TRAIN:]), digits[TRAIN:])
    for name, right in results.items():
        print(f"{name:24s} test accuracy {right:.1f} %")
    assert error < 1e-5
    assert results["ten distilled images"] > results["ten mean images"]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], means, images)


def draw(path, means, images):
    """Draw the mean images above the distilled ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 13
    figure, axes = plt.subplots(2, 5, figsize=(6.4, 3.6), layout="constrained")
    for digit, axis in enumerate(axes.flat):
        both = jnp.concatenate([means[digit].reshape(8, 8), images[digit].reshape(8, 8)])
        axis.imshow(both, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
        axis.axhline(7.5, color="k", linewidth=2)
        axis.set(xticks=[], yticks=[])
    figure.suptitle("Mean images, and the distilled ones below")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
