"""Tune from 1 to 285 penalties of a regression: python examples/feature_penalties.py feature_penalties.png.

With `--full` for ten divisions of the data in place of two.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ARDRegression, LassoCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import dini

dini.keep_programs()

TRAIN = 342
BOX = dini.sets.Box(-6.0, 12.0)
KINDS = ["one", "one a degree", "degree and variable", "one a feature", "one a feature, held"]


def data(seed):
    """Return features and answers to train on, and those for the test: all products of at most three variables."""
    X, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:TRAIN], order[TRAIN:]
    expand = make_pipeline(StandardScaler(), PolynomialFeatures(3, include_bias=False), StandardScaler())
    expand.fit(X[train])
    y = (y - y[train].mean()) / y[train].std()
    return expand.transform(X[train]), y[train], expand.transform(X[test]), y[test]


def maps():
    """Return how the logarithms of the penalties follow from what is tuned, a matrix for each kind."""
    powers = PolynomialFeatures(3, include_bias=False).fit(np.zeros((1, 10))).powers_
    degree = np.eye(4)[powers.sum(axis=1)][:, 1:]
    made = [np.ones((len(powers), 1)), degree, np.hstack([degree, powers]), np.eye(len(powers))]
    # columns of zeros, for which nothing depends on the number: one program serves all
    return [np.hstack([P, np.zeros((len(powers), len(powers) - P.shape[1]))]) for P in made]


# --8<-- [start:tune]
def score(numbers, P, X, y):
    """Return the leave-one-out error of a ridge regression whose log-penalties are P @ numbers."""
    return dini.bilevel.leave_one_out(X, y, jnp.exp(P @ numbers))


def held(numbers, P, X, y, start, pull):
    """Return the same, and a price for penalties that leave their start."""
    return score(numbers, P, X, y) + pull * jnp.mean((P @ (numbers - start)) ** 2)


@jax.jit
def tune(start, pull, P, X, y):
    """Return the tuned numbers, the fit with them, and its leave-one-out error."""
    # without a hold the criterion has long flat valleys: there the last of the steps is taken as it is
    solver = dini.LBFGSB(rtol=1e-2, max_steps=150)
    found = dini.minimize(held, start, P, X, y, start, pull, constraint=BOX, solver=solver, on_failure="ignore")
    w = jnp.linalg.solve(X.T @ X + jnp.diag(jnp.exp(P @ found.x)), X.T @ y)
    return found.x, w, score(found.x, P, X, y), found.status


# --8<-- [end:tune]


def compare(seed):
    """Return errors by leave-one-out and on the test of each kind, and the test errors of scikit-learn's models."""
    *train, X, y = map(jnp.asarray, data(seed))
    test = lambda w: float(jnp.mean((X @ w - y) ** 2))
    one, degree, variable, each = maps()
    size = one.shape[1]
    numbers, w, loss, status = tune(jnp.zeros(size).at[0].set(5.0), 0.0, one, *train)
    shared, errors = numbers[0], [(float(loss), test(w), int(status))]
    if seed == 0:
        check(jnp.full(size, shared), each, *train)
    numbers, w, loss, status = tune(jnp.zeros(size).at[:3].set(shared), 0.0, degree, *train)
    by_degree = degree @ numbers
    errors.append((float(loss), test(w), int(status)))
    starts = [(jnp.zeros(size).at[:3].set(numbers[:3]), 0.0, variable), (jnp.full(size, shared), 0.0, each)]
    for start, pull, P in [*starts, (by_degree, 0.1, each)]:
        numbers, w, loss, status = tune(start, pull, P, *train)
        errors.append((float(loss), test(w), int(status)))
    plain = [RidgeCV(np.logspace(-1, 5, 30), fit_intercept=False), LassoCV(cv=5, fit_intercept=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rivals = [test(model.fit(*train).coef_) for model in [*plain, ARDRegression(fit_intercept=False)]]
    return np.array(errors), rivals


def check(numbers, P, X, y):
    """Print how far the gradient of the criterion is from a difference, and from what is asked for."""
    direction = jax.random.normal(jax.random.key(0), numbers.shape)
    value = jax.jit(jax.value_and_grad(score))
    ahead, behind = (value(numbers + h * direction, P, X, y)[0] for h in (1e-4, -1e-4))
    error = abs(jnp.vdot(value(numbers, P, X, y)[1], direction) / ((ahead - behind) / 2e-4) - 1)
    print(f"gradient against a difference: {error:.1e} relative")
    assert error < 1e-5


def main():
    """Tune all kinds on some divisions, print mean errors, and draw them where a file is named."""
    jax.config.update("jax_enable_x64", True)
    runs = [compare(seed) for seed in range(10 if "--full" in sys.argv else 2)]
    errors = np.array([errors for errors, _ in runs])
    rivals = dict(zip(["RidgeCV", "LassoCV", "ARDRegression"], np.transpose([r for _, r in runs]), strict=True))
    solved = errors[:, :, 2] == dini.Status.CONVERGED
    for name, (leave_one_out, test, _), ended in zip(KINDS, errors.mean(axis=0), solved.sum(axis=0), strict=True):
        print(f"{name}: leave-one-out {leave_one_out:.3f}, test {test:.3f}; converged in {ended} of {len(runs)}")
    for name, found in rivals.items():
        print(f"{name}: test {found.mean():.3f}; lower than with one a degree in {(found < errors[:, 1, 1]).sum()}")
    means = errors.mean(axis=0)
    assert np.all(np.isfinite(errors))
    assert np.all(solved[:, [0, 1, 2, 4]])
    assert abs(means[0, 1] - rivals["RidgeCV"].mean()) < 0.01
    # the more is tuned the better the criterion, and the worse, without a hold, the test
    assert means[3, 0] < means[1, 0] < means[0, 0]
    assert means[1, 1] < means[0, 1] < means[3, 1]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], means, rivals["LassoCV"].mean())


def draw(path, means, lasso):
    """Draw both errors of each kind."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    where = np.arange(len(means))
    axis.bar(where - 0.2, means[:, 0], 0.4, color="#56b4e9", label="leave-one-out, which is tuned")
    axis.bar(where + 0.2, means[:, 1], 0.4, color="#d55e00", label="test")
    axis.axhline(lasso, color="black", linestyle="--", label="test, LassoCV")
    axis.set_xticks(where, ["1", "3", "13", "285", "285,\nheld"])
    axis.set(ylim=(0, 0.95), xlabel="penalties of 285 features", ylabel="squared error")
    axis.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
