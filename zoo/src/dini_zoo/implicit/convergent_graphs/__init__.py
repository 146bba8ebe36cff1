"""Convergent graph solvers: a network writes linear contractions on a graph, and predicts from their fixed points.

The parts: graphs as arrays (`Graph` and what makes, joins, pads and stacks them), maps that cannot expand
(`contractive_operator`), their fixed points with implicit derivatives (`ContractiveFixedPoint`), the network
(`Encoder`, `MLP`, `ConvergentGraphSolver`), training (`trainer`, `train`), graphs with properties to predict (`walk`,
`decision_processes`, `pore_network`), and the truth by dense algebra (`dense_solution`). The experiment is in
`study`, what it prints and draws in `report` and `picture`.
"""

from .data import (
    Labeled,
    action_values,
    best_values,
    decision_graph,
    decision_processes,
    stack_labeled,
    walk,
    walks,
)
from .encoder import MLP, AttentionLayer, Encoded, Encoder, leaky_relu
from .fixed_point import ContractiveFixedPoint
from .graphs import Graph, as_graph, join, make_graph, pad, stack
from .model import ConvergentGraphSolver
from .operator import ContractiveOperator, contractive_operator
from .pores import pore_network, pressures
from .reference import dense_solution, policy_accuracy
from .training import batches, predict, relative_error, root_mean_square, squared_loss, train, trainer

__all__ = [
    "MLP",
    "AttentionLayer",
    "ContractiveFixedPoint",
    "ContractiveOperator",
    "ConvergentGraphSolver",
    "Encoded",
    "Encoder",
    "Graph",
    "Labeled",
    "action_values",
    "as_graph",
    "batches",
    "best_values",
    "contractive_operator",
    "decision_graph",
    "decision_processes",
    "dense_solution",
    "join",
    "leaky_relu",
    "make_graph",
    "pad",
    "policy_accuracy",
    "pore_network",
    "predict",
    "pressures",
    "relative_error",
    "root_mean_square",
    "squared_loss",
    "stack",
    "stack_labeled",
    "train",
    "trainer",
    "walk",
    "walks",
]
