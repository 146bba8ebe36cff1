"""The search in the logarithms of the penalties: a rough grid, then descent along hypergradients."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, nnls

#: a search in one number ends at this width of its bracket, in logarithms
_WIDTH = 1e-6
#: or where its slopes predict no more than this part of the criterion
_GAIN = 1e-8
_REFINEMENTS = 60
#: or, where the criterion has no kinks, at a slope of this part of it
_FLAT = 1e-7
#: a grid that has risen to so much more than its best, and so far from it, goes on no further
_RISEN, _FAR = 1.1, 2.3
#: or one that has risen so much, and is far from its best as the caller defines it
_STALE = 1.01
#: near a kink: the first step and what is left of it where it leads nowhere, in logarithms; within which slopes are
#: those of the other sides; steps along one direction, and sides
_STEP, _CUT, _NEAR = 0.03, 0.25, 0.01
_CUTS, _SIDES = 8, 60
#: a step that is taken falls by this part of what its slope predicts, and another side's slope is less than that part
_FALL, _TURN = 0.1, 0.5
#: slopes at a minimum of a function with kinks, and gains near one, in units of the tolerance
_LEVEL, _SMALL = 100.0, 0.1
#: steps past kinks: the first and the longest, in logarithms; what they gain at least, and what slope may be left, in
#: units of the slope where they start; how many are tried; what is no curvature
_FIRST, _LONGEST, _LITTLE, _STEEP, _TRIES, _CURVED = 0.1, 2.0, 1e-4, 0.9, 12, 1e-12


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
    prior
        The slope of the prior, where the search minimizes its sum with the criterion.
    """

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    judged: float
    solved: bool
    error: float
    prior: Any = 0.0

    @property
    def slope(self) -> np.ndarray:
        """The gradient of what the search minimizes."""
        return self.gradient + self.prior

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
    """All evaluations are used."""


def _better(at: At, best: At | None) -> bool:
    return np.isfinite(at.value) and (best is None or at.value < best.value)


def along_grid(
    evaluate: Evaluate, grid: np.ndarray, infimum: float = 0.0, stale: float = np.inf
) -> tuple[int, list[At]]:
    """Return the place of the best of some points, from strong penalties to weak ones, and what was seen.

    The criterion counts from a lower bound. Where it has risen from its best, by little, the
    grid goes on up to a distance ``stale``.
    """
    seen: list[At] = []
    best, risen = 0, None
    for place, theta in enumerate(grid):
        at = evaluate(theta)
        seen.append(at)
        if not place or _better(at, seen[best]):
            best, risen = place, None
        elif risen is None and not at.value - infimum <= _RISEN * (seen[best].value - infimum):
            risen = place
        if at.value - infimum > _STALE * (seen[best].value - infimum) and np.abs(theta - grid[best]).max() > stale:
            break
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
    infimum: float = 0.0,
) -> Found:
    """Return the least point of a bracket of one number, by its derivative: secants, kept inside, and halving.

    ``left`` and ``right`` are the points at the ends, ``None`` where an end has not been looked at. Where the criterion
    is smooth, cubics take the place of secants, and of every other halving. It counts from a lower bound.
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
        if None not in slopes and max(map(abs, slopes)) * (high - low) <= _GAIN * abs(best.value - infimum):
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
        if abs(at.gradient[0]) <= (_FLAT if smooth else 1e-9) * abs(at.value - infimum):
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
    kinks: bool = True,
) -> Found:
    """Return the least point of the criterion over its ``unit``, plus ``strength`` times a spread.

    By L-BFGS-B, which ends near a kink. Where that is no minimum, by what the slopes on its sides say together, the
    search goes on from another side by a method that passes kinks; ``kinks`` says whether this is done, with at most
    twice as many evaluations again.
    """
    trace: list[At] = []
    best: list[Any] = [None, np.inf]
    most = [evaluations]

    known: dict[bytes, tuple[float, np.ndarray]] = {}

    def seen(theta: np.ndarray) -> tuple[float, np.ndarray]:
        if theta.tobytes() in known:
            return known[theta.tobytes()]
        if len(trace) >= most[0]:
            raise _Enough
        at = evaluate(theta)
        value, gradient = at.value / unit, at.gradient / unit
        if strength and spread is not None:
            more, slope = spread(theta)
            value, gradient = value + strength * more, gradient + strength * slope
            at = at._replace(prior=unit * strength * slope)
        trace.append(at)
        if np.isfinite(gradient).all() and value < best[1]:
            best[:] = at, value
        known[theta.tobytes()] = value, gradient
        return value, gradient

    finished, point = False, start
    with contextlib.suppress(_Enough):
        _downhill(seen, point, bounds, evaluations, tol)
        most[0] = evaluations * (1 + 2 * kinks)
        finished = not kinks
        while kinks and best[0] is not None:
            point, finished = _other_side(seen, best[0].theta, bounds, _LEVEL * tol)
            if point is None:
                break
            _past_kinks(seen, point, bounds, _SMALL * tol)
    return Found(trace[0] if best[0] is None else best[0], finished and best[0] is not None, trace)


Seen = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _downhill(seen: Seen, start: np.ndarray, bounds: np.ndarray, evaluations: int, tol: float) -> None:
    """Go downhill by L-BFGS-B, until that ends.

    What is handed to it is the difference to the start, in such units that the first step is about one: the first is
    along the gradient, and where that is small, so would be what the step gains, and the search would end there.
    """
    level, slope = seen(start)
    if not (np.isfinite(level) and np.isfinite(slope).all()):
        return
    size = max(float(np.abs(slope).max()), tol)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = (level, slope) if np.array_equal(theta, start) else seen(theta)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e30, np.zeros_like(theta)
        return (value - level) / size, gradient / size

    least = 0.01 * tol / size
    minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": least, "gtol": least, "maxiter": 10 * evaluations, "maxfun": 10 * evaluations},
    )


def _past_kinks(seen: Seen, point: np.ndarray, bounds: np.ndarray, least: float) -> None:
    """Go downhill by BFGS, until a step gains less than a least part.

    Its steps end where the slope along them is less steep, which may be beyond a kink, and so curvatures there are as
    large as they seem. (Lewis and Overton, "Nonsmooth optimization via quasi-Newton methods", Mathematical Programming
    2013.)
    """
    (value, slope), inverse = seen(point), None
    while True:
        free = ~(((point <= bounds[:, 0]) & (slope > 0)) | ((point >= bounds[:, 1]) & (slope < 0)))
        along = np.zeros_like(point)
        along[free] = -slope[free] if inverse is None else -inverse[np.ix_(free, free)] @ slope[free]
        size = float(np.abs(along).max())
        if not size or not slope @ along < 0:
            return
        along *= min(1.0, (_FIRST if inverse is None else _LONGEST) / size)
        to, there, turned = _beyond(seen, point, value, slope, along, bounds)
        if not value - there > least:
            return
        step, bent = to - point, turned - slope
        if (curved := float(step @ bent)) > _CURVED * np.linalg.norm(step) * np.linalg.norm(bent):
            inverse = np.eye(len(point)) * curved / float(bent @ bent) if inverse is None else inverse
            image = inverse @ bent
            inverse += np.outer(step, step) * (1 + bent @ image / curved) / curved
            inverse -= (np.outer(image, step) + np.outer(step, image)) / curved
        point, value, slope = to, there, turned


def _beyond(
    seen: Seen, point: np.ndarray, value: float, slope: np.ndarray, along: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return a point along a direction that is lower, and where the slope is less steep or a bound is met."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(along > 0, bounds[:, 1] - point, point - bounds[:, 0]) / np.abs(along)
    most, first = float(np.nanmin(room[along != 0])), float(slope @ along)
    low, high, length, found = 0.0, np.inf, min(1.0, most), (point, value, slope)
    for _ in range(_TRIES):
        to = np.clip(point + length * along, bounds[:, 0], bounds[:, 1])
        there, turned = seen(to)
        if not there < value + _LITTLE * length * first or not np.isfinite(turned).all():
            high = length
        else:
            low, found = length, (to, there, turned)
            if turned @ along >= _STEEP * first or length >= most:
                break
        length = 0.5 * (low + high) if high < np.inf else min(2 * length, most)
    return found


def _other_side(seen: Seen, point: np.ndarray, bounds: np.ndarray, level: float) -> tuple[np.ndarray | None, bool]:
    """Return a lower point near a kink, ``None`` where none is found, and whether the point is a minimum then.

    A function with kinks is at a minimum where a convex combination of the slopes on all sides vanishes. The shortest
    one of those that are known is a direction downhill for these; where a step along it does not lead down, there is
    another side, and its slope joins. (Wolfe, "A method of conjugate subgradients", Mathematical Programming Study
    1975.)
    """
    value, slope = seen(point)
    sides = [slope]
    for _ in range(_SIDES):
        along = -_shortest(np.array(sides), point, bounds)
        square = float(along @ along)
        if np.sqrt(square) <= level:
            return None, True
        length = _STEP / float(np.abs(along).max())
        for _ in range(_CUTS):
            to = np.clip(point + length * along, bounds[:, 0], bounds[:, 1])
            there, turned = seen(to)
            if there < value - _FALL * length * square:
                return to, False
            near = np.abs(to - point).max() <= _NEAR and np.isfinite(turned).all()
            if near and turned @ along > -_TURN * square:
                sides.append(turned)
                break
            length *= _CUT
        else:
            return None, False
    return None, False


def _shortest(sides: np.ndarray, point: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the shortest convex combination of slopes, a row each, without what leads beyond bounds."""
    low, high = point <= bounds[:, 0] + 1e-12, point >= bounds[:, 1] - 1e-12
    walls = np.eye(len(point))[low | high] * np.where(low, -1.0, 1.0)[low | high, None]
    size = float(np.abs(sides).max()) or 1.0
    whole = np.concatenate([sides / size, walls])
    # that they add up to one weighs much
    one = 1e4 * (np.arange(len(whole)) < len(sides))
    parts, _ = nnls(np.vstack([whole.T, one]), np.append(np.zeros(len(point)), 1e4))
    return size * (parts / parts[: len(sides)].sum()) @ whole
