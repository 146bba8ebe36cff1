"""Dini-learn with one penalty and with many, on samples that are held out: nested cross-validation of each estimator.

    python benchmarks/learn_held_out.py

writes `results/learn_held_out.md`. An estimator tunes and fits on 40 % of the samples and is judged by the others.
"""

import argparse
import importlib.metadata
import warnings
from pathlib import Path

import numpy as np
from learn import hinge, squares
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import ShuffleSplit
from sklearn.preprocessing import scale

import dini_learn as dl

RESULTS = Path(__file__).parent / "results" / "learn_held_out.md"


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


def counts(of):
    """Return data with counts, the logarithm of whose mean is along the target."""

    def data(seed):
        X, y, groups = of(seed)
        return X, np.random.default_rng(seed).poisson(np.exp(1 + scale(y) / 2)).astype(float), groups

    return data


def classes(of):
    """Return data with two classes, whose odds are along the target."""

    def data(seed):
        X, y, groups = of(seed)
        return X, (scale(y) + np.random.default_rng(seed).logistic(scale=0.3, size=len(y)) > 0).astype(int), groups

    return data


def squared_error(model, X, y):
    """Return the mean squared error, a part of the variance."""
    return np.mean((model.predict(X) - y) ** 2) / np.var(y)


def absolute_error(model, X, y):
    """Return the mean absolute error, a part of that of the median."""
    return np.mean(np.abs(model.predict(X) - y)) / np.mean(np.abs(np.median(y) - y))


def deviance(model, X, y):
    """Return the part of the deviance that is left."""
    return 1 - model.score(X, y)


def log_loss(model, X, y):
    """Return the mean of minus the logarithm of the probability."""
    return -np.mean(model.predict_log_proba(X)[np.arange(len(y)), y])


def squared_hinge(model, X, y):
    """Return the mean of the squared hinge."""
    return hinge(y, model.decision_function(X))


def cases():
    """Yield names, data of a seed, estimators and losses: for each where groups differ, where not, and real data."""
    fixed, cancer, people = squares(), load_breast_cancer(return_X_y=True), load_diabetes(return_X_y=True)
    # means, standard errors and extremes of ten measurements; who, weight and pressure, serum
    cancer = scale(cancer[0]), cancer[1], np.repeat([0, 1, 2], 10)
    people = scale(people[0]), people[1], np.repeat([0, 1, 2], [2, 2, 6])
    counted = people[0], people[1] // 10, people[2]
    made, real = {"unequal": unequal, "equal": equal}, {"diabetes": lambda _: people}
    numbers = made | real
    kinds = {
        "ridge, leave-one-out": (
            dl.TunedRidge(criterion="loo"),
            squared_error,
            numbers | {"diabetes, squares": lambda _: fixed},
        ),
        "ridge, 5 folds": (dl.TunedRidge(), squared_error, numbers),
        "lasso": (dl.TunedLasso(), squared_error, numbers),
        "lasso, SURE": (dl.TunedLasso(criterion="sure"), squared_error, numbers),
        "elastic net": (dl.TunedElasticNet(), squared_error, numbers),
        "elastic net, SURE": (dl.TunedElasticNet(criterion="sure"), squared_error, numbers),
        "support vector regression": (dl.TunedSVR(), squared_error, numbers),
        "logistic": (
            dl.TunedLogisticRegression(),
            log_loss,
            {name: classes(of) for name, of in made.items()} | {"breast cancer": lambda _: cancer},
        ),
        "support vectors": (
            dl.TunedSVC(),
            squared_hinge,
            {name: classes(of) for name, of in made.items()} | {"breast cancer": lambda _: cancer},
        ),
        "Poisson": (
            dl.TunedPoisson(),
            deviance,
            {name: counts(of) for name, of in made.items()} | {"diabetes": lambda _: counted},
        ),
        "group lasso": (dl.TunedGroupLasso(), squared_error, numbers),
        "median": (dl.TunedQuantile(), absolute_error, numbers),
        "Huber": (dl.TunedHuber(), squared_error, numbers),
    }
    for name, (model, loss, several) in kinds.items():
        for what, data in several.items():
            yield f"{name} | {what}", data, model.set_params(certify=False), loss


def row_of(data, model, loss, splits):
    """Return the cells of a row: losses, differences to one penalty, and whether many are worse."""
    settings = ["shared", "groups"] if isinstance(model, dl.TunedGroupLasso) else ["shared", "groups", "features"]
    losses = np.empty((splits, len(settings)))
    for seed in range(splits):
        X, y, groups = data(seed)
        train, test = next(ShuffleSplit(1, train_size=0.4, random_state=seed).split(X))
        for place, penalties in enumerate(settings):
            model.set_params(penalties=penalties, feature_groups=groups).fit(X[train], y[train])
            losses[seed, place] = loss(model, X[test], y[test])
    away = losses[:, 1:] - losses[:, :1]
    told = [f"{m:.4f} ± {s:.4f}" for m, s in zip(losses.mean(0), losses.std(0, ddof=1), strict=True)]
    spread = [f"{m:+.4f} ± {s:.4f}" for m, s in zip(away.mean(0), away.std(0, ddof=1), strict=True)]
    # and by more than rounding
    sure = 2 * away.std(0, ddof=1) / np.sqrt(splits) + 1e-9
    void = [""] * (3 - len(settings))
    better, worse = (away.mean(0) < -sure).any(), (away.mean(0) > sure).any()
    verdict = "**worse**" if worse else "better" if better else "as good"
    return [*told, *void, *spread, *void, verdict]


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--some", default="", help="only rows with this in their name, which replace those of before")
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("dini", "dini-learn", "scikit-learn"))
    head = [
        "# Dini-learn: one penalty and many, on samples that are held out",
        "",
        f"Made by `python benchmarks/learn_held_out.py`; {versions}.",
        "",
        "Loss on a test, tuned (by 5 folds, by leave-one-out or by SURE) and fitted on 40 % of the samples: mean and",
        f"standard deviation over {settings.splits} splits, and differences to one penalty. Errors and deviances are",
        "parts of those of a constant. Better and worse: than one penalty, by more than two standard errors.",
        "",
        "| model | data | one penalty | by group | by feature | group minus one | feature minus one | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(head), flush=True)
    before = RESULTS.read_text(encoding="utf-8").splitlines() if settings.some else []
    rows = {line.rsplit(" | ", 6)[0]: line for line in before if line.startswith("| ")}
    lines = []
    for name, data, model, loss in cases():
        key = f"| {name}"
        if settings.some in name:
            rows[key] = " | ".join([key, *row_of(data, model, loss, settings.splits)]) + " |"
            print(rows[key], flush=True)
        if key in rows:
            lines.append(rows[key])
            RESULTS.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
