"""Strengths of penalties, tuned: python examples/logistic_hypergradient.py logistic_hypergradient.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, linear_model, model_selection, preprocessing

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)


def splits(seed):
    """Return tumors to train on, to validate on and to test with, a third each."""
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X, y = preprocessing.scale(X), 2.0 * y - 1.0
    rest, test = model_selection.train_test_split(np.arange(len(y)), test_size=1 / 3, stratify=y, random_state=seed)
    train, validation = model_selection.train_test_split(rest, test_size=0.5, stratify=y[rest], random_state=seed)
    return [(jnp.array(X[part]), jnp.array(y[part])) for part in (train, validation, test)]


# --8<-- [start:outer]
def loss(w, X, y):
    """Mean logistic loss; the last weight is the intercept."""
    return jnp.mean(jax.nn.softplus(-y * (X @ w[:-1] + w[-1])))


def objective(w, log_strengths, X, y):
    """What training minimizes, with a strength for each weight."""
    return loss(w, X, y) + 0.5 * jnp.sum(jnp.exp(log_strengths) * w[:-1] ** 2)


def fit(t, groups, train):
    """Return the weights for a strength `exp(t)` for each group of features."""
    return dini.minimize(objective, jnp.zeros(31), groups @ t, *train, solver=dini.Newton()).x


def validation_loss(t, groups, train, validation):
    """What the strengths are tuned for."""
    return loss(fit(t, groups, train), *validation)


def tuned(start, *data):
    """Return the strengths of least validation loss from exp(-12) to exp(4), and how they were found."""
    limits = dini.sets.Box(-12.0, 4.0)
    return dini.minimize(validation_loss, start, *data, constraint=limits, solver=dini.LBFGSB(rtol=1e-3))


# --8<-- [end:outer]

#: one strength for all; one for each of a measurement's mean, spread and extreme; one for each of 30 features
GROUPS = {1: np.zeros(30, int), 3: np.arange(30) // 10, 30: np.arange(30)}


def main():
    """Tune 1, 3 and 30 strengths on five divisions of the data, and compare them on tumors not seen before."""
    tune, evaluate = jax.jit(tuned), jax.jit(lambda t, *data: loss(fit(t, *data[:2]), *data[2]))
    losses = {many: [] for many in GROUPS}
    for seed in range(5):
        train, validation, test = splits(seed)
        start = jnp.full(30, -4.0)
        for many, of in GROUPS.items():
            groups = jax.nn.one_hot(of, 30)  # as many columns for all, so that one program serves them
            found = tune(start, groups, train, validation)
            losses[many].append((found.value, evaluate(found.x, groups, train, test)))
            start = jnp.full(30, found.x[0])
    check(groups, train, validation)
    means = {many: np.mean(pairs, axis=0) for many, pairs in losses.items()}
    print("strengths  validation loss  test loss (means of five divisions)")
    for many, (validation_mean, test_mean) in means.items():
        print(f"{many:9d}  {validation_mean:15.3f}  {test_mean:9.3f}")
    assert means[30][0] < means[3][0] <= means[1][0]
    assert means[30][1] > means[1][1]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], losses)


def check(groups, train, validation):
    """Compare a fit with scikit-learn's, and a hypergradient with a difference of two validation losses."""
    t = jnp.full(30, -4.0)
    peer = linear_model.LogisticRegression(C=np.exp(4.0) / len(train[1]), solver="newton-cholesky", tol=1e-10)
    apart = float(jnp.abs(fit(t, groups, train)[:-1] - peer.fit(*map(np.asarray, train)).coef_[0]).max())
    direction = jax.random.normal(jax.random.key(0), t.shape)
    value_and_slope = jax.jit(jax.value_and_grad(validation_loss))
    slope = value_and_slope(t, groups, train, validation)[1] @ direction
    ends = [value_and_slope(t + step * direction, groups, train, validation)[0] for step in (1e-4, -1e-4)]
    error = abs(float(slope - (ends[0] - ends[1]) / 2e-4) / float(slope))
    print(f"weights: {apart:.0e} from scikit-learn's; a hypergradient: {error:.0e} from differences, relatively")
    assert apart < 1e-5
    assert error < 1e-5


def draw(path, losses):
    """Draw the losses of the divisions, and their means, for each number of strengths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    pairs = np.array(list(losses.values()), dtype=float)
    for column, color, name in ((0, "#0072B2", "validation, tuned for"), (1, "#D55E00", "test, never seen")):
        axis.plot(pairs[:, :, column], "o-", color=color, alpha=0.3, markersize=4)
        axis.plot(pairs[:, :, column].mean(axis=1), "o-", color=color, linewidth=3, label=name)
    axis.set(xticks=range(3), xticklabels=losses, xlabel="number of strengths", ylabel="loss", ylim=(0, None))
    axis.set_title("A penalty for each weight flatters itself")
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
