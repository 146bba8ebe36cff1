"""The inner problem of an estimator on its data: fits on folds, by whichever solver is the cheapest."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ._data import Data, Spec
from ._exact import Exact
from ._folds import Folds
from ._path import LassoPath
from ._search import At
from ._smooth import smooth
from ._smooth_fits import SmoothFits
from ._sparse_newton import SparseNewton
from ._spectrum import Spectrum
from ._strengths import Strengths

__all__ = ["Fitted", "Inner", "Spec"]

#: what a penalty without squares has of them, a part of each feature's curvature
_RIDGE = 1e-9
#: targets are outliers that are further from the median than so many standard deviations
_FAR = 10.0
#: so many points of a search are kept, for the next ones to start from, beside the last
_TRAIL = 4


class Fitted(NamedTuple):
    """Coefficients of shape ``(features, targets)``, intercepts, Huber's scale, and whether the solver converged."""

    coef: np.ndarray
    intercept: np.ndarray
    scale: float
    solved: bool


class _Last(NamedTuple):
    """The folds that were asked for last, what their fits need, and where these ended."""

    folds: Folds | None
    lanes: Any
    ends: Any


class Inner:
    """Fits of a specification on data.

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
        self.spec = spec
        self.data = Data(spec, X, y, weights)
        self.closed, self.stein, self.units = self.data.closed, self.data.stein, self.data.units
        squared = spec.loss == "squared"
        if squared and not self.closed and (self.data.narrow or spec.kind != "l2"):
            self.engine = Exact(self.data, groups)
        elif spec.kind == "l2" and smooth(spec.loss, spec.setting) is not None:
            self.engine = SmoothFits(self.data)
        elif spec.kind in ("l1", "elasticnet") and spec.loss in ("logistic", "multinomial", "pinball"):
            self.engine = SparseNewton(self.data)
        else:
            from ._compiled import Compiled  # who fits by other engines waits for no JAX

            self.engine = Compiled(self.data, groups)
        self._last = _Last(None, None, None)
        # a closed form returns the criterion and the held-out loss by turns
        self._paired = squared and spec.kind == "l2" and not isinstance(self.engine, Exact | SmoothFits | SparseNewton)

    @property
    def inexact(self) -> bool:
        """Whether a rough point is one."""
        return isinstance(self.engine, SmoothFits | SparseNewton)

    def of_target(self, X: Any, y: np.ndarray, target: int) -> Inner:
        """Return the fits of one target alone, by the same decomposition."""
        spec = self.spec._replace(noise=self.spec.noise[target : target + 1])
        found = Inner(spec, X, y[:, [target]], self.data.weights)
        if self.closed:
            found._curve = self._curve.of_target(target)
        return found

    def lanes(self, folds: Folds) -> Any:
        """Return what the fits of folds need; of those that were asked for last it is kept."""
        last = self._last
        if last.folds is not folds:
            self._last = last = _Last(folds, self.engine.lanes(folds, self.data.judged(folds)), None)
        return last.lanes

    def infimum(self, folds: Folds) -> float:
        """Return about the criterion of predictions without an error, from which it is measured."""
        if self.spec.criterion == "sure":
            return -0.5 * float(np.square(self.spec.noise).sum())
        if self.spec.loss != "huber":
            return 0.0
        # what targets far from all others cost, whatever is fitted
        limit, size = self.spec.setting
        far = limit * np.maximum(np.abs(self.data.y[:, 0]) - _FAR * size, 0.0)
        return float(folds.share @ (self.data.judged(folds).held @ far))

    def _curvatures(self, folds: Folds) -> np.ndarray | None:
        """Return the curvatures of fits, of a row each, where there is a penalty of squares beside the chosen one."""
        if self.spec.kind in ("l2", "elasticnet"):
            return None
        return self.data.curvatures_of(self.data.judged(folds).train)

    def _strengths(self, each: np.ndarray, curvatures: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the penalties of absolute values and of squares, with a row for the intercept.

        ``each`` is of shape ``(kinds, features, targets)``. With curvatures of fits the penalties of squares have a
        first axis for these.
        """
        shape = (1 + self.data.features, self.data.targets)
        l1, l2 = np.zeros(shape), np.zeros(shape)
        if not self.spec.intercept:
            l1[0] = l2[0] = 1.0
        if self.spec.kind != "l2":
            l1[1:] = each[0]
        # columns that depend on one another leave neither the solution nor its derivative open
        if self.spec.kind in ("l2", "elasticnet"):
            l2[1:] = each[-1]
        else:
            curvatures = self.data.curvatures if curvatures is None else curvatures
            own = _RIDGE * np.where(curvatures > 0, curvatures, self.units[1])
            l2 = np.broadcast_to(l2, (*own.shape[:-1], *shape)).copy()
            l2[..., 1:, :] = own[..., None]
        return l1, l2

    def at(
        self,
        theta: np.ndarray,
        strengths: Strengths,
        folds: Folds,
        lanes: Any,
        state: dict[str, Any],
        certify: bool = False,
        rough: bool = False,
    ) -> At:
        """Return the criterion at a point; ``state`` keeps where the next fits start.

        ``rough`` is for a look around: some engines save work then.
        """
        if self.exactly(strengths, folds):
            penalty = float(np.exp(theta[0]))
            value, slope = self._curve.criterion(self.spec.criterion, penalty, self.spec.noise)
            solved = bool(np.isfinite(value)) and self._curve.solved(penalty)
            return At(np.array(theta), value, np.array([slope]), np.nan, solved, np.nan)
        each = strengths.expand(theta)
        if "curvatures" not in state:
            state["curvatures"] = self._curvatures(folds)
        trail = state.setdefault("trail", [])
        last = self._last
        start = self._near(theta, trail) if trail else last.ends if lanes is last.lanes else None
        found = self.engine.fits(*self._strengths(each, state["curvatures"]), lanes, start, certify, rough)
        solved = all(bool(np.all(fits.solved)) for fits in found)
        # from where no fit ended none starts
        if solved and all(np.isfinite(fits.x).all() for fits in found):
            others = [seen for seen in trail if (seen[0] != theta).any()]
            trail[:] = [*self._lighter(others[:-_TRAIL]), *others[-_TRAIL:]]
            trail.append((np.array(theta), [fits.ends for fits in found]))
            # other searches may be under way
            last = self._last
            self._last = last._replace(ends=trail[-1][1]) if lanes is last.lanes else last
        value = np.sum([fits.value for fits in found], axis=0)
        slopes = [self._slopes(fits) for fits in found]
        slopes = slopes[0] if self.data.together else np.concatenate(slopes, axis=-1)
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
        # relative to the length of each fit's own gradient
        lengths = np.sqrt((slopes[use].reshape(int(use.sum()), -1) ** 2).sum(1))
        # what is not known is not known of a gradient that vanishes, either
        bound = float(share[use] @ (error[use] * np.where(np.isinf(error[use]), 1.0, lengths)))
        return At(np.array(theta), float(share[use] @ value[use]), gradient, judged, solved, bound)

    def _lighter(self, trail: list[tuple[np.ndarray, Any]]) -> list[tuple[np.ndarray, Any]]:
        """Return what is kept of older points: of a search in one penalty with exact faces, the faces alone."""
        if not isinstance(self.engine, Exact) or not trail or len(trail[0][0]) > 1:
            return []
        return [(theta, [[start.lighter() for start in each] for each in ends]) for theta, ends in trail]

    def _near(self, theta: np.ndarray, trail: list[tuple[np.ndarray, Any]]) -> Any:
        """Return where to start, from where fits have ended: at the nearest point, or on a curve through some."""
        order = np.argsort([np.abs(theta - seen).max() for seen, _ in trail], kind="stable")
        if len(theta) > 1 or len(order) < 2 or not isinstance(self.engine, SmoothFits):
            return trail[order[0]][1]
        some = [trail[place] for place in order[:3]]
        places = np.array([seen[0] for seen, _ in some])
        away = places - theta[0]
        weights = [np.prod(np.delete(away, i)) / np.prod(np.delete(away - away[i], i)) for i in range(len(places))]
        return self.engine.between(weights, [ends for _, ends in some])

    def exactly(self, strengths: Strengths, folds: Folds) -> bool:
        """Whether the criterion is known for all penalties at once."""
        return self._known and strengths.size == 1 and folds.judge is None

    @property
    def _known(self) -> bool:
        return self.closed or (self.data.stein and self.spec.kind == "l1")

    @functools.cached_property
    def _curve(self) -> Spectrum | LassoPath:
        kind, data = Spectrum if self.closed else LassoPath, self.data
        return kind.of(data.X, data.y, data.weights, self.spec.intercept, data.weakest, self.spec.repeated)

    @property
    def knots(self) -> np.ndarray | None:
        """The penalties among which the best one is, where the criterion jumps at them and grows in between."""
        return None if self.closed else self._curve.knots

    def _slopes(self, fits: Any) -> np.ndarray:
        """Return derivatives in the penalties that are tuned, of shape ``(fits, kinds, features, targets)``."""
        l1, l2 = (np.asarray(part) for part in fits.gradient)
        chosen = {"l2": [l2], "elasticnet": [l1, l2]}.get(self.spec.kind, [l1])
        some = np.stack([part[:, 1 : 1 + self.data.features] for part in chosen], axis=1)
        return some if self.data.together else some[..., None]

    def coefficients(self, each: np.ndarray, folds: Folds) -> Fitted:
        """Return the fit on all samples."""
        data = self.data
        if self._known and each.min() == each.max():
            penalty = float(each.max())
            coef = self._curve.coefficients(penalty)
            # the curve's columns are around their means, from which sparse ones are not taken
            level = -(data.weights / data.weights.sum() @ data.X) @ coef
            return self._fitted(coef, level, np.nan, bool(np.isfinite(coef).all()) and self._curve.solved(penalty))
        whole, ends = self.engine.whole(folds, self._last.ends)
        found = self.engine.fits(*self._strengths(each, self._curvatures(whole)), self.lanes(whole), ends)
        x = found[0].x[0] if data.together else np.stack([fits.x[0] for fits in found], axis=1)
        solved = all(bool(np.all(fits.solved)) for fits in found)
        scale = float(x[-1, 0]) if self.spec.loss == "huber" else float("nan")
        return self._fitted(x[1 : 1 + data.features], x[0], scale, solved)

    def _fitted(self, coef: np.ndarray, level: Any, scale: float, solved: bool) -> Fitted:
        intercept = (level + self.data.level - self.data.center @ coef) * self.spec.intercept
        return Fitted(coef, intercept, scale, solved)
