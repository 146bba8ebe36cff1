r"""The encoder: attention message passing, which writes the maps of a graph.

A layer turns features :math:`h` of nodes and :math:`f` of edges into new ones,

.. math::
    f'_e = \mathrm{MLP}([f_e, h_{s_e}, h_{d_e}]), \qquad
    \alpha_e = \operatorname{softmax}_{e : d_e = i} \mathrm{MLP}([f_e, h_{s_e}, h_{d_e}]), \qquad
    h'_i = \mathrm{MLP}([\textstyle\sum_{e : d_e = i} \alpha_e f'_e, h_i]) ,

with a mean or a maximum in place of the sum if wanted. In the last layer the nodes have `M` features, :math:`b`, and
the edges `M` logits. References: as in `dini_zoo.implicit.convergent_graphs.fixed_point`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .graphs import Graph
from .operator import added, segment_softmax, taken

Activation = Callable[[Any], Any]
Aggregate = Literal["sum", "mean", "max"]

leaky_relu = partial(jax.nn.leaky_relu, negative_slope=0.01)


class Linear(eqx.Module):
    """The map from `x` to `weight @ x + bias`."""

    weight: Float[Array, "o i"]
    bias: Float[Array, " o"]

    def __call__(self, x: Float[Array, "k i"]) -> Float[Array, "k o"]:
        """Apply it to each row."""
        return x @ self.weight.T + self.bias[None, :]


class MLP(eqx.Module):
    r"""Linear maps with activations between them, and one behind the last if `final` is given.

    Before training, weights and biases are uniform within :math:`\pm 1 / \sqrt{\text{inputs}}`, as in the official
    code. With a `gain`, weights are uniform with the deviation :math:`\text{gain} / \sqrt{\text{inputs}}`, and biases
    are zero. A dozen maps of the first kind lose a signal on its way; a gain of :math:`\sqrt 2` keeps it.
    """

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)
    final: Activation | None = eqx.field(static=True)

    def __init__(
        self,
        key: Any,
        widths: Sequence[int],
        activation: Activation,
        final: Activation | None = None,
        gain: float | None = None,
    ):
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"MLP's widths must be two positive numbers at least: given {tuple(widths)}.")
        # all numbers are drawn at once: each draw takes time to compile
        sizes = [(i + 1) * o for i, o in pairwise(widths)]
        drawn = jnp.split(jax.random.uniform(key, sum(sizes), minval=-1, maxval=1), np.cumsum(sizes)[:-1])
        layers = []
        for (i, o), numbers in zip(pairwise(widths), drawn, strict=True):
            weight, bias = jnp.reshape(numbers[o:], (o, i)) / math.sqrt(i), numbers[:o] / math.sqrt(i)
            # a uniform number has the deviation one over the root of three
            layers.append(Linear(weight, bias) if gain is None else Linear(math.sqrt(3) * gain * weight, 0 * bias))
        self.layers, self.activation, self.final = tuple(layers), activation, final

    def __call__(self, x: Float[Array, "k i"]) -> Float[Array, "k o"]:
        """Apply it to each row."""
        return self.after_first(self.layers[0](x))

    def after_first(self, x: Float[Array, "k h"]) -> Float[Array, "k o"]:
        """Apply what comes after the first linear map."""
        for layer in self.layers[1:]:
            x = layer(self.activation(x))
        return x if self.final is None else self.final(x)


class AttentionLayer(eqx.Module):
    """One layer of attention message passing."""

    edge: MLP
    attention: MLP
    node: MLP
    aggregate: Aggregate = eqx.field(static=True)

    def __init__(
        self,
        key: Any,
        nodes: tuple[int, int],
        edges: tuple[int, int],
        hidden: int,
        activation: Activation,
        aggregate: Aggregate = "sum",
        finals: tuple[Activation | None, Activation | None] | None = None,
        gain: float | None = None,
    ):
        """Widths of nodes and edges are pairs: before and after. `finals` are those of the node's and edge's MLP."""
        if aggregate not in get_args(Aggregate):
            raise ValueError(f"aggregate must be one of {', '.join(get_args(Aggregate))}: given {aggregate!r}.")
        keys = jax.random.split(key, 3)
        on_nodes, on_edges = (activation, activation) if finals is None else finals
        width = edges[0] + 2 * nodes[0]
        self.edge = MLP(keys[0], (width, hidden, edges[1]), activation, on_edges, gain)
        self.attention = MLP(keys[1], (width, hidden, 1), activation, activation, gain)
        self.node = MLP(keys[2], (edges[1] + nodes[0], hidden, nodes[1]), activation, on_nodes, gain)
        self.aggregate = aggregate

    def __call__(
        self, nodes: Float[Array, "n F"], edges: Float[Array, "E G"], senders: Int[Array, " E"], receivers: Any
    ) -> tuple[Float[Array, "n F2"], Float[Array, "E G2"]]:
        """New features of nodes and edges."""
        n, G, F = nodes.shape[0], edges.shape[1], nodes.shape[1]
        # The first maps of both MLPs, of [f, h_s, h_d]: their part on the nodes is computed once a node.
        first = [mlp.layers[0] for mlp in (self.edge, self.attention)]
        weight = jnp.concatenate([layer.weight for layer in first])
        bias = jnp.concatenate([layer.bias for layer in first])
        on_edges, from_sender, from_receiver = (part.T for part in jnp.split(weight, (G, G + F), axis=1))
        inner = edges @ on_edges + taken(nodes @ from_sender, senders) + taken(nodes @ from_receiver, receivers)
        own, others = jnp.split(inner + bias[None, :], 2, axis=1)
        new = self.edge.after_first(own)
        messages = segment_softmax(self.attention.after_first(others), receivers, n) * new
        degree = added(jnp.ones((len(edges), 1), new.dtype), receivers, n)
        if self.aggregate == "max":
            top = jnp.full((n, new.shape[1]), -jnp.inf, new.dtype).at[receivers].max(messages, mode="drop")
            # nothing reaches a node without edges; what is not finite elsewhere stays visible
            met = jnp.where(degree > 0, top, 0)
        else:
            met = added(messages, receivers, n)
        if self.aggregate == "mean":
            met = met / jnp.maximum(degree, 1)
        return self.node(jnp.concatenate([met, nodes], axis=1)), new


class Encoded(NamedTuple):
    """What an encoder writes for a graph."""

    b: Float[Array, "n M"]
    logits: Float[Array, "E M"]


class Encoder(eqx.Module):
    """Layers of attention message passing, from a graph's features to its maps.

    Parameters
    ----------
    key
        A random key.
    nodes, edges
        Numbers of features.
    heads
        `M`.
    layers
        At least one.
    width
        Of the features between the layers.
    hidden
        Of the MLPs.
    activation
        In the MLPs, and behind each of them. The official code has leaky ReLU there (slope 0.01) or SiLU.
    aggregate
        `"sum"`, `"mean"` or `"max"`.
    b_activation
        Behind the last node MLP: `"official"` is `activation`, which presses negative entries of `b` together; `None`
        leaves `b` as it is.
    edge_bias
        Added to the first bias of the logits. Clipped logits have no gradient outside of the unit interval; with 0.5
        they start in the middle of it.
    gain
        Of the weights before training, as for `MLP`.

    Raises
    ------
    ValueError
        For sizes that are not positive, and an unknown name.
    """

    layers: tuple[AttentionLayer, ...]

    def __init__(
        self,
        key: Any,
        nodes: int,
        edges: int,
        heads: int,
        *,
        layers: int = 1,
        width: int = 32,
        hidden: int = 64,
        activation: Activation = leaky_relu,
        aggregate: Aggregate = "sum",
        b_activation: Activation | Literal["official"] | None = "official",
        edge_bias: float = 0.5,
        gain: float | None = None,
    ):
        for name, value in {"heads": heads, "layers": layers, "width": width, "hidden": hidden}.items():
            if value < 1:
                raise ValueError(f"Encoder's {name} must be at least 1: given {value}.")
        made = []
        for i, own in enumerate(jax.random.split(key, layers)):
            last = i == layers - 1
            before = (nodes, edges) if i == 0 else (width, width)
            after = (heads, heads) if last else (width, width)
            on_b: Any = activation if b_activation == "official" or not last else b_activation
            made.append(
                AttentionLayer(
                    own,
                    (before[0], after[0]),
                    (before[1], after[1]),
                    hidden,
                    activation,
                    aggregate,
                    (on_b, activation),
                    gain,
                )
            )
        bias: Any = lambda layer: layer.edge.layers[-1].bias
        made[-1] = eqx.tree_at(bias, made[-1], bias(made[-1]) + edge_bias)
        self.layers = tuple(made)

    def __call__(self, graph: Graph) -> Encoded:
        """The maps of a graph, or of several side by side."""
        nodes, edges = graph.nodes, graph.edges
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, graph.senders, graph.receivers)
        return Encoded(nodes, edges)
