r"""A supernet: a graph whose edges mix several operations.

.. math:: h_j = \sum_{i < j} \sum_o p_o^{(i, j)} \, o(h_i), \qquad
          p^{(i, j)} = \operatorname{softmax}(\alpha^{(i, j)}) .

The mixture :math:`\alpha` is a tree of its own beside the weights, a row for each edge.

References
----------
H. Liu, K. Simonyan, Y. Yang, "DARTS: differentiable architecture search", ICLR 2019 (arXiv 1806.09055).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least

type Edges = tuple[tuple[int, int], ...]
type Make = Callable[[Array], Any]


def edges_of(n_in: int, n_nodes: int) -> Edges:
    """The pairs `(i, j)` of a cell: each node has an edge from every input and from every node before it.

    Examples
    --------
    >>> edges_of(1, 2)
    ((0, 1), (0, 2), (1, 2))
    """
    at_least("n_in", n_in, 1)
    at_least("n_nodes", n_nodes, 1)
    return tuple((i, j) for j in range(n_in, n_in + n_nodes) for i in range(j))


def standardized(x: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """Batch normalization by the batch's own statistics, without trained parameters."""
    return (x - jnp.mean(x, axis=0)) / jnp.sqrt(jnp.var(x, axis=0) + 1e-5)


class Zero(eqx.Module):
    """No connection."""

    def __call__(self, x: Array) -> Array:
        return jnp.zeros_like(x)


class Skip(eqx.Module):
    """The identity."""

    def __call__(self, x: Array) -> Array:
        return x


class Dense(eqx.Module):
    r"""An activation, then matrices, then normalization: :math:`\operatorname{bn}(\phi(x) W_1 W_2 \cdots)`."""

    matrices: tuple[Array, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(self, sizes: tuple[int, ...], activation: Callable[[Array], Array], key: Array):
        keys = jax.random.split(key, len(sizes) - 1)
        shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
        self.matrices = tuple(jnp.sqrt(2 / m) * jax.random.normal(key, (m, n)) for key, m, n in shapes)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        x = self.activation(x)
        for W in self.matrices:
            x = x @ W
        return standardized(x)


def dense_operations(
    width: int, *, rank: int = 4, rectifier: Callable[[Array], Array] = jax.nn.relu
) -> dict[str, Make]:
    """Makers of operations on vectors: none, the identity, and four with matrices.

    Parameters
    ----------
    width
        Of what goes in and comes out.
    rank
        Of the one that has two matrices.
    rectifier
        In place of ReLU, where second derivatives are compared with differences.
    """
    at_least("width", width, 1)
    at_least("rank", rank, 1)
    return {
        "none": lambda key: Zero(),
        "skip": lambda key: Skip(),
        "relu": lambda key: Dense((width, width), rectifier, key),
        "tanh": lambda key: Dense((width, width), jnp.tanh, key),
        "low rank": lambda key: Dense((width, rank, width), rectifier, key),
        "swish": lambda key: Dense((width, width), jax.nn.silu, key),
    }


class MixedOp(eqx.Module):
    """Several operations on one edge.

    Examples
    --------
    >>> mixed = MixedOp((Zero(), Skip()))
    >>> print(mixed(jnp.ones((1, 2)), jnp.array([0.25, 0.75])))
    [[0.75 0.75]]
    """

    operations: tuple[Any, ...]

    def __call__(self, x: Float[Array, "m d"], weights: Float[Array, " o"]) -> Float[Array, "m d"]:
        """Their sum with these weights."""
        if len(self.operations) != np.shape(weights)[-1]:
            raise ValueError(
                f"weights must have a number for each of {len(self.operations)} operations: given {np.shape(weights)}."
            )
        return sum(weights[o] * operation(x) for o, operation in enumerate(self.operations))


class Cell(eqx.Module):
    """The graph, with operations of its own on each edge.

    Parameters
    ----------
    n_in, n_nodes
        As those of :func:`edges_of`.
    operations
        Makers of operations, each a function of a key; the first one is no connection. They may do anything that is
        differentiable and keeps the shape.
    key
        Of the initial values.

    Raises
    ------
    ValueError
        For fewer than two operations.
    """

    mixed: MixedOp
    """With an axis for the edges in front of each array."""
    n_in: int = eqx.field(static=True)
    n_nodes: int = eqx.field(static=True)

    def __init__(self, n_in: int, n_nodes: int, operations: Sequence[Make], key: Array):
        if len(operations) < 2:
            raise ValueError(f"operations must be two or more: given {len(operations)}.")
        edges = edges_of(n_in, n_nodes)

        def made(key: Array) -> MixedOp:
            keys = jax.random.split(key, len(operations))
            return MixedOp(tuple(make(key) for make, key in zip(operations, keys, strict=True)))

        self.mixed = eqx.filter_vmap(made)(jax.random.split(key, len(edges)))
        self.n_in, self.n_nodes = n_in, n_nodes

    @property
    def edges(self) -> Edges:
        """What the rows of the weights belong to."""
        return edges_of(self.n_in, self.n_nodes)

    def __call__(self, inputs: Sequence[Float[Array, "m d"]], weights: Float[Array, "e o"]) -> Float[Array, "m d"]:
        """The nodes side by side, for the weights of each edge's operations."""
        if np.shape(weights)[0] != len(self.edges):
            raise ValueError(f"weights must have a row for each of {len(self.edges)} edges: given {np.shape(weights)}.")
        nodes = list(inputs)
        if len(nodes) != self.n_in:
            raise ValueError(f"inputs must be {self.n_in} arrays: given {len(nodes)}.")
        first = 0
        for j in range(self.n_in, self.n_in + self.n_nodes):
            rows = slice(first, first + j)
            first += j
            part = jax.tree.map(lambda leaf, rows=rows: leaf[rows] if eqx.is_array(leaf) else leaf, self.mixed)
            # the edges of a node in one product
            terms = eqx.filter_vmap(lambda mixed, x, w: mixed(x, w))(part, jnp.stack(nodes), weights[rows])
            nodes.append(jnp.sum(terms, axis=0))
        return jnp.concatenate(nodes[self.n_in :], axis=-1)


class SuperNet(eqx.Module):
    """A linear stem with normalization, a cell, and a linear head on all of its nodes.

    Parameters
    ----------
    inputs, width, classes
        The numbers of features, of units of each node, and of classes.
    n_nodes, operations, key
        As those of :class:`Cell`.

    Examples
    --------
    >>> operations = list(dense_operations(8).values())
    >>> net = SuperNet(4, 8, 3, n_nodes=2, operations=operations, key=jax.random.key(0))
    >>> net(jnp.eye(5, 4), jnp.zeros((3, 6))).shape
    (5, 3)
    """

    stem: Array
    stem_bias: Array
    cell: Cell
    head: Array
    head_bias: Array

    def __init__(self, inputs: int, width: int, classes: int, *, n_nodes: int, operations: Sequence[Make], key: Array):
        keys = jax.random.split(key, 3)
        self.stem = jnp.sqrt(2 / inputs) * jax.random.normal(keys[0], (inputs, width))
        self.stem_bias = jnp.zeros(width)
        self.cell = Cell(1, n_nodes, operations, keys[1])
        self.head = jax.random.normal(keys[2], (n_nodes * width, classes)) / jnp.sqrt(n_nodes * width)
        self.head_bias = jnp.zeros(classes)

    def __call__(self, x: Float[Array, "m p"], alpha: Float[Array, "e o"]) -> Float[Array, "m k"]:
        """The scores of a batch, for a mixture's logits."""
        return self.weighted(x, jax.nn.softmax(alpha, axis=1))

    def weighted(self, x: Float[Array, "m p"], weights: Float[Array, "e o"]) -> Float[Array, "m k"]:
        """The scores for weights of any kind: those of a single architecture are zeros and ones."""
        h = standardized(x @ self.stem + self.stem_bias)
        return self.cell((h,), weights) @ self.head + self.head_bias
