"""Task-driven dictionary learning: sparse codes whose dictionary is learned for the classifier that reads them.

The parts: the data in folds (`breast_cancer`, `folds`), sparse codes (`SparseCoding`), the classifier on them with its
loss and its training (`Params`, `classify`, `loss`, `train`), and methods to begin with and to compare with
(`learn_dictionary`, `l1_logistic`, `l2_logistic`, `auc`). The experiment is in `study`,
what it prints and draws in `report` and `picture`.
"""

from .baselines import auc, l1_logistic, l2_logistic, learn_dictionary
from .coding import SparseCoding
from .data import Cohort, Fold, breast_cancer, folds, outcomes, standardize
from .task import Course, Params, bounded, classify, loss, train

__all__ = [
    "Cohort",
    "Course",
    "Fold",
    "Params",
    "SparseCoding",
    "auc",
    "bounded",
    "breast_cancer",
    "classify",
    "folds",
    "l1_logistic",
    "l2_logistic",
    "learn_dictionary",
    "loss",
    "outcomes",
    "standardize",
    "train",
]
