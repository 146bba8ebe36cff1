"""Hypergradients of random splits: python examples/sampled_hypergradient.py sampled_hypergradient.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, preprocessing

import dini
from dini_zoo.optimizers.adadagrad import BatchSizeController, accumulate, adagrad_norm, norm_test

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

TRAIN = 60  # of 442 patients; the others validate
X, y = (jnp.asarray(preprocessing.scale(part)) for part in datasets.load_diabetes(return_X_y=True))


# --8<-- [start:loss]
def objective(w, log_strengths, X, y):
    """What training minimizes: a penalty of its own strength for each weight."""
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * jnp.sum(jnp.exp(log_strengths) * w**2)


def loss(log_strengths, key):
    """The error, on most patients, of weights that a random few give."""
    order = jax.random.permutation(key, len(y))
    train, validation = order[:TRAIN], order[TRAIN:]
    w = dini.minimize(objective, jnp.zeros(10), log_strengths, X[train], y[train], solver=dini.Newton()).x
    return 0.5 * jnp.mean((X[validation] @ w - y[validation]) ** 2)


# --8<-- [end:loss]
# --8<-- [start:step]
controller, optimizer = BatchSizeController(4, 256), adagrad_norm(1.0, 1e-6)


@jax.jit
def step(log_strengths, state, control, key, tested):
    """One step with hypergradients of as many splits as `control` says, which the test then updates."""
    # arrays of one length for all sizes: parts of eight that only fill up are skipped
    keys = jax.random.split(key, controller.largest)
    live = (jnp.arange(controller.largest) < control.size).astype(float)
    found = accumulate(lambda key: jax.grad(loss)(log_strengths, key), keys, weights=live, micro_batch=8)
    updates, state = optimizer.update(found.mean, state)
    after = controller.update(control, norm_test(found, eta=0.7))
    return log_strengths + updates, state, jax.tree.map(lambda a, b: jnp.where(tested, a, b), after, control)


# --8<-- [end:step]
@jax.jit
def mean_loss(log_strengths):
    """The loss that all methods aim at, of 64 splits that none of them takes."""
    return jnp.mean(jax.lax.map(lambda key: loss(log_strengths, key), jax.random.split(jax.random.key(1), 64)))


def run(size, tested):
    """Return the losses, the numbers of splits and the last strengths of forty steps that begin with `size` splits."""
    log_strengths = jnp.full(10, -4.0)
    control = controller.init()._replace(size=jnp.asarray(size))
    state, sizes, losses = optimizer.init(log_strengths), [], [mean_loss(log_strengths)]
    for key in jax.random.split(jax.random.key(0), 40):
        sizes.append(int(control.size))
        log_strengths, state, control = step(log_strengths, state, control, key, tested)
        losses.append(mean_loss(log_strengths))
    return np.array(losses, dtype=float), np.array(sizes), log_strengths


def main():
    """Tune ten strengths with few, with many and with tested numbers of splits, and draw where a file is named."""
    value, slope = jax.jit(loss), jax.jit(jax.grad(loss))
    at, unit, key = jnp.full(10, -2.0), jnp.eye(10)[0], jax.random.key(2)
    difference = (value(at + 1e-4 * unit, key) - value(at - 1e-4 * unit, key)) / 2e-4
    error = abs(float(difference / slope(at, key)[0]) - 1)
    print(f"hypergradient of one split: {error:.0e} from differences, relatively")
    runs = {"4 splits": run(4, False), "as tested": run(4, True), "32 splits": run(32, False)}
    print("               splits in all   loss before   after   least")
    for name, (losses, sizes, _) in runs.items():
        print(f"{name:12s}  {sizes.sum():14d}  {losses[0]:12.4f}  {losses[-1]:6.4f}  {losses.min():6.4f}")
    losses, sizes, log_strengths = runs["as tested"]
    print("splits a step:", *sizes[::6])
    print("strengths", *(f"{strength:.2f}" for strength in jnp.exp(log_strengths)))
    assert error < 1e-5
    assert losses[-1] < losses[0]
    assert sizes[0] < sizes[-1]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], runs)


def draw(path, runs):
    """Draw the loss against the splits solved so far, and the numbers of splits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained", width_ratios=[1.4, 1])
    for (name, (losses, sizes, _)), color in zip(runs.items(), ("#E69F00", "#0072B2", "#D55E00"), strict=True):
        left.plot(np.concatenate([[1], np.cumsum(sizes)]), losses, color=color, label=name, linewidth=2.5)
        right.step(range(len(sizes)), sizes, color=color, linewidth=2.5)
    left.set(xscale="log", xlabel="splits solved", title="mean loss of new splits")
    right.set(xlabel="step", title="splits of a step")
    left.legend(fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
