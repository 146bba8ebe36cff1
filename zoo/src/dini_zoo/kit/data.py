"""Data sets that come with scikit-learn, as samples and splits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from sklearn import datasets


class Sample(NamedTuple):
    """`m` points with `p` features, and their classes as rows of the `k`-dimensional identity."""

    X: Float[Array, "m p"]
    Y: Float[Array, "m k"]

    @property
    def labels(self) -> Int[np.ndarray, " m"]:
        """The classes as numbers."""
        return np.argmax(np.asarray(self.Y), axis=1)


class Split(NamedTuple):
    """The training sample fits the weights, the validation sample the regularization, the test sample nothing."""

    train: Sample
    validation: Sample
    test: Sample


def digits(classes: int, train: int, validation: int, seed: int = 0) -> Split:
    """The 8×8 images of scikit-learn of the first `classes` digits, in [0, 1], shuffled; the rest is for testing."""
    images, labels = datasets.load_digits(return_X_y=True)
    kept = labels < classes
    return _split(images[kept] / 16, labels[kept], train, validation, seed, f"images of {classes} digits")


def classification(name: Literal["breast_cancer", "iris", "wine"], train: int, validation: int, seed: int = 0) -> Split:
    """A data set of scikit-learn, shuffled; the rest is for testing. The training sample standardizes its features."""
    X, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    split = _split(X, labels, train, validation, seed, f"points in {name}")
    mean, deviation = split.train.X.mean(axis=0), split.train.X.std(axis=0)
    return Split(*(sample._replace(X=(sample.X - mean) / deviation) for sample in split))


def _split(X: np.ndarray, y: np.ndarray, train: int, validation: int, seed: int, what: str) -> Split:
    if train + validation >= len(y):
        raise ValueError(f"There are {len(y)} {what}: {train} + {validation} leave none to test.")
    order = np.random.RandomState(seed).permutation(len(y))
    whole = Sample(X[order], np.eye(y.max() + 1)[y[order]])
    cuts = (slice(train), slice(train, train + validation), slice(train + validation, None))
    return Split(*(Sample(whole.X[cut], whole.Y[cut]) for cut in cuts))


def diabetes() -> tuple[Float[np.ndarray, "442 10"], Float[np.ndarray, " 442"], list[str]]:
    """The 442 patients of scikit-learn: columns of norm one as shipped, what is to be predicted, and columns' names."""
    bunch = datasets.load_diabetes()
    return bunch.data, bunch.target, list(bunch.feature_names)


def corrupted(sample: Sample, share: float, random: np.random.Generator) -> tuple[Sample, np.ndarray]:
    """The sample with a share of its labels replaced by another class each, and which ones they are."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1: given {share}.")
    labels, classes = sample.labels, sample.Y.shape[1]
    wrong = np.zeros(len(labels), bool)
    wrong[random.permutation(len(labels))[: round(share * len(labels))]] = True
    other = (labels + random.integers(1, classes, len(labels))) % classes
    return sample._replace(Y=np.eye(classes)[np.where(wrong, other, labels)]), wrong
