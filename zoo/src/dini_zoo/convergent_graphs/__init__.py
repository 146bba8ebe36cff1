"""Convergent graph solvers."""

from .data import Labeled, action_values, best_values, decision_graph, decision_processes, stack_labeled, walk
from .encoder import MLP, AttentionLayer, Encoded, Encoder, leaky_relu
from .fixed_point import ContractiveFixedPoint, product
from .graphs import Graph, as_graph, join, make_graph, pad, stack
from .model import ConvergentGraphSolver
from .operator import ContractiveOperator, contractive_operator
