"""Shortest paths learned from paths: python examples/perturbed_optimizers.py perturbed_optimizers.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import ensemble

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

SIZE, FEATURES, STEPS = 8, 4, 100


# --8<-- [start:path]
def length(costs):
    """The least sum of costs from the upper left corner to the lower right one, right, down or both at a step."""
    far = 1e6

    def sweep(sums, _):
        padded = jnp.pad(sums, ((1, 0), (1, 0)), constant_values=far)
        before = jnp.minimum(jnp.minimum(padded[:-1, 1:], padded[1:, :-1]), padded[:-1, :-1])
        return (costs + before).at[0, 0].set(costs[0, 0]), None

    start = jnp.full((SIZE, SIZE), far).at[0, 0].set(costs[0, 0])
    return jax.lax.scan(sweep, start, None, length=2 * SIZE)[0][-1, -1]


# the cells of the shortest path: ones and zeros, the derivative of its length. It jumps with the costs.
path = jax.grad(length)
smooth = dini.perturbed.Perturbed(lambda theta: path(-theta), sigma=0.5, samples=16, noise="gaussian")


def loss(weights, key, cells, shown):
    """How far the perturbed paths of the predicted costs are from the paths that were shown."""
    keys = jax.random.split(key, len(shown))
    return jnp.mean(jax.vmap(smooth.loss)(keys, -costs(weights, cells), shown))


# --8<-- [end:path]
def costs(weights, cells):
    """Return positive costs, by a small network of each cell's features."""
    hidden = jnp.tanh(cells @ weights["U"] + weights["u"])
    return jax.nn.softplus(hidden @ weights["v"] + weights["c"])


def maps(key, number):
    """Return features of cells, their true costs, and the shortest paths."""
    cells = jax.random.normal(key, (number, SIZE, SIZE, FEATURES))
    true = jnp.exp(0.7 * cells[..., 0] - 0.7 * cells[..., 1] * cells[..., 2])  # the fourth says nothing
    return cells, true, jax.vmap(path)(true)


def trained(weights, cells, shown):
    """Return weights after steps of Adam on the loss, and the losses."""
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(weights, state, key):
        keys = jax.random.split(key)
        batch = jax.random.choice(keys[1], len(shown), (50,), replace=False)
        value, slope = jax.value_and_grad(loss)(weights, keys[0], cells[batch], shown[batch])
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(weights, updates), state, value

    state = optimizer.init(weights)
    for key in jax.random.split(jax.random.key(3), STEPS):
        weights, state, _ = step(weights, state, key)
    return weights


def check(weights, cells, shown):
    """Return the relative error of the loss's slope, for one key, against differences."""
    value_and_slope = jax.jit(jax.value_and_grad(loss))
    key, direction = jax.random.key(4), jax.tree.map(jnp.ones_like, weights)
    along = optax.tree.vdot(value_and_slope(weights, key, cells, shown)[1], direction)
    ends = [value_and_slope(optax.tree.add_scale(weights, h, direction), key, cells, shown)[0] for h in (1e-7, -1e-7)]
    return abs(float((ends[0] - ends[1]) / 2e-7 / along) - 1)


def main():
    """Learn costs from paths, and compare the paths that they lead to on new maps; draw where a file is named."""
    draw_key = jax.random.split(jax.random.key(0), 4)
    cells, _, shown = maps(draw_key[0], 200)
    new, true, best = maps(draw_key[1], 300)
    weights = {
        "U": jax.random.normal(draw_key[2], (FEATURES, 16)),
        "u": jnp.zeros(16),
        "v": jax.random.normal(draw_key[3], (16,)) / 4,
        "c": jnp.zeros(()),
    }
    error = check(weights, cells[:5], shown[:5])
    print(f"slope of the loss: {error:.0e} from differences, relatively")
    learned = trained(weights, cells, shown)
    # the plain alternative: how likely is a cell to be on a path, given its features and its place?
    place = np.moveaxis(np.indices((SIZE, SIZE)), 0, -1)
    rows = lambda cells: np.concatenate(
        [np.asarray(cells), np.broadcast_to(place, (len(cells), SIZE, SIZE, 2))], axis=-1
    ).reshape(-1, FEATURES + 2)
    model = ensemble.HistGradientBoostingClassifier(random_state=0).fit(rows(cells), np.asarray(shown).ravel() > 0.5)
    unlikely = -np.log(model.predict_proba(rows(new))[:, 1]).reshape(-1, SIZE, SIZE)
    paths = {
        "all costs alike": jax.vmap(path)(1.0 + 1e-6 * true),
        "cells classified": jax.vmap(path)(jnp.array(unlikely)),
        "costs learned": jax.vmap(path)(costs(learned, new)),
    }
    least = jnp.sum(best * true, axis=(1, 2))
    excess = {name: jnp.mean(jnp.sum(found * true, axis=(1, 2)) / least) - 1 for name, found in paths.items()}
    print("on new maps         cost above the least    paths that are the shortest")
    for name, found in paths.items():
        same = 100 * float(jnp.mean(jnp.all(jnp.abs(found - best) < 0.5, axis=(1, 2))))
        print(f"{name:18s}  {100 * float(excess[name]):17.1f} %  {same:26.1f} %")
    ours, known = costs(learned, new).ravel(), true.ravel()
    alike = np.corrcoef(jnp.log(ours), jnp.log(known))[0, 1]
    print(f"correlation of the logarithms of learned and true costs {alike:.2f}")
    assert error < 1e-5
    assert excess["costs learned"] < excess["cells classified"]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], true[0], best[0], {name: found[0] for name, found in paths.items()}, excess)


def draw(file, true, best, paths, excess):
    """Draw a new map with three paths, and what the paths cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained", width_ratios=[1.2, 1])
    left.imshow(jnp.log(true), cmap="Greys", alpha=0.8)
    for cells, color, width, name in (
        (best, "#56B4E9", 9, "shortest"),
        (paths["costs learned"], "#0072B2", 3, "costs learned"),
        (paths["cells classified"], "#D55E00", 2, "cells classified"),
    ):
        places = jnp.argwhere(cells > 0.5)
        left.plot(places[:, 1], places[:, 0], "-", color=color, linewidth=width, label=name, solid_capstyle="round")
    left.set(xticks=[], yticks=[], title="a new map")
    left.legend(fontsize=9, loc="upper right")
    names = list(excess)
    right.bar(range(3), [100 * float(excess[name]) for name in names], color=["0.6", "#D55E00", "#0072B2"])
    right.set(xticks=range(3), xticklabels=[name.replace(" ", "\n") for name in names], title="% above the least")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
