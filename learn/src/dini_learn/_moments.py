"""Second moments of the samples of folds: all that a squared loss knows of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from ._folds import Folds


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
        """Return those of what each fit sees, and of what judges it.

        Where a fit sees all samples that do not judge it, its moments are those of all samples less the others.
        """
        held = np.array([self.on(rows) for rows in folds.held])
        if (folds.train != ~folds.held).any():
            return np.array([self.on(rows) for rows in folds.train]), held
        if self._whole is None and (folds.held.sum(axis=0) == 1).all():
            self._whole = held.sum(axis=0)
        return self.whole - held, held

    def on(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some samples."""
        return self.whole if rows.all() else self._of(rows * self.weights)

    def _of(self, weights: np.ndarray) -> np.ndarray:
        some = np.flatnonzero(weights)
        part, root = self.columns[some], np.sqrt(weights[some])[:, None]
        if scipy.sparse.issparse(part):
            part = part.multiply(root).tocsr()
            return (part.T @ part).toarray()
        part *= root
        return part.T @ part
