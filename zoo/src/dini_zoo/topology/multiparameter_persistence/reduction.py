r"""The small engine: Hilbert functions and rank invariants by reduction of boundary matrices over Z/2, in NumPy.

For one or two parameters and some hundred simplices: the oracle of the tests, and what there is where multipers is not
installed. Columns are Python's integers, whose bits are rows.

With :math:`D_i` the boundary of :math:`i`-chains, :math:`Z_i(x)` the cycles of :math:`K_x` and :math:`B_i(y)` the
boundaries of :math:`K_y`,

.. math:: \mathrm{rank}(H_i(K_x) \to H_i(K_y)) = \dim Z_i(x) - \dim\bigl(B_i(y) \cap C_i(K_x)\bigr) .

With rows in an order in which the simplices of :math:`K_x` are first, the second dimension is the number of columns of
the reduced :math:`D_{i+1}(y)` whose last row is one of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .complexes import Ranked, cliques, facets


class Points(NamedTuple):
    """A signed measure on ranks."""

    places: np.ndarray
    """Of shape `(M, n)`, or `(M, 2 n)` for rectangles; a death at infinity is `NEVER`."""
    weights: np.ndarray


#: The rank of what never dies.
NEVER = np.int32(-1)


def counted(complex: Ranked) -> int:
    """How many simplices there are."""
    return sum(map(len, complex.cells))


def _columns(complex: Ranked, dimension: int) -> list[int]:
    """The boundaries of the simplices of a dimension; bits are the places of their facets."""
    if not 0 < dimension < len(complex.cells):
        return [0] * (len(complex.cells[dimension]) if dimension < len(complex.cells) else 0)
    return [sum(1 << int(face) for face in one) for one in facets(complex.cells, dimension)]


def _pivots(columns: list[int]) -> list[int]:
    """The last bit of each column after those before it were used to remove it; -1 where nothing is left."""
    basis: dict[int, int] = {}
    found = []
    for column in columns:
        while column:
            pivot = column.bit_length() - 1
            other = basis.get(pivot)
            if other is None:
                basis[pivot] = column
                break
            column ^= other
        found.append(column.bit_length() - 1)
    return found


def _level(complex: Ranked, dimension: int) -> np.ndarray:
    """The ranks of the simplices of a dimension in two parameters, the second zero where there is one."""
    if dimension >= len(complex.ranks):
        return np.zeros((0, 2), int)
    ranks = complex.ranks[dimension]
    if ranks.shape[1] > 2:
        raise ValueError(f"The NumPy engine needs one or two parameters: given {ranks.shape[1]}.")
    return np.pad(ranks, ((0, 0), (0, 2 - ranks.shape[1]))).astype(int)


class _Homology:
    """What both invariants need of a complex in one degree: simplices of it and of the next one, in order."""

    def __init__(self, complex: Ranked, degree: int):
        self.parameters = complex.ranks[0].shape[1]
        complex = cliques(complex, degree + 1)
        self.cells, self.next = (_level(complex, d) for d in (degree, degree + 1))
        self.boundary, self.coboundary = (_columns(complex, d) for d in (degree, degree + 1))
        both = np.concatenate([self.cells, self.next])
        self.first, self.second = np.unique(both[:, 0]), np.unique(both[:, 1])

    def cycles(self, second: int) -> np.ndarray:
        """The dimensions of the cycles along the first parameter, at a value of the second one."""
        order = _sorted(self.cells, second)
        gained = np.array([pivot < 0 for pivot in _pivots([self.boundary[i] for i in order])], bool)
        return _reached(self.cells[order, 0][gained], self.first)

    def killed(self, born: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the boundaries at a value of the second parameter those of chains at another: when each is one, and of
        what chains; two vectors of first parameters."""
        old = _sorted(self.cells, born)
        young = np.setdiff1d(np.arange(len(self.cells)), old)
        place = {int(cell): row for row, cell in enumerate(np.concatenate([old, young]))}
        order = _sorted(self.next, second)
        columns = [sum(1 << place[face] for face in _bits(self.coboundary[i])) for i in order]
        pivots = np.array(_pivots(columns), int)
        mine = (pivots >= 0) & (pivots < len(old))
        return self.next[order, 0][mine], self.cells[old, 0][pivots[mine]]


def _bits(column: int) -> list[int]:
    found = []
    while column:
        found.append(column.bit_length() - 1)
        column ^= 1 << found[-1]
    return found


def _sorted(ranks: np.ndarray, second: int) -> np.ndarray:
    """The simplices that are there at a value of the second parameter, in the order of the first one."""
    there = np.flatnonzero(ranks[:, 1] <= second)
    return there[np.argsort(ranks[there, 0], kind="stable")]


def _reached(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How many of some sorted values are at most each of others."""
    return np.searchsorted(np.sort(values), at, side="right")


def _differences(function: np.ndarray, axis: int, *, ahead: bool = False) -> np.ndarray:
    """Each value less the one before it, or the one after it; outside of the grid all are zero."""
    if ahead:
        return -np.diff(function, axis=axis, append=0)
    return np.diff(function, axis=axis, prepend=0)


def hilbert(complex: Ranked, degree: int) -> Points:
    """The Hilbert function's signed measure."""
    one = _Homology(complex, degree)
    function = np.zeros((len(one.first), len(one.second)), int)
    for j, second in enumerate(one.second):
        deaths, _ = one.killed(second, second)
        function[:, j] = one.cycles(second) - _reached(deaths, one.first)
    measure = _differences(_differences(function, 0), 1)
    i, j = np.nonzero(measure)
    places = np.stack([one.first[i], one.second[j]], axis=1)[:, : one.parameters]
    return Points(places.astype(np.int32), measure[i, j].astype(np.int32))


def rank(complex: Ranked, degree: int) -> Points:
    """The rank invariant's signed measure on rectangles: births, then deaths."""
    one = _Homology(complex, degree)
    n, m = len(one.first), len(one.second)
    invariant = np.zeros((n, m, n, m), int)
    cycles = [one.cycles(second) for second in one.second]
    for j in range(m):
        for k in range(j, m):
            killed_at, killed = one.killed(one.second[j], one.second[k])
            dead = (killed[:, None] <= one.first).astype(int).T @ (killed_at[:, None] <= one.first).astype(int)
            invariant[:, j, :, k] = cycles[j][:, None] - dead
    comparable = (np.arange(n)[:, None, None, None] <= np.arange(n)[:, None]) & (
        np.arange(m)[:, None, None] <= np.arange(m)
    )
    invariant = np.where(comparable, invariant, 0)
    measure = _differences(_differences(invariant, 0), 1)
    measure = _differences(_differences(measure, 2, ahead=True), 3, ahead=True)
    found = np.argwhere((measure != 0) & comparable)
    first, second = np.append(one.first, NEVER), np.append(one.second, NEVER)
    columns = (first[found[:, 0]], second[found[:, 1]], first[found[:, 2] + 1], second[found[:, 3] + 1])
    kept = (0, 1, 2, 3) if one.parameters == 2 else (0, 2)
    places = np.stack([columns[i] for i in kept], axis=1)
    return Points(places.astype(np.int32), measure[tuple(found.T)].astype(np.int32))


def betti(complex: Ranked, degree: int) -> int:
    """The Betti number of all of a complex: cycles less boundaries, by ranks of whole boundary matrices."""
    complex = cliques(complex, degree + 1)
    ranks = [sum(pivot >= 0 for pivot in _pivots(_columns(complex, d))) for d in (degree, degree + 1)]
    return len(complex.cells[degree]) - sum(ranks) if degree < len(complex.cells) else 0
