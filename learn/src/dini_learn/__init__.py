"""Estimators in scikit-learn's manner that tune their own penalties, one or hundreds, by hypergradients."""

from ._classifiers import TunedLogisticRegression, TunedSVC
from ._displays import PathDisplay, PenaltiesDisplay
from ._glm import TunedHuber, TunedPoisson, TunedQuantile, TunedSVR
from ._linear import TunedElasticNet, TunedGroupLasso, TunedLasso, TunedRidge
from ._outcome import Hypergradient

__version__ = "0.2.0"

__all__ = [
    "Hypergradient",
    "PathDisplay",
    "PenaltiesDisplay",
    "TunedElasticNet",
    "TunedGroupLasso",
    "TunedHuber",
    "TunedLasso",
    "TunedLogisticRegression",
    "TunedPoisson",
    "TunedQuantile",
    "TunedRidge",
    "TunedSVC",
    "TunedSVR",
]
