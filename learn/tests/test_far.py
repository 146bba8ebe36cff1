"""One value far from all others, which some fits see and some do not; and fits that interpolate their samples."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import HuberRegressor

import dini_learn as dl
from dini_learn._progress import Progress
from dini_learn._tuning import Tuning

GROUPS = [0, 0, 1, 1, 2, 2]


def plain(samples=90, features=6):
    random = np.random.default_rng(0)
    design = random.normal(size=(samples, features))
    return design, design[:, :5] @ [1.0, -2.0, 0.0, 0.0, 0.5] + 0.5 * random.normal(size=samples)


def far(size=1e6):
    design, y = plain()
    design[7, 2] = size
    return design, y


def search(model, X, y):
    """Return fits, the folds, the strengths of one shared penalty and its range, from strong to weak."""
    _, _, _, inner, strengths, folds, _ = model._task(X, y, None, None)
    tuning = Tuning(inner, strengths.shared(), 100, 1e-5, Progress("", 0))
    return inner, folds, strengths.shared(), np.linspace(*tuning.ranges[0, ::-1], 7)[:, None]


def both(inner, folds, strengths, points):
    """Return the criterion at points from where the last fits ended, and from nothing."""
    lanes, state = inner.lanes(folds), {}
    warm = [inner.at(point, strengths, folds, lanes, state) for point in points]
    cold = [
        inner.at(point, strengths, folds, inner.engine.lanes(folds, inner.data.judged(folds)), {}) for point in points
    ]
    return warm, cold


@pytest.mark.parametrize(
    "model",
    [
        dl.TunedGroupLasso(feature_groups=GROUPS, cv=3),
        dl.TunedQuantile(cv=3),
        dl.TunedLasso(cv=3),
        dl.TunedHuber(cv=3),
    ],
)
def test_warm_and_cold_fits_agree(model):
    """A fit whose columns were in the units of other samples ended anywhere, and said that it was solved."""
    for one, other in zip(*both(*search(model, *far())), strict=True):
        assert one.solved
        assert other.solved
        assert one.value == pytest.approx(other.value, rel=1e-6)
        np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-5, atol=1e-7 * one.value)


def test_groups_are_at_their_minimum():
    design, y = far()
    inner, folds, strengths, points = search(dl.TunedGroupLasso(feature_groups=GROUPS, cv=3), design, y)
    curvatures = inner._curvatures(folds)
    for point in points:
        each = strengths.expand(point)
        fits = inner.engine.fits(*inner._strengths(each, curvatures), inner.lanes(folds), None)[0]
        for rows, x in zip(folds.train, fits.x, strict=True):
            some = inner.data.X[rows]
            some = some - some.mean(axis=0)
            rest = inner.data.y[rows, 0] - inner.data.y[rows].mean() - some @ x[1:]
            slope, size = some.T @ rest / rows.sum(), np.linalg.norm(some, axis=0) * np.linalg.norm(rest) / rows.sum()
            for group in range(3):
                own = np.flatnonzero(np.equal(GROUPS, group))
                penalty, length = each[0, own[0], 0], np.linalg.norm(x[1 + own])
                if length:
                    assert (np.abs(slope[own] - penalty * x[1 + own] / length) < 1e-5 * size[own]).all()
                else:
                    assert np.linalg.norm(slope[own]) <= penalty * (1 + 1e-9)


@pytest.mark.parametrize("samples", [200, 30])
def test_groups_of_many_columns(samples):
    """Warm fits are cold ones, on columns that interpolate their samples, too; derivatives are those by differences."""
    design, y = plain(samples, 600 if samples == 30 else 60)
    model = dl.TunedGroupLasso(feature_groups=np.arange(design.shape[1]) // 4, cv=3)
    inner, folds, strengths, points = search(model, design, y)
    for one, other in zip(*both(inner, folds, strengths, points), strict=True):
        assert one.solved
        assert other.solved
        assert one.value == pytest.approx(other.value, rel=1e-7)
    lanes = inner.lanes(folds)
    at, ahead, behind = (
        inner.at(points[2] + step, strengths, folds, lanes, {}, certify=not step) for step in (0.0, 1e-5, -1e-5)
    )
    assert at.gradient[0] == pytest.approx((ahead.value - behind.value) / 2e-5, rel=1e-5)
    assert at.error < 1e-8 * np.abs(at.gradient[0])


@pytest.mark.parametrize(
    ("model", "penalty"),
    [
        (dl.TunedLasso(), 1e-3),
        (dl.TunedGroupLasso(feature_groups=GROUPS), 1e-3),
        (dl.TunedQuantile(), 1e-3),
        (dl.TunedLogisticRegression(penalty="l1"), 1e-2),
    ],
)
def test_what_no_fit_sees_decides_nothing(model, penalty):
    """The ridge that keeps dependent columns apart was a part of the curvature on all samples."""
    rows = np.arange(90)
    found = []
    for size in (1.0, 1e5):
        design, y = far(size)
        model.set_params(cv=[(rows[30:], rows[10:30])])
        inner, folds, strengths, _ = search(model, design, y > 0 if model._classifies else y)
        found.append(inner.at(np.log([penalty]), strengths, folds, inner.lanes(folds), {}))
    assert found[0].solved
    assert found[1].value == pytest.approx(found[0].value, rel=1e-7)
    np.testing.assert_allclose(found[1].gradient, found[0].gradient, rtol=1e-5)


def test_quantiles_of_samples_that_are_interpolated():
    """It took minutes by proximal steps."""
    random = np.random.default_rng(0)
    design = random.normal(size=(40, 300))
    y = design[:, :5] @ [1.0, -2.0, 1.0, 1.0, 0.5] + 0.5 * random.normal(size=40)
    inner, folds, strengths, points = search(dl.TunedQuantile(cv=3), design, y)
    lanes, state = inner.lanes(folds), {}
    for point in points:
        at = inner.at(point, strengths, folds, lanes, state)
        assert at.solved
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dl.TunedQuantile(cv=3).fit(design, y)


@pytest.mark.parametrize("size", [1e2, 1e8, 1e14])
def test_one_target_far_from_the_others(size):
    """A robust fit does not see how far: its scale is that of the others, and so is its penalty."""
    random = np.random.default_rng(0)
    design, truth = random.normal(size=(400, 10)), random.normal(size=10)
    y = design @ truth + random.normal(size=400)
    y[3] = size
    model = dl.TunedHuber(cv=3).fit(design, y)
    theirs = HuberRegressor(alpha=model.penalties_[0], max_iter=10_000, tol=1e-8).fit(design, np.minimum(y, 1e4))
    assert model.scale_ == pytest.approx(theirs.scale_, rel=1e-2)
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=0, atol=5e-3)
    assert model.hypergradient_.error < 1e-6
    median = dl.TunedQuantile(cv=3, certify=False).fit(design, y)
    np.testing.assert_allclose(median.coef_, truth, rtol=0, atol=0.2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_half_of_the_targets_are_one():
    """Their median absolute deviation vanishes: the scale's start is that of the others, in any unit."""
    random = np.random.default_rng(0)
    design = random.normal(size=(90, 3))
    y = np.where(np.arange(90) < 60, 0.0, design[:, 0] + random.normal(size=90))
    one, other = (dl.TunedHuber(cv=3, certify=False, shrinkage=0.1).fit(design, unit * y) for unit in (1.0, 1e-6))
    np.testing.assert_allclose(1e6 * other.coef_, one.coef_, rtol=0, atol=1e-6)
    assert 0 < one.scale_ < 1
