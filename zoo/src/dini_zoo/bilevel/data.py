"""Digits whose labels are partly wrong: data to be cleaned, and on which what has been tuned must not be fooled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn import datasets

from ..kit.checking import at_least


class Labelled(NamedTuple):
    """Images as rows of 64 numbers in [0, 1], and their classes as numbers."""

    X: Float[np.ndarray, "m 64"]
    y: Int[np.ndarray, " m"]


class NoisyDigits(NamedTuple):
    """Three samples of scikit-learn's digits, and which labels were replaced."""

    train: Labelled
    validation: Labelled
    test: Labelled
    wrong: Bool[np.ndarray, " corrupted"]
    """Of the corrupted rows: those of training, followed by those of validation where they are corrupted, too."""


def noisy_digits(
    train: int, validation: int, share: float, *, noisy_validation: bool = False, seed: int = 0
) -> NoisyDigits:
    """The 1797 images of scikit-learn, shuffled, each training label replaced by another class with a probability.

    Parameters
    ----------
    train, validation
        How many images; the rest is for testing.
    share
        The probability.
    noisy_validation
        Whether labels of the validation sample are replaced as well. Those of the test sample never are.
    seed
        Of the order and of the wrong labels.

    Examples
    --------
    >>> digits = noisy_digits(1000, 300, 0.4)
    >>> len(digits.test.y), 0.35 < digits.wrong.mean() < 0.45
    (497, np.True_)
    """
    X, y = datasets.load_digits(return_X_y=True)
    at_least("train", train, 1)
    at_least("validation", validation, 1)
    if train + validation >= len(y):
        raise ValueError(f"There are {len(y)} images: {train} + {validation} leave none to test.")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1: given {share}.")
    random = np.random.default_rng(seed)
    order = random.permutation(len(y))
    X, y = X[order] / 16, y[order]
    count = train + validation * noisy_validation
    wrong = random.random(count) < share
    y[:count] = np.where(wrong, (y[:count] + random.integers(1, 10, count)) % 10, y[:count])
    cuts = (slice(train), slice(train, train + validation), slice(train + validation, None))
    return NoisyDigits(*(Labelled(X[cut], y[cut]) for cut in cuts), wrong)
