r"""Stein's estimate of the risk where the fit has kinks: fits of disturbed targets, with derivatives in all penalties.

For a fit :math:`\hat m(y)` with noise of standard deviation :math:`\sigma`, half of the estimate is

.. math:: \tfrac12 \bigl(\tfrac1n \|y - \hat m(y)\|^2 - \sigma^2\bigr)
          + \tfrac{\sigma^2}{n} \operatorname{tr} J , \qquad J = \partial \hat m / \partial y .

The trace is the number of features of a Lasso, and so its derivative in a penalty vanishes wherever it is defined,
though the trace changes. Differences of fits have derivatives that tell of it: for unit vectors :math:`u_k` in the
space of the columns,

.. math:: \operatorname{tr} J \approx \frac rK \sum_{k=1}^K \frac{u_k^\top (\hat m(y + \tau u_k) - \hat m(y))}{\tau} ,
          \qquad \tau = \sqrt r \, \frac{2 \sigma}{n^{0.3}} ,

with orthogonal directions, so that the ``r`` dimensions are seen as evenly as can be, all of them where
:math:`r \le K`. A squared loss knows its target by products with the columns, so that each fit is one with other
moments, and what is told of it is linear.

References
----------
Deledalle, Vaiter, Fadili, Peyre, "Stein Unbiased GrAdient estimator of the Risk (SUGAR) for multiple parameter
selection", SIAM Journal on Imaging Sciences 2014. Ye, "On measuring and correcting the effects of data mining and model
selection", JASA 1998.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from ._folds import Folds

#: at most so many fits of disturbed targets
PROBES = 16
#: directions along which the columns have less than this part of their largest square are none
_RANK = 1e-12


def noise_of(X: Any, y: np.ndarray, weights: np.ndarray, intercept: bool) -> float:
    """Return the standard deviation of what least squares leaves, per degree of freedom."""
    X = X.toarray() if scipy.sparse.issparse(X) else X
    used = weights > 0
    root = np.sqrt(weights[used])
    design = np.hstack([np.ones((used.sum(), 1)), X[used]]) if intercept else X[used]
    free = int(used.sum()) - np.linalg.matrix_rank(design)
    if free <= 0:
        raise ValueError(
            "criterion='sure' needs the noise, which cannot be estimated with as many features as samples: pass "
            "noise, its standard deviation."
        )
    rest = root * y[used] - (root[:, None] * design) @ np.linalg.lstsq(root[:, None] * design, root * y[used])[0]
    return float(np.sqrt(rest @ rest / (free + counted(weights) - used.sum())))


def counted(weights: np.ndarray) -> float:
    """Return the number of samples: weights are repetitions of them where they add up to more."""
    return float(max(weights.sum(), (weights > 0).sum()))


def probed(folds: Folds, features: int) -> Folds:
    """Return a row for the fit of each folds' first one and of the disturbed targets, and one for what judges it."""
    fits = 1 + min(PROBES, features)
    train = np.repeat(folds.train[:1], fits, axis=0)
    if folds.judge is None:
        return Folds(train, train, np.ones(fits))
    train = np.repeat(folds.train[:1], fits + 1, axis=0)
    held = train.copy()
    held[-1] = folds.held[0]
    share = np.ones(fits + 1)
    share[-1] = 0.0
    return Folds(train, held, share, fits)


def stein_moments(
    moments: np.ndarray, features: int, weights: np.ndarray, noise: float, seed: int, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return moments that are fitted and moments that judge, for the fit itself and each disturbed one.

    Parameters
    ----------
    moments
        Sums over the samples of products of the columns: one, the features, void ones, the target.
    features
        How many there are.
    weights
        Of the samples.
    noise
        The standard deviation of the noise.
    seed
        Of the directions.
    intercept
        Whether there is one, which is a degree of freedom.
    """
    place = slice(1, 1 + features)
    gram = moments[place, place]
    if intercept:
        gram = gram - np.outer(moments[place, 0], moments[0, place]) / moments[0, 0]
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    unit = np.where(size > 0, size, 1.0)
    # in columns of length one, so that units do not decide what depends on what
    values, basis = np.linalg.eigh(gram / unit / unit[:, None])
    kept = values > _RANK * features * max(values[-1], np.finfo(float).tiny)
    # columns times the space's orthonormal directions
    along = unit[:, None] * basis[:, kept] * np.sqrt(values[kept])
    rank, count = int(kept.sum()), min(PROBES, features)
    seen = min(rank, count)
    turned = np.eye(rank)
    if rank > count:
        turned = np.linalg.qr(np.random.RandomState(seed).normal(size=(rank, rank)))[0]
    away = np.zeros((count, features))
    away[:seen] = (along @ turned[:, :seen]).T

    fitted = np.repeat(moments[None], 1 + count, axis=0)
    judges = np.zeros_like(fitted)
    length = np.sqrt(rank) * 2 * noise / counted(weights) ** 0.3
    fitted[1:, place, -1] += length * away
    fitted[1:, -1, place] += length * away
    # a linear function of the coefficients, as the square of (coefficients, -1) by moments
    each = rank / max(seen, 1) * noise**2 / length * away if rank else away
    judges[1:, place, -1] = judges[1:, -1, place] = -each
    judges[0] = moments
    judges[0, place, -1] += each.sum(axis=0)
    judges[0, -1, place] += each.sum(axis=0)
    judges[0, -1, -1] += noise**2 * (2 * intercept - weights.sum())
    return fitted, judges
