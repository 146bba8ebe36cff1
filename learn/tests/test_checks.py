"""scikit-learn's own checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import dini_learn as dl

# checks fit noise, and the best model of noise has none of its features
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([dl.TunedRidge(penalties="features", cv=3)])
def test_checks(estimator, check):
    check(estimator)


OTHERS = [
    dl.TunedRidge(criterion="loo"),
    dl.TunedLasso(cv=3, certify=False),
    dl.TunedElasticNet(cv=3, certify=False),
    dl.TunedGroupLasso(cv=3, certify=False),
    dl.TunedLogisticRegression(cv=3, certify=False),
    dl.TunedSVC(cv=3, certify=False),
    dl.TunedSVR(cv=3, certify=False),
    dl.TunedHuber(cv=3, certify=False),
    dl.TunedPoisson(cv=3, certify=False),
    dl.TunedQuantile(cv=3, certify=False),
]


@pytest.mark.thorough
@parametrize_with_checks(OTHERS)
def test_checks_of_others(estimator, check):
    check(estimator)
