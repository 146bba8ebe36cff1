"""scikit-learn's own checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dini_learn import TunedElasticNet, TunedLasso, TunedRidge

# checks fit noise, and the best model of noise has none of its features
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([TunedRidge(penalties="features", cv=3)])
def test_checks(estimator, check):
    check(estimator)


@pytest.mark.thorough
@parametrize_with_checks([TunedRidge(criterion="loo"), TunedLasso(cv=3), TunedElasticNet(cv=3)])
def test_checks_of_others(estimator, check):
    check(estimator)
