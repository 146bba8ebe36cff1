"""Fits of smooth losses by Newton's method, and the derivatives of what evaluates them by the adjoint equation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._data import Data, Fits, Judged
from ._folds import Folds
from ._frame import Frame
from ._newton import Preconditioner, Problem, Scaled, Solution, conjugate, minimize
from ._smooth import smooth
from ._starts import first_coefficients

#: errors of the coefficients and of the adjoints, relative to them
_ACCURACY = 1e-9
#: the same for a look around, and where the loss that evaluates needs more accuracy
_ROUGH, _FINE = 1e-3, 1e-13
#: steps of Newton's method, and for that more
_STEPS, _FINE_STEPS = 60, 4
#: a loss may be off by this part of it, and from that part on it needs more accuracy
_LITTLE, _SLIGHT = 0.01, 1e-6
#: one that is less than this part of that without a predictor vanishes
_VOID = 1e-6
#: products with the Hessian, for an adjoint
_PRODUCTS = 1000


class End(NamedTuple):
    """Coefficients, adjoints, a preconditioner that may serve again, and the frame that they are those of."""

    x: np.ndarray
    adjoint: np.ndarray | None
    preconditioner: Preconditioner | None
    frame: Frame | None = None

    def of(self, frame: Frame | None) -> End:
        """Return the same for another frame."""
        if frame is self.frame:
            return self
        x, adjoint = (self._full(part) for part in (self.x, self.adjoint))
        if frame is not None:
            x, adjoint = frame.inside(x), None if adjoint is None else frame.inside(adjoint)
        return End(x, adjoint, None, frame)

    def _full(self, part: np.ndarray | None) -> np.ndarray | None:
        return part if part is None or self.frame is None else self.frame.outside(part)


class SmoothFits:
    """Fits of data by Newton's method.

    Parameters
    ----------
    data
        The data and what is minimized of them.
    """

    def __init__(self, data: Data):
        self.data = data
        spec = data.spec
        self._loss = smooth(spec.loss, spec.setting)
        one = np.full((data.samples, 1), float(spec.intercept))
        self._X = np.hstack([one, data.X])
        # Huber's loss has a scale as its last coefficient
        self._scaled = spec.loss == "huber"
        goal = np.ascontiguousarray(data.y.T)[:, None]
        self._goals = [goal] if data.together else [goal[[place]] for place in range(data.targets)]

    def lanes(self, folds: Folds, judged: Judged) -> Judged:
        """Return the weights of folds."""
        del folds
        return judged

    def whole(self, folds: Folds, ends: Any) -> tuple[Folds, Any]:
        """Return a fit on all samples, and where it starts."""
        del folds
        starts = ends and [End(end.x[:, :1], None, None, end.frame) for end in ends]
        return Folds.whole(self.data.samples, 1), starts

    def between(self, weights: list[float], ends: list[list[End]]) -> list[End]:
        """Return a start for each target that is a weighted sum of ends, the first of which is the nearest."""
        found = []
        for given in zip(*ends, strict=True):
            some = [end.of(given[0].frame) for end in given]
            x = sum(w * end.x for w, end in zip(weights, some, strict=True))
            adjoint = sum(w * end.adjoint for w, end in zip(weights, some, strict=True))
            if self._scaled:
                # a sum may have none
                x[..., -1] = some[0].x[..., -1]
            found.append(some[0]._replace(x=x, adjoint=adjoint))
        return found

    def fits(
        self, l1: np.ndarray, l2: np.ndarray, lanes: Judged, ends: Any, certify: bool = False, rough: bool = False
    ) -> list[Fits]:
        """Return the fits, for each target that is fitted on its own; what overflows is not solved, and says so."""
        del l1
        with np.errstate(over="ignore", invalid="ignore"):
            return self._fits(l2.T[:, None], lanes, ends, certify, rough)

    def _fits(self, penalties: np.ndarray, lanes: Judged, ends: Any, certify: bool, rough: bool) -> list[Fits]:
        found, kind = [], Scaled if self._scaled else Problem
        if self._scaled:
            penalties = np.append(penalties, [[[0.0]]], axis=-1)
        for place, y in enumerate(self._goals):
            own = penalties if self.data.together else penalties[[place]]
            end = ends[place] if ends is not None else self._first(lanes, y)
            frame = self._frame(own, end.frame, float(lanes.train.max()))
            problem = kind(self._loss, self._X, y, lanes.train, own)
            if frame is not None:
                inner = np.full((len(own), 1, frame.columns.shape[1]), frame.strength(self._features(own)))
                inner = np.concatenate([own[..., :1], inner[..., 1:], own[..., 1 + self.data.features :]], axis=-1)
                problem = problem._replace(X=frame.columns, l2=inner)
            fits, end = self._fit(problem, lanes.held, end.of(frame), certify, _ROUGH if rough else _ACCURACY)
            x, adjoint = end.of(None)[:2]
            slopes = self._in_order(-own * x * adjoint)
            found.append(fits._replace(gradient=(0.0 * slopes, slopes), x=self._in_order(x), ends=end))
        return found

    def _features(self, l2: np.ndarray) -> np.ndarray:
        """Return the penalties of the features."""
        return l2[0, 0, 1 : 1 + self.data.features]

    def _frame(self, l2: np.ndarray, last: Frame | None, weight: float) -> Frame | None:
        """Return the frame for penalties, where there are many features and it is one for all numbers."""
        if self.data.features <= self.data.samples or np.ptp(l2, axis=0).any():
            return None
        own = self._features(l2)
        frame = last if last is not None and last.strength(own) is not None else Frame.of(self._X, own)
        return frame if frame.sees(own, weight * self.data.bend) else None

    def _first(self, lanes: Judged, y: np.ndarray) -> End:
        x = first_coefficients(self.data, y[:, 0], lanes.train, self._X.shape[1] + self._scaled)
        if self._scaled:
            x[..., -1] = self.data.spec.setting[1]
        return End(x, None, None)

    def _fit(self, problem: Problem, held: np.ndarray, start: End, certify: bool, accuracy: float) -> tuple[Fits, End]:
        steps = {_FINE: _FINE_STEPS}.get(accuracy, _STEPS)
        found = _minimum(problem, start, accuracy, steps)
        adjoint, reached, length = _adjoint(problem, found, held, start.adjoint, accuracy)
        slopes = -problem.l2 * found.x * adjoint
        # to first order, what the gradient that is left makes of the loss
        rest = (adjoint * found.gradient).sum(axis=(0, 2))
        value = (held * problem.loss.value(found.z, problem.y)).sum(axis=1)
        end = End(found.x, adjoint, found.following, start.frame)
        if accuracy > _ACCURACY and (np.abs(rest) > _LITTLE * np.abs(value)).any():
            # a loss that about vanishes cannot be seen so roughly
            return self._fit(problem, held, end, certify, _ACCURACY)
        doubt = np.maximum(found.error, accuracy * found.size) * length
        nothing = found.z.copy()
        nothing[: len(problem.y)] = 0.0
        limit = np.maximum(np.abs(value), _VOID * (held * problem.loss.value(nothing, problem.y)).sum(axis=1))
        if accuracy == _ACCURACY and (doubt > _SLIGHT * limit).any():
            # nor one that sees what hardly matters to the fit
            return self._fit(problem, held, end, certify, _FINE)
        solved = reached & (found.error <= max(accuracy, _ACCURACY) * found.size)
        solved &= (accuracy > _ACCURACY) | (doubt <= _LITTLE * limit)
        error = _error(problem, found, held, adjoint, slopes, doubt) if certify else np.full(len(value), np.nan)
        # far from a solution the first order says nothing
        return Fits(value - np.where(solved, rest, 0.0), None, None, solved, error), end

    def _in_order(self, part: np.ndarray) -> np.ndarray:
        """Return an array as programs return it: fits first, the numbers of a predictor last, if there are several."""
        part = np.moveaxis(part, 0, -1)
        return part if self.data.together else part[..., 0]


def _minimum(problem: Problem, start: End, accuracy: float, steps: int) -> Solution:
    """Return the minimizers of fits; those that have not been found with a common preconditioner, each with its own.

    The folds' Hessians may have little in common, as where the residuals of Huber's loss vanish in most of the samples.
    """
    found = minimize(problem, start.x, start.preconditioner, accuracy, steps)
    missing = np.flatnonzero(~(found.error <= accuracy * found.size))
    if len(missing) == 0 or steps < _STEPS or len(found.error) == 1 or not np.isfinite(found.x).all():
        return found
    x = found.x.copy()
    for lane in missing:
        own = problem._replace(weights=problem.weights[[lane]])
        x[:, [lane]] = minimize(own, x[:, [lane]], None, accuracy, steps).x
    return minimize(problem, x, None, accuracy, steps)


def _adjoint(
    problem: Problem, found: Solution, held: np.ndarray, start: Any, accuracy: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Hessian's solutions with the slopes of what evaluates, whether each is one, and their lengths."""
    right = problem.pull(held * problem.loss.slope(found.z, problem.y)[0])
    goal = np.full(len(held), accuracy)
    adjoint, _, reached = conjugate(problem, found.kept, right, found.ready, goal, _PRODUCTS, start)
    return adjoint, reached, np.sqrt(np.maximum((right * adjoint).sum(axis=(0, 2)), 0.0))


def _error(problem: Problem, found: Solution, held: Any, adjoint: Any, slopes: Any, doubt: Any) -> np.ndarray:
    """Return the relative error of the gradient: what one more step changes of it, infinite where there is none.

    And by how much it is in doubt.
    """
    goal = np.full(len(held), 1e-3)
    step, _, stepped = conjugate(problem, found.kept, -found.gradient, found.ready, goal, _PRODUCTS)
    z = found.z + problem.predictor(step)
    better = found._replace(x=found.x + step, z=z, kept=problem.loss.slope(z, problem.y)[1])
    again, reached, _ = _adjoint(problem, better, held, adjoint, _ACCURACY)
    away = -problem.l2 * better.x * again - slopes
    size, length = (np.sqrt((part**2).sum(axis=(0, 2))) for part in (slopes, away))
    error = np.where(size > 0, (length + doubt) / np.where(size > 0, size, 1.0), 0.0)
    return np.where(stepped & reached, error, np.inf)
