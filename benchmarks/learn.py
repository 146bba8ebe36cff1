"""Dini-learn beside scikit-learn: time to a cross-validated loss.

    python benchmarks/learn.py times

writes `results/learn_times.md`. All sides have the same folds (but skglm's, which are
shuffled). Each fits twice, in turns and in one process. The loss is the criterion at the penalties that were chosen, of
a rival as it tells it itself (of skglm, by scikit-learn's elastic net at its choice on the others' folds). Celer and
skglm take part where they are installed (`uv run --no-default-groups --group peers`); skglm compiles at its first fit.
"""

import argparse
import importlib.metadata
import os
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
from sklearn import linear_model, svm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_regression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.preprocessing import PolynomialFeatures, scale

import dini_learn as dl

try:
    import celer
    import skglm
except ImportError:
    celer = skglm = None

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


def net_loss(model, X, y):
    """Return the mean error, on the same folds, of scikit-learn's elastic net with the penalties of a rival."""
    ratio = getattr(model, "l1_ratio_", None)
    same = linear_model.ElasticNet(alpha=model.alpha_, l1_ratio=1.0 if ratio is None else ratio, tol=1e-6)
    return -cross_val_score(same, X, y, cv=FOLDS, scoring="neg_mean_squared_error").mean()


def log_losses(model):
    """Return the least mean of minus the logarithm of the probability."""
    return -np.max(np.mean(model.scores_, axis=0))


class Task(NamedTuple):
    """A model of ours on data, with rivals: their names, models, and how each tells its loss."""

    what: str
    penalties: int
    name: str
    X: np.ndarray
    y: np.ndarray
    ours: Any
    rivals: list[tuple[str, Any, Any]]


class Paths:
    """Celer on the folds, and at the best penalty on all samples (its own class does not know scikit-learn 1.9)."""

    def __init__(self, ratios):
        self.ratios = ratios

    def fit(self, X, y):
        """Find the penalty and fit."""
        losses = []
        for ratio in self.ratios:
            pull = np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / len(y) / ratio
            settings = {"pb": "lasso", "l1_ratio": ratio, "alphas": pull * np.logspace(0, -3, 100), "tol": 1e-4}
            errors = []
            for train, held in FOLDS.split(X):
                center, level = X[train].mean(0), y[train].mean()
                coefs = celer.celer_path(np.asfortranarray(X[train] - center), y[train] - level, **settings)[1]
                errors.append((((X[held] - center) @ coefs + level - y[held][:, None]) ** 2).mean(0))
            losses.append(np.mean(errors, axis=0))
        self.losses_ = np.array(losses)
        ratio, place = np.unravel_index(self.losses_.argmin(), self.losses_.shape)
        alphas = settings["alphas"] * settings["l1_ratio"] / self.ratios[ratio]
        celer.ElasticNet(alpha=alphas[place], l1_ratio=self.ratios[ratio]).fit(X, y)
        return self


def sparse_peers(X, ratios):
    """Return celer's and skglm's solvers where they are installed (the group of peers), on data that take seconds."""
    found, many = [], ratios is not None
    if celer is not None and X.size <= (1_000_000 if many else 20_000_000):
        found.append(("celer", Paths(ratios or [1.0]), lambda m: m.losses_.min()))
    if skglm is not None and X.size <= (100_000 if many else 1_000_000):
        penalty = skglm.penalties.L1_plus_L2(1.0, 0.5) if ratios else skglm.penalties.L1(1.0)
        solver = skglm.solvers.AndersonCD(warm_start=True, fit_intercept=True)
        settings = {"cv": 5, "random_state": 0, "l1_ratio": ratios}
        datafit = skglm.datafits.Quadratic()
        found.append(("skglm", skglm.GeneralizedLinearEstimatorCV(datafit, penalty, solver, **settings), net_loss))
    return found


def data_sets(full):
    """Return data of regressions, and of classifications."""
    diabetes, cancer = load_diabetes(return_X_y=True), load_breast_cancer(return_X_y=True)
    data = {"diabetes": (scale(diabetes[0]), diabetes[1]), "synthetic": synthetic(2000, 200)}
    classes = {"breast cancer": (scale(cancer[0]), cancer[1])}
    if full:
        digits = load_digits(return_X_y=True)
        data |= {
            "diabetes, squares": squares()[:2],
            "synthetic, tall": synthetic(20_000, 500),
            "synthetic, tall and narrow": synthetic(20_000, 50),
            "synthetic, wide": synthetic(500, 5000),
            "synthetic, few samples": make_regression(200, 5000, n_informative=20, noise=20.0, random_state=0),
        }
        classes |= {
            "digits, odd or even": (scale(digits[0]), digits[1] % 2),
            "digits, ten classes": (scale(digits[0]), digits[1]),
        }
    return data, classes


def tasks(full):
    """Yield the tasks."""
    data, classes = data_sets(full)
    grid = np.logspace(-3, 5, 25)
    best = lambda m: -m.best_score_
    for name, (X, y) in data.items():
        ridge = [("RidgeCV", linear_model.RidgeCV(alphas=grid), best)]
        yield Task("ridge, leave-one-out", 1, name, X, y, dl.TunedRidge(criterion="loo"), ridge)
        if len(y) > 5000 or X.shape[1] > 1000:
            continue
        by_folds = linear_model.RidgeCV(alphas=grid, cv=FOLDS, scoring="neg_mean_squared_error")
        yield Task("ridge, 5 folds", 1, name, X, y, dl.TunedRidge(cv=FOLDS), [("RidgeCV", by_folds, best)])
    settings = {"Cs": 10, "cv": CLASSES, "scoring": "neg_log_loss", "max_iter": 1000, "use_legacy_attributes": False}
    for name, (X, y) in classes.items():
        logistic = [("LogisticRegressionCV", linear_model.LogisticRegressionCV(**settings), log_losses)]
        yield Task("logistic", 1, name, X, y, dl.TunedLogisticRegression(cv=CLASSES), logistic)
        if len(np.unique(y)) > 2:
            # saga, the only one for it, takes many minutes
            yield Task("logistic, l1", 1, name, X, y, dl.TunedLogisticRegression(penalty="l1", cv=CLASSES), [])
            continue
        sparse = linear_model.LogisticRegressionCV(**settings, l1_ratios=[1.0], solver="liblinear")
        ours = dl.TunedLogisticRegression(penalty="l1", cv=CLASSES)
        yield Task("logistic, l1", 1, name, X, y, ours, [("LogisticRegressionCV", sparse, log_losses)])
        scorer = make_scorer(hinge, response_method="decision_function", greater_is_better=False)
        # its intercept has a penalty, or about none, as ours
        machines = {"LinearSVC": svm.LinearSVC(max_iter=10_000)}
        machines["LinearSVC, free intercept"] = svm.LinearSVC(max_iter=10_000, intercept_scaling=100.0)
        searches = [
            (rival, GridSearchCV(machine, {"C": np.logspace(-4, 2, 10)}, cv=CLASSES, scoring=scorer), best)
            for rival, machine in machines.items()
        ]
        yield Task("support vectors", 1, name, X, y, dl.TunedSVC(cv=CLASSES), searches)
    for name, (X, y) in data.items():
        if X.size > 2_000_000 and X.shape[1] > 1000:
            continue
        lasso = [("LassoCV", linear_model.LassoCV(cv=FOLDS), lasso_loss), *sparse_peers(X, None)]
        yield Task("lasso", 1, name, X, y, dl.TunedLasso(cv=FOLDS), lasso)
        net = [("ElasticNetCV", linear_model.ElasticNetCV(l1_ratio=RATIOS, cv=FOLDS), lasso_loss)]
        yield Task("elastic net", 2, name, X, y, dl.TunedElasticNet(cv=FOLDS), [*net, *sparse_peers(X, RATIOS)])


def seconds(model, X, y):
    """Return the CPU seconds of a fit."""
    start = time.process_time()
    model.fit(X, y)
    return time.process_time() - start


def times(full):
    """Yield the rows of the first table: a row for each rival."""
    for what, penalties, name, X, y, ours, rivals in tasks(full):
        models = [ours, *(model for _, model, _ in rivals)]
        (first, *firsts), (second, *seconds_) = ([seconds(model, X, y) for model in models] for _ in range(2))
        own = f"| {what} | {name}, {X.shape[0]} x {X.shape[1]} | {first:.2f} | {second:.3f} |"
        if not rivals:
            yield f"{own} | | | | | {ours.loss_:.5g} | | |"
        for (rival, model, loss), one, two in zip(rivals, firsts, seconds_, strict=True):
            told = float(loss(model, X, y) if loss is net_loss else loss(model))
            ratio, bar = second / two, 2.0 if penalties == 1 else 0.5
            verdict = "met" if ratio <= bar else "**missed**"
            if ours.loss_ > 1.001 * told:
                verdict = "**misses the loss**"
            yield (
                f"{own} {rival} | {one:.3f} | {two:.3f} | {ratio:.2f} | {bar} | {ours.loss_:.5g} | {told:.5g} | "
                f"{verdict} |"
            )


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["times"])
    parser.add_argument("--small", action="store_true", help="without the largest data")
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    names = ["dini", "dini-learn", "jax", "scikit-learn", *([] if celer is None else ["celer", "skglm"])]
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in names)
    lines = [
        "# Dini-learn beside scikit-learn: time",
        "",
        f"Made by `python benchmarks/learn.py times{' --small' if settings.small else ''}`; {versions}.",
        "",
        "CPU seconds of one thread. A bar is the largest ratio of second fits that is wished for.",
        "",
        "| model | data | first | second | rival | its first | its second | ratio | bar | loss | its loss | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    for row in times(not settings.small):
        print(row, flush=True)
        lines.append(row)
        RESULTS.joinpath("learn_times.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
