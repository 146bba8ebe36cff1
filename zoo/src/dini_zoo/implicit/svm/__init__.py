"""A multiclass support vector machine whose regularization is tuned by hypergradients.

The parts: the dual as a problem of dini (`dual`), the validation loss and its gradient (`hypergradient`), ways to
differentiate (`MIRROR`, `PROJECTED`), searches (`grid_search`, `hypergradient_descent`), and the table of solvers and
derivatives (`compare`). The experiment is in `study`,
what it prints and draws in `report` and `picture`.
"""

from dini_zoo.kit.data import Sample, Split, digits

from ..support_vectors import (
    MIRROR,
    PROJECTED,
    accuracy,
    center,
    dual,
    hypergradient,
    squared_error,
    squared_hinge,
    tie_margin,
    validation_loss,
    weights,
)
from .comparison import Comparison, Contender, compare
from .fista import FISTA
from .tuning import Machine, Search, grid_search, hypergradient_descent, train, tune

__all__ = [
    "FISTA",
    "MIRROR",
    "PROJECTED",
    "Comparison",
    "Contender",
    "Machine",
    "Sample",
    "Search",
    "Split",
    "accuracy",
    "center",
    "compare",
    "digits",
    "dual",
    "grid_search",
    "hypergradient",
    "hypergradient_descent",
    "squared_error",
    "squared_hinge",
    "tie_margin",
    "train",
    "tune",
    "validation_loss",
    "weights",
]
