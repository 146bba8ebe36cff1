"""Hyperparameters tuned during one training, by layers whose weights are a function of the hyperparameters.

The parts: structured best-response layers (`HyperLinear`, `HyperConv`, `HyperEmbedding`), `hyperize`, which puts them
into a model, and `settle`, which takes them out; hyperparameters with their bounds and a distribution over them
(`Hyper`, `HyperSpace`); and the two alternating steps (`STN`). The experiment is in `study`, what it prints and draws
in `report`.
"""

from .layers import HyperConv, HyperEmbedding, HyperLinear, hyperize, settle
from .method import STN, STNState, best_response_hypergradient
from .space import Hyper, HyperSpace, HyperState, perturbation_entropy

__all__ = [
    "STN",
    "Hyper",
    "HyperConv",
    "HyperEmbedding",
    "HyperLinear",
    "HyperSpace",
    "HyperState",
    "STNState",
    "best_response_hypergradient",
    "hyperize",
    "perturbation_entropy",
    "settle",
]
