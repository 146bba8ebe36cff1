"""A fit of a squared loss on columns of which there are many: it works on some, and looks at all before it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from . import _groups
from ._active_set import Face, Quadratic, allowed, least

if TYPE_CHECKING:
    from ._sparse_fits import Start

#: at most so many columns join at once, or twice as many as do not vanish
_JOIN = 50
#: a column joins whose correlation comes so close to its penalty
_NEAR = 0.9


class Columns:
    """A fit by columns themselves; the second moments of those that it has worked on are kept.

    Parameters
    ----------
    X
        The features as rows, that of the intercept first, shared by all fits; dense or sparse.
    y
        The target.
    train, held
        Weights of the samples.
    groups
        Those of the columns, where the penalties are those of their norms.
    """

    def __init__(
        self,
        X: Any,
        y: np.ndarray,
        train: np.ndarray,
        held: np.ndarray,
        groups: _groups.Groups | None = None,
    ):
        self.X, self.y, self.root, self.groups = X, y, np.sqrt(train), groups
        self.goal = self.root * y
        self.rows = np.flatnonzero(held)
        self.held = held[self.rows]
        self.linear = X @ (self.root * self.goal)
        self.size = 0
        self.place = np.full(X.shape[0], -1)
        self.columns = np.empty(0, int)
        self._scaled, self._matrix = np.empty((0, len(y))), np.empty((0, 0))
        self._square = self._matrix

    def _join(self, columns: np.ndarray) -> None:
        """Take columns in, and their moments."""
        columns = columns[self.place[columns] < 0]
        if not len(columns):
            return
        first, last = self.size, self.size + len(columns)
        if last > len(self._matrix):
            room = max(2 * len(self._matrix), last)
            scaled, matrix = np.empty((room, len(self.y))), np.empty((room, room))
            scaled[:first], matrix[:first, :first] = self._scaled[:first], self._matrix[:first, :first]
            self._scaled, self._matrix = scaled, matrix
        self.place[columns] = np.arange(first, last)
        self.columns = np.concatenate([self.columns, columns])
        self._scaled[first:last] = self._rows(columns) * self.root
        self._matrix[first:last, :last] = self._scaled[first:last] @ self._scaled[:last].T
        self._matrix[:first, first:last] = self._matrix[first:last, :first].T
        self.size = last
        self._square = np.ascontiguousarray(self._matrix[:last, :last])

    def _rows(self, columns: np.ndarray) -> np.ndarray:
        """Return some of the features."""
        found = self.X[columns]
        return found.toarray() if issparse(found) else found

    def minimize(self, l1: np.ndarray, l2: np.ndarray, start: Start) -> tuple[Face, Quadratic]:
        """Return the face of the minimizer, and the quadratic function, known on the columns that were worked on."""
        face, same = start.face, np.array_equal(l2, start.l2)
        self._join(face.support)
        limit = allowed(l1, self.linear)
        while True:
            some = self.columns
            quadratic = Quadratic.of(self._square, self.linear[some], l2[some])
            near = face._replace(support=self.place[face.support])
            if self.groups is None:
                local = least(quadratic, l1[some], near, same)
            else:
                local = _groups.least(quadratic, l1[some], self.groups.of(some), near)
            face = local._replace(support=some[local.support])
            if not face.solved:
                break
            rest = self.goal - face.values @ self._scaled[local.support]
            sizes = np.abs(self.X @ (self.root * rest))
            if self.groups is not None:
                sizes = self.groups.norms(sizes)[self.groups.place]
            sizes[some] = 0.0
            if not (sizes > limit).any():
                with np.errstate(divide="ignore", invalid="ignore"):
                    outside = float(np.nanmin(1 - sizes / limit, initial=np.inf))
                face = face._replace(margin=min(face.margin, outside))
                break
            joining = np.flatnonzero(sizes > _NEAR * limit)
            room = max(_JOIN, 2 * len(face.support))
            if len(joining) > room:
                over = (limit - sizes)[joining]
                joining = joining[np.argpartition(over, room - 1)[:room]]
            if self.groups is not None:
                joining = np.flatnonzero(np.isin(self.groups.place, self.groups.place[joining]))
            self._join(joining)
            same = True
        return face, Quadratic(quadratic.block, self._spread(quadratic), self.linear)

    def _spread(self, quadratic: Quadratic):
        def product(support: np.ndarray, x: np.ndarray) -> np.ndarray:
            found = np.zeros(len(self.linear))
            found[self.columns] = quadratic.product(self.place[support], x)
            return found

        return product

    def judge(self, support: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the held-out loss, and its slope on the support."""
        some = self._rows(support)[:, self.rows]
        away = values @ some - self.y[self.rows]
        return 0.5 * float(self.held @ away**2), some @ (self.held * away)
