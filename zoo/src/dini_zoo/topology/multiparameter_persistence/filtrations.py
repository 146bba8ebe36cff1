r"""Points with a function, graphs, images, and any complex as filtrations.

Rips: an edge enters at its length :math:`|x_i - x_j|`, a clique with its last edge; a vertex at once. Lower star: a
simplex enters with its last vertex. By both, :math:`f(\sigma) = (\max_{ij \subset \sigma} |x_i - x_j|, \max_{i \in
\sigma} f_i)`: the sublevel complexes are the Rips complexes of the points at which the function is small.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, known, positive, within

from .complexes import MOST_PARAMETERS, Filtration, out_of_order, ranked


def _numbers(name: str, value: Any) -> Array:
    """An array of floats in which, where it is known, nothing is NaN or minus infinity."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    if known(array):
        wrong = int(np.sum(np.isnan(array) | np.isneginf(array)))
        if wrong:
            raise ValueError(f"{name} must be numbers, or inf for what never enters: given {wrong} of NaN or -inf.")
    return array


def _parameters(name: str, columns: int, least: int = 1) -> None:
    if not least <= columns <= MOST_PARAMETERS:
        raise ValueError(f"{name} must make {least} to {MOST_PARAMETERS} parameters in all: given {columns}.")


def rips_lower_star(
    points: Float[Array, "n d"] | None = None,
    function: Float[Array, " n"] | Float[Array, "n q"] | None = None,
    *,
    distances: Float[Array, "n n"] | None = None,
    threshold: Any = None,
    dimension: int = 2,
) -> Filtration:
    r"""The Rips complex of points, filtered by scale and by the lower star of one or two functions.

    .. math:: f(\sigma) = \bigl(\max_{i, j \in \sigma} |x_i - x_j|,\; \max_{i \in \sigma} f_i\bigr)

    The scale of a vertex is zero, whatever the points are; the length of an edge of two equal points has the derivative
    zero, one of many.

    Parameters
    ----------
    points
        In a Euclidean space; in their place `distances` may be given.
    function
        A number for each point, or two as columns. Without it the filtration has one parameter.
    distances
        A symmetric matrix with a zero diagonal, infinite between points that are never joined.
    threshold
        Longer edges never enter.
    dimension
        Of the largest simplices: homology of less than this degree is that of the whole complex.

    Raises
    ------
    ValueError
        Where both or neither of points and distances are given, lengths differ, something is NaN, or there are more
        than three parameters.
    """
    if (points is None) == (distances is None):
        given = "none" if points is None else "both"
        raise ValueError(f"Either points or distances must be given: given {given}.")
    at_least("dimension", dimension, 1)
    if distances is None:
        points = _numbers("points", points)
        if points.ndim != 2 or (known(points) and np.isinf(points).any()):
            raise ValueError(f"points must be a matrix of finite numbers, a row for each: given shape {points.shape}.")
        count = points.shape[0]
        first, second = np.triu_indices(count, 1)
        lengths = _lengths(points, first, second)
    else:
        distances = _numbers("distances", distances)
        if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
            raise ValueError(f"distances must be a square matrix: given shape {distances.shape}.")
        if known(distances):
            held = np.asarray(distances)
            if not np.array_equal(held, held.T) or np.diagonal(held).any() or (held < 0).any():
                raise ValueError("distances must be symmetric and not negative, with a zero diagonal.")
        count = distances.shape[0]
        first, second = np.triu_indices(count, 1)
        # below the floor nothing is in order
        lengths = jnp.where(distances[first, second] < 0, jnp.nan, distances[first, second])
    at_least("the number of points", count, 1)
    if threshold is not None:
        positive("threshold", threshold)
        lengths = jnp.where(lengths > threshold, jnp.inf, lengths)
    vertices = np.arange(count, dtype=np.int32)[:, None]
    edges = np.stack([first, second], axis=1).astype(np.int32)
    values, floors = [lengths], [0.0]
    owners = [(np.full((count, 1), -1, np.int32), np.arange(len(edges), dtype=np.int32)[:, None])]
    if function is not None:
        for column in _columns("function", function, count, "points"):
            values.append(column.astype(lengths.dtype))
            owners.append((vertices, edges))
            floors.append(None)
    _parameters("function", len(values))
    return Filtration(tuple(values), (vertices, edges), tuple(owners), tuple(floors), flag=dimension)


@jax.jit
def _lengths(points: Array, first: Array, second: Array) -> Array:
    squares = jnp.sum((points[first] - points[second]) ** 2, axis=1)
    # equal points: a root without a derivative
    apart = squares != 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)


def _columns(name: str, values: Any, count: int, of: str) -> list[Array]:
    """The functions on `count` things: a vector, or the columns of a matrix."""
    array = _numbers(name, values)
    if array.ndim not in (1, 2) or array.shape[0] != count:
        raise ValueError(f"{name} must have one row for each of the {count} {of}: given shape {array.shape}.")
    return list(array[:, None].T if array.ndim == 1 else array.T)


def codensity(points: Float[Array, "n d"], bandwidth: Any) -> Float[Array, " n"]:
    r"""Minus the logarithm of a density, :math:`-\log \frac1n \sum_j e^{-|x_i - x_j|^2 / 2 h^2}`.

    As a function of points it makes dense ones enter first. Constants of the density are left out.

    Examples
    --------
    >>> print([f"{one:.3f}" for one in codensity(jnp.array([[0.0], [0.0], [9.0]]), 1.0)])
    ['0.405', '0.405', '1.099']
    """
    positive("bandwidth", bandwidth)
    squares = jnp.sum((points[:, None] - points[None]) ** 2, axis=-1)
    return jnp.log(points.shape[0]) - jax.nn.logsumexp(-squares / (2 * bandwidth**2), axis=1)


def graph_filtration(node_values: Float[Array, " n"] | Float[Array, "n p"], edges: Int[Array, "m 2"]) -> Filtration:
    """A graph, filtered by the lower star of one to three functions of its nodes.

    Parameters
    ----------
    node_values
        A number for each node, or the functions as columns.
    edges
        Pairs of nodes, each pair once. A row with a -1 is padding.

    Raises
    ------
    ValueError
        Where an edge joins a node to itself, to one that is not there, or comes twice; values that are NaN; more than
        three functions. A measure of traced edges that are wrong is NaN.

    Examples
    --------
    >>> filtration = graph_filtration(jnp.array([0.0, 2.0, 1.0]), jnp.array([[0, 1], [1, 2], [0, 2]]))
    >>> filtration.parameters, filtration.dimension
    (1, 1)
    """
    count = np.shape(node_values)[0] if np.ndim(node_values) else 0
    columns = _columns("node_values", node_values, count, "nodes")
    at_least("the number of nodes", count, 1)
    _parameters("node_values", len(columns))
    pairs, wrong = _edges(edges, count)
    columns = [jnp.where(wrong, jnp.nan, one) for one in columns]
    return _lower_star(columns, (np.arange(count, dtype=np.int32)[:, None], pairs))


def _edges(edges: Any, count: int) -> tuple[Any, Any]:
    """Pairs in ascending order, and whether traced ones are none of a graph."""
    if np.ndim(edges) != 2 or np.shape(edges)[1] != 2:
        raise ValueError(f"edges must be pairs of nodes, of shape (m, 2): given shape {np.shape(edges)}.")
    if not known(edges):
        pairs = jnp.sort(jnp.asarray(edges, jnp.int32), axis=1)
        first, second = pairs.T
        there = first >= 0
        names = jnp.sort(jnp.where(there, first * count + second, -1 - jnp.arange(len(pairs))))
        twice = jnp.any(names[1:] == names[:-1])
        return pairs, twice | jnp.any(there & ((first == second) | (second >= count)))
    held = np.sort(np.asarray(edges), axis=1).astype(np.int32)
    there = held[(held >= 0).all(axis=1)]
    within("edges", there, count)
    loops = there[there[:, 0] == there[:, 1]]
    if len(loops):
        raise ValueError(f"edges must join different nodes: given {tuple(loops[0].tolist())}.")
    if len(np.unique(there, axis=0)) < len(there):
        raise ValueError("edges must be given once each: given one twice.")
    return held, False


def _lower_star(columns: Sequence[Array], cells: tuple[Any, ...]) -> Filtration:
    # padding has no owner, and is not there
    return Filtration(tuple(columns), cells, tuple(cells for _ in columns), (None,) * len(columns))


def graph_batch(node_values: Float[Array, "B n p"], edges: Int[Array, "m 2"] | Int[Array, "B m 2"]) -> Filtration:
    """Several graphs as one complex: the measure of a disjoint union is the sum of the measures.

    The place of a value is `graph * n + node`, so that `owners[:, 0] // n` is the graph of each point of a measure.

    Parameters
    ----------
    node_values
        The functions of each graph's nodes.
    edges
        Of all graphs, or of each; rows with a -1 are padding.

    Raises
    ------
    ValueError
        As `graph_filtration`, and where node_values has other than three axes.

    Examples
    --------
    >>> graph_batch(jnp.zeros((4, 3, 2)), jnp.array([[0, 1], [1, 2]])).cells[1].shape
    (8, 2)
    """
    if np.ndim(node_values) != 3:
        given = np.shape(node_values)
        raise ValueError(f"node_values must have axes for graphs, nodes and functions: given shape {given}.")
    batch, count, functions = np.shape(node_values)
    array = np if known(edges) else jnp
    edges = array.asarray(edges)
    if edges.ndim not in (2, 3) or edges.shape[-1] != 2 or (edges.ndim == 3 and edges.shape[0] != batch):
        raise ValueError(f"edges must have the shape (m, 2) or ({batch}, m, 2): given {edges.shape}.")
    within("edges", array.maximum(edges, 0), count)
    shifts = count * np.arange(batch)[:, None, None]
    shifted = array.where((edges < 0).any(axis=-1, keepdims=True), -1, edges + shifts)
    # a node of another graph is none: a loop is refused
    shifted = array.where((edges >= count).any(axis=-1, keepdims=True), 0, shifted)
    return graph_filtration(jnp.reshape(node_values, (batch * count, functions)), shifted.reshape(-1, 2))


def cubical_filtration(images: Float[Array, "h w"] | Float[Array, "p h w"]) -> Filtration:
    """Images as functions on a grid of squares: a pixel is a vertex, a square enters with the last of its four.

    A square is divided by its center, which enters when it does: the homology is that of the cubical complex, in which
    pixels that touch at a corner alone are not joined.

    Parameters
    ----------
    images
        One function, or one to three of them, on the same pixels.

    Raises
    ------
    ValueError
        Where there is no image of at least two pixels a side, more than three, or a pixel that is NaN.

    Examples
    --------
    >>> [len(one) for one in cubical_filtration(jnp.array([[0.0, 1.0], [2.0, 3.0]])).cells]
    [5, 8, 4]
    """
    array = _numbers("images", images)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or min(array.shape[1:]) < 2:
        given = np.shape(images)
        raise ValueError(f"images must have the shape (h, w) or (p, h, w), of two pixels or more: given {given}.")
    _parameters("images", array.shape[0])
    cells, owners = _squares(*array.shape[1:])
    columns = tuple(array.reshape(array.shape[0], -1))
    return Filtration(columns, cells, (owners,) * len(columns), (None,) * len(columns))


def _squares(height: int, width: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The simplices of a grid of divided squares, and the pixels that own each, four to a row."""
    pixels = np.arange(height * width).reshape(height, width)
    right = np.stack([pixels[:, :-1], pixels[:, 1:]], axis=-1).reshape(-1, 2)
    down = np.stack([pixels[:-1], pixels[1:]], axis=-1).reshape(-1, 2)
    corners = np.stack([pixels[:-1, :-1], pixels[:-1, 1:], pixels[1:, 1:], pixels[1:, :-1]], axis=-1).reshape(-1, 4)
    centers = pixels.size + np.arange(len(corners))
    spokes = np.concatenate([np.stack([corners[:, i], centers], axis=1) for i in range(4)])
    sides = [np.sort(corners[:, [i, (i + 1) % 4]], axis=1) for i in range(4)]
    triangles = np.concatenate([np.concatenate([side, centers[:, None]], axis=1) for side in sides])
    single = pixels.reshape(-1, 1)
    flat = np.concatenate([right, down])
    cells = (np.concatenate([single, centers[:, None]]), np.concatenate([flat, spokes]), triangles)
    owners = (
        np.concatenate([single.repeat(4, axis=1), corners]),
        np.concatenate([flat.repeat(2, axis=1), np.tile(corners, (4, 1))]),
        np.tile(corners, (4, 1)),
    )
    as_int = lambda arrays: tuple(one.astype(np.int32) for one in arrays)
    return as_int(cells), as_int(owners)


def simplicial_filtration(simplices: Sequence[Sequence[int]], values: Float[Array, "S n"]) -> Filtration:
    """Any complex, with a value of each simplex in each of one to three parameters.

    Parameters
    ----------
    simplices
        The vertices of each; its faces before it.
    values
        A row for each simplex, in no coordinate less than those of its faces.

    Raises
    ------
    ValueError
        Where a simplex is given twice or before a face, where a value is (as far as it is known) NaN or less than a
        face's, or where there are more than three parameters. A measure of traced values that are not monotone is NaN.

    Examples
    --------
    >>> filtration = simplicial_filtration([(0,), (1,), (0, 1)], jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    >>> filtration.parameters, filtration.dimension
    (2, 1)
    """
    array = _numbers("values", values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] != len(simplices) or not len(simplices):
        given = np.shape(values)
        raise ValueError(f"values must have a row for each of the {len(simplices)} simplices: given shape {given}.")
    _parameters("values", array.shape[1])
    named = [tuple(sorted(map(int, one))) for one in simplices]
    before: set[tuple[int, ...]] = set()
    for one in named:
        if one in before or len(set(one)) < len(one) or not one or one[0] < 0:
            raise ValueError(f"simplices must be given once each, as different vertices from 0 on: given {one}.")
        lacking = [face for face in itertools.combinations(one, len(one) - 1) if face and face not in before]
        if lacking:
            raise ValueError(f"simplices must come after their faces: given {one} without {lacking[0]} before it.")
        before.add(one)
    by_dimension = [
        [i for i, one in enumerate(named) if len(one) == dimension + 1] for dimension in range(max(map(len, named)))
    ]
    cells = tuple(np.array([named[i] for i in group], np.int32) for group in by_dimension)
    owners = tuple(np.array(group, np.int32)[:, None] for group in by_dimension)
    filtration = Filtration(tuple(array.T), cells, (owners,) * array.shape[1], (None,) * array.shape[1], monotone=False)
    if known(array):
        # equal values are in the order of their places: here they may be equal
        dense = [np.unique(np.asarray(one), return_inverse=True)[1] + 1 for one in filtration.values]
        wrong = out_of_order(ranked(filtration, dense))
        if wrong is not None:
            simplex, parameter = wrong
            raise ValueError(f"values must not fall from a face to a simplex: {simplex} does in parameter {parameter}.")
    return filtration
