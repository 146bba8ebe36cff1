"""The architecture that is read off a mixture: of each node's edges the strongest, each with its best operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dini_zoo.kit.checking import at_least

from .supernet import Edges


@dataclass(frozen=True)
class Genotype:
    """An architecture: triples `(i, j, o)` of an edge and its operation's number."""

    kept: tuple[tuple[int, int, int], ...]

    def weights(self, edges: Edges, operations: int) -> Float[np.ndarray, "e o"]:
        """One where an operation is kept, zero elsewhere."""
        found = np.zeros((len(edges), operations))
        for i, j, o in self.kept:
            found[edges.index((i, j)), o] = 1
        return found


def derive(alpha: Any, edges: Edges, *, none_index: int = 0, top_edges: int = 2) -> Genotype:
    """Keep, of the edges into each node, those whose best operation has the largest share; none is never kept.

    It takes part in the shares, which are a softmax over all operations.

    Parameters
    ----------
    alpha
        The logits, a row for each edge.
    edges
        What the rows belong to.
    none_index
        The number of the operation that is no connection.
    top_edges
        How many edges a node keeps, if it has so many.

    Raises
    ------
    ValueError
        For logits of another shape or not finite, fewer than two operations, and edges that do not go from a smaller
        number to a larger one.

    Examples
    --------
    >>> derive([[9.0, 0.0, 1.0], [0.0, 0.0, 5.0], [0.0, 3.0, 1.0]], ((0, 1), (0, 2), (1, 2)), top_edges=1).kept
    ((0, 1, 2), (0, 2, 2))
    """
    logits = np.asarray(alpha, float)
    at_least("top_edges", top_edges, 1)
    if logits.ndim != 2 or len(logits) != len(edges) or logits.shape[1] < 2:
        raise ValueError(
            f"alpha must have a row for each of {len(edges)} edges, of two operations or more: given {logits.shape}."
        )
    if not np.all(np.isfinite(logits)):
        raise ValueError("alpha must be finite: the search has diverged.")
    if any(i >= j for i, j in edges):
        raise ValueError(f"edges must go from a smaller number to a larger one: given {edges}.")
    if not 0 <= none_index < logits.shape[1]:
        raise ValueError(f"none_index must be one of {logits.shape[1]} operations: given {none_index}.")
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[:, none_index] = -1.0
    best, strength = shares.argmax(axis=1), shares.max(axis=1)
    kept: list[tuple[int, int, int]] = []
    for node in dict.fromkeys(j for _, j in edges):
        into = [e for e, (_, j) in enumerate(edges) if j == node]
        chosen = sorted(into, key=lambda e: -strength[e])[:top_edges]
        kept += [(*edges[e], int(best[e])) for e in sorted(chosen)]
    return Genotype(tuple(kept))


def random_genotype(random: np.random.Generator, edges: Edges, operations: int, *, top_edges: int = 2) -> Genotype:
    """An architecture of the same kind, drawn: what a search is compared with first."""
    noise = random.random(size=(len(edges), operations))
    return derive(noise, edges, top_edges=top_edges)
