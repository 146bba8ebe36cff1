"""The solvers of the inner problems, beside each other, beside dini's own, and where problems are hard."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import scale

import dini_learn as dl
from dini_learn import _smooth_fits
from dini_learn._active_set import Face, Quadratic, least
from dini_learn._columns import Columns
from dini_learn._compiled import Compiled
from dini_learn._folds import Folds
from dini_learn._moments import Moments, table
from dini_learn._sparse_fits import fits

CANCER = load_breast_cancer(return_X_y=True)
C, LABELS = scale(CANCER[0])[:150, :8], CANCER[1][:150]
IRIS = load_iris(return_X_y=True)
D, TARGET = load_diabetes(return_X_y=True)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("rank", [6, 40])
def test_least_is_the_minimizer(rank, unit):
    """The conditions of optimality hold, from any start, of matrices without full rank, too."""
    random = np.random.default_rng(rank)
    A = random.normal(size=(rank, 20)) * unit
    matrix, linear = A.T @ A, unit * A.T @ random.normal(size=rank)
    squares, l1 = np.full(20, 1e-9 * unit**2), unit**2 * 10.0 ** random.uniform(-2, 1, 20)
    l1[:2] = 0.0
    of, found = Quadratic.of(matrix, linear, squares), []
    for start in (
        Face.corner(l1),
        Face(np.arange(20), np.sign(random.normal(size=20)) * (l1 > 0), None, None, 0, False),
    ):
        if start.values is None:
            start = start._replace(values=start.signs * random.uniform(size=20))
        face = least(of, l1, start)
        x = face.full(20)
        away = linear - matrix @ x - squares * x
        assert face.solved
        np.testing.assert_allclose(away[x != 0], (l1 * np.sign(x))[x != 0], rtol=1e-6, atol=1e-9 * unit**2)
        assert (np.abs(away) <= l1 * (1 + 1e-6) + 1e-9 * unit**2).all()
        found.append(0.5 * x @ matrix @ x - linear @ x + l1 @ np.abs(x))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_some_columns_are_as_good_as_all():
    """A wide fit that works on some columns is the one by all moments, and so are its derivatives."""
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 80))
    y = X[:, :4].sum(axis=1) + random.normal(size=30)
    model = dl.TunedElasticNet(penalties="features", cv=3, shrinkage=0.1)
    _, _, _, inner, _, folds, _ = model._task(X, y, None, None)
    judged = inner.data.judged(folds)
    rows = np.concatenate([np.ones((1, 30)), inner.data.X.T])
    some = [Columns(rows, inner.data.y[:, 0], *pair) for pair in zip(judged.train, judged.held, strict=True)]
    l1 = np.tile([0.0, *random.uniform(0.05, 0.2, 80)], (3, 1))
    l2 = np.tile([0.0, *random.uniform(0.01, 0.1, 80)], (3, 1))
    by_some, by_all = (fits(lanes, l1, l2, [None] * 3, True) for lanes in (some, inner.lanes(folds)[0]))
    for one, other in zip((by_some.value, *by_some.gradient), (by_all.value, *by_all.gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
    assert by_some.solved.all()
    assert (by_some.error < 1e-8).all()


ENGINES = {
    "logistic": (dl.TunedLogisticRegression(), C, LABELS),
    "logistic, l1": (dl.TunedLogisticRegression(penalty="l1"), C, LABELS),
    "multinomial": (dl.TunedLogisticRegression(), *IRIS),
    "multinomial, elastic net": (dl.TunedLogisticRegression(penalty="elasticnet"), *IRIS),
    "svr": (dl.TunedSVR(epsilon=0.1), C, C[:, 0] + LABELS),
    "poisson": (dl.TunedPoisson(), C, 2.0 * LABELS),
    "quantile": (dl.TunedQuantile(quantile=0.3), C, C[:, 0] + LABELS),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ENGINES)
def test_fits_are_those_of_dini(name):
    """Held-out losses and derivatives in a penalty for each feature: those of dini's solver and its hypergradient."""
    model, X, y = ENGINES[name]
    model.set_params(penalties="features", cv=3, shrinkage=0.1)
    _, _, _, inner, strengths, folds, _ = model._task(X, y, None, None)
    theta = np.log(np.random.default_rng(0).uniform(0.5, 2.0, strengths.size * strengths.kinds))
    # a quantile's slopes are small: with these penalties no feature would be left
    theta -= 2.0 * (name == "quantile")
    ours = inner.at(theta, strengths, folds, inner.lanes(folds), {}, certify=True)
    inner.engine = Compiled(inner.data, None)
    theirs = inner.at(theta, strengths, folds, inner.engine.lanes(folds, inner.data.judged(folds)), {}, certify=True)
    assert ours.solved
    assert theirs.solved
    assert np.linalg.norm(ours.gradient) > 0
    assert ours.value == pytest.approx(theirs.value, rel=1e-7)
    np.testing.assert_allclose(ours.gradient, theirs.gradient, rtol=0, atol=1e-6 * np.abs(theirs.gradient).max())
    assert ours.error < 1e-6 * np.linalg.norm(ours.gradient)


@pytest.mark.parametrize("penalties", ["shared", "features"])
def test_more_features_than_samples(penalties):
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 60))
    labels = (X[:, :3].sum(axis=1) + random.normal(size=40) > 0).astype(int)
    model = dl.TunedLogisticRegression(cv=3, penalties=penalties, shrinkage=0.1, max_iter=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, labels)
    width = np.sqrt(model.penalties_)
    same = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(X / width, labels)
    np.testing.assert_allclose(model.coef_, same.coef_ / width, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, same.intercept_, atol=1e-6)
    assert model.hypergradient_.error < 1e-6


@pytest.mark.thorough
@pytest.mark.parametrize(("features", "target"), [(1e-6, 1.0), (1e6, 1.0), (1.0, 1e-9), (1.0, 1e6)])
@pytest.mark.parametrize("name", ["huber", "quantile", "group lasso", "svr"])
def test_units_of_features_and_targets_do_not_decide(name, features, target):
    # groups whose best penalty is some: with neighbors in pairs it is none
    groups = np.arange(10) % 5
    make, ahead = {
        "huber": (lambda v: dl.TunedHuber(cv=3), lambda u, v: u**2 / v),
        "quantile": (lambda v: dl.TunedQuantile(cv=3), lambda u, v: u),
        "group lasso": (lambda v: dl.TunedGroupLasso(cv=3, feature_groups=groups), lambda u, v: u * v),
        "svr": (lambda v: dl.TunedSVR(cv=3), lambda u, v: u**2),
    }[name]
    plain, scaled = (make(v).fit(u * scale(D), v * TARGET) for u, v in ((1.0, 1.0), (features, target)))
    # the criterion of a tube has kinks, at which a search may stop: two searches agree to its own accuracy
    rtol = 1e-3 if name == "svr" else 1e-4
    np.testing.assert_allclose(scaled.penalties_, plain.penalties_ * ahead(features, target), rtol=rtol)
    np.testing.assert_allclose(
        scaled.coef_ * features / target, plain.coef_, rtol=rtol, atol=1e-5 * np.abs(plain.coef_).max()
    )


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize(("model", "y"), [(dl.TunedSVR(cv=3), TARGET), (dl.TunedPoisson(), TARGET // 10)])
def test_units_do_not_decide_beside_an_intercept(model, y, unit):
    """Columns so small, or so large, beside that of the intercept are no rounding of the Hessian."""
    plain, scaled = (clone(model).fit(u * scale(D), y) for u in (1.0, unit))
    np.testing.assert_allclose(scaled.penalties_, plain.penalties_ * unit**2, rtol=1e-3)
    np.testing.assert_allclose(scaled.coef_ * unit, plain.coef_, rtol=0, atol=1e-4 * np.abs(plain.coef_).max())


def test_a_tube_by_default():
    """It is a tenth of a robust deviation, in any unit, and the fit is no ridge."""
    ridge = dl.TunedSVR(cv=3, epsilon=0.0).fit(scale(D), TARGET)
    for unit in (1e-6, 1.0, 1e6):
        model = dl.TunedSVR(cv=3).fit(scale(D), unit * TARGET)
        deviation = 1.4826 * np.median(np.abs(TARGET - np.median(TARGET)))
        assert model.epsilon_ == pytest.approx(0.1 * unit * deviation, rel=1e-2)
        assert np.abs(model.coef_ / unit - ridge.coef_).max() > 1e-3 * np.abs(ridge.coef_).max()


@pytest.mark.parametrize("level", [1e-4, 1e3, 1e9])
def test_the_level_of_counts_does_not_decide(level):
    """The loss grows with it, and so do penalties; coefficients stay."""
    plain, scaled = (dl.TunedPoisson().fit(scale(D), part * TARGET) for part in (1.0, level))
    np.testing.assert_allclose(scaled.penalties_, level * plain.penalties_, rtol=1e-4)
    np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=0, atol=1e-6)
    assert scaled.intercept_ == pytest.approx(plain.intercept_ + np.log(level), rel=1e-9)
    assert scaled.loss_ == pytest.approx(level * plain.loss_, rel=1e-9)


@pytest.mark.parametrize("kind", ["l2", "l1"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_do_not_decide(kind, unit):
    plain, scaled = (
        dl.TunedLogisticRegression(penalty=kind, cv=3, certify=False).fit(u * C, LABELS) for u in (1.0, unit)
    )
    np.testing.assert_allclose(scaled.penalties_, plain.penalties_ * unit ** (2 if kind == "l2" else 1), rtol=1e-5)
    np.testing.assert_allclose(scaled.coef_ * unit, plain.coef_, rtol=1e-4, atol=1e-6 * np.abs(plain.coef_).max())


SEPARATE = [dl.TunedLogisticRegression(), dl.TunedSVC(), dl.TunedLogisticRegression(penalty="l1")]


@pytest.mark.parametrize("model", SEPARATE)
def test_separable_classes(model):
    """The best penalty is hardly any: the search says that it ends at a bound, or where the loss has no curvature."""
    random = np.random.default_rng(0)
    X = np.vstack([random.normal(size=(30, 3)) - 5, random.normal(size=(30, 3)) + 5])
    with pytest.warns(ConvergenceWarning, match="end of its range|no derivative"):
        model.fit(X, np.repeat([0, 1], 30))
    assert model.score(X, np.repeat([0, 1], 30)) == 1.0
    assert np.isfinite(model.coef_).all()


def test_a_certificate_that_does_not_end_promises_nothing(monkeypatch):
    """Where its own equations are not solved, the error of the gradient is not known: it is not small."""
    model = dl.TunedLogisticRegression(cv=3)
    _, _, _, inner, strengths, folds, _ = model._task(C, LABELS, None, None)
    lanes, state = inner.lanes(folds), {}
    at = inner.at(np.zeros(1), strengths, folds, lanes, state, certify=True)
    assert 0 < at.error < 1e-6
    enough = _smooth_fits.conjugate
    given = lambda *args: (*enough(*args)[:2], np.zeros(3, bool))
    monkeypatch.setattr(_smooth_fits, "conjugate", given)
    at = inner.at(np.zeros(1), strengths, folds, lanes, state, certify=True)
    assert at.error == np.inf


def test_held_out_samples_without_a_loss():
    """Where all are on the right side of the margin, nothing judges a fit: its adjoint vanishes, and is a solution."""
    model = dl.TunedSVC().fit(*IRIS)
    assert model.hypergradient_.error < 1e-6


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e-8])
def test_more_features_than_samples_in_mixed_units(unit):
    """Three features are large and many small, with one penalty for these: the small ones are no rounding.

    Without a tube the fit is a ridge, and the truth least squares with columns of one length.
    """
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 80)) * np.where(np.arange(80) < 77, unit, 1.0)
    y, penalty = (X / np.abs(X).max(axis=0)).sum(axis=1), 5.0 * unit**2
    _, _, _, inner, strengths, folds, _ = dl.TunedSVR(epsilon=0.0)._task(X, y, None, None)
    fitted = inner.coefficients(strengths.expand(np.log([penalty])), folds)
    ridge = np.hstack([np.zeros((80, 1)), np.sqrt(penalty / 2) * np.eye(80)])
    whole = np.vstack([np.insert(X, 0, 1.0, axis=1), ridge])
    size = np.linalg.norm(whole, axis=0)
    truth = np.linalg.lstsq(whole / size, np.append(y, np.zeros(80)))[0]
    assert fitted.solved
    np.testing.assert_allclose(fitted.coef[:, 0] * size[1:], truth[1:], rtol=0, atol=1e-7 * np.abs(truth).max())


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_moments_of_a_fold_that_held_out_samples_outweigh(form):
    """Sums without a fold are no differences of what is far larger: of all columns, sparse and dense."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(60, 4)), random.normal(size=(60, 1))
    X[3, 1], X[41, 2], y[5] = 1e9, -1e8, 1e7
    folds = Folds.of(KFold(3).split(X), 60)
    weights = random.uniform(0.5, 2.0, 60)
    columns = table(form(X), y, True)
    found, _ = Moments(columns, weights).folds(folds)
    whole = np.hstack([np.ones((60, 1)), X, y]).astype(np.longdouble)
    for moments, rows in zip(found, folds.train, strict=True):
        truth = (whole[rows].T * weights[rows]) @ whole[rows]
        size = np.sqrt(np.diagonal(truth))
        assert (np.abs(moments - truth) <= 1e-10 * size * size[:, None]).all()


def test_held_out_samples_that_see_what_the_fit_hardly_does():
    """A feature is large in samples held out alone: errors of its coefficient are small to the fit, and large there.

    Without a tube the fit is a ridge, and the criterion known by least squares.
    """
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 4))
    X[3, 2] = 1e5
    y = X[:, 0] + random.normal(size=60)
    _, _, _, inner, strengths, folds, _ = dl.TunedSVR(cv=3, epsilon=0.0)._task(X, y, None, None)
    lanes, state = inner.lanes(folds), {}

    def truth(theta):
        losses, ridge = [], np.sqrt(np.exp(theta) / 2) * np.eye(4)
        for fitted, judged in zip(folds.train, folds.held, strict=True):
            center, level = X[fitted].mean(axis=0), y[fitted].mean()
            goal = np.append(y[fitted] - level, np.zeros(4))
            coef = np.linalg.lstsq(np.vstack([X[fitted] - center, ridge]), goal)[0]
            losses.append(np.mean((y[judged] - level - (X[judged] - center) @ coef) ** 2))
        return np.mean(losses)

    for theta in np.linspace(10.0, -8.0, 19):
        at = inner.at(np.array([theta]), strengths, folds, lanes, state)
        slope = (truth(theta + 1e-4) - truth(theta - 1e-4)) / 2e-4
        assert at.solved
        assert at.value == pytest.approx(truth(theta), rel=1e-6)
        assert abs(at.gradient[0] - slope) < 1e-4 * abs(slope) + 1e-6 * at.value


def test_a_start_that_is_far_away_leaves_no_rounding():
    """With a strong penalty the adjoint is small, and where it starts from a weak one's it is that all the same."""
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 60)) * 10.0 ** np.linspace(-4, 4, 60)
    y = X @ (random.normal(size=60) / 10.0 ** np.linspace(-4, 4, 60)) + random.normal(size=40)
    _, _, _, inner, strengths, folds, _ = dl.TunedSVR(cv=3, epsilon=0.0)._task(X, y, None, None)
    lanes, found, strong = inner.lanes(folds), [], np.log([1e5 * inner.units[1]])
    for first in ([], [np.log([1e-13 * inner.units[1]])]):
        state = {}
        for theta in (*first, strong):
            at = inner.at(theta, strengths, folds, lanes, state)
        found.append(at.gradient[0])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
