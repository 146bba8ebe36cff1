"""A convergent graph solver: encoder, fixed points, decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .encoder import Encoded
from .fixed_point import ContractiveFixedPoint
from .graphs import Graph, as_graph
from .operator import ContractiveOperator, Normalization, Squash, contractive_operator

Readout = Literal["sum", "mean", "max"]


class ConvergentGraphSolver(eqx.Module):
    """Predicts a property of each node, or of each graph, from the fixed points of maps that the encoder writes.

    With `gamma` zero it is the encoder and the decoder alone, an ordinary graph neural network.

    Parameters
    ----------
    encoder
        A function of a `Graph` that returns `Encoded`: `b` for each node and head, logits for each edge and head.
    decoder
        A function of the fixed points, an array with a row for each node (or each graph) and a column for each head.
    fixed_point
        How the fixed points are solved for, or `gamma`.
    readout
        `None` for a property of each node; `"sum"`, `"mean"` or `"max"` over a graph's nodes for one of each graph.
    normalization, squash
        Those of `contractive_operator`.

    References
    ----------
    Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022 (arXiv 2106.01680).
    """

    encoder: Callable[[Graph], Encoded]
    decoder: Callable[[Any], Any]
    fixed_point: ContractiveFixedPoint
    readout: Readout | None = eqx.field(static=True)
    normalization: Normalization = eqx.field(static=True)
    squash: Squash = eqx.field(static=True)

    def __init__(
        self,
        encoder: Callable[[Graph], Encoded],
        decoder: Callable[[Any], Any],
        fixed_point: ContractiveFixedPoint | float = 0.5,
        readout: Readout | None = None,
        normalization: Normalization = "row",
        squash: Squash = "clip",
    ):
        if readout is not None and readout not in get_args(Readout):
            raise ValueError(f"readout must be None or one of {', '.join(get_args(Readout))}: given {readout!r}.")
        self.encoder, self.decoder = encoder, decoder
        given = isinstance(fixed_point, ContractiveFixedPoint)
        self.fixed_point = fixed_point if given else ContractiveFixedPoint(fixed_point)
        self.readout, self.normalization, self.squash = readout, normalization, squash

    def maps(self, graph: Graph) -> tuple[ContractiveOperator, Float[Array, "n M"]]:
        """The maps that the encoder writes; nodes of the padding have `b` zero."""
        b, logits = self.encoder(graph)
        A = contractive_operator(logits, graph.senders, graph.receivers, graph.size, self.normalization, self.squash)
        return A, jnp.where(graph.node_mask[:, None], b, 0)

    def fixed_points(self, graph: Any) -> Float[Array, "n M"]:
        """The fixed point of each head."""
        A, b = self.maps(as_graph(graph))
        phi = self.fixed_point.activation
        if self.fixed_point.gamma == 0:
            return b if phi is None else phi(b)
        return self.fixed_point(A, b)

    def __call__(self, graph: Any) -> Float[Array, "k out"]:
        """The prediction for each node (zero for the padding), or for each graph.

        `graph` is a `Graph` or has its fields. For a stack of padded graphs, use `jax.vmap`: each graph's solver then
        stops by itself.
        """
        graph = as_graph(graph)
        x = self.fixed_points(graph)
        if self.readout is None:
            y = self.decoder(x)
            return jnp.where(graph.node_mask[:, None], y, 0)
        return self.decoder(_pooled(x, graph, self.readout))


def _pooled(x: Float[Array, "n M"], graph: Graph, readout: Readout) -> Float[Array, "k M"]:
    """The sum, mean or maximum over the nodes of each graph."""
    count, index = graph.n_node.shape[0], graph.node_graph
    if readout == "max":
        top = jnp.full((count, x.shape[1]), -jnp.inf, x.dtype).at[index].max(x, mode="drop")
        # a graph without nodes has no maximum; a solution that was not found stays visible
        return jnp.where(graph.n_node[:, None] > 0, top, 0)
    total = jnp.zeros((count, x.shape[1]), x.dtype).at[index].add(x, mode="drop")
    return total / jnp.maximum(graph.n_node, 1)[:, None] if readout == "mean" else total
