"""Dense algebra in NumPy beside the fixed points and their gradients, and policies by predicted values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini_zoo.kit.checking import of_length, same_shape

from .data import Labeled, action_values
from .fixed_point import ContractiveFixedPoint, Method
from .operator import ContractiveOperator


class Agreement(NamedTuple):
    """One solver's fixed point of a trained model, beside dense algebra."""

    name: str
    gamma: float
    steps: int
    """Iterations; zero for a solver of linear systems."""
    solution: float
    """Largest distance from the dense solution."""
    gradient: float
    """Largest distance from the gradient in the biases and weights by dense algebra."""
    memory: int
    """Bytes that the gradient takes for intermediate results."""
    more: int
    """The same where many more iterations are allowed."""


def dense_solution(
    A: ContractiveOperator, b: np.ndarray, gamma: float, cotangent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""The linear fixed points, and the gradient of their product with a cotangent, in `b` and in the weights.

    With :math:`y = (I - \gamma A^\top)^{-1} g` they are :math:`y` and :math:`\gamma y_{d_e} x_{s_e}`.
    """
    same_shape("cotangent", cotangent, "b", np.shape(b))
    of_length("b", b, "the graph's nodes", A.size)
    weights, rows, columns = (np.asarray(leaf) for leaf in (A.weights, A.rows, A.columns))
    x, y, slope = np.zeros_like(b), np.zeros_like(b), np.zeros_like(weights)
    real = (rows < A.size) & (columns < A.size)
    for m in range(b.shape[1]):
        matrix = np.zeros((A.size, A.size))
        np.add.at(matrix, (rows[real], columns[real]), weights[real, m])
        x[:, m] = np.linalg.solve(np.eye(A.size) - gamma * matrix, b[:, m])
        y[:, m] = np.linalg.solve(np.eye(A.size) - gamma * matrix.T, cotangent[:, m])
        slope[real, m] = gamma * y[rows[real], m] * x[columns[real], m]
    return x, y, slope


def agreement(model: Any, examples: Labeled, compared: Sequence[tuple[float, Method]], most: int) -> list[Agreement]:
    """Each solver's fixed points on the first graph, and their gradient, for a trained model in double precision.

    The gradient's memory is measured again where `most` iterations are allowed.
    """
    graph = jax.tree.map(lambda leaf: leaf[0], examples.graph)
    doubled = jax.tree.map(lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, model)
    A, b = eqx.filter_jit(lambda model, graph: model.maps(graph))(
        doubled, graph._replace(nodes=graph.nodes.astype(float))
    )
    cotangent = np.random.default_rng(0).standard_normal(b.shape)
    found = []
    for gamma, solver in compared:
        x, y, slope = dense_solution(A, np.asarray(b), gamma, cotangent)
        point, longer = (ContractiveFixedPoint(gamma, None, solver, 1e-10, most) for most in (None, most))
        compiled = _gradient(point, A, b, cotangent)
        (on_weights, on_b), solution = compiled(A.weights, b)
        found.append(
            Agreement(
                solver,
                gamma,
                int(solution.stats.steps),
                _gap(solution.x, x),
                max(_gap(on_weights, slope), _gap(on_b, y)),
                compiled.memory_analysis().temp_size_in_bytes,
                _gradient(longer, A, b, cotangent).memory_analysis().temp_size_in_bytes,
            )
        )
    return found


def _gradient(point: ContractiveFixedPoint, A: ContractiveOperator, b: Any, cotangent: np.ndarray) -> Any:
    """The gradient in the weights and in `b`, and the solution: compiled."""

    def total(weights: Any, b: Any) -> tuple[Any, dini.Solution]:
        solution = point.solve(ContractiveOperator(weights, A.rows, A.columns, A.size), b)
        return jnp.sum(cotangent * solution.x), solution

    return jax.jit(jax.grad(total, (0, 1), has_aux=True)).lower(A.weights, b).compile()


def _gap(ours: Any, truth: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(ours) - truth)))


def policy_accuracy(examples: list[Labeled], predicted: np.ndarray, slack: float = 1e-5) -> float:
    """How often the edge that is best by predicted values leads to the true value of its state.

    True values are compared, and not edges: where several edges are best, each of them will do. `predicted` has the
    values of all graphs' nodes in a row.
    """
    of_length("predicted", predicted, "all nodes", sum(len(one.target) for one in examples))
    hits, start = [], 0
    for graph, target in examples:
        own = predicted[start : start + len(target)]
        start += len(target)
        guess, truth = action_values(graph, own), action_values(graph, target)
        receivers = np.asarray(graph.receivers)
        # in order of the guess, the last edge of a state to be written is its best
        order = np.argsort(guess, kind="stable")
        best = np.full(len(target), -1)
        best[receivers[order]] = order
        met = best >= 0
        hits.append(truth[best[met]] >= target[met] - slack)
    return float(np.mean(np.concatenate(hits)))
