r"""Fits of a squared loss on folds, exact on their supports, and the derivatives of what evaluates them.

On its support the minimizer solves :math:`(G + \mu)_{SS} x_S = c_S - \lambda_S s_S`. So the held-out loss, whose slope
is ``v``, has the derivatives :math:`-\lambda_j s_j u_j` and :math:`-\mu_j x_j u_j` in the logarithms of the penalties,
with :math:`(G + \mu)_{SS} u = v_S`, and none in penalties off the support.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from . import _groups
from ._active_set import Face, Quadratic, least
from ._data import Fits

#: where a coefficient or a correlation is so close to its kink there is no derivative
_KINK = 1e-9
#: penalties fall by this factor on the way to those of a first fit
_FALL = 1.5


class Lane(Protocol):
    """A fit and what evaluates it, with its products of columns and target."""

    linear: np.ndarray
    groups: _groups.Groups | None

    def minimize(self, l1: np.ndarray, l2: np.ndarray, start: Start) -> tuple[Face, Quadratic]:
        """Return the face of the minimizer, and the quadratic function."""

    def judge(self, support: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the held-out loss, and its slope on the support."""


class Start(NamedTuple):
    """Where a fit ended, and with which penalties of squares; none where the matrix is another."""

    face: Face
    l2: np.ndarray | None

    def lighter(self) -> Start:
        """Return the start without its factor, which takes most of the memory."""
        return Start(self.face._replace(factor=np.empty((0, 0))), None)


class Moments(NamedTuple):
    """A fit by second moments: matrices, their products with the target, and of the evaluation's target its square.

    With groups of columns the penalties are those of their norms.
    """

    matrix: np.ndarray
    linear: np.ndarray
    held: np.ndarray
    held_linear: np.ndarray
    held_square: float
    groups: _groups.Groups | None = None

    def minimize(self, l1: np.ndarray, l2: np.ndarray, start: Start) -> tuple[Face, Quadratic]:
        """Return the face of the minimizer, and the quadratic function."""
        quadratic = Quadratic.of(self.matrix, self.linear, l2)
        if self.groups is not None:
            return _groups.least(quadratic, l1, self.groups, start.face), quadratic
        return least(quadratic, l1, start.face, np.array_equal(l2, start.l2)), quadratic

    def judge(self, support: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the held-out loss, and its slope on the support."""
        along = values @ self.held.take(support, 0).take(support, 1)
        linear = self.held_linear[support]
        value = 0.5 * (values @ along - 2 * linear @ values + self.held_square)
        return float(value), along - linear


def fits(lanes: Sequence[Lane], l1: np.ndarray, l2: np.ndarray, starts: Sequence[Start | None], certify: bool) -> Fits:
    """Return the fits of lanes, with a row of penalties for each."""
    rows = [_fit(lane, *own, certify) for lane, *own in zip(lanes, l1, l2, starts, strict=True)]
    value, first, second, x, solved, error, ends = zip(*rows, strict=True)
    stack = lambda part: np.array(part)
    return Fits(stack(value), (stack(first), stack(second)), stack(x), stack(solved), stack(error), list(ends))


def _fit(lane: Lane, l1: np.ndarray, l2: np.ndarray, start: Start | None, certify: bool) -> tuple:
    start = _approach(lane, l1, l2) if start is None else start
    face, quadratic = lane.minimize(l1, l2, start)
    value, slope = lane.judge(face.support, face.values)
    adjoint = face.solve(slope) if face.solved else np.full(len(slope), np.nan)
    gradient = _gradient(face, l1, l2, adjoint)
    error = _error(lane, face, quadratic, l1, l2, adjoint) if certify and face.solved else np.nan
    return value, *gradient, face.full(len(l1)), face.solved, error, Start(face, l2)


def _approach(lane: Lane, l1: np.ndarray, l2: np.ndarray) -> Start:
    """Return where to start without a fit near by: along penalties that fall from where no feature is left."""
    start, some = Start(Face.corner(l1), None), l1 > 0
    if some.any():
        ratio = np.max(np.abs(lane.linear[some]) / l1[some])
        for step in range(int(np.log(max(ratio, 1.0)) / np.log(_FALL)), 0, -1):
            start = Start(lane.minimize(l1 * _FALL**step, l2, start)[0], l2)
    return start


def _gradient(face: Face, l1: np.ndarray, l2: np.ndarray, adjoint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.zeros(len(l1)), np.zeros(len(l1))
    some = face.support
    first[some] = -l1[some] * face.signs * adjoint
    second[some] = -l2[some] * face.values * adjoint
    return first, second


def _error(lane: Lane, face: Face, quadratic: Quadratic, l1: np.ndarray, l2: np.ndarray, adjoint: np.ndarray) -> float:
    """Return the relative error of the gradient: what one more step of refinement of both solutions changes of it."""
    if face.margin < _KINK:
        return np.inf
    before = _gradient(face, l1, l2, adjoint)
    after = _better(lane, face, quadratic, l1, l2, adjoint)
    away = np.linalg.norm(np.subtract(after, before))
    size = np.linalg.norm(after)
    return float(away / size + np.finfo(float).eps) if size else 0.0


def _better(lane: Lane, face: Face, quadratic: Quadratic, l1: np.ndarray, l2: np.ndarray, adjoint: np.ndarray) -> tuple:
    if lane.groups is not None:
        # one more step of Newton's method, for directions and curvatures of norms change, too
        return _fit(lane, l1, l2, Start(face, None), False)[1:3]
    some = face.support
    away = quadratic.linear[some] - l1[some] * face.signs - quadratic.product(some, face.values)[some]
    better = face._replace(values=face.values + face.solve(away))
    _, slope = lane.judge(some, better.values)
    again = adjoint + face.solve(slope - quadratic.product(some, adjoint)[some])
    return _gradient(better, l1, l2, again)
