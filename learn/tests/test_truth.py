"""Every estimator beside scikit-learn's at one penalty, its gradient beside differences, its penalty beside a grid."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from sklearn import linear_model, svm
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import dini_learn as dl
from dini_learn import _programs
from dini_learn._progress import Progress
from dini_learn._tuning import Tuning

DIABETES = load_diabetes(return_X_y=True)
X, Y = scale(DIABETES[0]), DIABETES[1]
CANCER = load_breast_cancer(return_X_y=True)
C, LABELS = scale(CANCER[0])[:, :10], CANCER[1]
IRIS = load_iris(return_X_y=True)
I, KINDS = scale(IRIS[0]), IRIS[1]


class Case(NamedTuple):
    """An estimator, its data, scikit-learn's at penalties, and how far their coefficients may be apart."""

    model: object
    data: tuple
    other: object
    apart: float = 1e-6


def logistic(p, **settings):
    return linear_model.LogisticRegression(C=1 / p[0], tol=1e-12, max_iter=100_000, **settings)


def net(p):
    return linear_model.ElasticNet(alpha=p.sum(), l1_ratio=p[0] / p.sum(), tol=1e-14, max_iter=10**6)


EXACT = {"tol": 1e-12, "max_iter": 10**6}
OURS = {"certify": False, "cv": 4}
CASES = {
    "ridge": Case(dl.TunedRidge(**OURS), (X, Y), lambda p: linear_model.Ridge(alpha=p[0])),
    "ridge, loo": Case(dl.TunedRidge(criterion="loo"), (X, Y), lambda p: linear_model.Ridge(alpha=p[0])),
    "ridge, sure": Case(dl.TunedRidge(criterion="sure"), (X, Y), lambda p: linear_model.Ridge(alpha=p[0])),
    "lasso": Case(dl.TunedLasso(**OURS), (X, Y), lambda p: linear_model.Lasso(alpha=p[0], **EXACT)),
    "logistic": Case(dl.TunedLogisticRegression(**OURS), (C, LABELS), lambda p: logistic(p, solver="newton-cholesky")),
    "elastic net": Case(dl.TunedElasticNet(**OURS), (X, Y), net),
    "group lasso of one": Case(
        dl.TunedGroupLasso(feature_groups=np.arange(10), **OURS),
        (X, Y),
        lambda p: linear_model.Lasso(alpha=p[0], **EXACT),
    ),
    "multinomial": Case(
        dl.TunedLogisticRegression(**OURS), (I, KINDS), lambda p: logistic(p, solver="newton-cholesky")
    ),
    "logistic, l1": Case(
        dl.TunedLogisticRegression(penalty="l1", **OURS),
        (C, LABELS),
        lambda p: logistic(p, solver="saga", l1_ratio=1.0),
    ),
    "svc": Case(
        dl.TunedSVC(fit_intercept=False, **OURS),
        (I, KINDS),
        lambda p: svm.LinearSVC(C=1 / p[0], fit_intercept=False, **EXACT),
    ),
    "svr": Case(
        dl.TunedSVR(fit_intercept=False, epsilon=5.0, **OURS),
        (X, Y),
        lambda p: svm.LinearSVR(
            C=1 / p[0],
            fit_intercept=False,
            loss="squared_epsilon_insensitive",
            epsilon=5.0,
            dual=False,
            **EXACT,
        ),
    ),
    # its solver stops early: see test_huber
    "huber": Case(
        dl.TunedHuber(**OURS),
        (X, Y),
        lambda p: linear_model.HuberRegressor(alpha=p[0], max_iter=10**5, tol=1e-10),
        1e-4,
    ),
    "poisson": Case(
        dl.TunedPoisson(**OURS),
        (X, Y // 10),
        lambda p: linear_model.PoissonRegressor(alpha=p[0], solver="newton-cholesky", **EXACT),
    ),
    "quantile": Case(
        dl.TunedQuantile(quantile=0.3, **OURS),
        (X, Y),
        lambda p: linear_model.QuantileRegressor(alpha=p[0], quantile=0.3),
    ),
}
GROUPS = np.arange(10)
SURE = {"certify": False, "criterion": "sure"}
CASES |= {
    "lasso, sure": Case(dl.TunedLasso(**SURE), *CASES["lasso"][1:]),
    "elastic net, sure": Case(dl.TunedElasticNet(**SURE), (X, Y), net),
    "group lasso of one, sure": Case(dl.TunedGroupLasso(feature_groups=GROUPS, **SURE), *CASES["lasso"][1:]),
}
# each with one random split
CASES |= {
    f"{name}, holdout": case._replace(model=clone(case.model).set_params(criterion="holdout", random_state=0))
    for name, case in CASES.items()
    if case.model.criterion == "cv"
}
# 30 flowers are held out, and the better their classes are told apart, the better: without a penalty. Where an optimum
# lies at the end of the range there is a warning and nothing to compare, so here are features that mean nothing, too,
# which want a penalty
MORE = np.hstack([I, np.random.default_rng(0).normal(size=(len(I), 6))])
CASES["multinomial, holdout"] = CASES["multinomial, holdout"]._replace(data=(MORE, KINDS))
BY_DEFAULT = ["ridge", "ridge, loo", "ridge, sure", "lasso", "lasso, sure", "elastic net", "elastic net, sure"]
BY_DEFAULT += ["logistic", "logistic, l1", "multinomial", "svc"]
NAMES = [pytest.param(name, marks=[] if name in BY_DEFAULT else pytest.mark.thorough) for name in CASES]


def evaluator(model, X, y, many):
    """Return the criterion in the logarithms of penalties, and their number."""
    X, y, _, inner, strengths, folds, _ = model._task(X, y, None, None)
    strengths = strengths if many else strengths.shared()
    tuning = Tuning(inner, strengths, 100, 1e-5, Progress("", 0))
    return tuning.evaluator(strengths, folds), strengths.size * strengths.kinds


@pytest.mark.may_cost(10)
@pytest.mark.parametrize("name", NAMES)
def test_truth(name):
    model, data, other, apart = CASES[name]
    model.fit(*data)
    penalties = model.penalties_.reshape(-1, model.n_features_in_)[:, 0]

    # the same coefficients as scikit-learn's
    theirs = other(penalties).fit(*data)
    size = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(model.coef_, theirs.coef_.reshape(model.coef_.shape), atol=apart * size, rtol=0)
    np.testing.assert_allclose(
        model.intercept_, theirs.intercept_, atol=apart * max(size, np.abs(theirs.intercept_).max())
    )
    predicted = theirs.predict(data[0])
    np.testing.assert_allclose(model.predict(data[0]), predicted, rtol=0, atol=10 * apart * np.abs(predicted).max())

    # no penalty of a fine grid has a smaller criterion
    evaluate, _ = evaluator(model, *data, many=False)
    grid = [evaluate(np.log(penalties) + move).value for move in np.linspace(2.5, -2.5, 101)]
    at = evaluate(np.log(penalties))
    assert at.value <= min(grid) * (1 + 1e-6) if min(grid) > 0 else at.value <= min(grid) + 1e-6 * abs(min(grid))

    # a second fit compiles nothing, nor do data of about the same size
    compiled = _programs.compilations()
    model.fit(*data)
    with warnings.catch_warnings():
        # another split, whose best penalty may be none
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data[0][:-3], data[1][:-3])
    assert _programs.compilations() == compiled


@pytest.mark.parametrize("name", NAMES)
def test_hypergradient(name):
    """With a penalty for each feature, against central differences along a random direction."""
    model, data, _, _ = CASES[name]
    groups = isinstance(model, dl.TunedGroupLasso)
    model = type(model)(**{**model.get_params(), "penalties": "groups" if groups else "features", "shrinkage": 0.1})
    evaluate, size = evaluator(model, *data, many=True)
    model.set_params(penalties="shared").fit(*data)
    random = np.random.default_rng(0)
    start = 0.5 + np.log(model.penalties_.reshape(-1, model.n_features_in_)[:, 0])
    theta = np.repeat(start, size // len(start)) + 0.3 * random.normal(size=size)
    direction = random.normal(size=size) / np.sqrt(size)
    at, step = evaluate(theta), 2e-3
    ahead, behind = (evaluate(theta + h * direction).value for h in (step, -step))
    further, before = (evaluate(theta + h * direction).value for h in (2 * step, -2 * step))
    difference = (8 * (ahead - behind) - (further - before)) / (12 * step)
    # of the gradient's length: along one direction it can be any small number
    assert at.gradient @ direction == pytest.approx(difference, rel=0, abs=1e-6 * np.linalg.norm(at.gradient))


SEARCHED = [name for name in CASES if not name.endswith("holdout")]


@pytest.mark.may_cost(10)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in ("poisson", "ridge, sure") else pytest.mark.thorough) for n in SEARCHED]
)
def test_the_search_goes_down(name):
    """Losses of counts are below zero, as is the risk's estimate where noise is all: that turns nothing around."""
    model, data, _, _ = CASES[name]
    groups = isinstance(model, dl.TunedGroupLasso)
    model = clone(model).set_params(penalties="groups" if groups else "features", shrinkage=1e-3, max_iter=15)
    if name.endswith("sure"):
        random = np.random.default_rng(0)
        data = data[0], 0.3 * scale(data[1]) + random.normal(size=len(data[1]))
        model.set_params(noise=1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*data)
    first = model.path_["loss"][model.path_["phase"] == "tuned"][0]
    assert model.loss_ < first or (model.loss_ == first and ("lasso" in name or "net" in name))
    if name.endswith("sure"):
        assert model.loss_ < 0


@pytest.mark.thorough
def test_huber():
    """The point is stationary to rounding, and lower than scikit-learn's."""
    model = dl.TunedHuber(certify=False).fit(X, Y)
    alpha = model.penalties_[0]

    def objective(point):
        w, b, sigma = point[:10], point[10], point[11]
        r = np.abs(Y - X @ w - b) / sigma
        return len(Y) * sigma + sigma * np.where(r <= 1.35, r**2, 2.7 * r - 1.35**2).sum() + alpha * w @ w

    point = np.array([*model.coef_, model.intercept_, model.scale_])
    slopes = [(objective(point + 1e-4 * e) - objective(point - 1e-4 * e)) / 2e-4 for e in np.eye(12)]
    assert np.abs(slopes).max() < 1e-6 * objective(point)
    theirs = linear_model.HuberRegressor(alpha=alpha, max_iter=10**5, tol=1e-10).fit(X, Y)
    assert objective(point) <= objective(np.array([*theirs.coef_, theirs.intercept_, theirs.scale_]))


FREE = {"certify": False, "cv": 3, "fit_intercept": False}
WIDE = np.random.default_rng(0).normal(size=(40, 600))
WITHOUT = {
    "lasso": Case(
        dl.TunedLasso(**FREE), (X, Y), lambda p: linear_model.Lasso(alpha=p[0], fit_intercept=False, **EXACT)
    ),
    "lasso, wide": Case(
        dl.TunedLasso(**FREE),
        (WIDE, WIDE[:, 0] + 0.1 * WIDE[:, 1]),
        lambda p: linear_model.Lasso(alpha=p[0], fit_intercept=False, **EXACT),
    ),
    "elastic net": Case(dl.TunedElasticNet(**FREE), (X, Y), lambda p: net(p).set_params(fit_intercept=False)),
    "logistic, l1": Case(
        dl.TunedLogisticRegression(penalty="l1", **FREE),
        (C, LABELS),
        lambda p: logistic(p, solver="saga", l1_ratio=1.0, fit_intercept=False),
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_an_intercept(name):
    """The search begins where nothing is fitted at all: with the strongest penalties no coefficient is left."""
    model, data, other, apart = WITHOUT[name]
    with warnings.catch_warnings():
        # of an elastic net without a need for squares
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*data)
        theirs = other(model.penalties_.reshape(-1, model.n_features_in_)[:, 0]).fit(*data)
    size = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(model.coef_, theirs.coef_.reshape(model.coef_.shape), atol=apart * size, rtol=0)
    assert np.all(model.intercept_ == 0)
