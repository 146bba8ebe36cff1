"""The search in the logarithms of the penalties: a rough grid, then descent along hypergradients."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

#: a search in one number ends at this width of its bracket, in logarithms
_WIDTH = 1e-6
#: or where its slopes promise no more than this part of the criterion
_GAIN = 1e-8
_REFINEMENTS = 60
#: or, where the criterion has no kinks, at a slope of this part of it
_FLAT = 1e-7
#: a grid that has risen to so much more than its best, and so far from it, goes on no further
_RISEN, _FAR = 1.1, 2.3


class At(NamedTuple):
    """The criterion at one point.

    Attributes
    ----------
    theta
        The logarithms of the penalties.
    value, gradient
        Of the criterion.
    judged
        The held-out loss of the fit that no penalty is tuned by; NaN where there is none.
    solved
        Whether all fits are solved.
    error
        The certificates' bound on the error of the gradient; NaN where none was asked for.
    """

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    judged: float
    solved: bool
    error: float

    @property
    def finite(self) -> bool:
        """Whether the criterion and its gradient are numbers."""
        return bool(np.isfinite(self.value) and np.isfinite(self.gradient).all())


class Found(NamedTuple):
    """Where a search ended, whether by itself, and the points that it took on its way."""

    best: At
    finished: bool
    trace: list[At]


Evaluate = Callable[[np.ndarray], At]


class _Enough(Exception):
    """All evaluations are spent."""


def _better(at: At, best: At | None) -> bool:
    return np.isfinite(at.value) and (best is None or at.value < best.value)


def along_grid(evaluate: Evaluate, grid: np.ndarray, floor: float = 0.0) -> tuple[int, list[At]]:
    """Return the place of the best of some points, from strong penalties to weak ones, and what was seen.

    The criterion counts from a floor, below which it does not come.
    """
    seen: list[At] = []
    best, risen = 0, None
    for place, theta in enumerate(grid):
        at = evaluate(theta)
        seen.append(at)
        if not place or _better(at, seen[best]):
            best, risen = place, None
        elif risen is None and not at.value - floor <= _RISEN * (seen[best].value - floor):
            risen = place
        if risen is not None and place - risen > 0 and np.abs(theta - grid[risen]).max() > _FAR - 1e-9:
            break
    return best, seen


def dips(seen: list[At], place: int) -> list[np.ndarray]:
    """Return where slopes along a grid tell of minima between its points that may be below the best, at a place.

    A step of the grid can be longer than a dip is wide. That beside the best is for the search that follows, unless
    there are others for it to be weighed against.
    """
    found, aside = [], False
    for index, (right, left) in enumerate(itertools.pairwise(seen)):
        if left.finite and right.finite and left.gradient[0] < 0 < right.gradient[0]:
            point = _cubic(left, right)
            if _on_cubic(left, right, point) < seen[place].value:
                found.append(np.array([point]))
                aside = aside or place not in (index, index + 1)
    return found if aside else []


def refine(
    evaluate: Evaluate,
    low: float,
    high: float,
    best: At,
    left: At | None,
    right: At | None,
    smooth: bool = False,
    floor: float = 0.0,
) -> Found:
    """Return the least point of a bracket of one number, by its derivative: secants, kept inside, and halving.

    ``left`` and ``right`` are the points at the ends, ``None`` where an end has not been looked at. Where the criterion
    is smooth, cubics take the place of secants, and of every other halving. It counts from a floor.
    """
    trace: list[At] = []
    ends = {-1: left, 1: right}
    if best.gradient[0] > 0:
        high, ends[1] = float(best.theta[0]), best
    else:
        low, ends[-1] = float(best.theta[0]), best
    for count in range(_REFINEMENTS):
        if high - low <= _WIDTH:
            return Found(best, True, trace)
        slopes = [None if end is None else float(end.gradient[0]) for end in (ends[-1], ends[1])]
        point = 0.5 * (low + high)
        if None not in slopes and max(map(abs, slopes)) * (high - low) <= _GAIN * abs(best.value - floor):
            return Found(best, True, trace)
        if None not in slopes and slopes[0] < 0 < slopes[1] and count % (4 if smooth else 2) != (3 if smooth else 1):
            # every other step halves, for a kink has no root
            point = _cubic(ends[-1], ends[1]) if smooth else low - slopes[0] * (high - low) / (slopes[1] - slopes[0])
            point = min(max(point, low + 0.02 * (high - low)), high - 0.02 * (high - low))
            nearest = float(best.theta[0])
            # a root that is as good as found: look just beyond it, so that the bracket closes
            if abs(point - nearest) < 0.25 * _WIDTH:
                point = nearest + 0.4 * _WIDTH * (1 if high - nearest > nearest - low else -1)
        at = evaluate(np.array([point]))
        trace.append(at)
        best = at if _better(at, best) else best
        if abs(at.gradient[0]) <= (_FLAT if smooth else 1e-9) * abs(at.value - floor):
            return Found(best, True, trace)
        # what is no number is beyond the minimum
        if at.gradient[0] > 0 if at.finite else point > best.theta[0]:
            high, ends[1] = point, at if at.finite else None
        else:
            low, ends[-1] = point, at if at.finite else None
    return Found(best, False, trace)


def _cubic(left: At, right: At) -> float:
    """Return the minimizer of the cubic through values and slopes at both ends, which fall and rise there."""
    low, high = float(left.theta[0]), float(right.theta[0])
    falls, rises = float(left.gradient[0]), float(right.gradient[0])
    middle = falls + rises - 3 * (right.value - left.value) / (high - low)
    root = np.sqrt(middle**2 - falls * rises)
    return high - (high - low) * (rises + root - middle) / (rises - falls + 2 * root)


def _on_cubic(left: At, right: At, point: float) -> float:
    """Return the value of that cubic at a point."""
    low, high = float(left.theta[0]), float(right.theta[0])
    part, width = (point - low) / (high - low), high - low
    falls, rises, climb = float(left.gradient[0]) * width, float(right.gradient[0]) * width, right.value - left.value
    return left.value + part * (falls + part * (3 * climb - 2 * falls - rises + part * (falls + rises - 2 * climb)))


def descend(
    evaluate: Evaluate,
    start: np.ndarray,
    bounds: np.ndarray,
    evaluations: int,
    spread: Callable[[np.ndarray], tuple[float, np.ndarray]] | None = None,
    strength: float = 0.0,
    unit: float = 1.0,
    tol: float = 1e-5,
) -> Found:
    """Return the least point of the criterion over its ``unit``, plus ``strength`` times a spread, by L-BFGS-B.

    What is handed to it is the difference to the start, in such units that the first step is about one: the first is
    along the gradient, and where that is small, so would be what the step gains, and the search would end there.
    """
    trace: list[At] = []
    best: list[Any] = [None, np.inf]

    def seen(theta: np.ndarray) -> tuple[float, np.ndarray]:
        if len(trace) >= evaluations:
            raise _Enough
        at = evaluate(theta)
        trace.append(at)
        value, gradient = at.value / unit, at.gradient / unit
        if strength and spread is not None:
            more, slope = spread(theta)
            value, gradient = value + strength * more, gradient + strength * slope
        if np.isfinite(gradient).all() and value < best[1]:
            best[:] = at, value
        return value, gradient

    level, slope = seen(start)
    size = max(float(np.abs(slope).max()), tol) if best[0] is not None else 1.0

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = (level, slope) if np.array_equal(theta, start) else seen(theta)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e30, np.zeros_like(theta)
        return (value - level) / size, gradient / size

    if best[0] is None:
        return Found(trace[0], False, trace)
    finished = False
    least = 0.01 * tol / size
    with contextlib.suppress(_Enough):
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": least, "gtol": least, "maxiter": 10 * evaluations, "maxfun": 10 * evaluations},
        )
        # where the line search ends at a kink there is nothing to descend along
        finished = True
    return Found(best[0], finished, trace)
