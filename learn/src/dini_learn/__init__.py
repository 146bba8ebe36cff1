"""Estimators in scikit-learn's manner that tune their own penalties, one or hundreds, by hypergradients."""

from ._base import Hypergradient
from ._displays import PathDisplay, PenaltiesDisplay
from ._linear import TunedElasticNet, TunedLasso, TunedRidge

__version__ = "0.1.0"

__all__ = [
    "Hypergradient",
    "PathDisplay",
    "PenaltiesDisplay",
    "TunedElasticNet",
    "TunedLasso",
    "TunedRidge",
]
