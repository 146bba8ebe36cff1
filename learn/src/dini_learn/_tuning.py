"""The whole search of an estimator: one shared penalty first, then as many as are wanted and as the data bear out."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from ._data import WEAKEST_L1, WEAKEST_L2
from ._folds import Folds
from ._inner import Inner
from ._search import At, Found, along_grid, descend, dips, refine
from ._strengths import Strengths

#: how strongly logarithms of penalties are drawn to their mean, from none of a freedom to all of it; the unit is the
#: criterion at one shared penalty
SHRINKAGES = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
_GRID_L2, _GRID_L1 = 13, 25
#: beside the best point of a grid it is so many times finer, and everywhere where a point costs nothing
_FINER = 4
#: with weak penalties of absolute values as many features are left as there are samples, and each fit takes long: where
#: the criterion has risen, the grid goes on for a factor of 10
_STALE = 2.3
#: penalties range over these multiples of the scales of the data
_RANGE_L2, _RANGE_L1 = (WEAKEST_L2, 1e6), (WEAKEST_L1, 1.05)
#: a criterion that is less than this part of that with the strongest penalties vanishes
_EXACT = 1e-6
#: so many evaluations for each shrinkage that is only tried
_TRIAL = 40
#: penalties so near to each other, in relation to them, are the same
_SAME = 1e-11


class Tuned(NamedTuple):
    """What a search found.

    Attributes
    ----------
    best
        The last point.
    shrinkage
        The strength of the prior; infinite where one shared penalty is as good.
    trace
        All points of the searches on all data, as ``(phase, point)``.
    finished
        Whether the searches ended by themselves.
    judged
        Held-out losses of the nested splits: a row for each split, a column for one shared penalty and each shrinkage.
    at_bound
        Whether a shared penalty ended at the weak end of its range, -1, or at the strong one, 1; zero elsewhere.
    ends
        Of several penalties: which ended at the weak end of their range, -1, or at the strong one, 1. A row for each
        kind.
    """

    best: At
    shrinkage: float
    trace: list[tuple[str, At]]
    finished: bool
    judged: np.ndarray | None
    at_bound: int
    ends: np.ndarray | None = None


class Tuning:
    """A search: what is tuned, on which data, in which range.

    Parameters
    ----------
    inner
        The fits.
    strengths
        The map from what is tuned to the penalties.
    max_iter
        Evaluations of the criterion in each of the searches.
    tol
        Where a search in several numbers ends, relative to the criterion.
    progress
        Called with each point.
    n_jobs
        How many nested searches there are at a time.
    bounds
        The range of the penalties of each kind, of shape ``(kinds, 2)``; by the data where there is none.
    """

    def __init__(
        self,
        inner: Inner,
        strengths: Strengths,
        max_iter: int,
        tol: float,
        progress: Any,
        n_jobs: int | None = None,
        bounds: np.ndarray | None = None,
    ):
        self.inner, self.strengths, self.max_iter, self.tol, self.progress = inner, strengths, max_iter, tol, progress
        self.n_jobs = n_jobs
        pull, curvature = inner.units
        mixed = inner.data.mixed
        l1, l2 = (pull, mixed, _RANGE_L1), (curvature, mixed**2, _RANGE_L2)
        both = [l1, (curvature, mixed**2, (WEAKEST_L2, 1e3))]
        ranges = {"l1": [l1], "group": [l1], "l2": [l2], "elasticnet": both}[inner.spec.kind]
        # features in small units need small penalties, and the range is the wider
        own = [[part * scale * low, scale * high] for scale, part, (low, high) in ranges]
        self.ranges = np.log(own if bounds is None else bounds)

    def evaluator(self, strengths: Strengths, folds: Folds) -> Any:
        """Return the criterion as a function, whose fits start where the last ones ended."""
        lanes, state = None if self.inner.exactly(strengths, folds) else self.inner.lanes(folds), {}

        def evaluate(theta: np.ndarray, rough: bool = False) -> At:
            at = self.inner.at(np.asarray(theta, float), strengths, folds, lanes, state, rough=rough)
            self.progress(at)
            return at

        return evaluate

    def certified(self, best: At, strengths: Strengths, folds: Folds) -> At:
        """Return a point with a certificate of its hypergradient."""
        return self.inner.at(best.theta, strengths, folds, self.inner.lanes(folds), {}, certify=True)

    def shared(self, folds: Folds, evaluate: Any = None) -> tuple[Found, list[At], int]:
        """Return the search in one penalty of each kind, all its points, and at which bound it ended, if at one."""
        strengths = self.strengths.shared()
        evaluate = self.evaluator(strengths, folds) if evaluate is None else evaluate
        if self.inner.exactly(strengths, folds) and self.inner.knots is not None:
            return self._among_knots(evaluate)
        l1 = self.inner.spec.kind != "l2"
        count = _GRID_L1 if l1 else _GRID_L2
        wide = np.diff(self.ranges[0])[0] / np.diff(np.log(_RANGE_L1 if l1 else _RANGE_L2))[0]
        count = 1 + max(1, round(wide * (count - 1)))
        exactly = self.inner.exactly(strengths, folds)
        if exactly:
            count = 1 + _FINER * (count - 1)
        points = np.linspace(self.ranges[0, 1], self.ranges[0, 0], count)[:, None]
        look, infimum = functools.partial(evaluate, rough=True), self.inner.infimum(folds)
        grid = self._with_squares(points, 0.5) if strengths.kinds == 2 else points
        place, seen = along_grid(look, grid, infimum, _STALE if l1 else np.inf)
        line = seen
        if strengths.kinds == 1 and (more := [look(point) for point in dips(seen, place)]):
            line = sorted([*seen, *more], key=lambda at: -at.theta[0])
            place, seen = _least(line), [*seen, *more]
        near, best = line[max(place - 1, 0) : place + 2], line[place]
        if strengths.kinds == 2:
            # and with hardly any squares
            other, more = along_grid(look, self._with_squares(points, 0.0), infimum, _STALE)
            best = more[other] if more[other].value < best.value else best
            seen += more
        elif not exactly and folds.judge is None:
            # a criterion may have several minima side by side
            # where they cost much, half as many are looked at
            between = [look(point) for point in _between(near, _FINER // 2 if self.inner.inexact else _FINER)]
            seen += between
            near = sorted([*near, *between], key=lambda at: -at.theta[0])
            best = near[_least(near)]
        place = [at is best for at in near].index(True) if strengths.kinds == 1 else 0
        if self.inner.inexact:
            best = evaluate(best.theta)
            seen.append(best)
        if not best.finite:
            return Found(best, False, []), seen, 0
        if strengths.kinds == 2:
            unit = self._unit(best, seen, folds)
            found = descend(evaluate, best.theta, self.ranges, self.max_iter, unit=unit, tol=self.tol)
            return found, [*seen, *found.trace], 0
        right = near[place - 1] if place > 0 else None
        left = near[place + 1] if place + 1 < len(near) else None
        if (right is None and best.gradient[0] <= 0) or (left is None and best.gradient[0] >= 0):
            return Found(best, True, []), seen, 1 if right is None and best.gradient[0] <= 0 else -1
        low, high = (float((at or best).theta[0]) for at in (left, right))
        found = refine(evaluate, low, high, best, left, right, smooth=not l1, infimum=infimum)
        return found, [*seen, *found.trace], 0

    def _unit(self, best: At, seen: list[At], folds: Folds) -> float:
        """Return the criterion above its lower bound, the unit of its changes: at least its rounding errors."""
        infimum = self.inner.infimum(folds)
        first = next((at.value for at in seen if np.isfinite(at.value)), infimum)
        return max(abs(best.value - infimum), _EXACT * (first - infimum)) or 1.0

    def _with_squares(self, points: np.ndarray, part: float) -> np.ndarray:
        """Return points with a penalty of squares in proportion, at a part of its range in the middle of theirs."""
        low, high = self.ranges[1]
        middle = low + part * (high - low)
        return np.hstack([points, np.clip(points - self.ranges[0].mean() + middle, low, high)])

    def _among_knots(self, evaluate: Any) -> tuple[Found, list[At], int]:
        """Return the best knot: the criterion jumps at each and is the least there of what follows."""
        low, high = np.exp(self.ranges[0])
        inside = [knot for knot in self.inner.knots if low * (1 - _SAME) < knot < high]
        # at a bound there may be a solution between two of them
        ends = [end for end in (high, low) if self.inner.knots[-1] < end < self.inner.knots[0]]
        seen = [evaluate(np.log([knot])) for knot in sorted({*inside, *ends}, reverse=True)]
        best = int(np.argmin([at.value for at in seen]))
        return Found(seen[best], True, []), seen, 1 if best == 0 else -(best == len(seen) - 1)

    def _ends(self, theta: np.ndarray) -> np.ndarray:
        """Return which penalties are at an end of their range: -1 at the weak one, 1 at the strong one."""
        low, high = self.ranges[:, :1], self.ranges[:, 1:]
        each = theta.reshape(self.inner.spec.kinds, -1)
        return np.where(each > high - 1e-8, 1, np.where(each < low + 1e-8, -1, 0))

    def run(self, folds: Folds, nested: list[Folds], shrinkage: float | str) -> Tuned:
        """Return the penalties that are tuned on folds; ``nested`` ones say how far many are to be trusted."""
        one, seen, at_bound = self.shared(folds)
        trace = [("shared", at) for at in seen]
        # that of one kind is reported as the end of the search
        ends = self._ends(one.best.theta) if self.inner.spec.kinds > 1 else None
        if self.strengths.size == 1 or not np.isfinite(one.best.value):
            return Tuned(one.best, np.inf, trace, one.finished, None, at_bound, ends)
        judged, chosen = None, shrinkage
        if shrinkage == "auto":
            run = Parallel(n_jobs=self.n_jobs, require="sharedmem")
            judged = np.array(run(delayed(self._judged)(part) for part in nested))
            judged = judged.reshape(len(nested), 1 + len(SHRINKAGES))
            chosen = choose(judged)
        if not np.isfinite(chosen):
            return Tuned(self._spread(one.best), np.inf, trace, one.finished, judged, at_bound, ends)
        evaluate, unit = self.evaluator(self.strengths, folds), self._unit(one.best, seen, folds)
        theta, found, finished = self._spread(one.best).theta, None, one.finished
        path = [s for s in SHRINKAGES if s > chosen] if shrinkage == "auto" else []
        for strength in [*path, chosen]:
            last = strength == chosen
            found = self._many(evaluate, theta, strength, unit, self.max_iter if last else _TRIAL, last)
            theta = found.best.theta
            trace += [("tuned", at) for at in found.trace]
        finished = finished and found.finished
        return Tuned(found.best, float(chosen), trace, finished, judged, 0, self._ends(found.best.theta))

    def _many(
        self, evaluate: Any, theta: np.ndarray, strength: float, unit: float, evaluations: int, kinks: bool = False
    ) -> Found:
        bounds = np.repeat(self.ranges, self.strengths.size, axis=0)
        spread = self.strengths.spread
        return descend(evaluate, theta, bounds, evaluations, spread, strength, unit, self.tol, kinks)

    def _spread(self, at: At) -> At:
        """Return a point of one number a kind as one of all numbers."""
        each = np.repeat(at.theta, self.strengths.size)
        gradient = np.repeat(at.gradient / self.strengths.size, self.strengths.size)
        return at._replace(theta=each, gradient=gradient)

    def _judged(self, folds: Folds) -> list[float]:
        """Return the losses of samples that no penalty has seen: with one shared penalty, and with each shrinkage."""
        one, seen, _ = self.shared(folds)
        evaluate, theta = self.evaluator(self.strengths, folds), self._spread(one.best).theta
        unit = self._unit(one.best, seen, folds)
        judged = [one.best.judged]
        for strength in SHRINKAGES:
            found = self._many(evaluate, theta, strength, unit, _TRIAL)
            theta = found.best.theta
            judged.append(found.best.judged)
        return judged


def _least(points: list[At]) -> int:
    """Return the place of the least of some points."""
    return int(np.argmin([at.value if at.finite else np.inf for at in points]))


def _between(points: list[At], finer: int) -> list[np.ndarray]:
    """Return points that divide the stretches between some, from strong penalties to weak ones."""
    parts = np.arange(1, finer) / finer
    return [a.theta + part * (b.theta - a.theta) for a, b in itertools.pairwise(points) for part in parts]


def comparable(judged: np.ndarray) -> bool:
    """Return whether held-out losses of splits, a row each, can tell several penalties from one."""
    known = np.isfinite(judged).all(axis=0)
    return len(judged) > 1 and bool(known[0] and known[1:].any())


def choose(judged: np.ndarray) -> float:
    """Return the shrinkage whose held-out loss is the least, infinite unless it is surely below that of one penalty.

    Surely: the mean of the differences between the two over the splits is below zero by more than its standard error.
    """
    if not comparable(judged):
        return np.inf
    away = judged[:, 1:] - judged[:, :1]
    mean = away.mean(axis=0)
    best = int(np.argmin(np.where(np.isfinite(mean), mean, np.inf)))
    error = away[:, best].std(ddof=1) / np.sqrt(len(judged))
    return SHRINKAGES[best] if mean[best] + error < 0 else np.inf
