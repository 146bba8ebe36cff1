"""Groups of samples that are held out together, groups of features by their names, and bounds of the penalties."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.preprocessing import scale

import dini_learn as dl

DATA = load_diabetes(return_X_y=True, as_frame=True)
X, Y = scale(DATA[0]), DATA[1].to_numpy()
# each sample three times, with a little noise, and unequal groups
ROWS = np.repeat(np.arange(60), np.arange(60) % 3 + 2)
WIDE = np.hstack([X[ROWS], np.random.default_rng(0).normal(size=(60, 40))[ROWS]])
TWICE = Y[ROWS] + np.random.default_rng(1).normal(size=len(ROWS))
WEIGHTS = np.random.default_rng(2).uniform(0.5, 2.0, len(ROWS)) * (ROWS != 7)


def test_leave_one_out_leaves_one_group_out():
    """Beside fits without each group; samples that repeat others do not judge them."""
    model = dl.TunedRidge(criterion="loo", certify=False).fit(WIDE, TWICE, WEIGHTS, groups=ROWS)
    away = 0.0
    for train, held in LeaveOneGroupOut().split(WIDE, TWICE, ROWS):
        fit = Ridge(alpha=model.penalties_[0]).fit(WIDE[train], TWICE[train], WEIGHTS[train])
        away += WEIGHTS[held] @ (fit.predict(WIDE[held]) - TWICE[held]) ** 2 / WEIGHTS.sum()
    assert model.loss_ == pytest.approx(away, rel=1e-8)
    with warnings.catch_warnings():
        # without groups repetitions tell what is held out, and no penalty is the best
        warnings.simplefilter("ignore", ConvergenceWarning)
        alone = dl.TunedRidge(criterion="loo", certify=False).fit(WIDE, TWICE, WEIGHTS)
    assert alone.loss_ < 0.2 * model.loss_
    # groups of one sample are samples, of several targets, too
    targets = np.stack([Y, Y + 100 * X[:, 0]], axis=1)[:60]
    for alpha in (False, True):
        one, other = (
            dl.TunedRidge(criterion="loo", alpha_per_target=alpha).fit(X[:60], targets, groups=groups)
            for groups in (None, np.arange(60))
        )
        np.testing.assert_allclose(other.penalties_, one.penalties_, rtol=1e-3)
        np.testing.assert_allclose(other.loss_, one.loss_, rtol=1e-8)


def test_groups_of_samples_and_a_penalty_for_each_feature():
    settings = {"penalties": "groups", "feature_groups": np.arange(50) // 10, "certify": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = dl.TunedRidge(criterion="loo", **settings).fit(WIDE, TWICE, groups=ROWS)
    assert model.nested_losses_.shape[0] == 5
    _, _, _, _, _, _, nested = model._task(WIDE, TWICE, None, ROWS)
    for part in nested:
        for train, held in zip(part.train, part.held, strict=True):
            assert not np.isin(ROWS[train], ROWS[held]).any()
        # what judges is seen by nobody else
        assert not (part.train & part.held[-1]).any()
        assert not (part.held[:-1] & part.held[-1]).any()
        assert part.share.sum() == pytest.approx(1)


@pytest.mark.parametrize("shrinkage", [0.1, "auto"])
def test_a_split_holds_groups_out_together(shrinkage):
    model = dl.TunedRidge(criterion="holdout", penalties="features", shrinkage=shrinkage, random_state=0)
    for some in (model, dl.TunedLogisticRegression(criterion="holdout", random_state=0)):
        _, _, _, _, _, folds, _ = some._task(WIDE, TWICE > 140 if some._classifies else TWICE, None, ROWS)
        for train, held in zip(folds.train, folds.held, strict=True):
            assert not np.isin(ROWS[train], ROWS[held]).any()
        if len(folds.held) == 2:
            assert not np.isin(ROWS[folds.held[0]], ROWS[folds.held[1]]).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(criterion="holdout", penalties="shared").fit(WIDE, TWICE, groups=ROWS)


def test_groups_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="groups has no effect with criterion='sure'"):
        dl.TunedLasso(criterion="sure").fit(X, Y, groups=np.arange(len(Y)))
    with pytest.raises(ValueError, match="must have at least two groups"):
        dl.TunedRidge(criterion="loo").fit(X, Y, groups=np.zeros(len(Y)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        dl.TunedRidge(criterion="loo").fit(X, Y, groups=np.arange(3))


FRAME = pd.DataFrame(X, columns=DATA[0].columns)
NAMED = {name: "who" if name in ("age", "sex") else "what" for name in FRAME.columns}


@pytest.mark.parametrize(
    "given",
    [
        NAMED,
        dict(reversed(NAMED.items())),
        pd.Series(NAMED),
        pd.Series(NAMED)[::-1],
        list(NAMED.values()),
        pd.Series(list(NAMED.values())),
    ],
)
def test_groups_of_features_are_by_name(given):
    settings = {"penalties": "groups", "shrinkage": 0.01, "certify": False, "criterion": "loo"}
    truth = dl.TunedRidge(feature_groups=list(NAMED.values()), **settings).fit(X, Y).penalties_
    model = dl.TunedRidge(feature_groups=given, **settings).fit(FRAME, Y)
    np.testing.assert_allclose(model.penalties_, truth, rtol=1e-6)


def test_groups_of_features_by_their_places():
    settings = {"penalties": "groups", "shrinkage": 0.01, "certify": False, "criterion": "loo"}
    truth = dl.TunedRidge(feature_groups=np.arange(10) // 4, **settings).fit(X, Y).penalties_
    for given in (pd.Series(np.arange(10) // 4)[::-1], {9 - place: (9 - place) // 4 for place in range(10)}):
        model = dl.TunedRidge(feature_groups=given, **settings).fit(X, Y)
        np.testing.assert_allclose(model.penalties_, truth, rtol=1e-6)


def test_names_of_features_that_are_wrong():
    wrong = {("bum" if name == "bmi" else name): group for name, group in NAMED.items()}
    with pytest.raises(ValueError, match=r"missing are \['bmi'\], unknown are \['bum'\]"):
        dl.TunedRidge(penalties="groups", feature_groups=wrong).fit(FRAME, Y)
    twice = pd.Series([0] * 11, index=[*FRAME.columns, "bmi"])
    with pytest.raises(ValueError, match="1 are repeated"):
        dl.TunedRidge(penalties="groups", feature_groups=twice).fit(FRAME, Y)
    with pytest.raises(ValueError, match="by the positions of X's columns"):
        dl.TunedRidge(penalties="groups", feature_groups=NAMED).fit(X, Y)


def test_bounds():
    """A search that is bounded ends at the bound that is nearest, and says which; inside of bounds it is as it was."""
    free = dl.TunedRidge(criterion="loo").fit(X, Y).penalties_[0]
    for criterion in ("loo", "cv"):
        model = dl.TunedRidge(criterion=criterion, bounds=(10 * free, 100 * free))
        with pytest.warns(ConvergenceWarning, match="weak end of its range.*without a penalty"):
            assert model.fit(X, Y).penalties_[0] == pytest.approx(10 * free)
        model.set_params(bounds=[0.01 * free, 0.1 * free])
        with pytest.warns(ConvergenceWarning, match="strong end of its range.*without features"):
            assert model.fit(X, Y).penalties_[0] == pytest.approx(0.1 * free)
    within = dl.TunedRidge(criterion="loo", bounds=(0.1 * free, 3 * free)).fit(X, Y)
    assert within.penalties_[0] == pytest.approx(free, rel=1e-4)
    knots = dl.TunedLasso(criterion="sure").fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="weak end"):
        bounded = dl.TunedLasso(criterion="sure", bounds=(2 * knots.penalties_[0], 40.0)).fit(X, Y)
    assert bounded.penalties_[0] == pytest.approx(2 * knots.penalties_[0])
    assert bounded.loss_ > knots.loss_


@pytest.mark.parametrize(
    ("kind", "bounds", "message"),
    [
        (dl.TunedRidge, (1.0, 0.1), "a least penalty and a larger greatest one"),
        (dl.TunedRidge, (0.0, 1.0), "positive numbers"),
        (dl.TunedRidge, (1.0, np.nan), "positive numbers"),
        (dl.TunedRidge, [(1.0, 2.0), (1.0, 2.0)], r"of shape \(2,\)"),
        (dl.TunedElasticNet, [(1.0, 2.0)], r"\(2, 2\)"),
    ],
)
def test_bounds_that_are_none(kind, bounds, message):
    with pytest.raises(ValueError, match=message):
        kind(bounds=bounds).fit(X, Y)
