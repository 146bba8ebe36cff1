r"""The Lasso at all strengths of one penalty, and Stein's estimate of its risk along them, exactly.

The solution of :math:`\min_w \tfrac12 w^\top G w - c^\top w + \lambda \|w\|_1` is piecewise linear in the penalty: on
its support ``S`` with signs ``s`` it is :math:`w_S = G_{SS}^{-1} (c_S - \lambda s)`, until a feature enters or leaves.
Its degrees of freedom are the size of the support, so that Stein's estimate of the risk grows with :math:`\lambda`
between two of these knots and jumps at them: its least value is at a knot, and no derivative leads there.

References
----------
Osborne, Presnell, Turlach, "A new approach to variable selection in least squares problems", IMA Journal of Numerical
Analysis 2000. Zou, Hastie, Tibshirani, "On the degrees of freedom of the lasso", Annals of Statistics 2007. Tibshirani
and Taylor, "Degrees of freedom in lasso problems", Annals of Statistics 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.sparse import issparse

from ._stein import counted

#: a column depends on others where this part of its square is left beside them
_DEPENDENT = 1e-12
#: penalties so near to a knot, in relation to it, are the knot
_SAME = 1e-11
#: correlations may be so far above the penalty, in relation to it
_FEASIBLE = 1e-6


class Segment(NamedTuple):
    r"""The solutions from one knot to the next, :math:`w_S = p - \lambda q`.

    Attributes
    ----------
    top
        The knot where it starts, the larger penalty.
    support
        ``S``.
    point, slope
        ``p`` and ``q``.
    rest, bend
        The mean of the squared residuals is ``rest`` :math:`+ \lambda^2` ``bend``.
    """

    top: float
    support: np.ndarray
    point: np.ndarray
    slope: np.ndarray
    rest: float
    bend: float


class LassoPath(NamedTuple):
    """The segments, from strong penalties to weak ones, and what Stein's estimate needs beside them.

    Attributes
    ----------
    segments
        The first has no features.
    low
        The last ends here.
    features
        How many there are.
    count
        How many samples there are.
    intercept
        Whether there is one, which is a degree of freedom.
    optimal
        Whether the conditions of optimality hold at all knots.
    """

    segments: list[Segment]
    low: float
    features: int
    count: float
    intercept: bool
    optimal: bool

    @classmethod
    def of(
        cls, X: Any, y: np.ndarray, weights: np.ndarray, intercept: bool, low: float, repeated: bool = False
    ) -> LassoPath:
        """Return the path of the mean of the weighted squares; with an intercept, of what is around the means.

        It goes down to a least penalty.
        """
        (y,) = y.T
        share, used = weights / weights.sum(), int((weights > 0).sum())
        features = X.shape[1]
        sparse, wide = issparse(X), features > used
        if sparse and wide:
            X, sparse = X.toarray(), False
        center = share @ X if intercept else np.zeros(features)
        y = y - share @ y if intercept else y
        if not sparse:
            X = X - center
        pull = X.T @ (share * y)
        if wide:
            column, size = lambda j: X.T @ (share * X[:, j]), (X**2).T @ share
        else:
            gram = X.T @ (X.multiply(share[:, None]) if sparse else share[:, None] * X)
            gram = gram.toarray() - np.outer(center, center) if sparse else gram
            column, size = lambda j: gram[:, j], np.diag(gram)
        segments, optimal = segments_of(column, size, pull, float(share @ y**2), low, min(used, features))
        return cls(segments, low, features, counted(weights, repeated), intercept, optimal)

    @property
    def knots(self) -> np.ndarray:
        """The penalties where the support changes, from strong to weak, and where the path ends."""
        return np.array([*(segment.top for segment in self.segments[1:]), self.low])

    def _at(self, penalty: float) -> Segment:
        """Return the segment of a penalty: at a knot, that with the smaller support."""
        tops = np.array([segment.top for segment in self.segments])
        place = int(np.searchsorted(-tops, -penalty * (1 + _SAME), side="right")) - 1
        after = place + 1
        if after < len(tops) and abs(tops[after] - penalty) <= _SAME * penalty:
            return min(self.segments[place : after + 1], key=lambda segment: len(segment.support))
        return self.segments[place]

    def criterion(self, which: str, penalty: float, noise: tuple[float, ...]) -> tuple[float, float]:
        """Return half of Stein's estimate, and its derivative in the logarithm of the penalty, to stronger ones."""
        del which
        if penalty < self.low * (1 - _SAME):
            return np.inf, np.nan
        segment = self._at(penalty)
        bend = segment.bend * penalty**2
        freedom, (scale,) = len(segment.support) + self.intercept, noise
        return 0.5 * (segment.rest + bend - scale**2) + scale**2 * freedom / self.count, bend

    def solved(self, penalty: float) -> bool:
        """Whether fits with a penalty are what they should be."""
        return self.optimal and penalty >= self.low * (1 - _SAME)

    def coefficients(self, penalty: float) -> np.ndarray:
        """Return the coefficients of the features, as a column."""
        segment = self._at(penalty)
        found = np.zeros((self.features, 1))
        found[segment.support, 0] = segment.point - penalty * segment.slope
        return found


class _Active:
    """The support: its columns of the Gram matrix, the factor of its square, and its signs. Columns have length one."""

    def __init__(self, column: Callable[[int], np.ndarray], features: int, most: int):
        self._column = column
        self._columns = np.empty((features, most), order="F")
        self._factor = np.zeros((most, most))
        self.place = np.zeros(0, int)
        self.signs = np.zeros(0)

    @property
    def columns(self) -> np.ndarray:
        return self._columns[:, : len(self.place)]

    def enter(self, feature: int, sign: float) -> bool:
        """Add a feature, unless it depends on those that are here; return whether it was added."""
        size = len(self.place)
        if size == self._columns.shape[1]:
            return False
        new = self._column(feature)
        row = solve_triangular(self._factor[:size, :size], new[self.place], lower=True) if size else np.zeros(0)
        left = new[feature] - row @ row
        if left <= _DEPENDENT:
            return False
        self._factor[size, :size], self._factor[size, size] = row, np.sqrt(left)
        self._columns[:, size] = new
        self.place, self.signs = np.append(self.place, feature), np.append(self.signs, sign)
        return True

    def leave(self, which: int) -> tuple[int, float]:
        """Take away the feature at a place of the support, and return it with its sign."""
        size = len(self.place)
        feature, sign = int(self.place[which]), float(self.signs[which])
        self._columns[:, which : size - 1] = self._columns[:, which + 1 : size]
        self.place, self.signs = np.delete(self.place, which), np.delete(self.signs, which)
        self._factor[: size - 1, : size - 1] = np.linalg.cholesky(self.columns[self.place])
        return feature, sign

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return the solution of the normal equations on the support."""
        size = len(self.place)
        return cho_solve((self._factor[:size, :size], True), right) if size else np.zeros(0)


def segments_of(
    column: Callable[[int], np.ndarray], size: np.ndarray, pull: np.ndarray, square: float, low: float, most: int
) -> tuple[list[Segment], bool]:
    """Return the segments down to a least penalty, and whether the conditions of optimality hold along them.

    Parameters
    ----------
    column
        The columns of ``G``: the means of products of a feature with all.
    size
        Its diagonal.
    pull
        ``c``: the means of products with the target.
    square
        The mean of the squared target.
    low
        The least penalty.
    most
        A bound on the rank of ``G``.
    """
    void = size <= 0
    norm = np.sqrt(np.where(void, 1.0, size))
    # in columns of length one, so that units do not decide what depends on what
    price, pull = 1 / norm, np.where(void, 0.0, pull / norm)
    active = _Active(lambda j: column(j) / (norm * norm[j]), len(size), min(most, len(size)))
    dependent, gone, top = void.copy(), None, np.inf
    segments, solved = [], True
    for _ in range(100 + 10 * min(most, len(size))):
        place = active.place
        point, slope = active.solve(pull[place]), active.solve(price[place] * active.signs)
        # the correlations with what is left are `base + penalty * tilt`
        base, tilt = pull - active.columns @ point, active.columns @ slope
        rest, bend = square - pull[place] @ point, (price[place] * active.signs) @ slope
        segments.append(Segment(top, place, point / norm[place], slope / norm[place], float(rest), float(bend)))
        solved = solved and _optimal(segments[-1], base, tilt, price, active.signs, np.abs(pull).max())
        while True:
            free = ~dependent
            free[place] = False
            entering = [_hits(free, sign, base, tilt, price, gone) for sign in (1.0, -1.0)]
            side = int(entering[1].max() > entering[0].max())
            feature = int(entering[side].argmax())
            falls = (active.signs * slope < 0) & (active.signs * point < 0)
            crossing = np.where(falls, point / np.where(falls, slope, 1.0), -np.inf)
            enters, leaves = float(entering[side][feature]), float(crossing.max(initial=-np.inf))
            following = min(max(enters, leaves), top)
            if following <= low:
                return segments, solved
            if leaves >= enters:
                gone = active.leave(int(crossing.argmax()))
                dependent = void.copy()
                break
            if active.enter(feature, (1.0, -1.0)[side]):
                gone = None
                break
            dependent[feature] = True
        top = following
    return segments, False


def _hits(
    free: np.ndarray, sign: float, base: np.ndarray, tilt: np.ndarray, price: np.ndarray, gone: Any
) -> np.ndarray:
    """Return the penalty at which each feature's correlation comes to the bound of a sign, minus infinity for never."""
    room = price - sign * tilt
    comes = free & (room > 0) & (sign * base > 0)
    # what has just left is at that bound still, and leaves it
    if gone is not None and gone[1] == sign:
        comes[gone[0]] = False
    return np.where(comes, sign * base / np.where(comes, room, 1.0), -np.inf)


def _optimal(
    segment: Segment, base: np.ndarray, tilt: np.ndarray, price: np.ndarray, signs: np.ndarray, unit: float
) -> bool:
    """Return whether a segment is one of solutions where it starts."""
    if not np.isfinite(segment.top):
        return True
    weights, parts = segment.point - segment.top * segment.slope, np.abs(segment.point)
    signed = bool((signs * weights >= -_FEASIBLE * (parts + segment.top * np.abs(segment.slope))).all())
    away = np.abs(base + segment.top * tilt) - segment.top * price * (1 + _FEASIBLE)
    return signed and bool((away <= 1e-10 * unit).all())
