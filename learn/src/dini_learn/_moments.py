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


def of_folds(columns: Any, folds: Folds, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of what each fit sees, and of what judges it: sums over the weighted samples.

    Where a fit sees all samples that do not judge it, its moments are those of all samples less the others.
    """
    held = sums(columns, folds.held * weights)
    if (folds.train != ~folds.held).any():
        return sums(columns, folds.train * weights), held
    once = (folds.held.sum(axis=0) == 1).all()
    whole = held.sum(axis=0) if once else sums(columns, weights[None])[0]
    return whole - held, held


def sums(columns: Any, weights: np.ndarray) -> np.ndarray:
    """Return sums of weighted products of two columns, a matrix for each row of weights."""
    found = np.empty((len(weights), columns.shape[1], columns.shape[1]))
    for row, own in enumerate(weights):
        some = np.flatnonzero(own)
        part, root = columns[some], np.sqrt(own[some])[:, None]
        if scipy.sparse.issparse(part):
            part = part.multiply(root).tocsr()
            found[row] = (part.T @ part).toarray()
        else:
            part *= root
            found[row] = part.T @ part
    return found
