"""The inner problem of an estimator on its data: fits on folds, by whichever program is the cheapest."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse

from . import _programs
from ._folds import Folds
from ._losses import LOSSES
from ._padding import COLUMNS, SAMPLES, bucket, padded
from ._path import LassoPath
from ._search import At
from ._spectrum import Spectrum
from ._stein import stein_moments
from ._strengths import Strengths

#: with at most so many columns, or fewer than samples, a squared loss is known by its second moments
_MOMENTS = 512


#: losses of the difference between predictor and target alone
_SHIFTS = ("squared", "huber", "squared_epsilon_insensitive", "pinball")


#: what a penalty without squares has of them, a part of the mean curvature
_RIDGE = 1e-9


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
        Two numbers of the loss.
    noise
        The standard deviation of the noise, for ``"sure"``.
    intercept
        Whether there is one.
    seed
        Of the directions in which ``"sure"`` disturbs the targets of a fit with kinks.
    """

    loss: str
    kind: str
    mean: bool
    criterion: str
    setting: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    intercept: bool = True
    seed: int = 0

    @property
    def kinds(self) -> int:
        """How many kinds of penalties are tuned."""
        return 2 if self.kind == "elasticnet" else 1


class Fitted(NamedTuple):
    """Coefficients of shape ``(features, targets)``, intercepts, Huber's scale, and whether the solver converged."""

    coef: np.ndarray
    intercept: np.ndarray
    scale: float
    solved: bool


class Inner:
    """Fits of a specification on padded data.

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
    groups
        Of a penalty of groups: the group of each feature.
    """

    def __init__(self, spec: Spec, X: Any, y: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None):
        self.spec, self.weights = spec, weights
        self.samples, self.features = X.shape
        self.targets = y.shape[1]
        self.closed = spec.criterion in ("loo", "sure") and spec.kind == "l2"
        self.stein = spec.criterion == "sure" and not self.closed
        squared = spec.loss == "squared"
        narrow = self.features <= max(_MOMENTS, self.samples)
        self.by_moments = squared and (narrow or self.stein) and not self.closed
        if scipy.sparse.issparse(X) and not self.by_moments:
            X = X.toarray()
        share = weights / weights.sum()
        # where there is an intercept, columns around their means are as good, and better conditioned
        centered = spec.intercept and not scipy.sparse.issparse(X)
        self.center = share @ X if centered else np.zeros(self.features)
        self.level = share @ y if spec.loss in _SHIFTS and spec.intercept else np.zeros(self.targets)
        self.X, self.y = X - self.center if centered else X, y - self.level
        # Huber's loss has a scale as its last coefficient
        self.scaled = spec.loss == "huber"
        self.columns = bucket(1 + self.features + self.scaled, COLUMNS)
        self.place = np.arange(self.columns)
        if groups is not None:
            self.place[1 : 1 + self.features] = 1 + groups
        self.rows = bucket(self.samples, SAMPLES)
        self.dual = spec.kind == "l2" and squared and not self.by_moments and self.features > self.samples
        self.setting = np.asarray(spec.setting, float)
        # the numbers of one sample's predictor: several are fitted together where they are one distribution
        self.together = spec.loss == "multinomial"
        if self.by_moments:
            self.table = self._table()
        else:
            self.goals = [self._put(padded(goal, *self._like(goal))) for goal in self._goals()]

    @functools.cached_property
    def design(self) -> Any:
        """The padded columns: one, the features, what is void."""
        found = np.zeros((self.rows, self.columns))
        found[: self.samples, 0] = float(self.spec.intercept)
        found[: self.samples, 1 : 1 + self.features] = self.X
        return self._put(found)

    def _put(self, array: Any) -> Any:
        with jax.enable_x64(True):
            return jax.device_put(np.asarray(array, float))

    def _goals(self) -> list[np.ndarray]:
        return [self.y] if self.together else [self.y[:, c] for c in range(self.targets)]

    def _like(self, goal: np.ndarray) -> tuple[int, ...]:
        return (self.rows, *goal.shape[1:])

    def _table(self) -> Any:
        """Return the columns that moments are taken of: one, the features, the target."""
        if scipy.sparse.issparse(self.X):
            one = scipy.sparse.csr_array(np.full((self.samples, 1), float(self.spec.intercept)))
            return scipy.sparse.csr_array(scipy.sparse.hstack([one, self.X, scipy.sparse.csr_array(self.y)]))
        return np.hstack([np.full((self.samples, 1), float(self.spec.intercept)), self.X, self.y])

    def _moments(self, weights: np.ndarray) -> np.ndarray:
        found = np.zeros((len(weights), self.columns + 1, self.columns + 1))
        last = 1 + self.features
        for row, own in enumerate(weights):
            some = np.flatnonzero(own)
            part = self.table[some]
            if scipy.sparse.issparse(part):
                square = (part.T @ part.multiply(own[some][:, None]).tocsr()).toarray()
            else:
                square = part.T @ (own[some][:, None] * part)
            found[row, :last, :last] = square[:last, :last]
            found[row, :last, -1] = found[row, -1, :last] = square[:last, -1]
            found[row, -1, -1] = square[-1, -1]
        return found

    def lanes(self, folds: Folds) -> tuple[Any, Any]:
        """Return the weights of folds, as the program takes them."""
        train, held = folds.train * self.weights, folds.held * self.weights
        empty = (train.sum(1) <= 0) | (held.sum(1) <= 0)
        if empty.any():
            raise ValueError("In one of the folds all samples that are fitted, or held out, have a weight of zero.")
        if self.stein:
            return self._stein_lanes(train, held)
        share, among = train.sum(1) if self.spec.mean else np.ones(len(train)), held.sum(1)
        if self.by_moments:
            judged = self._moments(held)
            if (folds.train == ~folds.held).all():
                fitted = self._moments(self.weights[None]) - judged
            else:
                fitted = self._moments(train)
            return self._put(fitted / share[:, None, None]), self._put(judged / among[:, None, None])
        train, held = train / share[:, None], held / among[:, None]
        return tuple(self._put(padded(part, len(part), self.rows)) for part in (train, held))

    def _stein_lanes(self, train: np.ndarray, held: np.ndarray) -> tuple[Any, Any]:
        """Return the moments of a fit and of those of disturbed targets, and of a fit that judges, if there is one."""
        own = train[0]
        spec, total = self.spec, own.sum()
        given = self.features, own, spec.noise, spec.seed, spec.intercept
        fitted, judged = (part / total for part in stein_moments(self._moments(own[None])[0], *given))
        if len(train) > len(fitted):
            fitted = np.concatenate([fitted, fitted[:1]])
            judged = np.concatenate([judged, self._moments(held[-1:]) / held[-1].sum()])
        return self._put(fitted), self._put(judged)

    def _strengths(self, each: np.ndarray, fits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return logarithms of the penalties of absolute values and of squares, for columns.

        There is none of the intercept and of a scale, and one of what is void.

        ``each`` is of shape ``(kinds, features, targets)``.
        """
        shape = (self.columns, each.shape[2])
        l1, l2 = np.full(shape, -np.inf), np.full(shape, -np.inf)
        for part in (l1, l2):
            part[1 + self.features :] = 0.0
            part[0] = -np.inf if self.spec.intercept else 0.0
            if self.scaled:
                part[-1] = -np.inf
        place = slice(1, 1 + self.features)
        if self.spec.kind != "l2":
            l1[place] = np.log(each[0])
        if self.spec.kind in ("l2", "elasticnet"):
            l2[place] = np.log(each[-1])
        else:
            # columns that depend on one another leave neither the solution nor its derivative open
            l2[place] = np.log(_RIDGE * self.units[1])
        spread = lambda part: np.broadcast_to(part[None], (fits, *shape))
        return spread(l1), spread(l2)

    def fits(self, each: np.ndarray, lanes: tuple[Any, Any], start: Any = None, certify: bool = False) -> list[Any]:
        """Return what the program finds, for each target that is fitted on its own."""
        spec, (train, held) = self.spec, lanes
        # a Lasso is an elastic net without squares: they share programs
        kind = "elasticnet" if spec.kind == "l1" else spec.kind
        with jax.enable_x64(True):
            l1, l2 = self._strengths(each, len(train))
            found = []
            for place in range(1 if self.together else self.targets):
                own = (l1, l2) if self.together else (l1[..., place], l2[..., place])
                x0 = self._start(own[0].shape) if start is None else start[place]
                if self.by_moments:
                    if spec.kind == "l2" and not certify:
                        fits = _programs.ridge_moment_fits(own, x0, train, held)
                    else:
                        fits = _programs.moment_fits(kind, certify, own, x0, train, held, self.place)
                elif spec.loss == "squared" and spec.kind == "l2":
                    given = self.design, self.goals[place], spec.noise, float(spec.intercept)
                    fits = _programs.ridge_fits(spec.criterion, self.dual, own, train, held, *given)
                else:
                    given = self.design, self.goals[place], self.setting, self.place
                    fits = _programs.linear_fits(spec.loss, kind, certify, own, x0, train, held, *given)
                found.append(jax.device_get(fits))
        return found

    def _start(self, shape: tuple[int, ...]) -> np.ndarray:
        x0 = np.zeros(shape)
        if self.scaled:
            x0[:, -1] = self.spec.setting[1]
        return x0

    def at(
        self, theta: np.ndarray, strengths: Strengths, folds: Folds, lanes: Any, state: dict[str, Any], certify: bool
    ) -> At:
        """Return the criterion at a point; ``state`` keeps where the next fits start."""
        if self.exactly(strengths, folds):
            value, slope = self._exact.criterion(self.spec.criterion, float(np.exp(theta[0])), self.spec.noise)
            solved = bool(np.isfinite(value)) and self._exact.solved
            return At(np.array(theta), value, np.array([slope]), np.nan, solved, np.nan)
        each = strengths.expand(theta)
        found = self.fits(each, lanes, state.get("x"), certify)
        if all(np.isfinite(fits.x).all() for fits in found):
            state["x"] = [fits.x for fits in found]
        value = np.sum([fits.value for fits in found], axis=0)
        slopes = [self._slopes(fits) for fits in found]
        slopes = slopes[0] if self.together else np.concatenate(slopes, axis=-1)
        share, judge = folds.share, folds.judge
        error = np.max([fits.error for fits in found], axis=0)
        judged = float("nan")
        if self._paired:
            judged = judged if judge is None else float(value[1::2][judge])
            value, slopes, error = value[0::2], slopes[0::2], error[0::2]
        elif judge is not None:
            judged = float(value[judge])
        use = share > 0
        gradient = strengths.pull(np.tensordot(share[use], slopes[use], 1))
        solved = all(bool(np.all(fits.solved)) for fits in found)
        # relative to the length of each fit's own gradient
        lengths = np.sqrt((slopes[use].reshape(int(use.sum()), -1) ** 2).sum(1))
        bound = float(share[use] @ (error[use] * lengths))
        return At(np.array(theta), float(share[use] @ value[use]), gradient, judged, solved, bound)

    def exactly(self, strengths: Strengths, folds: Folds) -> bool:
        """Whether the criterion is known from one decomposition, or one path, for all penalties."""
        return self._known and strengths.size == 1 and folds.judge is None

    @property
    def _known(self) -> bool:
        return self.closed or (self.stein and self.spec.kind == "l1")

    @functools.cached_property
    def _exact(self) -> Spectrum | LassoPath:
        kind = Spectrum if self.closed else LassoPath
        return kind.of(self.X, self.y[:, 0], self.weights, self.spec.intercept)

    @property
    def knots(self) -> np.ndarray | None:
        """The penalties among which is the best, where the criterion jumps at them and grows in between."""
        return None if self.closed else self._exact.knots

    @property
    def _paired(self) -> bool:
        """Whether the program returns the criterion and the held-out loss by turns."""
        return self.spec.loss == "squared" and self.spec.kind == "l2" and not self.by_moments

    def _slopes(self, fits: Any) -> np.ndarray:
        """Return derivatives in the penalties that are tuned, of shape ``(fits, kinds, features, targets)``."""
        l1, l2 = (np.asarray(part) for part in fits.gradient)
        chosen = {"l2": [l2], "elasticnet": [l1, l2]}.get(self.spec.kind, [l1])
        some = np.stack([part[:, 1 : 1 + self.features] for part in chosen], axis=1)
        return some if self.together else some[..., None]

    def coefficients(self, each: np.ndarray, folds: Folds) -> Fitted:
        """Return the fit on all samples."""
        if self._known and each.min() == each.max():
            coef = self._exact.coefficients(float(each.max()))[:, None]
            solved = bool(np.isfinite(coef).all()) and self._exact.solved
            return Fitted(coef, self._intercept(0.0, coef), np.nan, solved)
        found = self.fits(each, self.lanes(folds.everything()), None)
        x = found[0].x[0] if self.together else np.stack([fits.x[0] for fits in found], axis=1)
        solved = all(bool(np.all(fits.solved)) for fits in found)
        coef = x[1 : 1 + self.features]
        return Fitted(coef, self._intercept(x[0], coef), float(x[-1, 0]) if self.scaled else float("nan"), solved)

    def _intercept(self, own: Any, coef: np.ndarray) -> np.ndarray:
        return (own + self.level - self.center @ coef) * self.spec.intercept

    @functools.cached_property
    def units(self) -> tuple[float, float]:
        """Return penalties that are about the largest of interest: of absolute values, and of squares."""
        loss = LOSSES[self.spec.loss]
        weights = self.weights / self.weights.sum() if self.spec.mean else self.weights
        share = self.weights / self.weights.sum()
        z = np.broadcast_to(loss.center(share @ self.y) if self.spec.intercept else 0.0, self.y.shape)
        pull = np.abs(self.X.T @ (weights[:, None] * loss.slope(z, self.y, self.spec.setting)))
        squares = self.X.multiply(self.X) if scipy.sparse.issparse(self.X) else self.X**2
        curvature = np.asarray(squares.T @ weights).ravel()
        if scipy.sparse.issparse(self.X) and self.spec.intercept:
            # around the means, from which sparse columns are not taken
            curvature = curvature - weights.sum() * (share @ self.X) ** 2
        curvature = loss.curvature * curvature
        curvature = curvature[curvature > 0]
        tiny = np.finfo(float).tiny
        return max(float(pull.max()), tiny), float(curvature.mean()) if curvature.size else 1.0
