"""What task-driven learning begins with and is compared with: the methods of scikit-learn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import DictionaryLearning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from .data import Cohort

#: The names of the methods that are compared.
L1, L2, FIXED, TASK = "L1 logistic", "L2 logistic", "dictionary, then L2 logistic", "task-driven dictionary"
METHODS = (L1, L2, FIXED, TASK)


def learn_dictionary(X: Float[np.ndarray, "m p"], atoms: int, strength: float, steps: int) -> Float[np.ndarray, "k p"]:
    """Atoms of norm one from which the rows of `X` can be put together, learned without a task."""
    learner = DictionaryLearning(
        atoms,
        alpha=strength,
        max_iter=steps,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        random_state=0,
    )
    return learner.fit(X).components_


def l1_logistic(train: Cohort, C: float) -> LogisticRegression:
    """Logistic regression with the sum of absolute weights as penalty, which selects genes."""
    return LogisticRegression(l1_ratio=1, C=C, solver="liblinear", random_state=0).fit(train.X, train.y)


def l2_logistic(train: Cohort, C: float) -> LogisticRegression:
    """Logistic regression with the squared norm of the weights as penalty."""
    return LogisticRegression(C=C, max_iter=1000).fit(train.X, train.y)


def auc(y: Float[np.ndarray, " m"], scores: Float[np.ndarray, " m"]) -> float:
    """The share of pairs, one of either label, in which the patient with label 1 has the larger score."""
    return float(roc_auc_score(y, scores))
