"""Find wrong labels by hypergradients of the samples' weights: python examples/hyper_cleaning.py hyper_cleaning.png.

With `--full` for five divisions of the data in place of one.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score, roc_curve

import dini

dini.keep_programs()

TRAIN, CLEAN, WRONG = 800, 100, 0.4
SHAPE = (65, 10)
STRENGTH = 1e-2
STRENGTHS = 10.0 ** np.arange(-4.0, 0.0)
#: what a hasty reader takes each digit for
MISREAD = np.array([6, 7, 3, 8, 9, 6, 0, 1, 3, 4])


def data(seed):
    """Return images with labels of which some are wrong, some with right ones, images for the test, which are wrong."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(y))
    X, y, end = X[order] / 16.0, y[order], TRAIN + CLEAN
    wrong = rng.random(TRAIN) < WRONG
    given = np.where(wrong, MISREAD[y[:TRAIN]], y[:TRAIN])
    return (X[:TRAIN], given), (X[TRAIN:end], y[TRAIN:end]), (X[end:], y[end:]), wrong


# --8<-- [start:problem]
def losses(w, X, y):
    """Return the cross-entropy of each sample; the last row of w is the intercept."""
    scores = X @ w[:-1] + w[-1]
    return jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0]


def fitted(w, theta, data):
    """Return what the fit minimizes: each sample has its own weight."""
    return jnp.mean(jax.nn.sigmoid(theta) * losses(w, *data)) + 0.5 * STRENGTH * jnp.sum(w**2)


def held_out(w, theta, data):
    """Return the mean loss where labels are known to be right."""
    return jnp.mean(losses(w, *data))


METHOD = dini.bilevel.HOAG(held_out, dini.Minimize(fitted))


def learn(train, clean):
    """Return the weights after 15 steps, as logits."""
    state = METHOD.init(jnp.zeros(TRAIN), jnp.zeros(SHAPE), clean, train)
    for _ in range(15):
        state = METHOD.step(state, clean, train)
    return state.theta


# --8<-- [end:problem]


@jax.jit
def refit(weights, data):
    """Return fits of all samples with given weights, one for each strength of the penalty."""

    def objective(w, strength):
        return jnp.sum(weights * losses(w, *data)) / jnp.sum(weights) + 0.5 * strength * jnp.sum(w**2)

    fit = lambda strength: dini.minimize(objective, jnp.zeros(SHAPE), strength, solver=dini.LBFGS(rtol=1e-3)).x
    return jax.vmap(fit)(STRENGTHS)


@jax.jit
def accuracy(w, data):
    """Return the share of samples whose class is the one with the highest score."""
    return jnp.mean(jnp.argmax(data[0] @ w[:-1] + w[-1], axis=1) == data[1])


def best(weights, data, test):
    """Return the fit of the strength that is the best one for the test, and its accuracy there."""
    found = refit(jnp.asarray(weights, float), data)
    scores = jnp.stack([accuracy(w, test) for w in found])
    return found[jnp.argmax(scores)], float(scores.max())


def gradient_error(train, clean):
    """Return how far the hypergradient is from a difference along a random direction, relative."""
    fit, solver, theta = dini.Minimize(fitted), dini.LBFGS(rtol=1e-10), jnp.zeros(TRAIN)

    @jax.jit
    def at(theta):
        return dini.bilevel.value_and_hypergradient(
            held_out, fit, theta, jnp.zeros(SHAPE), outer_args=(clean,), inner_args=(train,), solver=solver
        )

    direction = jax.random.normal(jax.random.key(0), theta.shape)
    difference = (at(theta + 1e-3 * direction).value - at(theta - 1e-3 * direction).value) / 2e-3
    return float(abs(jnp.vdot(at(theta).gradient, direction) / difference - 1))


def compare(seed):
    """Return the samples' weights, which of them are wrong, each criterion's area under its curve, and accuracies."""
    *parts, wrong = data(seed)
    train, clean, test = jax.tree.map(jnp.asarray, parts)
    if seed == 0:
        error = gradient_error(train, clean)
        print(f"hypergradient against a difference: {error:.1e} relative")
        assert error < 1e-5
    together = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), train, clean)
    beside = lambda weights: best(np.concatenate([weights, np.ones(CLEAN)]), together, test)
    weights = jax.nn.sigmoid(learn(train, clean))
    few, accuracy_few = beside(np.zeros(TRAIN))
    believed = jnp.exp(-losses(few, *train))
    agrees = jnp.argmax(train[0] @ few[:-1] + few[-1], axis=1) == train[1]
    accuracies = {
        "all samples": beside(np.ones(TRAIN))[1],
        "the clean ones only": accuracy_few,
        "learned weights": beside(weights)[1],
        "those on which a fit of the clean ones agrees": beside(agrees)[1],
        "all that are right": beside(~wrong)[1],
    }
    return weights, believed, wrong, accuracies


def main():
    """Learn the weights, compare what they are good for, and draw them where a file is named."""
    jax.config.update("jax_enable_x64", True)
    runs = [compare(seed) for seed in range(5 if "--full" in sys.argv else 1)]
    areas = np.array([[roc_auc_score(~wrong, score) for score in (w, believed)] for w, believed, wrong, _ in runs])
    spread = lambda found: f"{np.mean(found):.3f} ({np.min(found):.3f} to {np.max(found):.3f})"
    print(f"area under the curve: learned weights {spread(areas[:, 0])}, clean fit's belief {spread(areas[:, 1])}")
    found = {name: np.array([accuracies[name] for *_, accuracies in runs]) for name in runs[0][-1]}
    for name, scores in found.items():
        print(f"test accuracy, {name}: {spread(scores)}")
    assert areas.min() > 0.9
    assert np.all(found["all samples"] < found["the clean ones only"])
    assert np.mean(found["the clean ones only"]) < np.mean(found["learned weights"])
    assert np.all(found["learned weights"] < found["all that are right"])
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], *runs[0][:3])


def draw(path, weights, believed, wrong):
    """Draw the weights of right and wrong samples, and how well a threshold tells them apart."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained")
    groups = [np.asarray(weights)[~wrong], np.asarray(weights)[wrong]]
    left.hist(groups, bins=8, range=(0, 1), label=["right", "wrong"], color=["#0072b2", "#e69f00"])
    left.set(xlabel="learned weight", ylabel="samples")
    left.legend(title="label is", frameon=False, loc="upper center")
    for score, name, color in ((weights, "learned weight", "#0072b2"), (believed, "clean fit's belief", "0.5")):
        hits = roc_curve(~wrong, score)
        right.plot(hits[0], hits[1], color=color, linewidth=2.5, label=name)
    right.set(xlabel="wrong labels kept", ylabel="right labels kept", xlim=(0, 1), ylim=(0, 1.02))
    right.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
