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
moments, and its reported figures are linear.

References
----------
Deledalle, Vaiter, Fadili, Peyre, "Stein Unbiased GrAdient estimator of the Risk (SUGAR) for multiple parameter
selection", SIAM Journal on Imaging Sciences 2014. Ye, "On measuring and correcting the effects of data mining and model
selection", JASA 1998.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ._data import Spec, means
from ._folds import Folds

#: at most so many fits of disturbed targets
PROBES = 16
#: directions along which the columns have less than this part of their largest square are none
_RANK = 1e-12


def noise_of(X: Any, y: np.ndarray, weights: np.ndarray, intercept: bool, repeated: bool = False) -> tuple[float, ...]:
    """Return the standard deviation of what least squares leaves of each target, per degree of freedom.

    Where weights are precisions it is that of a sample of their mean.
    """
    X = X.toarray() if scipy.sparse.issparse(X) else X
    used = weights > 0
    X, y, share = X[used], y[used], weights[used] / weights.sum()
    center = means(X, share) * intercept
    root = np.sqrt(weights[used])[:, None]
    design, goal = root * (X - center), root * (y - share @ y * intercept)
    # in columns of length one, so that units do not decide what depends on what
    size, offset = np.linalg.norm(design, axis=0), np.abs(center) * np.sqrt(weights.sum())
    varies = size > 8 * np.finfo(float).eps * offset
    rounding = np.finfo(float).eps * max(*X.shape, 8 * float((offset[varies] / size[varies]).max(initial=0.0)))
    design = design[:, varies] / size[varies]
    fitted, _, rank, _ = np.linalg.lstsq(design, goal, rcond=rounding)
    if int(used.sum()) <= rank + intercept:
        raise ValueError(
            "criterion='sure' needs the noise, which cannot be estimated with as many features as samples: pass "
            "noise, its standard deviation."
        )
    rest = goal - design @ fitted
    count = counted(weights, repeated)
    if count <= rank + intercept:
        raise ValueError(
            f"criterion='sure' needs the noise: weights='repetitions' gives {count:g} samples for {rank + intercept} "
            "degrees of freedom. Pass noise, its standard deviation, or weights='precisions'."
        )
    mean = (rest**2).sum(axis=0) / weights.sum()
    return tuple(np.sqrt(mean * count / (count - rank - intercept)).tolist())


def counted(weights: np.ndarray, repeated: bool) -> float:
    """Return the number of samples, whose weights say how often each is there, or how precise each is."""
    return float(weights.sum() if repeated else np.count_nonzero(weights))


def probed(folds: Folds, features: int) -> Folds:
    """Return a row for the fit of each folds' first one and of the disturbed targets, and one for what evaluates it."""
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


class Disturbed(NamedTuple):
    """A fit and those of disturbed targets: half of Stein's estimate is the sum of what evaluates them.

    Attributes
    ----------
    matrix
        Means of products of the columns: one, and the features.
    linear
        Those with the targets, a row for each fit.
    square
        The mean of the squared target, undisturbed.
    slopes
        The linear functions that evaluate the fits, a row for each; the first by its squared residuals, too.
    rest
        What is added.
    """

    matrix: np.ndarray
    linear: np.ndarray
    square: float
    slopes: np.ndarray
    rest: float

    @classmethod
    def of(cls, spec: Spec, sums: np.ndarray, weights: np.ndarray) -> Disturbed:
        """Disturb the target of some samples.

        Parameters
        ----------
        spec
            What is minimized.
        sums
            Sums over the weighted samples of products of the columns: one, the features, the target.
        weights
            Of the samples.
        """
        (noise,), intercept = spec.noise, spec.intercept
        total, count, gram = weights.sum(), counted(weights, spec.repeated), sums[1:-1, 1:-1]
        # in the units of the weights: where they are precisions the noise is that of their mean
        scaled = noise * np.sqrt(total / count)
        if intercept:
            gram = gram - np.outer(sums[1:-1, 0], sums[0, 1:-1]) / sums[0, 0]
        probes = min(PROBES, len(gram))
        away, rank = _products(gram, probes, spec.seed)
        length = np.sqrt(rank) * 2 * scaled / count**0.3
        linear = np.repeat(sums[None, :-1, -1], 1 + probes, axis=0)
        linear[1:, 1:] += length * away
        slopes = np.zeros_like(linear)
        if rank:
            slopes[1:, 1:] = rank / min(rank, probes) * scaled**2 / length * away
            slopes[0] = -slopes.sum(axis=0)
        rest = noise**2 * (intercept / count - 0.5)
        return cls(sums[:-1, :-1] / total, linear / total, sums[-1, -1] / total, slopes / total, float(rest))


def _products(gram: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, int]:
    """Return products of the features with orthonormal directions of their space, a row for each, and its dimension."""
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    unit = np.where(size > 0, size, 1.0)
    # in columns of length one, so that units do not decide what depends on what
    values, basis = np.linalg.eigh(gram / unit / unit[:, None])
    kept = values > _RANK * len(gram) * max(values[-1], np.finfo(float).tiny)
    along, rank = unit[:, None] * basis[:, kept] * np.sqrt(values[kept]), int(kept.sum())
    if rank > count:
        random = np.random.RandomState(seed).normal(size=(rank, count))
        along = along @ np.linalg.qr(random)[0]
    found = np.zeros((count, len(gram)))
    found[: min(rank, count)] = along.T
    return found, rank
