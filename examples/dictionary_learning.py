"""A dictionary for a task: python examples/dictionary_learning.py dictionary_learning.png [--full]."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, decomposition, linear_model, utils

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

ATOMS, NOISE, TRAIN, BATCH = 40, 0.25, 600, 100
STEPS = 300 if "--full" in sys.argv else 60

images = jnp.array(utils.shuffle(datasets.load_digits().data / 16, random_state=0)[: TRAIN + 400])
noisy = images + NOISE * jax.random.normal(jax.random.key(0), images.shape)


# --8<-- [start:codes]
fit = dini.LinearComposite(lambda z, w, D, image: 0.5 * jnp.sum((z - image) ** 2), lambda D, image: D)


def code(D, log_strength, image):
    """The sparse code of an image: a Lasso whose features are the atoms, the rows of `D`."""
    problem = dini.Minimize(fit, penalty=dini.penalties.L1(jnp.exp(log_strength)))
    return dini.solve(problem, dini.CoordinateDescent(), jnp.zeros(ATOMS), D, image).x


def denoised(weights, image):
    """The combination of atoms that an image's code stands for; atoms have length one."""
    D = weights["D"] / jnp.linalg.norm(weights["D"], axis=1, keepdims=True)
    return code(D, weights["log_strength"], image) @ D


def loss(weights, noisy, images):
    """How far the denoised images are from the images without noise."""
    return jnp.mean((jax.vmap(denoised, (None, 0))(weights, noisy) - images) ** 2)


# --8<-- [end:codes]
value_and_slope = jax.jit(jax.value_and_grad(loss))
part = jax.jit(loss)


def error(weights, noisy, images):
    """The loss of many images, in parts of one size."""
    halves = zip(noisy.reshape(-1, BATCH, 64), images.reshape(-1, BATCH, 64), strict=True)
    return float(np.mean([part(weights, *pair) for pair in halves]))


def tuned_strength(D):
    """Return the weights of a dictionary with the best of a grid of strengths, on the training images."""
    grid = [{"D": D, "log_strength": jnp.log(strength)} for strength in (0.1, 0.2, 0.3, 0.5, 0.8)]
    return min(grid, key=lambda weights: error(weights, noisy[:TRAIN], images[:TRAIN]))


def trained(weights):
    """Return the dictionary and strength after steps of Adam through the codes, with new noise in each."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, STEPS))
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    for key in jax.random.split(jax.random.key(1), STEPS):
        keys = jax.random.split(key)
        batch = images[jax.random.choice(keys[0], TRAIN, (BATCH,), replace=False)]
        seen = batch + NOISE * jax.random.normal(keys[1], batch.shape)
        updates, state = update(value_and_slope(weights, seen, batch)[1], state)
        weights = optax.apply_updates(weights, updates)
    return weights


def check(weights):
    """Return the relative error of a slope along a direction, against differences."""
    few, direction = (noisy[:BATCH], images[:BATCH]), jax.random.normal(jax.random.key(2), weights["D"].shape)
    along = jnp.sum(value_and_slope(weights, *few)[1]["D"] * direction)
    ends = [value_and_slope(weights | {"D": weights["D"] + step * direction}, *few)[0] for step in (1e-6, -1e-6)]
    return abs(float((ends[0] - ends[1]) / 2e-6 / along) - 1)


def main():
    """Learn dictionaries without and with the task, compare them on new images, and draw where a file is named."""
    learner = decomposition.MiniBatchDictionaryLearning(
        ATOMS, alpha=0.3, batch_size=100, max_iter=30, random_state=0, fit_algorithm="cd"
    )
    free = tuned_strength(jnp.array(learner.fit(np.asarray(images[:TRAIN])).components_))
    wrong = check(free)
    print(f"slope in the dictionary: {wrong:.0e} from differences, relatively")
    learned = trained(free)
    test = noisy[TRAIN:], images[TRAIN:]
    ridge = linear_model.Ridge(alpha=10.0).fit(np.asarray(noisy[:TRAIN]), np.asarray(images[:TRAIN]))
    linear = jnp.mean((ridge.predict(np.asarray(test[0])) - test[1]) ** 2)
    errors = {
        "noisy images": jnp.mean((test[0] - test[1]) ** 2),
        "linear map, by ridge": linear,
        "dictionary of clean images": error(free, *test),
        "dictionary for the task": error(learned, *test),
    }
    for name, squares in errors.items():
        print(f"{name:28s} error of a new image {squares:.5f}, {-10 * np.log10(squares):.2f} dB")
    own = [error(weights, noisy[:TRAIN], images[:TRAIN]) for weights in (free, learned)]
    print(f"on the training images, with noise that was not trained with: {own[0]:.5f} and {own[1]:.5f}")
    strengths = [float(jnp.exp(weights["log_strength"])) for weights in (free, learned)]
    print(f"strength of the penalty {strengths[0]:.2f} -> {strengths[1]:.2f}")
    assert wrong < 1e-5
    assert errors["dictionary for the task"] < errors["dictionary of clean images"]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], learned)


def draw(path, learned):
    """Draw some atoms, and an image before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure = plt.figure(figsize=(6.4, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    for atom, axis in zip(learned["D"], left.subplots(4, 5).flat, strict=False):
        top = float(jnp.abs(atom).max())
        axis.imshow(atom.reshape(8, 8), cmap="RdBu_r", vmin=-top, vmax=top)
        axis.set(xticks=[], yticks=[])
    left.suptitle("atoms")
    shown = {"image": images[TRAIN:], "noisy": noisy[TRAIN:]}
    shown["denoised"] = jax.jit(jax.vmap(denoised, (None, 0)))(learned, noisy[TRAIN : TRAIN + 3])
    axes = right.subplots(3, 3)
    for column, (name, of) in zip(axes.T, shown.items(), strict=True):
        for axis, image in zip(column, of[:3], strict=True):
            axis.imshow(image.reshape(8, 8), cmap="Greys", vmin=-0.1, vmax=1.1)
            axis.set(xticks=[], yticks=[])
        column[0].set_title(name, fontsize=12)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
