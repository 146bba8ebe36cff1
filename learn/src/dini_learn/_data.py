"""What an estimator minimizes, on which data."""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.exceptions import EfficiencyWarning

from ._folds import Folds
from ._losses import LOSSES

#: with at most so many columns, or fewer than samples, a squared loss is known by its second moments
_MOMENTS = 512
#: a sparse matrix is made dense without a warning up to so many bytes
_MUCH = 2**28
#: the search ends at these parts of the largest penalties of interest: of absolute values, and of squares
WEAKEST_L1, WEAKEST_L2 = 1e-4, 1e-6
#: a column varies by less than this part of its square around zero where it is constant, but for rounding; and what
#: rounding of that square adds to what varies
_STILL, _ROUNDED = 1e-20, 1e-6
#: losses of the difference between predictor and target alone; and those of them that grow as it does
_SHIFTS = ("squared", "huber", "squared_epsilon_insensitive", "pinball")
_ROBUST = ("huber", "pinball")
#: the standard deviation of a normal distribution in units of its median absolute deviation
_NORMAL = 1.4826


class Spec(NamedTuple):
    """What an estimator minimizes.

    Attributes
    ----------
    loss
        A name of the table of losses.
    kind
        The penalty: ``"l1"``, ``"l2"``, ``"elasticnet"`` or ``"group"``.
    mean
        Whether the loss is the mean over the samples, or their sum.
    criterion
        ``"cv"``, ``"holdout"``, ``"loo"`` or ``"sure"``.
    setting
        Two numbers of the loss: the last one is in the units of the target.
    noise
        The standard deviation of the noise of each target, for ``"sure"``.
    intercept
        Whether there is one.
    seed
        Of the directions in which ``"sure"`` disturbs the target of a fit with kinks.
    repeated
        Whether the weights of samples say how often each is there; they are the precisions of their targets otherwise.
    """

    loss: str
    kind: str
    mean: bool
    criterion: str
    setting: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, ...] = (0.0,)
    intercept: bool = True
    seed: int = 0
    repeated: bool = False

    @property
    def kinds(self) -> int:
        """How many kinds of penalties are tuned."""
        return 2 if self.kind == "elasticnet" else 1


class Judged(NamedTuple):
    """Weights of the samples in each fit, and of those that evaluate it: in the units of its loss, and a mean's.

    ``fitted`` and ``among`` are what the weights were divided by.
    """

    train: np.ndarray
    held: np.ndarray
    fitted: np.ndarray
    among: np.ndarray


class Fits(NamedTuple):
    """What an engine returns of fits, an entry for each.

    Attributes
    ----------
    value
        The held-out loss.
    gradient
        A pair: its derivatives in the logarithms of the penalties of absolute values and of squares, each like the
        coefficients.
    x
        The coefficients, that of the intercept first.
    solved
        Whether the inner solver converged.
    error
        The certificate's estimate of the gradient's relative error; NaN where none was asked for.
    ends
        What the next fits start from: the coefficients, or what an exact solver keeps.
    """

    value: Any
    gradient: Any
    x: Any
    solved: Any
    error: Any
    ends: Any = None


def means(X: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the weighted means of columns, by two passes: rounding of one grows with the samples."""
    found = share @ X
    return found + share @ (X - found)


def dense(X: Any) -> np.ndarray:
    """Return a sparse matrix as an array, with a warning where that is large and much larger than it was."""
    size = 8 * X.shape[0] * X.shape[1]
    if size > _MUCH and size > 10 * X.data.nbytes:
        warnings.warn(
            f"X is sparse, of shape {X.shape}, and this estimator and criterion need a dense copy of "
            f"{size / 2**30:.1f} GiB. TunedLasso, TunedElasticNet and TunedGroupLasso with criterion='cv' or 'holdout' "
            "need none.",
            EfficiencyWarning,
            stacklevel=2,
        )
    return X.toarray()


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.quantile(values, 0.5, weights=weights, method="inverted_cdf"))


def deviation(y: np.ndarray, weights: np.ndarray, center: bool) -> tuple[float, float]:
    """Return the weighted median of targets, or zero, and a robust standard deviation around it: one where none is.

    It is that of a normal distribution with their median absolute deviation. Where half of the targets or more have
    none, it is by those that have one.
    """
    level = _median(y, weights) if center else 0.0
    sizes = np.abs(y - level)
    spread = _median(sizes, weights)
    if not spread and ((sizes > 0) & (weights > 0)).any():
        spread = _median(sizes, weights * (sizes > 0))
    return level, _NORMAL * spread or 1.0


class Data:
    """Data, around their means where that changes nothing.

    Parameters
    ----------
    spec
        The specification.
    X
        Of shape ``(samples, features)``, dense or sparse.
    y
        Of shape ``(samples, targets)``.
    weights
        Of the samples.
    """

    def __init__(self, spec: Spec, X: Any, y: np.ndarray, weights: np.ndarray):
        self.spec, self.weights = spec, weights
        self.samples, self.features = X.shape
        self.targets = y.shape[1]
        self.closed = spec.criterion in ("loo", "sure") and spec.kind == "l2"
        self.stein = spec.criterion == "sure" and not self.closed
        self.narrow = self.features <= max(_MOMENTS, self.samples) or self.stein
        # the numbers of one sample's predictor: several are fitted together where they are one distribution
        self.together = spec.loss == "multinomial"
        kept = spec.loss == "squared" and not self.closed and (self.narrow or spec.kind != "l2")
        X = dense(X) if scipy.sparse.issparse(X) and not kept else X
        share = weights / weights.sum()
        # where there is an intercept, columns around their means are as good, and better conditioned
        centered = spec.intercept and not scipy.sparse.issparse(X)
        self.center = means(X, share) if centered else np.zeros(self.features)
        self.level = share @ y if spec.loss in _SHIFTS and spec.intercept else np.zeros(self.targets)
        # a unit of the targets, where what is fitted is in theirs
        self.size = 1.0
        if spec.loss in _ROBUST:
            middle, self.size = deviation(y[:, 0], weights, spec.intercept)
            self.level = np.full(1, middle)
        self.X, self.y = X - self.center if centered else X, y - self.level
        # counts stay what they are, and their predictor is around the logarithm of their mean
        self.offset = spec.setting[1] if spec.loss == "poisson" else 0.0
        self.level = self.level + self.offset
        if spec.loss in _SHIFTS and spec.loss not in _ROBUST:
            self.size = float(np.sqrt(np.mean(share @ self.y**2))) or 1.0
        loss = LOSSES[spec.loss]
        # about the largest second derivative of the loss in its predictor: counts have that of their level, and a loss
        # that grows as its predictor does has one over its units
        self.bend = loss.curvature * self.size ** (loss.degree - 2)
        if spec.loss == "poisson":
            self.bend *= float((share @ y)[0])
        if centered:
            # a constant, but for rounding
            self.X[:, np.abs(self.X).max(axis=0) <= 8 * np.finfo(float).eps * np.abs(self.center)] = 0.0

    def judged(self, folds: Folds) -> Judged:
        """Return the weights of folds."""
        train, held = folds.train * self.weights, folds.held * self.weights
        fitted, among = train.sum(1), held.sum(1)
        if not (fitted > 0).all() or not (among > 0).all():
            raise ValueError("sample_weight is zero for all training, or all held-out, samples of one of the folds.")
        fitted = fitted if self.spec.mean else np.ones(len(train))
        return Judged(train / fitted[:, None], held / among[:, None], fitted, among)

    @functools.cached_property
    def curvatures(self) -> np.ndarray:
        """About the largest second derivative of the loss in each coefficient."""
        weights, center = self.weights, np.zeros(self.features)
        if scipy.sparse.issparse(self.X) and self.spec.intercept:
            # around the means, from which sparse columns are not taken
            center = weights / weights.sum() @ self.X
        weights = weights / weights.sum() if self.spec.mean else weights
        return self._curvature(self._squares(weights, slice(None), center))

    def curvatures_of(self, train: np.ndarray) -> np.ndarray:
        """Return the same of fits with weights of the samples, a row for each: around their own means.

        A sample far from the others has nearly all that varies where it is fitted, and nothing where it is not. Where
        there is nothing it is that of all samples; rounding of what is far from zero counts, too.
        """
        # fits of one target disturbed in several directions, or all on all samples, have the same
        one = train[:1] if (train == train[0]).all() else train
        found = np.empty((len(one), self.features))
        for row, weights in enumerate(one):
            some = np.flatnonzero(weights)
            own, total = weights[some], weights.sum()
            center = own / total @ self.X[some] if self.spec.intercept else np.zeros(self.features)
            far = total * center**2
            varying = self._curvature(self._squares(own, some, center))
            far = self._curvature(far)
            found[row] = np.where(varying > _STILL * far, varying + _ROUNDED * far, self.curvatures)
        return np.broadcast_to(found, (len(train), self.features))

    def _squares(self, weights: np.ndarray, some: Any, center: np.ndarray) -> np.ndarray:
        """Return the weighted sums of squares of columns around a center."""
        X = self.X[some]
        if scipy.sparse.issparse(X):
            # sparse ones stay so
            return np.maximum(X.multiply(X).T @ weights - weights.sum() * center**2, 0.0)
        X = X - center if center.any() else X
        return np.einsum("ij,ij,i->j", X, X, weights)

    def _curvature(self, squares: np.ndarray) -> np.ndarray:
        return self.bend * squares

    @functools.cached_property
    def pulls(self) -> np.ndarray:
        """The slope of the loss in each coefficient, where all vanish."""
        loss = LOSSES[self.spec.loss]
        weights = self.weights / self.weights.sum() if self.spec.mean else self.weights
        share = self.weights / self.weights.sum()
        z = np.broadcast_to(loss.center(share @ self.y) - self.offset if self.spec.intercept else 0.0, self.y.shape)
        return np.abs(self.X.T @ (weights[:, None] * loss.slope(z, self.y, self.spec.setting))).max(axis=1)

    @functools.cached_property
    def units(self) -> tuple[float, float]:
        """Penalties that are about the largest of interest: of absolute values, and of squares."""
        some = self.curvatures[self.curvatures > 0]
        pull = max(float(self.pulls.max()), np.finfo(float).tiny)
        return pull, float(some.mean()) if some.size else 1.0

    @functools.cached_property
    def mixed(self) -> float:
        """How far below these the half of the features have theirs by their units alone, as a part of one.

        It is one of features on one scale, and the square root of what it is for penalties of squares.
        """
        some = self.curvatures[self.curvatures > 0]
        if not some.size:
            return 1.0
        largest = self.curvatures[int(self.pulls.argmax())] if self.spec.kind != "l2" else some.mean()
        return float(min(1.0, np.sqrt(np.median(some) / max(largest, np.finfo(float).tiny))))

    @property
    def weakest(self) -> float:
        """The weakest penalty of the search in one: of squares, or of absolute values."""
        pull, curvature = self.units
        return WEAKEST_L2 * curvature * self.mixed**2 if self.spec.kind == "l2" else WEAKEST_L1 * pull * self.mixed
