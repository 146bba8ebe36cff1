"""The rules of sudoku, learned by a program: python examples/sudoku_layer.py sudoku_layer.png [--full]."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

FULL = "--full" in sys.argv
STEPS, BATCH, RULES = 600 if FULL else 150, 16, 39


def solutions():
    """Return all 288 grids of 4 x 4 digits whose rows, columns and blocks hold each digit once."""
    rows = list(itertools.permutations(range(4)))
    distinct = lambda *cells: len(set(cells)) == len(cells)
    found = []
    for a, b in itertools.product(rows, rows):
        if distinct(*a[:2], *b[:2]) and distinct(*a[2:], *b[2:]):
            for c, d in itertools.product(rows, rows):
                if all(distinct(*column) for column in zip(a, b, c, d, strict=True)) and distinct(*c[:2], *d[:2]):
                    found.append([a, b, c, d])
    return jnp.array(found)


GRIDS = jax.random.permutation(jax.random.key(0), solutions())
SEEN, NEW = GRIDS[:144], GRIDS[144:]


def puzzles(key, grids, given=8):
    """Return for each grid its puzzle, one-hot with zeros where nothing is given, and its solution, one-hot."""
    answers = jax.nn.one_hot(grids.reshape(-1, 16), 4)
    order = jax.vmap(lambda key: jax.random.permutation(key, 16))(jax.random.split(key, len(grids)))
    return (answers * (order < given)[:, :, None]).reshape(-1, 64), answers.reshape(-1, 64)


# --8<-- [start:layer]
def solve(weights, puzzle):
    """Return the layer's answer: the program knows nothing but a matrix, and that digits may be alike everywhere."""
    A = jnp.concatenate([jnp.ones((1, 64)) / 8, weights["A"]])  # all numbers sum up to sixteen: this rule is given
    b = A @ jnp.full(64, 0.25)  # so that some positive point always satisfies the equalities
    return dini.quadratic_program(Q=0.5 * jnp.eye(64), c=-puzzle, A=A, b=b, lower=0.0).x


# --8<-- [end:layer]
def network(weights, puzzle):
    """Return the answer of a network with two hidden layers, which knows that each cell has one digit."""
    h = jax.nn.relu(weights["U"] @ puzzle + weights["u"])
    h = jax.nn.relu(weights["V"] @ h + weights["v"])
    return jax.nn.softmax((weights["W"] @ h + weights["w"]).reshape(16, 4)).reshape(64)


def initial(key, width=256):
    """Return the weights that the layer and the network start from."""
    keys = jax.random.split(key, 4)
    layer = {"A": jax.random.orthogonal(keys[0], 64)[:RULES]}
    draw = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) * jnp.sqrt(2 / columns)
    net = {"U": draw(keys[1], width, 64), "V": draw(keys[2], width, width), "W": draw(keys[3], 64, width)}
    return layer, net | {"u": jnp.zeros(width), "v": jnp.zeros(width), "w": jnp.zeros(64)}


def trained(answer, weights, optimizer, steps):
    """Return weights after steps on new puzzles of grids that are seen, and the losses on the way."""

    @jax.jit
    def step(weights, state, key):
        keys = jax.random.split(key)
        puzzle, truth = puzzles(keys[0], jax.random.choice(keys[1], SEEN, (BATCH,), replace=False))
        loss = lambda weights: jnp.mean((jax.vmap(answer, (None, 0))(weights, puzzle) - truth) ** 2)
        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(weights, updates), state, value

    state, losses = optimizer.init(weights), []
    for key in jax.random.split(jax.random.key(1), steps):
        weights, state, value = step(weights, state, key)
        losses.append(float(value))
    return weights, losses


def score(answer, weights):
    """Return the percentages of cells and of whole puzzles that are right, for grids never seen."""
    puzzle, truth = puzzles(jax.random.key(2), NEW)
    answers = jax.jit(jax.vmap(answer, (None, 0)))(weights, puzzle).reshape(-1, 16, 4).argmax(-1)
    right = answers == truth.reshape(-1, 16, 4).argmax(-1)
    return 100 * float(right.mean()), 100 * float(right.all(axis=1).mean()), answers[0]


def rules():
    """Return the true rules as the layer's weights: each digit once in each cell, row, column and block."""
    cell = np.arange(64).reshape(4, 4, 4)
    blocks = cell.reshape(2, 2, 2, 2, 4).transpose(0, 2, 1, 3, 4).reshape(4, 4, 4)
    A = np.zeros((64, 64))
    for i, of in enumerate((cell.transpose(0, 2, 1), cell, cell.transpose(1, 0, 2), blocks)):
        np.put_along_axis(A[16 * i : 16 * (i + 1)], of.transpose(0, 2, 1).reshape(16, 4), 1, axis=1)
    A -= A.mean(axis=1, keepdims=True)  # the layer has that row already
    basis = np.linalg.svd(A)[2][: np.linalg.matrix_rank(A)]
    return {"A": jnp.array(basis)}


def check(weights):
    """Return the relative error of the layer's derivative along a direction, against differences."""
    puzzle, truth = (part[0] for part in puzzles(jax.random.key(3), NEW[:1]))
    direction = initial(jax.random.key(4))[0]
    value_and_slope = jax.jit(jax.value_and_grad(lambda weights: jnp.mean((solve(weights, puzzle) - truth) ** 2)))
    along = optax.tree.vdot(value_and_slope(weights)[1], direction)
    ends = [value_and_slope(optax.tree.add_scale(weights, step, direction))[0] for step in (1e-6, -1e-6)]
    return abs(float((ends[0] - ends[1]) / 2e-6 / along) - 1)


def main():
    """Train the layer and a network on half of the grids, try both on the other half, and draw."""
    layer, net = initial(jax.random.key(0))
    error = check(layer)
    print(f"derivative of the layer: {error:.0e} from differences, relatively")
    learned, losses = trained(solve, layer, optax.adam(optax.cosine_decay_schedule(0.005, STEPS)), STEPS)
    other, _ = trained(network, net, optax.adam(1e-3), 20 * STEPS)
    print(f"loss {np.mean(losses[:10]):.4f} -> {np.mean(losses[-10:]):.4f}")
    scores = {
        "layer, untrained": score(solve, layer),
        "layer": score(solve, learned),
        "network": score(network, other),
        "the true rules": score(solve, rules()),
    }
    print("on new grids           cells    whole puzzles")
    for name, (cells, whole, _) in scores.items():
        print(f"{name:18s}  {cells:6.1f} %  {whole:13.1f} %")
    assert error < 1e-5
    assert scores["layer"][0] > scores["layer, untrained"][0] + 10
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], scores)


def draw(path, scores):
    """Draw a new puzzle with the layer's answer, and the shares that are right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained", width_ratios=[1, 1.3])
    given, truth = puzzles(jax.random.key(2), NEW)[0][0].reshape(16, 4), NEW[0].reshape(16)
    for place, digit in enumerate(scores["layer"][2]):
        color = "black" if given[place].any() else "#0072B2" if digit == truth[place] else "#D55E00"
        where = (place % 4 + 0.5, 3.5 - place // 4)
        left.text(*where, str(int(digit) + 1), color=color, fontsize=22, ha="center", va="center")
    for line in range(5):
        left.plot([line, line], [0, 4], "k", linewidth=3 if line % 2 == 0 else 1)
        left.plot([0, 4], [line, line], "k", linewidth=3 if line % 2 == 0 else 1)
    left.set(aspect="equal", title="a new puzzle, filled in")
    left.axis("off")
    names, shares = list(scores), [[cells, whole] for cells, whole, _ in scores.values()]
    for i, (name, color) in enumerate((("cells", "#56B4E9"), ("whole puzzles", "#0072B2"))):
        right.barh(np.arange(4) + 0.4 * (i - 0.5), [share[i] for share in shares], 0.38, color=color, label=name)
    right.set(yticks=range(4), yticklabels=[name.replace(", ", ",\n") for name in names], xlim=(0, 100))
    right.set(xlabel="% right on new grids")
    right.invert_yaxis()
    figure.legend(*right.get_legend_handles_labels(), fontsize=10, loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
