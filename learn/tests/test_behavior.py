"""What a user meets: messages, warnings, wide, sparse and weighted data, groups, pictures, pipelines, and no JAX."""

import doctest
import importlib
import pickle
import subprocess
import sys
import warnings

import jax
import matplotlib as mpl
import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LassoCV, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dini_learn as dl
from dini_learn._stein import noise_of
from dini_learn._tuning import choose

mpl.use("Agg")
X, Y = load_diabetes(return_X_y=True)
X = StandardScaler().fit_transform(X)
QUICK = {"criterion": "loo", "certify": False}


def unequal(seed, samples=120):
    """Return data of three groups of features: strong, weak, and without any meaning."""
    random = np.random.default_rng(seed)
    groups = np.repeat([0, 1, 2], [5, 10, 25])
    design = random.normal(size=(samples, 40))
    truth = random.normal(size=40) * np.array([2.0, 0.2, 0.0])[groups]
    return design, design @ truth + random.normal(size=samples), groups


def test_loo_is_ridge_cvs():
    alphas = np.geomspace(0.1, 100, 50)
    theirs = RidgeCV(alphas=alphas).fit(X, Y)
    ours = dl.TunedRidge(**QUICK).fit(X, Y)
    assert ours.loss_ <= -theirs.best_score_ * (1 + 1e-9)
    assert abs(np.log(ours.penalties_[0] / theirs.alpha_)) < np.log(alphas[1] / alphas[0])


def test_primal_and_dual_agree():
    wide = X[:9]
    left = [i for i in range(9)]
    away = 0.0
    model = dl.TunedRidge(**QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(wide, Y[:9])
    for i in left:
        some = [j for j in left if j != i]
        away += (Y[i] - Ridge(alpha=model.penalties_[0]).fit(wide[some], Y[some]).predict(wide[[i]])[0]) ** 2 / 9
    assert model.loss_ == pytest.approx(away, rel=1e-8)


def test_weights_are_repetitions():
    counts = np.random.default_rng(0).integers(1, 3, len(Y))
    model = dl.TunedRidge(criterion="sure", noise=50.0, certify=False, weights="repetitions")
    weighted = model.fit(X, Y, sample_weight=counts).penalties_[0]
    repeated = model.fit(np.repeat(X, counts, 0), np.repeat(Y, counts)).penalties_[0]
    assert weighted == pytest.approx(repeated, rel=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        dl.TunedRidge(certify=False),
        dl.TunedRidge(criterion="sure"),
        dl.TunedLasso(certify=False),
        dl.TunedLasso(criterion="sure"),
        dl.TunedElasticNet(criterion="sure", certify=False, max_iter=3),
    ],
)
def test_sparse_is_dense(model):
    thin = np.where(np.abs(X) > 1, X, 0) + (np.arange(10) == 2)
    with warnings.catch_warnings():
        # of a search that is cut short
        warnings.simplefilter("ignore", ConvergenceWarning)
        dense, sparse = (clone(model).fit(form(thin), Y) for form in (np.asarray, scipy.sparse.csr_array))
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-6)
    assert sparse.intercept_ == pytest.approx(dense.intercept_, rel=1e-8)


def test_groups_are_found_and_noise_is_not_fitted():
    design, y, groups = unequal(0)
    shared = dl.TunedRidge(**QUICK).fit(design, y)
    several = dl.TunedRidge(penalties="groups", feature_groups=groups, **QUICK).fit(design, y)
    assert np.isfinite(several.shrinkage_)
    assert several.penalties_[0] < several.penalties_[10] < several.penalties_[-1]
    assert several.loss_ < shared.loss_
    # where nothing is to be gained, one penalty stays
    noise = np.random.default_rng(1).normal(size=len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = dl.TunedRidge(penalties="features", **QUICK).fit(design, noise)
    assert model.shrinkage_ == np.inf
    assert len(set(model.penalties_)) == 1


def test_the_choice_of_shrinkage():
    same = np.ones((5, 6))
    assert choose(same) == np.inf
    assert choose(same[:1]) == np.inf
    better = same.copy()
    better[:, 3] = [0.5, 0.6, 0.4, 0.5, 0.5]
    assert choose(better) == 1e-2
    better[:, 3] = [0.1, 1.2, 1.5, 0.9, 1.0]
    assert choose(better) == np.inf


ONE = [(np.arange(300), np.arange(300, len(Y)))]


@pytest.mark.parametrize("given", [{"cv": 2}, {"cv": ONE}, {"cv": ONE, "criterion": "loo"}])
def test_too_few_splits_for_many_penalties_are_told(given):
    """With a fold set aside the others have nothing left: one penalty is kept for want of them, and that is said."""
    model = dl.TunedRidge(penalties="features", certify=False, **given)
    with pytest.warns(ConvergenceWarning, match="One shared penalty was kept"):
        model.fit(X, Y)
    assert model.shrinkage_ == np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(shrinkage=1.0, max_iter=200).fit(X, Y)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_do_not_decide(unit):
    plain, scaled = (dl.TunedRidge(**QUICK).fit(u * X, v * Y) for u, v in ((1, 1), (unit, 1 / unit)))
    np.testing.assert_allclose(scaled.penalties_, plain.penalties_ * unit**2, rtol=1e-5)
    np.testing.assert_allclose(scaled.coef_, plain.coef_ / unit**2, rtol=1e-5)


MIXED = [
    dl.TunedRidge(**QUICK),
    dl.TunedLasso(cv=3, certify=False),
    dl.TunedLasso(criterion="sure"),
    pytest.param(dl.TunedElasticNet(criterion="sure", certify=False), marks=pytest.mark.thorough),
    dl.TunedSVR(cv=3, certify=False),
    pytest.param(dl.TunedPoisson(cv=3, certify=False), marks=pytest.mark.thorough),
    pytest.param(dl.TunedHuber(cv=3, certify=False), marks=pytest.mark.thorough),
    pytest.param(dl.TunedGroupLasso(cv=3, certify=False, feature_groups=range(10)), marks=pytest.mark.thorough),
]


@pytest.mark.parametrize("model", MIXED)
def test_features_in_mixed_units(model):
    """One in millionths, one in millions: the first is lost, the second free, and the others are as they were."""
    units = 10.0 ** np.array([0, -6, 0, 0, 0, 6, 0, 0, 0, 0])
    target = Y // 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixed, plain = (clone(model).fit(design, target) for design in (X * units, X))
    assert mixed.score(X * units, target) > plain.score(X, target) - 0.03
    assert plain.penalties_[..., 2].max() < 1e3 * mixed.penalties_[..., 2].max() < 1e6 * plain.penalties_[..., 2].max()


@pytest.mark.parametrize("rows", [442, 8])
@pytest.mark.parametrize("criterion", ["loo", "sure"])
def test_a_decomposition_in_mixed_units(criterion, rows):
    """Squares of small features are less than rounding of those of large ones: coefficients are a ridge's all the same.

    The truth is by features in one unit, each with a penalty of its own.
    """
    units = np.where(np.arange(10) < 7, 1e-8, 1.0)
    model = dl.TunedRidge(criterion=criterion, noise=50.0, certify=False).fit(units * X[:rows], Y[:rows])
    truth = dl.TunedRidge(criterion=criterion, noise=50.0, certify=False, penalties="features", shrinkage=0.1)
    _, _, _, inner, strengths, folds, _ = truth._task(X[:rows], Y[:rows], None, None)
    theta = np.log(model.penalties_ / units**2)
    at = inner.at(theta, strengths, folds, inner.lanes(folds), {})
    fitted = inner.coefficients(strengths.expand(theta), folds)
    assert model.loss_ == pytest.approx(2 * at.value, rel=1e-6)
    apart = 1e-6 * np.abs(fitted.coef).max()
    np.testing.assert_allclose(units * model.coef_, fitted.coef[:, 0], rtol=0, atol=apart)


def test_a_decomposition_says_what_it_cannot_see():
    """Twelve digits between the units of features: a warning instead of a wrong fit."""
    units = np.where(np.arange(10) < 7, 1e-15, 1.0)
    with pytest.warns(ConvergenceWarning, match="Scale the features"):
        dl.TunedRidge(**QUICK).fit(units * X, Y)


@pytest.mark.parametrize(("unit", "solved"), [(1e-3, True), (1e-8, False)])
def test_a_wide_ridge_says_what_it_cannot_see(unit, solved):
    """By matrices of the samples, small features beside large ones are lost in rounding: at some units, and told."""
    random = np.random.default_rng(0)
    wide = random.normal(size=(30, 600)) * np.where(np.arange(600) < 597, unit, 1.0)
    y, penalty = (wide / np.abs(wide).max(axis=0)).sum(axis=1), 50.0 * unit**2
    _, _, _, inner, strengths, folds, _ = dl.TunedRidge(cv=3)._task(wide, y, None, None)
    fitted = inner.coefficients(strengths.expand(np.log([penalty])), folds)
    assert fitted.solved == solved
    if solved:
        theirs = Ridge(alpha=penalty, solver="svd").fit(wide, y)
        apart = np.abs(fitted.coef[:, 0] - theirs.coef_) * np.linalg.norm(wide, axis=0)
        assert apart.max() < 1e-6 * np.abs(theirs.coef_ * np.linalg.norm(wide, axis=0)).max()


@pytest.mark.parametrize("size", [1e5, 1e7])
def test_a_sample_far_from_the_others(size):
    """A value that stands for a missing one: the fit without its fold does not see it."""
    odd = X.copy()
    odd[7, 2] = size
    model = dl.TunedRidge(
        certify=False, cv=[(np.arange(100, len(Y)), np.arange(100)), (np.arange(100), np.arange(100, 442))]
    )
    _, _, _, inner, strengths, folds, _ = model._task(odd, Y, None, None)
    lanes = inner.lanes(folds)
    found = inner.engine.fits(*inner._strengths(strengths.expand(np.log([5.0]))), lanes, None)[0]
    theirs = Ridge(alpha=5.0, solver="svd").fit(X[100:], Y[100:])
    np.testing.assert_allclose(found.x[0, 1:], theirs.coef_, rtol=0, atol=1e-6 * np.abs(theirs.coef_).max())


def test_constant_features_are_left_out():
    """Rounding of their means is no variation; where nothing varies, the constant is fitted."""
    odd = np.hstack([X, np.full((len(X), 1), 1.1), np.full((len(X), 1), 3e5)])
    for model in (dl.TunedRidge(**QUICK), dl.TunedLasso(cv=3, certify=False), dl.TunedLasso(criterion="sure")):
        plain, other = (clone(model).fit(design, Y) for design in (X, odd))
        np.testing.assert_array_equal(other.coef_[10:], 0)
        np.testing.assert_allclose(other.predict(odd), plain.predict(X), rtol=1e-2)
    with pytest.warns(ConvergenceWarning, match="end of its range"):
        model = dl.TunedRidge(**QUICK).fit(odd[:, 10:], Y)
    np.testing.assert_allclose(model.predict(odd[:, 10:]), Y.mean())


def test_a_constant_feature_of_many_samples():
    """The rounding of a mean grows with the number of samples: it is no variation, however many there are."""
    random = np.random.default_rng(0)
    weights, design = random.uniform(0.1, 3.0, 20_000), random.normal(size=(20_000, 2))
    y = design[:, 0] + random.normal(size=20_000)
    odd = np.hstack([design, np.tile(random.uniform(0.1, 10.0, 8), (20_000, 1))])
    _, _, _, inner, _, _, _ = dl.TunedRidge()._task(odd, y, weights, None)
    np.testing.assert_array_equal(inner.data.curvatures[2:], 0)
    plain, other = (noise_of(some, y[:, None], weights, True)[0] for some in (design, odd))
    assert other == pytest.approx(plain, rel=1e-12)


def test_messages():
    with pytest.raises(ValueError, match="feature_groups is required"):
        dl.TunedRidge(penalties="groups").fit(X, Y)
    with pytest.raises(ValueError, match=r"shape \(n_features,\) = \(10,\)"):
        dl.TunedRidge(penalties="groups", feature_groups=[0, 1]).fit(X, Y)
    with pytest.raises(ValueError, match="The 'criterion' parameter of TunedLasso must be"):
        dl.TunedLasso(criterion="loo").fit(X, Y)
    with pytest.raises(ValueError, match="the noise, which cannot be estimated"):
        dl.TunedRidge(criterion="sure").fit(X[:8], Y[:8])
    with pytest.raises(ValueError, match="out of the valid range"):
        dl.TunedPoisson().fit(X, Y - 300)
    with pytest.raises(ValueError, match="a class has no training sample"):
        dl.TunedSVC(cv=[([0, 1], [2, 3])]).fit(X[:4], [0, 0, 1, 1])
    with pytest.raises(ValueError, match="penalty='group' needs"):
        dl.TunedLogisticRegression(penalty="group", penalties="features", feature_groups=range(10)).fit(X, Y > 100)


def test_a_bound_is_told():
    exact = X @ np.arange(10.0)
    with pytest.warns(ConvergenceWarning, match="end of its range"):
        dl.TunedRidge(**QUICK).fit(X, exact)


def test_jax_does_not_show():
    before = jax.config.jax_enable_x64
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = dl.TunedRidge(penalties="features", **QUICK).fit(X.astype(np.float32), Y)
    assert jax.config.jax_enable_x64 == before
    shown = [model.coef_, model.penalties_, model.hypergradient_.gradient, *model.path_.values()]
    assert all(type(value) is np.ndarray for value in shown)
    assert all(value.dtype == float for value in shown[:3])
    assert type(model.intercept_) is float
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


WITHOUT = """
import pickle, sys
import numpy as np

with open(sys.argv[1], "rb") as file:
    model, X, want = pickle.load(file)
np.testing.assert_array_equal(model.predict(X), want)

import dini_learn

lasso = dini_learn.TunedLasso(cv=2).fit(X, want + 30 * np.sin(np.arange(99)))
logistic = dini_learn.TunedLogisticRegression(cv=2).fit(X, want > np.median(want))
assert np.isfinite(lasso.predict(X)).all() and logistic.score(X, want > np.median(want)) > 0.9
asked = {"jax", "jaxlib", "dini"} & set(sys.modules)
assert not asked, f"no program is compiled, and {asked} are imported"
"""


def test_who_compiles_nothing_waits_for_no_jax(tmp_path):
    """A model that JAX has fitted is read and predicts without it, and fits by NumPy's solvers need none either."""
    model = dl.TunedRidge(penalties="features", **QUICK).fit(X, Y)
    (tmp_path / "model").write_bytes(pickle.dumps((model, X[:99], model.predict(X[:99]))))
    command = [sys.executable, "-W", "error", "-c", WITHOUT, str(tmp_path / "model")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_in_scikit_learns_company():
    pipe = make_pipeline(StandardScaler(), dl.TunedRidge(**QUICK))
    search = GridSearchCV(pipe, {"tunedridge__penalties": ["shared", "features"]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0.4
    model = dl.TunedRidge(cv=GroupKFold(3), certify=False).fit(X, Y, groups=np.arange(len(Y)) % 7)
    assert model.loss_ < Y.var()


def test_displays_and_progress(capsys):
    model = dl.TunedRidge(verbose=1, penalties="features", shrinkage=0.01, **QUICK).fit(X, Y)
    assert "TunedRidge" in capsys.readouterr().err
    path, penalties = model.plot_path(), model.plot_penalties()
    assert len(path.lines_[-1].get_ydata()) == len(model.path_["loss"])
    assert path.lines_[-1].get_ydata()[-1] == model.path_["loss"].min()
    np.testing.assert_array_equal(penalties.lines_[0].get_ydata(), model.penalties_)
    mpl.pyplot.close("all")


def test_certificate():
    model = dl.TunedRidge().fit(X, Y)
    assert 0 <= model.hypergradient_.error < 1e-6
    assert np.isnan(dl.TunedRidge(**QUICK).fit(X, Y).hypergradient_.error)


@pytest.mark.parametrize(("criterion", "rows"), [("loo", 60), ("loo", 8), ("sure", 60)])
def test_one_decomposition_is_as_good_as_many_factorizations(criterion, rows):
    """The search in one penalty decomposes once; that in many factorizes at each point."""
    weights = np.random.default_rng(0).uniform(0.5, 2.0, rows)
    model = dl.TunedRidge(criterion=criterion, penalties="features", noise=50.0, shrinkage=0.1)
    _, _, _, inner, strengths, folds, _ = model._task(X[:rows], Y[:rows], weights, None)
    one, lanes = strengths.shared(), inner.lanes(folds)
    for level in (-1.0, 2.0):
        by_one = inner.at(np.full(1, level), one, folds, lanes, {}, False)
        by_many = inner.at(np.full(10, level), strengths, folds, lanes, {}, False)
        assert by_one.value == pytest.approx(by_many.value, rel=1e-8)
        assert by_one.gradient[0] == pytest.approx(by_many.gradient.sum(), rel=1e-6)
        coef = inner.coefficients(one.expand(np.full(1, level)), folds)
        theirs = Ridge(alpha=np.exp(level)).fit(X[:rows], Y[:rows], sample_weight=weights)
        np.testing.assert_allclose(coef.coef[:, 0], theirs.coef_, rtol=1e-6)
        np.testing.assert_allclose(coef.intercept[0], theirs.intercept_, rtol=1e-6)


def test_metadata_is_routed():
    model = dl.TunedRidge(cv=GroupKFold(3), certify=False)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = model.set_fit_request(groups=True, sample_weight=True).get_metadata_routing().fit.requests
    assert asked == {"groups": True, "sample_weight": True}


@pytest.mark.thorough
def test_wide_data_and_grouped_classes():
    """More features than samples, by the design matrix; a group that means nothing is left out of all classes."""
    random = np.random.default_rng(0)
    wide = random.normal(size=(40, 600))
    y = wide[:, 0] - wide[:, 1] + 0.1 * random.normal(size=40)
    model = dl.TunedLasso(certify=False).fit(wide, y)
    theirs = Lasso(alpha=model.penalties_[0], tol=1e-12, max_iter=10**6).fit(wide, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-6)
    factors = random.normal(size=(40, 3))
    wide = factors @ random.normal(size=(3, 600)) + 0.5 * random.normal(size=(40, 600))
    y = factors.sum(axis=1) + random.normal(size=40)
    ridge = dl.TunedRidge(certify=False).fit(wide, y)
    np.testing.assert_allclose(ridge.coef_, Ridge(alpha=ridge.penalties_[0]).fit(wide, y).coef_, atol=1e-9)

    labels = np.digitize(X[:, 2], [-0.5, 0.5])
    design = np.hstack([X[:, [2, 3]], random.normal(size=(len(Y), 4))])
    groups = [0, 0, 1, 1, 1, 1]
    model = dl.TunedLogisticRegression(penalty="group", penalties="groups", feature_groups=groups, shrinkage=0.01)
    # the first feature tells the classes apart without a fault, and the less it is held back, the better
    with pytest.warns(ConvergenceWarning, match="1 of 2 .* the weakest for group 0"):
        model.set_params(certify=False).fit(design, labels)
    assert np.abs(model.coef_[:, 2:]).max() < 1e-2 * np.abs(model.coef_).max()
    assert model.score(design, labels) > 0.9


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["_linear", "_classifiers"])
def test_docstring_examples(name):
    failures, tests = doctest.testmod(importlib.import_module(f"dini_learn.{name}"))
    assert tests
    assert not failures


@pytest.mark.may_cost(8)
def test_columns_that_depend_on_one_another():
    """The Lasso has many solutions then, all of one loss: the search is as good as a path's."""
    twice = np.hstack([X, X[:, :3], X[:, [0]] + X[:, [1]]])
    model = dl.TunedLasso(cv=5, certify=False).fit(twice, Y)
    assert model.loss_ <= LassoCV(cv=5).fit(twice, Y).mse_path_.mean(axis=1).min() * (1 + 1e-4)
    assert np.isfinite(model.hypergradient_.gradient).all()
