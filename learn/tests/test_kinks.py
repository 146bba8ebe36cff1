"""Searches whose criterion has kinks: where they end, and what they say of it."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

import dini_learn as dl
from dini_learn._progress import Progress
from dini_learn._search import At, descend
from dini_learn._tuning import Tuning

WINE = load_wine().data
X, Y = scale(np.delete(WINE, 9, axis=1)), WINE[:, 9]


def valley(theta):
    """Three kinks that meet at (1, 2, 3), where 0.5 is left."""
    away = theta - np.array([1.0, 2.0, 3.0])
    turns = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.3, -2.0]])
    along, smooth = turns @ away, 0.1 * away
    return At(theta, 0.5 + np.abs(along).sum() + 0.05 * away @ away, turns.T @ np.sign(along) + smooth, 0.0, True, 0.0)


@pytest.mark.parametrize("start", [[0.0, 0.0, 0.0], [5.0, -5.0, 4.0], [1.3, 2.3, 3.1]])
def test_a_corner_of_kinks_is_found(start):
    bounds = np.array([[-10.0, 10.0]] * 3)
    found = descend(valley, np.array(start), bounds, 100)
    assert found.finished
    np.testing.assert_allclose(found.best.theta, [1.0, 2.0, 3.0], atol=2e-3)


@pytest.mark.parametrize("wall", [(1.5, 10.0), (-10.0, 0.5)])
def test_a_kink_at_a_bound(wall):
    """Slopes that lead beyond it are none: the least point inside is along the kinks."""
    bounds = np.array([wall, [-10.0, 10.0], [-10.0, 10.0]])
    found = descend(valley, np.array([np.clip(0.0, *wall), 0.0, 0.0]), bounds, 200)
    random = np.random.default_rng(0)
    others = np.clip(
        found.best.theta + random.normal(size=(4000, 3)) * 10.0 ** random.uniform(-4, 0, (4000, 1)), *bounds.T
    )
    assert found.finished
    assert found.best.value <= min(valley(other).value for other in others) + 1e-4


def test_a_search_that_is_cut_short_says_so():
    found = descend(valley, np.zeros(3), np.array([[-10.0, 10.0]] * 3), 3)
    assert not found.finished
    jump = lambda theta: At(theta, float(theta[0] > -1e-9) - theta[0], np.full(1, 1.0), 0.0, True, 0.0)
    # a value that its slope does not tell of
    assert not descend(jump, np.zeros(1), np.array([[-1.0, 1.0]]), 100).finished


def objective(model, X, y):
    """Return what a search with a shrinkage minimizes, in logarithms of the penalties, and where it ended."""
    _, _, _, inner, strengths, folds, _ = model._task(X, y, None, None)
    tuning = Tuning(inner, strengths, 100, 1e-5, Progress("", 0))
    evaluate = tuning.evaluator(strengths, folds)
    path = model.path_
    unit = path["loss"][path["phase"] == "shared"].min()
    value = lambda theta: 2 * evaluate(theta).value + model.shrinkage_ * unit * strengths.spread(theta)[0]
    return value, np.log(model.penalties_).ravel()


@pytest.mark.parametrize("shrinkage", [0.1, 0.01])
def test_a_finished_search_is_at_a_minimum(shrinkage):
    """A Lasso by feature ended beside a kink, where steps of one penalty led down, and was silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = dl.TunedLasso(penalties="features", shrinkage=shrinkage).fit(X, Y)
    value, theta = objective(model, X, Y)
    here = value(theta)
    steps = [place * size for place in np.vstack([np.eye(12), -np.eye(12)]) for size in (0.001, 0.003, 0.01, 0.03)]
    assert min(value(theta + step) for step in steps) > here * (1 - 1e-4)


@pytest.mark.parametrize("criterion", ["cv", "loo"])
def test_the_hypergradient_is_that_of_what_is_minimized(criterion):
    """With a prior it vanishes where the search ends, and the criterion's own does not."""
    settings = {"penalties": "features", "shrinkage": 0.01, "max_iter": 200, "tol": 1e-6}
    model = dl.TunedRidge(criterion=criterion, **settings).fit(X, Y)
    value, theta = objective(model, X, Y)
    slopes = [(value(theta + 1e-3 * e) - value(theta - 1e-3 * e)) / 2e-3 for e in np.eye(12)]
    np.testing.assert_allclose(model.hypergradient_.gradient[0], slopes, rtol=0, atol=1e-5 * model.loss_)
    assert np.abs(slopes).max() < 1e-4 * model.loss_
    assert model.path_["gradient_norm"][-1] < 1e-3 * model.loss_
    # the prior's slope, which the criterion's balances
    assert np.abs(0.02 * (theta - theta.mean()) / 12).max() > 1e-3
