"""Second moments of the samples of folds: all that a squared loss knows of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from ._folds import Folds

#: a difference that is less than this part of what it is one of has lost too many digits
_LITTLE = 1e-3


def table(X: Any, y: np.ndarray, intercept: bool) -> Any:
    """Return the columns that moments are taken of: one (or zero, without an intercept), the features, the targets."""
    one = np.full((X.shape[0], 1), float(intercept))
    if scipy.sparse.issparse(X):
        parts = [scipy.sparse.csr_array(one), X, scipy.sparse.csr_array(y)]
        return scipy.sparse.csr_array(scipy.sparse.hstack(parts))
    return np.hstack([one, X, y])


class Moments:
    """Sums over the weighted samples of the products of columns.

    Parameters
    ----------
    columns
        A table of columns.
    weights
        Of the samples.
    """

    def __init__(self, columns: Any, weights: np.ndarray):
        self.columns, self.weights = columns, weights
        self._whole: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """Those of all samples."""
        if self._whole is None:
            self._whole = self._of(self.weights)
        return self._whole

    def folds(self, folds: Folds) -> tuple[np.ndarray, np.ndarray]:
        """Return those of what each fit sees, and of what evaluates it.

        Where a fit sees all samples that do not evaluate it, its moments are those of all samples less the others: but
        for columns of which these have nearly all that varies.
        """
        held = np.array([self.on(rows) for rows in folds.held])
        if (folds.train != ~folds.held).any():
            return np.array([self.on(rows) for rows in folds.train]), held
        if self._whole is None and (folds.held.sum(axis=0) == 1).all():
            self._whole = held.sum(axis=0)
        train = self.whole - held
        few = _varying(train) < _LITTLE * np.diagonal(self.whole)
        for fit in np.flatnonzero(few.any(axis=1)):
            some = np.flatnonzero(few[fit])
            own = self._of(folds.train[fit] * self.weights, some)
            train[fit][:, some], train[fit][some] = own, own.T
        return train, held

    def on(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some samples."""
        return self.whole if rows.all() else self._of(rows * self.weights)

    def _of(self, weights: np.ndarray, columns: Any = slice(None)) -> np.ndarray:
        """Return products of all columns with some."""
        some = np.flatnonzero(weights)
        part, root = self.columns[some], np.sqrt(weights[some])[:, None]
        if scipy.sparse.issparse(part):
            part = part.multiply(root).tocsr()
            return (part.T @ part[:, columns]).toarray()
        part *= root
        return part.T @ part[:, columns]


def _varying(moments: np.ndarray) -> np.ndarray:
    """Return of moments with a column of ones, or of zeros, the squares of the others around their means."""
    first = moments[:, :1, 0]
    squares = np.diagonal(moments, axis1=1, axis2=2)
    return squares - moments[:, 0] ** 2 / np.where(first > 0, first, 1.0) * (np.arange(squares.shape[1]) > 0)
