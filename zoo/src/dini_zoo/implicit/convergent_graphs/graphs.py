"""Graphs as arrays: one, several side by side, or several of different sizes padded to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import gather


class Graph(NamedTuple):
    """One or several directed graphs; an edge goes from its sender to its receiver.

    Several graphs stand side by side: first the nodes of the first, then those of the second, and so on, and the
    indices count through. Rows beyond the sum of `n_node` are padding. An edge of the padding has the number of rows,
    an index that is none, for its sender and its receiver: sums over edges leave it out.

    Examples
    --------
    >>> import numpy as np
    >>> line = make_graph(np.ones((3, 1)), np.ones((2, 1)), senders=[0, 1], receivers=[1, 2])
    >>> padded = pad(line, nodes=5, edges=4)
    >>> padded.senders.tolist(), padded.node_mask.tolist()
    ([0, 1, 5, 5], [True, True, True, False, False])
    """

    nodes: Float[Array, "n F"]
    edges: Float[Array, "E G"]
    senders: Int[Array, " E"]
    receivers: Int[Array, " E"]
    n_node: Int[Array, " k"]
    """The number of nodes of each graph."""
    n_edge: Int[Array, " k"]
    """The number of edges of each graph."""

    @property
    def size(self) -> int:
        """The number of rows for nodes, padding included."""
        return self.nodes.shape[-2]

    @property
    def node_mask(self) -> Bool[Array, " n"]:
        """Which rows are nodes; the others are padding."""
        return jnp.arange(self.size) < jnp.sum(self.n_node)

    @property
    def node_graph(self) -> Int[Array, " n"]:
        """The number of the graph that each node belongs to; padding has the number of graphs."""
        ends = jnp.cumsum(self.n_node)
        return jnp.searchsorted(ends, jnp.arange(self.size), side="right")


def make_graph(nodes: Any, edges: Any, senders: Any, receivers: Any) -> Graph:
    """One graph of NumPy arrays. Raises `ValueError` where they do not fit together."""
    nodes, edges, senders, receivers = (np.asarray(a) for a in (nodes, edges, senders, receivers))
    # an empty list has no integers in it that could say so
    senders, receivers = (a.astype(np.int32) if a.size == 0 else a for a in (senders, receivers))
    graph = Graph(nodes, edges, senders, receivers, np.array([len(nodes)]), np.array([len(edges)]))  # pyright: ignore[reportArgumentType]
    return as_graph(graph)


def as_graph(graph: Any) -> Graph:
    """Whatever has the six fields of a `Graph`, such as the `GraphsTuple` of jraph, as a `Graph`.

    Within `jax.jit` and `jax.vmap` values that are wrong make the features NaN.

    Raises
    ------
    TypeError
        Where a field is missing, or indices are not integers.
    ValueError
        For shapes or sums of sizes that do not fit, and for indices out of range.
    """
    missing = [name for name in Graph._fields if getattr(graph, name, None) is None]
    if missing:
        raise TypeError(f"graph must have the fields {', '.join(Graph._fields)}: {', '.join(missing)} is missing.")
    found = Graph(*(getattr(graph, name) for name in Graph._fields))
    shapes = {name: np.shape(value) for name, value in found._asdict().items()}
    for name in ("nodes", "edges"):
        if len(shapes[name]) != 2:
            raise ValueError(f"graph.{name} must have a row for each and a column for each feature: {shapes[name]}.")
    for name in ("senders", "receivers"):
        if shapes[name] != shapes["edges"][:1]:
            raise ValueError(f"graph.{name} must have an index for each of {shapes['edges'][0]} edges: {shapes[name]}.")
        if not np.issubdtype(np.dtype(getattr(found, name).dtype), np.integer):
            raise TypeError(f"graph.{name} must be integers: given {getattr(found, name).dtype}.")
    if len(shapes["n_node"]) != 1 or shapes["n_node"] != shapes["n_edge"]:
        raise ValueError(
            f"graph.n_node and graph.n_edge must have a number for each graph: {shapes['n_node']}, {shapes['n_edge']}."
        )
    if any(isinstance(leaf, jax.core.Tracer) for leaf in found):
        _mark_values(found)
    else:
        _check_values(found)
    return found


def _mark_values(graph: Graph) -> None:
    """Of values that are traced, a wrong one makes the features NaN."""
    real, used = jnp.sum(graph.n_node), jnp.sum(graph.n_edge)
    live = jnp.arange(len(graph.edges)) < used
    inside = lambda index: jnp.all(~live | ((index >= 0) & (index < real)))
    fits = lambda counts, rows: (jnp.min(counts, initial=0) >= 0) & (jnp.sum(counts) <= rows)
    gather(
        fits(graph.n_node, graph.size),
        fits(graph.n_edge, len(graph.edges)),
        inside(graph.senders),
        inside(graph.receivers),
    )


def _check_values(graph: Graph) -> None:
    n = graph.size
    for name, rows, counts in (("n_node", n, graph.n_node), ("n_edge", len(graph.edges), graph.n_edge)):
        if np.min(counts, initial=0) < 0 or np.sum(counts) > rows:
            raise ValueError(f"graph.{name} must be numbers whose sum is at most {rows}: given {np.asarray(counts)}.")
    used, real = int(np.sum(graph.n_edge)), int(np.sum(graph.n_node))
    for name, index in (("senders", graph.senders), ("receivers", graph.receivers)):
        index = np.asarray(index)
        if used and (index[:used].min() < 0 or index[:used].max() >= real):
            raise ValueError(
                f"graph.{name} must be from 0 to {real - 1} (there are {real} nodes): given "
                f"{index[:used].min()} to {index[:used].max()}."
            )
        if np.any(index[used:] != n):
            raise ValueError(f"graph.{name} must be {n}, the number of rows, at edges of the padding.")


def join(graphs: Sequence[Graph]) -> Graph:
    """Several graphs without padding side by side, as one graph that falls apart."""
    if not graphs:
        raise ValueError("join needs at least one graph.")
    offsets = np.cumsum([0, *(graph.size for graph in graphs)])[:-1]
    for graph in graphs:
        if int(np.sum(graph.n_node)) != graph.size or int(np.sum(graph.n_edge)) != len(graph.edges):
            raise ValueError("join needs graphs without padding.")
    fields = {
        name: np.concatenate([np.asarray(getattr(graph, name)) for graph in graphs])
        for name in ("nodes", "edges", "n_node", "n_edge")
    }
    for name in ("senders", "receivers"):
        moved = [np.asarray(getattr(graph, name)) + offset for graph, offset in zip(graphs, offsets, strict=True)]
        fields[name] = np.concatenate(moved)
    return Graph(**fields)


def pad(graph: Graph, nodes: int, edges: int) -> Graph:
    """The graph with rows of zeros behind its nodes and edges, up to so many. Raises `ValueError` if it has more."""
    if int(np.sum(graph.n_node)) != graph.size or int(np.sum(graph.n_edge)) != len(graph.edges):
        raise ValueError("pad needs a graph without padding.")
    if graph.size > nodes or len(graph.edges) > edges:
        raise ValueError(
            f"pad needs room for {graph.size} nodes and {len(graph.edges)} edges: given {nodes} and {edges}."
        )
    more, free = nodes - graph.size, edges - len(graph.edges)
    return graph._replace(
        nodes=np.pad(graph.nodes, ((0, more), (0, 0))),
        edges=np.pad(graph.edges, ((0, free), (0, 0))),
        senders=np.pad(graph.senders, (0, free), constant_values=nodes),
        receivers=np.pad(graph.receivers, (0, free), constant_values=nodes),
    )


def stack(graphs: Sequence[Graph], nodes: int | None = None, edges: int | None = None) -> Graph:
    """Graphs padded to one size, with a leading axis for `jax.vmap`; by default the size of the largest."""
    if not graphs:
        raise ValueError("stack needs at least one graph.")
    nodes = max(graph.size for graph in graphs) if nodes is None else nodes
    edges = max(len(graph.edges) for graph in graphs) if edges is None else edges
    padded = [pad(graph, nodes, edges) for graph in graphs]
    return Graph(*(np.stack(leaves) for leaves in zip(*padded, strict=True)))  # pyright: ignore[reportArgumentType]
