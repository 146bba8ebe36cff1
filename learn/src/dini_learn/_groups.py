r"""Quadratic functions with norms of groups, minimized exactly: by Newton's method on the groups that do not vanish.

There the minimizer of :math:`\tfrac12 x^\top H x - c^\top x + \sum_g \lambda_g \|x_g\|` solves a smooth equation, whose
derivative is ``H`` and :math:`\lambda_g (I - s_g s_g^\top) / \|x_g\|` with :math:`s_g = x_g / \|x_g\|`. Which groups
these are is found by turns: one group after the other is minimized exactly (Yuan and Lin, JRSS B 2006, for columns that
may depend on one another), which alone would end, if slowly.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.linalg import lapack

from ._active_set import Face, Quadratic, allowed

#: the size of the last step, relative to the solution, in the norm of the derivative; an error is about its square
_ACCURACY = 1e-8
_STEPS, _HALVINGS, _ROOTS = 200, 40, 200
#: the slope at the end of a step, in relation to that at its start
_SLOPE = 0.1


class Groups:
    """The groups of columns.

    Parameters
    ----------
    place
        The group of each column, numbers from zero on.
    """

    def __init__(self, place: np.ndarray):
        self.place = place
        self.count = int(place.max()) + 1
        order = np.argsort(place, kind="stable")
        self.columns = np.split(order, np.cumsum(np.bincount(place))[:-1])

    def norms(self, x: np.ndarray) -> np.ndarray:
        """Return the length of each group of a vector."""
        # of lengths far from one squares are no numbers
        size = np.abs(x).max(initial=0.0) or 1.0
        return size * np.sqrt(np.bincount(self.place, (x / size) ** 2, self.count))

    def of(self, some: np.ndarray) -> Groups:
        """Return those of some columns."""
        return Groups(np.unique(self.place[some], return_inverse=True)[1])


class Bent:
    """A quadratic function and its groups, at a point.

    Parameters
    ----------
    of
        The quadratic function.
    l1
        The penalty of each column, one for all of a group: of none that vanishes there is a derivative everywhere.
    groups
        The groups.
    x
        The point.
    """

    def __init__(self, of: Quadratic, l1: np.ndarray, groups: Groups, x: np.ndarray):
        self.of, self.l1, self.groups, self.x = of, l1, groups, x
        norms = groups.norms(x)[groups.place]
        self.support = some = np.flatnonzero((norms > 0) | (l1 == 0))
        norms = np.where(norms[some] > 0, norms[some], 1.0)
        self.bend = l1[some] / norms
        self.signs = np.where(l1[some] > 0, x[some] / norms, 0.0)
        self.same = groups.place[some]
        self.away = of.linear - of.product(some, x[some])

    def at(self, x: np.ndarray) -> Bent:
        """Return the same at another point."""
        return Bent(self.of, self.l1, self.groups, x)

    @functools.cached_property
    def factor(self) -> np.ndarray | None:
        """The Cholesky factor of the derivative of the slope, on the support; ``None`` if it is not definite."""
        found = self.of.block(self.support)
        found.flat[:: len(found) + 1] += self.bend
        found -= np.where(self.same[:, None] == self.same, np.outer(self.bend * self.signs, self.signs), 0.0)
        factor, info = lapack.dpotrf(found, lower=1, clean=0) if len(found) else (found, 0)
        return None if info else factor

    @functools.cached_property
    def step(self) -> np.ndarray | None:
        """Newton's step, on the support."""
        if self.factor is None or not len(self.factor):
            return self.factor if self.factor is None else np.empty(0)
        return -lapack.dpotrs(self.factor, self.slope, lower=1)[0]

    @property
    def slope(self) -> np.ndarray:
        """The slope on the support."""
        return self.l1[self.support] * self.signs - self.away[self.support]

    def small(self) -> bool:
        """Whether the step is small."""
        own = self.x[self.support]
        # norms do not bend along themselves
        size = own @ (self.of.linear - self.away)[self.support]
        return bool(-self.slope @ self.step <= _ACCURACY**2 * size)

    def over(self, slack: np.ndarray) -> np.ndarray:
        """Return by what part the slope of each group off the support exceeds what it may be."""
        sizes = self.groups.norms(self.away)
        limit = np.zeros(self.groups.count)
        limit[self.groups.place] = slack
        found = np.where(limit > 0, sizes / np.where(limit > 0, limit, 1.0) - 1, -np.inf)
        found[self.same] = -np.inf
        return found

    def along(self) -> tuple[np.ndarray, bool]:
        """Return the point after the step or a part of it, and whether it was all: where the slope about vanishes."""
        some, step = self.support, self.step
        bent = step @ self.of.product(some, step)[some]
        first, flat = abs(float(self.slope @ step)), -self.away[some] @ step
        to, length = self.x.copy(), 1.0
        for _ in range(_HALVINGS):
            to[some] = self.x[some] + length * step
            norms = self.groups.norms(to)[self.same]
            turn = np.where(norms > 0, to[some] / np.where(norms > 0, norms, 1.0), 0.0)
            if flat + length * bent + (self.l1[some] * turn) @ step <= _SLOPE * first:
                return to, length == 1.0
            length *= 0.5
        return self.x.copy(), False

    def through(self) -> np.ndarray:
        """Return for each group the part of the step at which its length vanishes to first order, infinite for none."""
        speed = np.bincount(self.same, self.signs * self.step, self.groups.count)
        fall = np.where(speed < 0, -speed, 1.0)
        found = np.where(speed < 0, self.groups.norms(self.x) / fall, np.inf)
        return np.where(found < 1, found, np.inf)

    def rise(self, x: np.ndarray, to: np.ndarray) -> float:
        """Return the value at one point less that at another."""
        step = to - x
        filled, some = np.flatnonzero(x + to), np.flatnonzero(step)
        middle = self.of.product(filled, 0.5 * (x + to)[filled]) - self.of.linear
        one = np.zeros(self.groups.count)
        one[self.groups.place] = self.l1
        return float(step[some] @ middle[some] + one @ (self.groups.norms(to) - self.groups.norms(x)))


def least(of: Quadratic, l1: np.ndarray, groups: Groups, start: Face) -> Face:
    """Return the face of the minimizer of a quadratic function and norms of groups.

    The face's signs are those of the norms' slopes, and its factor that of their derivative with the function's.

    Parameters
    ----------
    of
        The quadratic function.
    l1
        The penalty of each column, one for all of a group.
    groups
        The groups.
    start
        A face near by.
    """
    slack = allowed(l1, of.linear)
    x = start.full(len(l1))
    block = _Blocks(of, l1, groups)
    for _ in range(_STEPS):
        here = Bent(of, l1, groups, x)
        if here.step is None:
            # not positive definite: nothing is known
            break
        over = here.over(slack)
        if here.small():
            if not (over > 0).any():
                x[here.support] += here.step
                return _face(of, l1, groups, x, slack)
            x = block.turn(x, np.flatnonzero(over > 0))
            continue
        x, whole = here.along()
        if not whole:
            fewer = _without(here, x)
            x = block.turn(x, np.unique(np.append(here.same, np.flatnonzero(over > 0)))) if fewer is None else fewer
    return Face(here.support, here.signs, np.full(len(here.support), np.nan), np.empty((0, 0)), 0.0, False)


def _without(here: Bent, x: np.ndarray) -> np.ndarray | None:
    """Return a point lower than another without the groups, or the group, that a step takes through zero.

    Newton's method would come nearer and nearer to zero: the curvature of a norm grows without end there.
    """
    through = here.through()
    for which in (np.flatnonzero(np.isfinite(through)), [int(np.argmin(through))]):
        if not len(which) or not np.isfinite(through[which[0]]):
            return None
        there = here.at(np.where(np.isin(here.groups.place, which), 0.0, here.x))
        if there.step is not None:
            found, _ = there.along()
            if here.rise(x, found) < 0:
                return found
    return None


def _face(of: Quadratic, l1: np.ndarray, groups: Groups, x: np.ndarray, slack: np.ndarray) -> Face:
    here = Bent(of, l1, groups, x)
    norms = groups.norms(x)[here.same[l1[here.support] > 0]]
    near = float(norms.min() / norms.max()) if len(norms) else np.inf
    margin = min(near, -float(here.over(slack).max(initial=-np.inf)))
    factor = np.empty((0, 0)) if here.factor is None else here.factor
    return Face(here.support, here.signs, x[here.support], factor, margin, here.factor is not None)


class _Blocks:
    """A quadratic function with norms, minimized in one group at a time."""

    def __init__(self, of: Quadratic, l1: np.ndarray, groups: Groups):
        self._of, self._l1, self._groups = of, l1, groups
        self._known: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def turn(self, x: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the point at which some groups have had a turn each."""
        x = x.copy()
        filled = np.flatnonzero(x)
        away = self._of.linear - self._of.product(filled, x[filled])
        for group in which:
            columns = self._groups.columns[group]
            if group not in self._known:
                own = self._of.block(columns)
                values, basis = np.linalg.eigh(own)
                self._known[group] = own, np.maximum(values, np.finfo(float).eps * values[-1]), basis
            own, values, basis = self._known[group]
            better = _ball(values, basis, away[columns] + own @ x[columns], float(self._l1[columns[0]]))
            away -= self._of.product(columns, better - x[columns])
            x[columns] = better
        return x


def _ball(values: np.ndarray, basis: np.ndarray, linear: np.ndarray, penalty: float) -> np.ndarray:
    r"""Return the minimizer of one group: of a length ``r`` with :math:`(H + \lambda / r) x = c`.

    One over the length of :math:`(r H + \lambda)^{-1} c` is concave in ``r``, so that Newton's method for where it is
    one comes from below.
    """
    along = linear @ basis
    if penalty == 0:
        return basis @ (along / values)
    if np.linalg.norm(along) <= penalty:
        return np.zeros_like(linear)
    radius = 0.0
    for _ in range(_ROOTS):
        below = radius * values + penalty
        part = along / below
        square = part @ part
        more = square * (np.sqrt(square) - 1) / (part @ (values * part / below))
        radius += more
        if more <= 1e-14 * radius:
            break
    return basis @ (along * radius / (radius * values + penalty))
