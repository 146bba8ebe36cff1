"""Optimistic online mirror descent: the last gradient as a guess of the next one.

The parts: the algorithm on any of dini's sets and mirror maps (`learner`), its step sizes (`steps`), mirror maps beside
dini's (`geometry`), the Newton step for exp-concave losses (`newton`), the ensemble for comparators that move
(`ensemble`), an optimizer for optax (`transformation`), and how well one has done (`regret`). The experiment is in
`study`, what it prints and draws in `report` and `picture`.
"""

from .ensemble import dynamic_ensemble, pool
from .geometry import Euclidean, QuadraticNorm, project_in_norm
from .learner import Learner, State, follow, optimistic_mirror_descent
from .newton import optimistic_online_newton
from .regret import convex_bound, path_length, regret
from .steps import StepRule, adagrad_norm, adaptive_variation, constant, decreasing, strongly_convex
from .transformation import optimistic_adaptive_gd

__all__ = [
    "Euclidean",
    "Learner",
    "QuadraticNorm",
    "State",
    "StepRule",
    "adagrad_norm",
    "adaptive_variation",
    "constant",
    "convex_bound",
    "decreasing",
    "dynamic_ensemble",
    "follow",
    "optimistic_adaptive_gd",
    "optimistic_mirror_descent",
    "optimistic_online_newton",
    "path_length",
    "pool",
    "project_in_norm",
    "regret",
    "strongly_convex",
]
