r"""Fits of smooth losses with absolute values, by Newton's method on the coefficients that matter.

A step minimizes the loss to second order, with the penalties as they are, over coefficients that do not vanish and
those whose slope exceeds their penalty: a quadratic function with absolute values, of which the minimizer is known
exactly. Where steps vanish, so does the error, and the support's factor serves the adjoint equation. (Friedman, Hastie,
Tibshirani, "Regularization paths for generalized linear models via coordinate descent", JSS 2010, descend along
coordinates for such a step.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._active_set import Face, Quadratic, least
from ._data import Data, Fits, Judged
from ._folds import Folds
from ._smooth import Smooth, smooth
from ._starts import first_coefficients

#: the size of the last step, relative to the coefficients, in the norm of the Hessian; and that for a look around
_ACCURACY, _ROUGH = 1e-8, 1e-3
_STEPS, _HALVINGS = 100, 60
#: the slope at the end of a step, in relation to that at its start
_SLOPE = 0.1
#: at most so many coefficients join at once, or twice as many as do not vanish
_JOIN = 50
#: where a coefficient or a slope is so close to its kink there is no derivative
_KINK = 1e-9


class Fit(NamedTuple):
    """One fit: the features as rows, a target and penalties of shape ``(numbers, columns)``, weights of the samples.

    ``still`` is a penalty of the squared sum of the intercepts of several numbers, which costs nothing else.
    """

    loss: Smooth
    rows: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    still: float

    def predictor(self, x: np.ndarray) -> np.ndarray:
        """Return the predictor, of shape ``(numbers, 1, samples)``."""
        some = np.flatnonzero(x.any(axis=0))
        return (x[:, some] @ self.rows[some])[:, None]

    def slope(self, slope: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of all but the absolute values."""
        found = (self.weights * slope[:, 0]) @ self.rows.T + self.l2 * x
        found[:, 0] += self.still * x[:, 0].sum()
        return found

    def hessian(self, kept: np.ndarray, some: np.ndarray) -> np.ndarray:
        """Return the block of coefficients, by their places, of the Hessian without penalties."""
        numbers, columns = np.divmod(some, len(self.rows))
        rows = self.rows[columns]
        if len(self.y) == 1:
            rows *= np.sqrt(self.weights * kept[0, 0])
            return rows @ rows.T
        root = np.sqrt(self.weights)
        both = rows * (root * kept[numbers, 0])
        found = both @ both.T
        np.negative(found, out=found)
        for number in np.unique(numbers):
            own = np.flatnonzero(numbers == number)
            part = rows[own] * (root * np.sqrt(kept[number, 0]))
            found[own[:, None], own] += part @ part.T
        found += self.still * np.outer(columns == 0, columns == 0)
        return found


class End(NamedTuple):
    """Where a fit ended: coefficients, and the face with places in them."""

    x: np.ndarray
    face: Face


class Solution(NamedTuple):
    """Coefficients, their predictor, the face and its Hessian's factor, and whether the fit is solved."""

    x: np.ndarray
    z: np.ndarray
    face: Face
    solved: bool


def minimize(fit: Fit, start: End, accuracy: float) -> Solution:
    """Return the minimizer of a fit."""
    x, face, flat = start.x, start.face, fit.l1.ravel()
    z = fit.predictor(x)
    slope, kept = fit.loss.slope(z, fit.y[:, None])
    for _ in range(_STEPS):
        gradient = fit.slope(slope, x)
        some, whole = _working(gradient.ravel(), x.ravel(), flat)
        now = x.ravel()[some]
        matrix = fit.hessian(kept, some)
        squares = fit.l2.ravel()[some]
        linear = matrix @ now + squares * now - gradient.ravel()[some]
        place = np.full(len(flat), -1)
        place[some] = np.arange(len(some))
        inside = place[face.support] >= 0
        near = Face(place[face.support][inside], face.signs[inside], now[place[face.support][inside]], None, 0.0, False)
        local = least(Quadratic.of(matrix, linear, squares), flat[some], near)
        face = local._replace(support=some[local.support])
        if not local.solved:
            return Solution(np.full_like(x, np.nan), z, face, False)
        target = np.zeros(len(flat))
        target[face.support] = face.values
        step = target.reshape(x.shape) - x
        moved = step.ravel()[some]
        small = moved @ (matrix @ moved + squares * moved)
        size = now @ (matrix @ now + squares * now)
        if whole and small <= accuracy**2 * size:
            return Solution(x + step, z + fit.predictor(step), face, True)
        x, z, slope, kept = _advance(fit, z, x, step, gradient)
    return Solution(x, z, face, False)


def _working(gradient: np.ndarray, x: np.ndarray, l1: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the places of coefficients that matter, and whether they are all that do."""
    matter = (x != 0) | (l1 == 0)
    over = np.where(matter, -np.inf, np.abs(gradient) - l1)
    joining = np.flatnonzero(over > 0)
    room = max(_JOIN, 2 * int(matter.sum()))
    whole = len(joining) <= room
    if not whole:
        joining = joining[np.argpartition(-over[joining], room - 1)[:room]]
    matter[joining] = True
    return np.flatnonzero(matter), whole


def _advance(fit: Fit, z: np.ndarray, x: np.ndarray, step: np.ndarray, gradient: np.ndarray) -> tuple:
    """Return the coefficients after a step or a part of it, their predictor, and the loss's parts.

    The objective is convex: it has fallen if its slope at the end, from the left, is not positive.
    """
    ahead = fit.predictor(step)
    turn = np.where(x != 0, np.sign(x), np.sign(step))
    first = np.sum((gradient + fit.l1 * turn) * step)
    length = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_HALVINGS):
            to, there = x + length * step, z + length * ahead
            slope, kept = fit.loss.slope(there, fit.y[:, None])
            turn = np.where(to != 0, np.sign(to), -np.sign(step))
            data = np.sum(fit.weights * slope[:, 0] * ahead[:, 0])
            bend = fit.still * to[:, 0].sum() * step[:, 0].sum()
            now = data + bend + np.sum((fit.l2 * to + fit.l1 * turn) * step)
            if now <= _SLOPE * abs(first):
                break
            length *= 0.5
    return to, there, slope, kept


class SparseNewton:
    """Fits of data by Newton's method on the supports of their minimizers.

    Parameters
    ----------
    data
        The data and what is minimized of them.
    """

    def __init__(self, data: Data):
        self.data, spec = data, data.spec
        self._loss = smooth(spec.loss, spec.setting)
        one = np.full((1, data.samples), float(spec.intercept))
        self._rows = np.concatenate([one, np.ascontiguousarray(data.X.T)])
        goal = np.ascontiguousarray(data.y.T)
        self._goals = [goal] if data.together else [goal[[place]] for place in range(data.targets)]

    def lanes(self, folds: Folds, judged: Judged) -> Judged:
        """Return the weights of folds."""
        del folds
        return judged

    def whole(self, folds: Folds, ends: Any) -> tuple[Folds, Any]:
        """Return a fit on all samples, and where it starts."""
        del folds
        return Folds.whole(self.data.samples, 1), ends and [each[:1] for each in ends]

    def fits(
        self, l1: np.ndarray, l2: np.ndarray, lanes: Judged, ends: Any, certify: bool = False, rough: bool = False
    ) -> list[Fits]:
        """Return the fits, for each target that is fitted on its own."""
        l1, l2 = l1.T, np.broadcast_to(l2, (len(lanes.train), *l1.shape)).swapaxes(1, 2)
        accuracy = _ROUGH if rough else _ACCURACY
        found = []
        for place, y in enumerate(self._goals):
            first, squares = (l1, l2) if self.data.together else (l1[[place]], l2[:, [place]])
            starts = [None] * len(lanes.train) if ends is None else ends[place]
            rows = []
            for train, held, second, start in zip(lanes.train, lanes.held, squares, starts, strict=True):
                still = train.sum() / len(y) ** 2 if self.data.together and self.data.spec.intercept else 0.0
                fit = Fit(self._loss, self._rows, y, train, first, second, still)
                end = self._start(fit) if start is None else start
                rows.append(_judged(fit, held, end, accuracy, certify))
            value, *parts, solved, error, following = zip(*rows, strict=True)
            ordered = [self._in_order(np.array(part)) for part in parts]
            found.append(
                Fits(
                    np.array(value),
                    (ordered[0], ordered[1]),
                    ordered[2],
                    np.array(solved),
                    np.array(error),
                    list(following),
                )
            )
        return found

    def _start(self, fit: Fit) -> End:
        x = first_coefficients(self.data, fit.y, fit.weights[None], self._rows.shape[0])[:, 0]
        return End(x, Face.corner(fit.l1.ravel()))

    def _in_order(self, part: np.ndarray) -> np.ndarray:
        """Return an array as programs return it: the numbers of a predictor last, if there are several."""
        part = np.moveaxis(part, 1, -1)
        return part if self.data.together else part[..., 0]


def _judged(fit: Fit, held: np.ndarray, start: End, accuracy: float, certify: bool) -> tuple:
    found = minimize(fit, start, accuracy)
    slope, _ = fit.loss.slope(found.z, fit.y[:, None])
    value = float(held @ fit.loss.value(found.z, fit.y[:, None])[0])
    face = found.face
    numbers, columns = np.divmod(face.support, len(fit.rows))
    right = np.einsum("sn,sn->s", fit.rows[columns], (held * slope[:, 0])[numbers])
    adjoint = face.solve(right) if found.solved else np.full(len(right), np.nan)
    first, second = np.zeros(fit.l1.size), np.zeros(fit.l1.size)
    first[face.support] = -fit.l1.ravel()[face.support] * face.signs * adjoint
    second[face.support] = -fit.l2.ravel()[face.support] * face.values * adjoint
    end = End(found.x, face)
    error = np.nan
    if certify and found.solved:
        # what one more step changes of it
        _, *again, _, _, _, _ = _judged(fit, held, end, accuracy, False)
        away = np.hypot(*(np.linalg.norm(a.ravel() - b) for a, b in zip(again, (first, second), strict=True)))
        size = np.hypot(np.linalg.norm(first), np.linalg.norm(second))
        error = np.inf if face.margin < _KINK else float(away / size + np.finfo(float).eps) if size else 0.0
    shape = fit.l1.shape
    return value, first.reshape(shape), second.reshape(shape), found.x, found.solved, error, end
