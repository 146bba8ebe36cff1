"""Synthetic data for classification."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import make_classification

from dini_zoo.kit.checking import at_least
from dini_zoo.kit.data import Sample


class Data(NamedTuple):
    """What the machine is fitted to, and what its regularization is judged by."""

    train: Sample
    validation: Sample

    @property
    def curvature(self) -> float:
        """The largest eigenvalue of the Gram matrix: over θ, the Lipschitz constant of the dual's gradient."""
        return float(np.linalg.eigvalsh(self.train.X @ self.train.X.T)[-1])


def synthetic(features: int, classes: int, train: int, validation: int, seed: int = 0) -> Data:
    """scikit-learn's clusters at the corners of a cube, one a class, with a tenth of the features informative.

    The features are divided by the square root of their number, which keeps the curvature of the dual, and with it the
    meaning of a regularization and of a step size, about the same at all numbers of features.
    """
    at_least("train", train, 1)
    at_least("validation", validation, 1)
    X, y = make_classification(
        n_samples=train + validation,
        n_features=features,
        n_informative=max(features // 10, classes),
        n_redundant=0,
        n_classes=classes,
        n_clusters_per_class=1,
        random_state=seed,
    )
    whole: list[Any] = [X / np.sqrt(features), np.eye(classes)[y]]
    return Data(Sample(*(part[:train] for part in whole)), Sample(*(part[train:] for part in whole)))
