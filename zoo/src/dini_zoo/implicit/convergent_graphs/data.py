"""Graphs with properties to predict, by NumPy: rewards on a path, and decision processes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dini_zoo.kit.checking import at_least, of_length, positive

from .graphs import Graph, join, make_graph, stack


class Labeled(NamedTuple):
    """A graph and the true value of each node; or a stack of them, where the values of the padding are zero."""

    graph: Graph
    target: Float[np.ndarray, n]


def below_one(name: str, value: float) -> None:
    """Raise `ValueError` unless a discount is from 0 on and below 1: sums over all time have no end otherwise."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1: given {value}.")


def stack_labeled(examples: list[Labeled], nodes: int, edges: int) -> Labeled:
    """Examples padded to one size, with a leading axis, in single precision."""
    graph = stack([example.graph for example in examples], nodes, edges)
    target = np.zeros((len(examples), nodes), np.float32)
    for row, example in zip(target, examples, strict=True):
        row[: len(example.target)] = example.target
    single = graph._replace(nodes=np.float32(graph.nodes), edges=np.float32(graph.edges))
    return Labeled(single, target)


def walk(n: int, random: np.random.Generator, discount: float = 0.9) -> Labeled:
    r"""A path of `n` nodes, two of which carry a reward: what a walker collects.

    The walker goes to a neighbor at random, both alike. With its matrix :math:`P` the values are those of :math:`v = r
    + \mathrm{discount}\, P v`, so every reward is felt all along the path. The feature of a node is its reward; edges
    have none.
    """
    at_least("n", n, 2)
    below_one("discount", discount)
    reward = np.zeros(n)
    reward[random.choice(n, 2, replace=False)] = random.uniform(-1, 1, 2)
    left = np.arange(n - 1)
    senders, receivers = np.concatenate([left, left + 1]), np.concatenate([left + 1, left])
    graph = make_graph(reward[:, None], np.zeros((len(senders), 0)), senders, receivers)
    P = np.zeros((n, n))
    P[receivers, senders] = 1
    P /= P.sum(axis=1, keepdims=True)
    return Labeled(graph, np.linalg.solve(np.eye(n) - discount * P, reward))


def walks(count: int, sizes: tuple[int, int], random: np.random.Generator) -> list[Labeled]:
    """Paths with sizes drawn from a range, both ends included."""
    return [walk(int(random.integers(sizes[0], sizes[1] + 1)), random) for _ in range(count)]


def decision_graph(states: int, actions: int, random: np.random.Generator) -> Graph:
    """A decision process: to each state lead `actions` edges from random others, each with a reward in (-1, 1)."""
    at_least("states", states, 2)
    at_least("actions", actions, 1)
    receivers = np.repeat(np.arange(states), actions)
    # a random one of the others
    senders = (receivers + random.integers(1, states, receivers.size)) % states
    return make_graph(np.ones((states, 1)), random.uniform(-1, 1, (receivers.size, 1)), senders, receivers)


def action_values(graph: Graph, values: Float[np.ndarray, n], discount: float = 0.9) -> Float[np.ndarray, E]:
    """The reward of each edge and the discounted value of where it comes from."""
    below_one("discount", discount)
    of_length("values", values, "the graph's nodes", graph.size)
    return np.asarray(graph.edges)[:, 0] + discount * values[np.asarray(graph.senders)]


def best_values(graph: Graph, tol: float = 1e-6, discount: float = 0.9) -> Float[np.ndarray, n]:
    r"""Value iteration to an error of at most `tol`.

    .. math:: V_i = \max_{e : d_e = i} (r_e + \mathrm{discount}\, V_{s_e})

    A node without edges has the value zero.
    """
    positive("tol", tol)
    below_one("discount", discount)
    receivers = np.asarray(graph.receivers)
    order = np.argsort(receivers, kind="stable")
    ends, starts = np.unique(receivers[order], return_index=True)
    values = np.zeros(graph.size)
    while True:
        new = np.zeros(graph.size)
        new[ends] = np.maximum.reduceat(action_values(graph, values, discount)[order], starts)
        step = np.max(np.abs(new - values), initial=0)
        values = new
        if discount * step <= tol * (1 - discount):
            return values


def decision_processes(
    count: int, states: tuple[int, int], actions: tuple[int, int], random: np.random.Generator
) -> list[Labeled]:
    """Decision processes with sizes drawn from ranges (both ends included), and their values."""
    n, k = (random.integers(low, high + 1, count) for low, high in (states, actions))
    drawn = [decision_graph(int(n[i]), int(k[i]), random) for i in range(count)]
    values = best_values(join(drawn))
    cuts = np.cumsum([graph.size for graph in drawn])[:-1]
    return [Labeled(graph, own) for graph, own in zip(drawn, np.split(values, cuts), strict=True)]
