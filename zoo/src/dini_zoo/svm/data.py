"""Handwritten digits, split into the three samples that tuning needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_digits


class Sample(NamedTuple):
    """`m` points with `p` features, and their classes as rows of the `k`-dimensional identity."""

    X: Float[Array, "m p"]
    Y: Float[Array, "m k"]


class Split(NamedTuple):
    """The training sample fits the weights, the validation sample the regularization, the test sample nothing."""

    train: Sample
    validation: Sample
    test: Sample


def digits(classes: int, train: int, validation: int, seed: int = 0) -> Split:
    """The 8×8 images of scikit-learn of the first `classes` digits, in [0, 1], shuffled; the rest is for testing."""
    images, labels = load_digits(return_X_y=True)
    kept = labels < classes
    X, y = images[kept] / 16, labels[kept]
    if train + validation >= len(y):
        raise ValueError(f"There are {len(y)} images of {classes} digits: {train} + {validation} leave none to test.")
    order = np.random.RandomState(seed).permutation(len(y))
    whole = Sample(X[order], np.eye(classes)[y[order]])
    cuts = (slice(train), slice(train, train + validation), slice(train + validation, None))
    return Split(*(Sample(whole.X[cut], whole.Y[cut]) for cut in cuts))
