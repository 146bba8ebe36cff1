r"""A filtered complex whose every coordinate has one owner, and the order of its values.

A filtration by :math:`n` parameters sends each simplex to a vector, in no coordinate less than those of its faces. Here
each coordinate is the largest of a few numbers, its *owners*: in a lower-star filtration the value of an edge is the
later one of its two vertices, in a Rips complex that of a triangle is the length of its longest edge. So a filtration
is the vector `values[k]` of those numbers for each parameter, and the places of each simplex's owners in it.

Descriptors of a filtration depend on it through the order of the numbers alone, so an engine is given *ranks*: 0 is the
floor, a value that no number owns, `1 .. N` are the values in order, equal ones in the order of their places. With one
rank for equal values the derivative of all of them would go to one of them: it would be no derivative.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

#: More parameters than this are refused.
MOST_PARAMETERS = 3
#: The rank of a value that is infinite: it comes after all others, and what has it is not there.
ABSENT = np.int32(2**30)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Filtration:
    """A filtered complex of arrays, which may be traced. `rips_lower_star` and similar ones make it.

    A simplex never enters if one of its owners is infinite; nor does one with a vertex of -1, which is padding.
    """

    values: tuple[Float[Array, " N"], ...]
    """The numbers of each parameter."""
    cells: tuple[Int[Array, "S d"], ...]
    """The vertices of the simplices, ascending, by dimension from 0 on."""
    owners: tuple[tuple[Int[Array, "S m"], ...], ...]
    """By parameter and dimension: places in `values`, the largest of which is the simplex's value; -1 is the floor."""
    floors: tuple[float | None, ...] = field(metadata={"static": True})
    """By parameter: the value of a simplex that has no owner; `None` where each has one."""
    flag: int = field(default=0, metadata={"static": True})
    """The dimension up to which all cliques are simplices, which are not listed; 0 where all simplices are."""
    monotone: bool = field(default=True, metadata={"static": True})
    """Whether no simplex can come before its faces, whatever the values are; else it is looked at."""

    @property
    def parameters(self) -> int:
        """How many parameters there are."""
        return len(self.values)

    @property
    def dimension(self) -> int:
        """That of the largest simplices."""
        return self.flag or len(self.cells) - 1


class Order(NamedTuple):
    """The numbers of one parameter, sorted, with the floor in front and infinity behind: a rank is a place in them."""

    values: Float[Array, " N+2"]
    places: Int[Array, " N+2"]
    """Where each stands in the filtration's values; -1 for the floor and for infinity."""
    ties: Bool[Array, " N+2"]
    """Whether a number that is not the same owner's has the same value."""
    ranks: Int[Array, " N"]
    """The rank of each of the filtration's values; `ABSENT` where it is infinite."""


def ordered(values: Float[Array, " N"], floor: float | None) -> Order:
    """Sort the values of one parameter."""
    count = values.shape[0]
    places = jnp.argsort(values, stable=True).astype(jnp.int32)
    ranks = jnp.zeros(count, jnp.int32).at[places].set(jnp.arange(1, count + 1, dtype=jnp.int32))
    values_in_order = values[places]
    equal = jnp.isfinite(values_in_order[1:]) & (values_in_order[1:] == values_in_order[:-1])
    no = jnp.zeros(1, bool)
    ties = jnp.concatenate([equal, no]) | jnp.concatenate([no, equal])
    if floor is not None:
        ties |= values_in_order == floor
    ends = jnp.array([0.0 if floor is None else floor, jnp.inf], values.dtype)
    none = jnp.full(1, -1, jnp.int32)
    return Order(
        jnp.concatenate([ends[:1], values_in_order, ends[1:]]),
        jnp.concatenate([none, places, none]),
        jnp.concatenate([no, ties, no]),
        jnp.where(jnp.isposinf(values), ABSENT, ranks),
    )


class Ranked(NamedTuple):
    """A complex whose filtration is in ranks, for an engine: NumPy arrays of what is there."""

    cells: list[np.ndarray]
    """By dimension, of shape `(S, d + 1)`."""
    ranks: list[np.ndarray]
    """By dimension, of shape `(S, n)`."""
    flag: int

    @classmethod
    def flag_of(cls, vertices: int, edges: np.ndarray, dimension: int) -> Ranked:
        """All cliques of a graph at once, in one parameter."""
        cells = [np.arange(vertices, dtype=np.int32)[:, None], edges.astype(np.int32)]
        return cls(cells, [np.zeros((len(one), 1), np.int32) for one in cells], dimension)


def ranked(filtration: Any, ranks: Any) -> Ranked:
    """The complex of a filtration with NumPy's arrays, given the ranks of its values, without what is not there."""
    cells, found = [], []
    extended = [np.concatenate([np.zeros(1, np.int32), np.asarray(one)]) for one in ranks]
    for dimension, vertices in enumerate(filtration.cells):
        vertices = np.asarray(vertices)
        mine = np.stack(
            [
                one[np.asarray(owners[dimension]) + 1].max(axis=1, initial=0)
                for one, owners in zip(extended, filtration.owners, strict=True)
            ],
            axis=1,
        )
        there = (mine < ABSENT).all(axis=1) & (vertices >= 0).all(axis=1)
        cells.append(np.ascontiguousarray(vertices[there], np.int32))
        found.append(mine[there])
    return Ranked(cells, found, filtration.flag)


def cliques(complex: Ranked, dimension: int) -> Ranked:
    """The complex with all cliques of up to `dimension + 1` vertices listed: each comes with the last of its edges."""
    if not complex.flag:
        return complex
    vertices, edges = complex.cells[:2]
    names = vertices[:, 0]
    count = int(names.max(initial=-1)) + 1
    place = np.full((count, count), -1)
    place[edges[:, 0], edges[:, 1]] = place[edges[:, 1], edges[:, 0]] = np.arange(len(edges))
    cells, ranks = [vertices, edges], [complex.ranks[0], complex.ranks[1]]
    later = np.triu(place >= 0)
    for _ in range(2, dimension + 1):
        # a clique and a later vertex that is next to all of its own
        adjoining = later[cells[-1]].all(axis=1)
        old, new = np.nonzero(adjoining)
        joined = np.concatenate([cells[-1][old], new[:, None].astype(np.int32)], axis=1)
        by_edges = complex.ranks[1][place[cells[-1][old], new[:, None]]].max(axis=1, initial=0)
        cells.append(joined)
        ranks.append(np.maximum(ranks[-1][old], by_edges))
    return Ranked(cells, ranks, 0)


def facets(cells: list[np.ndarray], dimension: int) -> np.ndarray:
    """Of each simplex of a dimension the places of its facets, of shape `(S, dimension + 1)`; -1 where one lacks."""
    faces, simplices = cells[dimension - 1], cells[dimension]
    names = {tuple(face): i for i, face in enumerate(faces.tolist())}
    without = lambda one, k: names.get((*one[:k], *one[k + 1 :]), -1)
    found = [[without(one, k) for k in range(dimension + 1)] for one in simplices.tolist()]
    return np.array(found, int).reshape(len(simplices), dimension + 1)


def out_of_order(complex: Ranked) -> tuple[tuple[int, ...], int] | None:
    """A simplex that comes before one of its faces, and the parameter in which it does; `None` where there is none."""
    for dimension in range(1, len(complex.cells)):
        faces = facets(complex.cells, dimension)
        # a facet that is not there, which is found at the place -1, never enters
        behind = np.full((1, complex.ranks[dimension - 1].shape[1]), ABSENT)
        before = np.concatenate([complex.ranks[dimension - 1], behind])[faces]
        wrong = np.argwhere((before > complex.ranks[dimension][:, None, :]).any(axis=1))
        if len(wrong):
            simplex, parameter = wrong[0]
            return tuple(complex.cells[dimension][simplex].tolist()), int(parameter)
    return None


def all_cliques(filtration: Filtration) -> Filtration:
    """The filtration with every possible clique up to its dimension listed, whatever the values are.

    Each has the owners of its edges; if an edge of it is not there it never enters.
    """
    if not filtration.flag:
        return filtration
    count = filtration.cells[0].shape[0]
    first, second = np.triu_indices(count, 1)
    if filtration.cells[1].shape[0] != len(first):
        raise ValueError("filtration must have an edge between any two vertices: given one with fewer.")
    place = np.zeros((count, count), int)
    place[first, second] = np.arange(len(first))
    cells, owners = list(filtration.cells), [list(one) for one in filtration.owners]
    for dimension in range(2, filtration.flag + 1):
        simplices = np.array(list(itertools.combinations(range(count), dimension + 1)), np.int32)
        simplices = simplices.reshape(-1, dimension + 1)
        pairs = list(itertools.combinations(range(dimension + 1), 2))
        edges = np.stack([place[simplices[:, i], simplices[:, j]] for i, j in pairs], axis=1)
        cells.append(simplices)
        for mine in owners:
            of_edges = jnp.asarray(mine[1])
            width = len(pairs) * of_edges.shape[1]
            # of two points or one there is no larger clique, and of one no edge to look at
            found = of_edges[edges].reshape(len(simplices), width) if len(simplices) else np.zeros((0, width), np.int32)
            mine.append(found)
    return Filtration(filtration.values, tuple(cells), tuple(map(tuple, owners)), filtration.floors)
