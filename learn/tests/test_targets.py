"""Several targets, threads, and what a search says of where it ended."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC

import dini_learn as dl
from dini_learn import _tuning
from dini_learn._progress import Progress
from dini_learn._search import At, descend, refine
from dini_learn._tuning import Tuning

DATA = load_diabetes(return_X_y=True)
X = scale(DATA[0])
RANDOM = np.random.default_rng(0)
# the last one's leave-one-out error has two minima, at 4 and at 26
Y = np.stack(
    [
        DATA[1],
        X @ RANDOM.normal(size=10) + 3 * RANDOM.normal(size=len(X)),
        20 * X[:, 0] + 40 * RANDOM.normal(size=len(X)),
    ],
    axis=1,
)
ALPHAS = np.geomspace(0.01, 1000, 200)


@pytest.mark.parametrize("alone", [False, True])
def test_targets_as_ridge_cv(alone):
    theirs = RidgeCV(alphas=ALPHAS, alpha_per_target=alone).fit(X, Y)
    ours = dl.TunedRidge(criterion="loo", alpha_per_target=alone).fit(X, Y)
    assert (np.asarray(ours.loss_) <= -theirs.best_score_ * (1 + 1e-12)).all()
    penalties = np.atleast_2d(ours.penalties_)[:, 0]
    assert (np.abs(np.log(penalties / theirs.alpha_)) < np.log(ALPHAS[1] / ALPHAS[0])).all()
    same = Ridge(alpha=penalties if alone else penalties[0]).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, same.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, same.intercept_, atol=1e-9)
    np.testing.assert_allclose(ours.predict(X), same.predict(X), atol=1e-9)
    assert ours.score(X, Y) == pytest.approx(same.score(X, Y))


@pytest.mark.parametrize("criterion", ["cv", "holdout", "loo", "sure"])
def test_targets_with_penalties_of_their_own_are_fits_of_their_own(criterion):
    model = dl.TunedRidge(criterion=criterion, random_state=0)
    each = [dl.TunedRidge(**model.get_params()).fit(X, y) for y in Y.T]
    # all by one penalty: the criterion is the mean
    shared = model.fit(X, Y)
    assert shared.loss_ >= np.mean([one.loss_ for one in each])
    assert shared.penalties_.shape == (10,)
    model.set_params(alpha_per_target=True).fit(X, Y)
    for name in ("penalties_", "coef_", "intercept_", "loss_"):
        np.testing.assert_allclose(getattr(model, name), [getattr(one, name) for one in each], rtol=1e-6)
    assert len(model.path_) == len(model.hypergradient_.gradient) == 3
    with pytest.raises(ValueError, match="a search for each of several"):
        model.plot_path()


def test_a_column_stays_one():
    model = dl.TunedRidge(criterion="loo").fit(X, Y[:, :1])
    assert model.coef_.shape == (1, 10)
    assert model.predict(X).shape == (len(X), 1)
    with pytest.raises(ValueError, match="TunedLasso has one target"):
        dl.TunedLasso().fit(X, Y)
    with pytest.raises(ValueError, match=r"one for each of 3 targets: given \[1. 2.\]"):
        dl.TunedRidge(criterion="sure", noise=[1.0, 2.0]).fit(X, Y)


def test_threads_change_nothing():
    settings = {"penalties": "groups", "feature_groups": np.arange(10) // 4, "alpha_per_target": True, "cv": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (dl.TunedRidge(n_jobs=jobs, **settings).fit(X, Y[:, :2]) for jobs in (None, 3))
    np.testing.assert_allclose(two.penalties_, one.penalties_, rtol=1e-6)
    np.testing.assert_allclose(two.nested_losses_, one.nested_losses_, rtol=1e-6)
    assert two.n_iter_ == one.n_iter_


def test_penalties_at_an_end_are_named(monkeypatch):
    monkeypatch.setattr(_tuning, "_RANGE_L2", (1e-2, 1e1))
    design = np.random.default_rng(0).normal(size=(80, 31))
    y = design[:, 0] + 0.5 * np.random.default_rng(1).normal(size=80)
    names = ["signal"] + 30 * ["noise"]
    message = r"2 of 2 .* the weakest for group signal; the strongest for group noise\."
    with pytest.warns(ConvergenceWarning, match=message):
        model = dl.TunedRidge(penalties="groups", feature_groups=names, shrinkage=0.0).fit(design, y)
    assert model.penalties_[1] == pytest.approx(1e3 * model.penalties_[0])


def test_small_slopes_are_followed():
    """Where much can be gained by a long way along a small slope, relative to the criterion."""

    def evaluate(theta):
        return At(theta, 1 + 1e-5 * float((theta - 3) @ (theta - 3)), 2e-5 * (theta - 3), np.nan, True, np.nan)

    found = descend(evaluate, np.zeros(2), np.array([[-10.0, 10.0]] * 2), 100)
    np.testing.assert_allclose(found.best.theta, 3, atol=0.1)


def test_a_dip_between_points_of_the_grid_is_found():
    """The points beside it lie above a minimum elsewhere: only their slopes tell of it."""
    model = dl.TunedLogisticRegression(cv=3)
    _, _, _, inner, strengths, folds, _ = model._task(X, Y[:, 0] > 140, None, None)
    tuning = Tuning(inner, strengths, 100, 1e-5, Progress("", 0))
    # the best point of the grid is the second from the weak end; the dip is halfway between the seventh and the eighth
    step = np.log(10)
    centers = tuning.ranges[0, 0] + step * np.array([1.0, 6.5])
    depths, widths = np.array([0.01, 0.05]), np.array([2.0, 0.8])

    def evaluate(theta, rough=False):
        away = (theta - centers) / widths
        hills = depths * np.exp(-(away**2))
        return At(theta, 1 - hills.sum(), np.array([2 * (hills * away / widths).sum()]), np.nan, True, np.nan)

    found, seen, at_bound = tuning.shared(folds, evaluate)
    assert found.finished
    assert not at_bound
    assert found.best.value == min(at.value for at in [*seen, *found.trace])
    assert found.best.theta[0] == pytest.approx(centers[1], abs=1e-2)


def test_labels_of_groups():
    for labels, message in (([0, 1, 2, np.nan] + 6 * [0], "contains NaN"), (["a", 1, None] + 7 * ["b"], "sorted")):
        with pytest.raises(ValueError, match=message):
            dl.TunedRidge(
                penalties="groups", feature_groups=np.array(labels, dtype=object if "a" in labels else float)
            ).fit(X, Y[:, 0])


@pytest.mark.thorough
def test_support_vectors_like_for_like():
    """LinearSVC penalizes the intercept: so does a column of ones here, and neither does with a large scaling there."""
    C, labels = load_breast_cancer(return_X_y=True)
    C = scale(C)
    folds = StratifiedKFold(5)

    def hinge(y, decision):
        return np.mean(np.maximum(1 - np.where(y == 1, 1, -1) * decision, 0) ** 2)

    scorer = make_scorer(hinge, response_method="decision_function", greater_is_better=False)
    grid = {"C": np.logspace(-4, 2, 25)}
    exact = {"tol": 1e-9, "max_iter": 10**6, "dual": False}
    ones = np.hstack([C, np.ones((len(C), 1))])
    pairs = [
        (dl.TunedSVC(cv=folds, fit_intercept=False), ones, LinearSVC(fit_intercept=False, **exact)),
        (dl.TunedSVC(cv=folds), C, LinearSVC(intercept_scaling=1e3, **exact)),
    ]
    for ours, design, theirs in pairs:
        ours.fit(design, labels)
        search = GridSearchCV(theirs, grid, cv=folds, scoring=scorer).fit(design, labels)
        assert ours.loss_ <= -search.best_score_ * (1 + 1e-4)
        same = theirs.set_params(C=1 / ours.penalties_[0]).fit(design, labels)
        np.testing.assert_allclose(ours.coef_, same.coef_, atol=1e-4 * np.abs(same.coef_).max())


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("smooth", [True, False])
def test_a_bracket_beside_which_there_is_no_criterion(side, smooth):
    """Where fits overflow, the minimum is between that and the best point, on whichever side."""

    def evaluate(theta):
        away = side * float(theta[0])
        value = 1.0 + (away - 0.3) ** 2 if away < 0.4 else np.nan
        return At(theta, value, np.array([2 * side * (away - 0.3) if away < 0.4 else np.nan]), np.nan, True, np.nan)

    best = evaluate(np.array([-side]))
    low, high = sorted([-side, 2.0 * side])
    found = refine(evaluate, low, high, best, None, None, smooth)
    assert found.finished
    assert found.best.theta[0] == pytest.approx(0.3 * side, abs=1e-3)


def test_what_overflows_is_looked_at_in_silence():
    """One sample far away has no held-out loss with weak penalties: the search ends where there is one."""
    random = np.random.default_rng(2)
    X = random.normal(size=(60, 3))
    X[3, 1] = 3e6
    y = random.poisson(np.exp(0.5 + 0.7 * X[:, 0])).astype(float)
    y[3] = 8.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = dl.TunedPoisson(cv=3, certify=False).fit(X, y)
    assert not np.isfinite(model.path_["loss"]).all()
    assert np.isfinite(model.loss_)
    _, _, _, inner, strengths, folds, _ = model._task(X, y, None, None)
    lanes, state = inner.lanes(folds), {}
    cold = inner.at(np.array([20.0]), strengths, folds, lanes, {})
    failed = inner.at(np.array([-5.0]), strengths, folds, lanes, state)
    # no start for others
    again = inner.at(np.array([20.0]), strengths, folds, lanes, state)
    assert not failed.solved
    assert again.solved
    assert again.value == pytest.approx(cold.value, rel=1e-9)
