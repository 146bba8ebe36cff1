"""Dini-learn beside scikit-learn: time to a cross-validated loss, and held-out loss with many penalties.

    python benchmarks/learn.py times
    python benchmarks/learn.py held_out

write `results/learn_times.md` and `results/learn_held_out.md`. Both sides have the same folds. Each fits twice, in
turns and in one process: the first fit of dini-learn compiles. The loss is the criterion at the penalties that were
chosen, of a rival as it tells it itself.
"""

import argparse
import importlib.metadata
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
from sklearn import linear_model, svm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_regression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold
from sklearn.preprocessing import PolynomialFeatures, scale

import dini_learn as dl

RESULTS = Path(__file__).parent / "results"
FOLDS, CLASSES = KFold(5), StratifiedKFold(5)
RATIOS = [0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0]


def squares():
    """Return diabetes with all products of two variables, and whether each column is one."""
    X, y = load_diabetes(return_X_y=True)
    expand = PolynomialFeatures(2, include_bias=False).fit(X)
    return scale(expand.transform(scale(X))), y, expand.powers_.sum(axis=1) - 1


def synthetic(samples, features):
    """Return a regression of which a tenth of the features mean something."""
    X, y = make_regression(samples, features, n_informative=features // 10, noise=20.0, random_state=0)
    return X, y


def hinge(y, decision):
    """Return the squared hinge loss."""
    return np.mean(np.maximum(1 - np.where(y == np.max(y), 1, -1) * decision, 0) ** 2)


def lasso_loss(model):
    """Return the least mean error of a path of scikit-learn's."""
    return model.mse_path_.mean(axis=-1).min()


def tasks(full):
    """Return names, data, ours, theirs, and how theirs tells its loss."""
    diabetes, cancer = load_diabetes(return_X_y=True), load_breast_cancer(return_X_y=True)
    digits = load_digits(return_X_y=True)
    data = {"diabetes": (scale(diabetes[0]), diabetes[1]), "synthetic": synthetic(2000, 200)}
    classes = {"breast cancer": (scale(cancer[0]), cancer[1])}
    if full:
        data |= {
            "diabetes, squares": squares()[:2],
            "synthetic, tall": synthetic(20_000, 500),
            "synthetic, wide": synthetic(500, 5000),
        }
        classes |= {"digits, odd or even": (scale(digits[0]), digits[1] % 2)}
    grid = np.logspace(-3, 5, 25)
    for name, (X, y) in data.items():
        ridge = lambda: linear_model.RidgeCV(alphas=grid)
        yield "ridge, leave-one-out", 1, name, X, y, dl.TunedRidge(criterion="loo"), ridge(), lambda m: -m.best_score_
        if len(y) > 5000 or X.shape[1] > 1000:
            continue
        by_folds = linear_model.RidgeCV(alphas=grid, cv=FOLDS, scoring="neg_mean_squared_error")
        yield "ridge, 5 folds", 1, name, X, y, dl.TunedRidge(cv=FOLDS), by_folds, lambda m: -m.best_score_
    for name, (X, y) in classes.items():
        logistic = linear_model.LogisticRegressionCV(
            Cs=10, cv=CLASSES, scoring="neg_log_loss", max_iter=1000, use_legacy_attributes=False
        )
        told = lambda m: -np.max(np.mean(m.scores_, axis=0))
        yield "logistic", 1, name, X, y, dl.TunedLogisticRegression(cv=CLASSES), logistic, told
        scorer = make_scorer(hinge, response_method="decision_function", greater_is_better=False)
        search = GridSearchCV(svm.LinearSVC(max_iter=10_000), {"C": np.logspace(-4, 2, 10)}, cv=CLASSES, scoring=scorer)
        yield "support vectors", 1, name, X, y, dl.TunedSVC(cv=CLASSES), search, lambda m: -m.best_score_
    for name, (X, y) in data.items():
        if X.shape[1] > 1000:
            continue
        yield "lasso", 1, name, X, y, dl.TunedLasso(cv=FOLDS), linear_model.LassoCV(cv=FOLDS), lasso_loss
        net = linear_model.ElasticNetCV(l1_ratio=RATIOS, cv=FOLDS)
        yield "elastic net", 2, name, X, y, dl.TunedElasticNet(cv=FOLDS), net, lasso_loss


def seconds(model, X, y):
    """Return the CPU seconds of a fit."""
    start = time.process_time()
    model.fit(X, y)
    return time.process_time() - start


def times(full):
    """Yield the rows of the first table."""
    for what, penalties, name, X, y, ours, theirs, loss in tasks(full):
        first = [seconds(model, X, y) for model in (ours, theirs)]
        second = [seconds(model, X, y) for model in (ours, theirs)]
        rival = float(loss(theirs))
        ratio, bar = second[0] / second[1], 2.0 if penalties == 1 else 0.5
        verdict = "met" if ratio <= bar else "**missed**"
        if ours.loss_ > 1.001 * rival:
            verdict = "**misses the loss**"
        yield (
            f"| {what} | {name}, {X.shape[0]} x {X.shape[1]} | {first[0]:.2f} | {second[0]:.3f} | {first[1]:.3f} | "
            f"{second[1]:.3f} | {ratio:.2f} | {bar} | {ours.loss_:.5g} | {rival:.5g} | {verdict} |"
        )


def unequal(seed):
    """Return 40 features in three groups, of large, of small and of no coefficients."""
    random = np.random.default_rng(seed)
    groups = np.repeat([0, 1, 2], [5, 10, 25])
    X = random.normal(size=(300, 40))
    return X, X @ (random.normal(size=40) * np.array([2.0, 0.2, 0.0])[groups]) + random.normal(size=300), groups


def equal(seed):
    """Return the same with coefficients of one size, where groups mean nothing."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(300, 40))
    return X, X @ (0.2 * random.normal(size=40)) + random.normal(size=300), np.repeat([0, 1, 2], [5, 10, 25])


def squared_error(model, X, y):
    """Return the mean squared error, a part of the variance."""
    return np.mean((model.predict(X) - y) ** 2) / np.var(y)


def log_loss(model, X, y):
    """Return the mean of minus the logarithm of the probability."""
    return -np.mean(model.predict_log_proba(X)[np.arange(len(y)), y])


def held_out(splits):
    """Yield the rows of the second table: test losses over splits, 40 % of the samples fitted."""
    fixed, cancer = squares(), load_breast_cancer(return_X_y=True)
    # means, standard errors and extremes of ten measurements
    cancer = scale(cancer[0]), cancer[1], np.repeat([0, 1, 2], 10)
    ridge = dl.TunedRidge(criterion="loo", certify=False)
    logistic = dl.TunedLogisticRegression(certify=False)
    cases = {
        "ridge, unequal groups": (unequal, ridge, squared_error),
        "ridge, equal groups": (equal, ridge, squared_error),
        "ridge, diabetes, squares": (lambda _: fixed, ridge, squared_error),
        "logistic, breast cancer": (lambda _: cancer, logistic, log_loss),
    }
    for name, (data, model, loss) in cases.items():
        losses = []
        for seed in range(splits):
            X, y, groups = data(seed)
            train, test = next(ShuffleSplit(1, train_size=0.4, random_state=seed).split(X))
            row = []
            for penalties in ("shared", "groups", "features"):
                model.set_params(penalties=penalties, feature_groups=groups).fit(X[train], y[train])
                row.append(loss(model, X[test], y[test]))
            losses.append(row)
        losses = np.array(losses)
        away = losses[:, 1:] - losses[:, :1]
        told = [f"{m:.4f} ± {s:.4f}" for m, s in zip(losses.mean(0), losses.std(0, ddof=1), strict=True)]
        spread = [f"{m:+.4f} ± {s:.4f}" for m, s in zip(away.mean(0), away.std(0, ddof=1), strict=True)]
        yield f"| {name} | {' | '.join(told)} | {' | '.join(spread)} |"


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["times", "held_out"])
    parser.add_argument("--small", action="store_true", help="times: without the largest data")
    parser.add_argument("--splits", type=int, default=10)
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("dini", "dini-learn", "jax", "scikit-learn"))
    more = f"times{' --small' if settings.small else ''}" if settings.part == "times" else "held_out"
    lines = [f"Made by `python benchmarks/learn.py {more}`; {versions}.", ""]
    if settings.part == "times":
        lines = [
            "# Dini-learn beside scikit-learn: time",
            "",
            *lines,
            "CPU seconds of one thread. A bar is the largest ratio of second fits that is wished for.",
            "",
            "| model | data | first | second | rival, first | rival, second | ratio | bar | loss | rival's loss | |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        rows = times(not settings.small)
    else:
        lines = [
            "# Dini-learn: one penalty and many, on samples that are held out",
            "",
            *lines,
            "Loss on a test, tuned (a ridge by leave-one-out, a logistic regression by 5 folds) and fitted on 40 % of",
            f"the samples: mean and standard deviation over {settings.splits} splits, and differences to one penalty.",
            "The squared error is a part of the variance.",
            "",
            "| data | one penalty | by group | by feature | group minus one | feature minus one |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        rows = held_out(settings.splits)
    print("\n".join(lines), flush=True)
    for row in rows:
        print(row, flush=True)
        lines.append(row)
        RESULTS.joinpath(f"learn_{settings.part}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
