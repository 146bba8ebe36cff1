"""Stein's estimate of the risk: closed forms, paths, and the risk itself by simulation."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LassoLarsIC
from sklearn.preprocessing import scale

import dini_learn as dl
from dini_learn._path import LassoPath
from dini_learn._progress import Progress
from dini_learn._stein import noise_of
from dini_learn._tuning import Tuning

DIABETES = load_diabetes(return_X_y=True)
X, Y = scale(DIABETES[0]), DIABETES[1]


def orthogonal(samples, features):
    """Return columns around zero whose mean square is one, at right angles to each other."""
    random = np.random.default_rng(0).normal(size=(samples, features))
    return np.linalg.qr(random - random.mean(axis=0))[0] * np.sqrt(samples)


@pytest.mark.parametrize("seed", range(3))
def test_soft_thresholds(seed):
    """With orthogonal columns the least estimate is at one of the correlations: all are tried."""
    samples, noise = 50, 0.8
    design = orthogonal(samples, 12)
    random = np.random.default_rng(seed)
    y = design[:, :3].sum(axis=1) + noise * random.normal(size=samples) + 5
    z = design.T @ y / samples
    square = np.mean((y - y.mean()) ** 2)

    def estimate(penalty):
        rest = square - (z**2).sum() + np.minimum(z**2, penalty**2).sum()
        return rest - noise**2 + 2 * noise**2 / samples * (1 + (np.abs(z) > penalty).sum())

    penalty = min(np.abs(z), key=lambda size: estimate(size * (1 + 1e-12)))
    model = dl.TunedLasso(criterion="sure", noise=noise).fit(design, y)
    assert model.penalties_[0] == pytest.approx(penalty, rel=1e-9)
    assert model.loss_ == pytest.approx(estimate(penalty * (1 + 1e-12)), rel=1e-9)
    np.testing.assert_allclose(model.coef_, np.sign(z) * np.maximum(np.abs(z) - penalty, 0), atol=1e-12)


@pytest.mark.parametrize("units", [np.ones(10), 10.0 ** np.arange(-5, 5)])
def test_paths(units):
    """scikit-learn's path and coordinate descent, in any units."""
    design = X * units
    path = LassoPath.of(design, Y[:, None], np.ones(len(Y)), True, 1e-4)
    assert path.optimal
    for part in (0.5, 0.03, 0.001):
        penalty = part * path.knots[0]
        theirs = Lasso(alpha=penalty, tol=1e-12, max_iter=10**6).fit(design, Y)
        np.testing.assert_allclose(path.coefficients(penalty)[:, 0] * units, theirs.coef_ * units, atol=1e-6)
    if units[0] == 1:
        theirs = LassoLarsIC(criterion="aic").fit(design, Y)
        model = dl.TunedLasso(criterion="sure").fit(design, Y)
        assert model.penalties_[0] == pytest.approx(theirs.alpha_, rel=1e-9)
        np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-9)


def test_paths_with_ties_and_dependent_columns():
    twice = np.hstack([X, X[:, :3], X[:, [0]] + X[:, [1]], np.ones((len(X), 1))])
    one, two = (LassoPath.of(design, Y[:, None], np.ones(len(Y)), True, 1e-4) for design in (X, twice))
    assert one.optimal
    assert two.optimal
    for penalty in one.knots[0] * np.array([0.6, 0.1, 0.01]):
        losses = [
            np.mean((Y - Y.mean() - (design - design.mean(axis=0)) @ w) ** 2) / 2 + penalty * np.abs(w).sum()
            for design, w in ((X, one.coefficients(penalty)[:, 0]), (twice, two.coefficients(penalty)[:, 0]))
        ]
        # the sum of two columns may serve better than either
        assert losses[1] <= losses[0] * (1 + 1e-12)
    random = np.random.default_rng(0)
    ties = np.kron(np.eye(8), np.ones((8, 1)))
    assert LassoPath.of(ties, random.integers(0, 3, 64).astype(float)[:, None], np.ones(64), True, 1e-4).optimal


def test_wide_sparse_and_weighted_data():
    random = np.random.default_rng(0)
    wide = np.where(random.random((40, 60)) < 0.3, random.normal(size=(40, 60)), 0.0)
    y = wide[:, :3].sum(axis=1) + 0.3 * random.normal(size=40)
    model = dl.TunedLasso(criterion="sure", noise=0.3).fit(wide, y)
    theirs = LassoLarsIC(criterion="aic", noise_variance=0.09).fit(wide, y)
    assert model.penalties_[0] == pytest.approx(theirs.alpha_, rel=1e-9)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-9)
    with pytest.raises(ValueError, match="pass noise"):
        dl.TunedLasso(criterion="sure").fit(wide, y)
    counts = random.integers(1, 3, 40)
    settings = {"criterion": "sure", "certify": False, "random_state": 0, "max_iter": 20, "weights": "repetitions"}
    settings["noise"] = 0.3
    thin = scipy.sparse.csr_array(wide[:, :20])
    for model in (dl.TunedLasso(**settings), dl.TunedLasso(penalties="features", shrinkage=0.1, **settings)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            dense = model.fit(wide[:, :20], y, sample_weight=counts).coef_
            sparse = model.fit(thin, y, sample_weight=counts).coef_
            twice = model.fit(np.repeat(wide[:, :20], counts, axis=0), np.repeat(y, counts)).coef_
        np.testing.assert_allclose(sparse, dense, atol=1e-4)
        np.testing.assert_allclose(twice, dense, atol=1e-4)


MANY = {"penalties": "features", "shrinkage": 0.1, "max_iter": 10}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("given", [{}, MANY])
@pytest.mark.parametrize("kind", [dl.TunedRidge, dl.TunedLasso])
def test_weights_that_are_all_alike_change_nothing(kind, given):
    """They are precisions; the sum of a ridge grows with them, and so does its penalty."""
    models = [kind(criterion="sure", **given).fit(X, Y, np.full(len(Y), weight)) for weight in (1.0, 0.01, 2.0)]
    for model, weight in zip(models[1:], (0.01, 2.0), strict=True):
        unit = weight if kind is dl.TunedRidge else 1.0
        np.testing.assert_allclose(model.penalties_, unit * models[0].penalties_, rtol=1e-4)
        np.testing.assert_allclose(model.coef_, models[0].coef_, rtol=0, atol=1e-4 * np.abs(models[0].coef_).max())
        assert model.loss_ == pytest.approx(models[0].loss_, rel=1e-6)


@pytest.mark.parametrize("kind", [dl.TunedRidge, dl.TunedLasso])
def test_weights_are_precisions(kind):
    """The same noise in each target and row over their standard deviations: fits, noise and criterion are the same."""
    random = np.random.default_rng(0)
    weights = random.uniform(0.2, 5.0, len(Y))
    root = np.sqrt(weights / weights.mean())[:, None]
    settings = {"criterion": "sure", "fit_intercept": False}
    weighted = kind(**settings).fit(X, Y, weights)
    plain = kind(**settings).fit(root * X, root[:, 0] * Y)
    np.testing.assert_allclose(weighted.coef_, plain.coef_, rtol=1e-4)
    assert weighted.loss_ == pytest.approx(plain.loss_, rel=1e-8)


def test_repetitions_that_are_fewer_than_what_is_fitted():
    with pytest.raises(ValueError, match=r"4\.42 samples for 11 degrees of freedom\. Pass noise"):
        dl.TunedLasso(criterion="sure", weights="repetitions").fit(X, Y, np.full(len(Y), 0.01))


def criterion_of(model, design, y):
    """Return the criterion by disturbed targets, in the logarithms of its penalties."""
    design, y, _, inner, strengths, folds, _ = model._task(design, y, None, None)
    return Tuning(inner, strengths, 100, 1e-5, Progress("", 0)).evaluator(strengths, folds)


@pytest.mark.may_cost(10)
def test_disturbed_targets_tell_the_degrees_of_freedom():
    """With little noise disturbances are small, and count the support."""
    noise = 0.3
    model = dl.TunedLasso(criterion="sure", noise=noise, penalties="features", shrinkage=0.1)
    evaluate = criterion_of(model, X, Y)
    path = LassoPath.of(X, Y[:, None], np.ones(len(Y)), True, 1e-4)
    for penalty in (30.0, 5.0, 0.5):
        away = evaluate(np.full(10, np.log(penalty))).value - path.criterion("", penalty, (noise,))[0]
        assert abs(away) < 1e-2 * noise**2 / len(Y)


def simulated(kind, settings, theta, draws):
    """Return the estimate, the loss and the residuals with their derivatives: a row for each draw of the noise."""
    random = np.random.default_rng(0)
    samples, noise = 60, 1.0
    design = random.normal(size=(samples, 10)) + random.normal(size=(samples, 1))
    truth = design[:, :4].sum(axis=1) / 4
    steps = 0.05 * np.concatenate([[np.zeros_like(theta)], np.eye(len(theta)), -np.eye(len(theta))])
    differences = lambda v: [v[0], *((v[1 : 1 + len(theta)] - v[1 + len(theta) :]) / 0.1)]
    told, true, rest = [], [], []
    for _ in range(draws):
        y = truth + noise * random.normal(size=samples)
        model = kind(criterion="sure", noise=noise, **settings)
        _, _, _, inner, strengths, folds, _ = model._task(design, y, None, None)
        strengths = strengths.shared()
        # a Lasso by disturbed targets, too, not by its path
        inner.exactly = lambda *_: False
        at = Tuning(inner, strengths, 100, 1e-5, Progress("", 0)).evaluator(strengths, folds)(theta)
        told.append([at.value, *at.gradient])
        lanes = inner.lanes(folds)
        each = [inner._strengths(strengths.expand(theta + step)) for step in steps]
        found = np.array([inner.engine.fits(*own, lanes, None, False)[0].x[0] for own in each])
        fits = y.mean() + found[:, [0]] + found[:, 1:11] @ (design - design.mean(axis=0)).T
        true.append(differences(0.5 * np.mean((fits - truth) ** 2, axis=1)))
        rest.append(differences(0.5 * np.mean((fits - y) ** 2, axis=1)))
    return np.array(told), np.array(true), np.array(rest)


def apart(one, other):
    """Return the mean difference in standard errors."""
    away = one - other
    return np.abs(away.mean(axis=0)) / (away.std(axis=0, ddof=1) / np.sqrt(len(away)))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "settings", "theta"),
    [
        (dl.TunedLasso, {}, np.log([0.15])),
        (dl.TunedElasticNet, {}, np.log([0.15, 0.1])),
        pytest.param(
            dl.TunedGroupLasso,
            {"feature_groups": np.repeat(range(5), 2)},
            np.log([0.12]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_it_is_the_risk_and_its_derivative(kind, settings, theta):
    """Means over the noise agree; without what the degrees of freedom add, derivatives would not."""
    told, true, rest = simulated(kind, settings, theta, 400)
    assert (apart(told, true) < 4).all()
    assert (apart(rest, true) > 8).all()


@pytest.mark.parametrize("units", [1e-14, 1e12, 10.0 ** np.linspace(-9, 9, 10)])
def test_the_noise_is_that_in_any_units(units):
    """What least squares leave does not depend on the units of features, nor on where they are measured from."""
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(Y))
    plain, other = (noise_of(design, Y[:, None], weights, True) for design in (X, units * (X + 1e3)))
    assert other[0] == pytest.approx(plain[0], rel=1e-8)
