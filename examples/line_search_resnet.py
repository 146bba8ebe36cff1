"""A small ResNet by line search: python examples/line_search_resnet.py line_search_resnet.png [--full]."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, utils

import dini

dini.keep_programs()

WIDTH, BATCH, TRAIN = 8, 50, 1200
EPOCHS = 30 if "--full" in sys.argv else 10

pixels, digits = utils.shuffle(*datasets.load_digits(return_X_y=True), random_state=0)
x, y = jnp.array(pixels / 16, dtype=jnp.float32).reshape(-1, 1, 8, 8), jnp.array(digits)


class Block(eqx.Module):
    """Two convolutions with normalization, added to what comes in."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    norms: list

    def __init__(self, key):
        """Draw the weights."""
        keys = jax.random.split(key)
        self.first, self.second = (eqx.nn.Conv2d(WIDTH, WIDTH, 3, padding=1, key=key) for key in keys)
        self.norms = [eqx.nn.GroupNorm(2, WIDTH), eqx.nn.GroupNorm(2, WIDTH)]

    def __call__(self, x):
        """Return the sum for one image."""
        h = self.first(jax.nn.relu(self.norms[0](x)))
        return x + self.second(jax.nn.relu(self.norms[1](h)))


class ResNet(eqx.Module):
    """Two blocks, the second at half the resolution, and a linear classifier of the means."""

    stem: eqx.nn.Conv2d
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, key):
        """Draw the weights."""
        keys = jax.random.split(key, 4)
        self.stem = eqx.nn.Conv2d(1, WIDTH, 3, padding=1, key=keys[0])
        self.blocks = [Block(keys[1]), Block(keys[2])]
        self.head = eqx.nn.Linear(4 * WIDTH, 10, key=keys[3])

    def __call__(self, x):
        """Return the ten scores of one image."""
        h = self.blocks[0](self.stem(x))
        h = self.blocks[1](eqx.nn.AvgPool2d(2, 2)(h))
        return self.head(eqx.nn.AvgPool2d(2, 2)(h).ravel())


# --8<-- [start:problem]
weights, shape = eqx.partition(ResNet(jax.random.key(0)), eqx.is_array)


def loss(weights, batch):
    """The mean cross-entropy of a batch; the unknown of the problem is the model's arrays."""
    scores = jax.vmap(eqx.combine(weights, shape))(batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(scores, batch[1]).mean()


problem = dini.Minimize(loss)
SOLVERS = {
    "ArmijoSGD": dini.ArmijoSGD(atol=0.0),
    "PolyakSGD": dini.PolyakSGD(atol=0.0),
    "Adam, rate 1e-2": dini.OptaxSolver(optax.adam(1e-2), atol=0.0),
    "Adam, rate 1e-3": dini.OptaxSolver(optax.adam(1e-3), atol=0.0),
    "SGD, rate 1e-1": dini.OptaxSolver(optax.sgd(1e-1), atol=0.0),
}


def batches(epoch):
    """An epoch of batches in random order."""
    order = np.random.default_rng(epoch).permutation(TRAIN).reshape(-1, BATCH)
    return ((x[rows], y[rows]) for rows in order)


def trained(solver):
    """Return the weights, and the loss on all training images after each epoch."""
    found, state, losses = weights, None, []
    for epoch in range(EPOCHS):
        solution = dini.run_iterator(problem, solver, found, batches(epoch), state=state)
        found, state = solution.x, solution.state
        losses.append(float(everything(found, (x[:TRAIN], y[:TRAIN]))))
    return found, losses


# --8<-- [end:problem]
everything = jax.jit(loss)
scores = jax.jit(lambda weights, x: jax.vmap(eqx.combine(weights, shape))(x).argmax(axis=1))


def main():
    """Train by each solver, print losses and accuracies, and draw where a file is named."""
    print(f"after {EPOCHS} epochs, {EPOCHS * TRAIN // BATCH} steps:   loss   test accuracy")
    results = {}
    for name, solver in SOLVERS.items():
        found, losses = trained(solver)
        accuracy = 100 * float(jnp.mean(scores(found, x[TRAIN:]) == y[TRAIN:]))
        results[name] = losses
        print(f"{name:24s} {losses[-1]:8.4f}   {accuracy:6.1f} %")
        if name in ("ArmijoSGD", "PolyakSGD"):
            assert accuracy > 90
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], results)


def draw(path, results):
    """Draw the training losses."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    colors, styles = ["#0072B2", "#D55E00", "#009E73", "#009E73", "0.5"], ["-", "-", "-", "--", "-"]
    for (name, losses), color, style in zip(results.items(), colors, styles, strict=True):
        axis.semilogy(range(1, 1 + len(losses)), losses, style, color=color, linewidth=2.5, label=name)
    axis.set(xlabel="epoch", ylabel="loss, all training images", title="A ResNet on digits, steps of five kinds")
    axis.legend(fontsize=10)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
