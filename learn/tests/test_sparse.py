"""Sparse data, wide and of classifiers, and weights of classes."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, EfficiencyWarning
from sklearn.linear_model import LogisticRegression

import dini_learn as dl
from dini_learn import _data, _sparse_fits
from dini_learn._search import At, along_grid

RANDOM = np.random.default_rng(0)
THIN = np.where(RANDOM.random((40, 600)) < 0.1, RANDOM.normal(size=(40, 600)), 0.0)
Y = THIN[:, :5].sum(axis=1) + 0.1 * RANDOM.normal(size=40)
IRIS = load_iris(return_X_y=True)


@pytest.mark.parametrize(
    "model",
    [
        dl.TunedLasso(cv=3),
        dl.TunedLasso(cv=3, fit_intercept=False),
        dl.TunedElasticNet(cv=3, max_iter=5, certify=False),
        dl.TunedGroupLasso(feature_groups=np.arange(600) // 4, cv=3, max_iter=5),
    ],
)
def test_wide_and_sparse_is_dense(model, monkeypatch):
    """More features than moments are taken of: columns stay sparse, and fits are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        dense = clone(model).fit(THIN, Y)
        monkeypatch.setattr(_data, "dense", None)
        sparse = clone(model).fit(scipy.sparse.csr_array(THIN), Y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=0, atol=1e-6 * np.abs(dense.coef_).max())
    assert sparse.loss_ == pytest.approx(dense.loss_, rel=1e-8)
    assert sparse.intercept_ == pytest.approx(dense.intercept_, abs=1e-6)


def test_what_is_made_dense_is_told(monkeypatch):
    monkeypatch.setattr(_data, "_MUCH", 1000)
    few = scipy.sparse.csr_array(np.where(RANDOM.random(THIN.shape) < 0.02, THIN, 0.0))
    with pytest.warns(EfficiencyWarning, match="this estimator and criterion need a dense copy"):
        dl.TunedRidge(cv=3, bounds=(0.1, 1.0), max_iter=2)._task(few, Y, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EfficiencyWarning)
        # half of it is there: nothing is lost
        dl.TunedRidge(cv=3)._task(scipy.sparse.csr_array(THIN + 1), Y, None, None)


def test_a_grid_that_has_risen_by_little_ends():
    """Down to the best it goes on, over hills; and far beyond a best that nothing comes near to it ends."""
    grid = np.linspace(0.0, -20.0, 21)[:, None]

    def look(theta):
        value = 1.0 + 0.05 * min(abs(theta[0] + 5.0), 1.0) - 0.2 * (theta[0] < -14.5)
        return At(theta, value, np.zeros(1), np.nan, True, np.nan)

    place, seen = along_grid(look, grid, 0.0, 3.4)
    assert place == 5
    assert len(seen) == 10
    place, seen = along_grid(look, grid)
    assert place == 15
    assert len(seen) == 21


def test_fits_start_from_the_nearest_of_all_points(monkeypatch):
    """The grid ends far below its best, and the next fits start near that; old points are kept without factors."""
    fit, seen, starts = _sparse_fits._fit, {}, []

    def recorded(lane, l1, l2, start, certify):
        place, known = np.log(l1.max()), seen.setdefault(id(lane), [])
        if known and start is not None:
            away = [abs(place - other) for other, _ in known]
            starts.append((min(away), start, known[int(np.argmin(away))][1]))
        found = fit(lane, l1, l2, start, certify)
        known.append((place, found[-1].face))
        return found

    monkeypatch.setattr(_sparse_fits, "_fit", recorded)
    X = scipy.sparse.csr_array(scipy.sparse.random(120, 600, 0.1, random_state=0))
    y = X[:, :5].sum(axis=1) + 0.3 * np.random.default_rng(0).normal(size=120)
    dl.TunedLasso(cv=3, certify=False).fit(X, y)
    assert len(starts) > 60
    for _, start, nearest in starts:
        np.testing.assert_array_equal(start.face.support, nearest.support)
    lighter = [start for _, start, _ in starts if not start.face.factor.size and start.face.support.size]
    assert lighter
    assert all(start.l2 is None for start in lighter)


@pytest.mark.parametrize(
    "model", [dl.TunedLogisticRegression(cv=3), dl.TunedLogisticRegression(penalty="l1", cv=3), dl.TunedSVC(cv=3)]
)
def test_classifiers_take_sparse_data(model):
    X = np.where(IRIS[0] > 1.5, IRIS[0], 0.0)
    dense, sparse = (clone(model).fit(form(X), IRIS[1]) for form in (np.asarray, scipy.sparse.csr_array))
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-8)
    np.testing.assert_array_equal(sparse.predict(scipy.sparse.csr_array(X)), dense.predict(X))


@pytest.mark.parametrize("given", ["balanced", {0: 5.0, 1: 1.0, 2: 0.5}])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_of_classes(given, weighted):
    """Coefficients are scikit-learn's at the same penalty, and all is as if samples had these weights."""
    X, y = IRIS[0][20:], IRIS[1][20:]
    weights = RANDOM.uniform(0.5, 2.0, len(y)) if weighted else np.ones(len(y))
    model = dl.TunedLogisticRegression(class_weight=given, cv=3).fit(X, y, weights)
    same = LogisticRegression(C=1 / model.penalties_[0], class_weight=given, solver="newton-cholesky", tol=1e-12)
    np.testing.assert_allclose(model.coef_, same.fit(X, y, weights).coef_, atol=1e-6)
    sums = np.bincount(y, weights)
    each = weights.sum() / (3 * sums) if given == "balanced" else np.array([5.0, 1.0, 0.5])
    other = dl.TunedLogisticRegression(cv=3).fit(X, y, weights * each[y])
    np.testing.assert_allclose(model.penalties_, other.penalties_, rtol=1e-6)
