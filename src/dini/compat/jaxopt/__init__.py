"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

from . import (
    base,
    cond,
    isotonic,
    linear_solve,
    loop,
    loss,
    objective,
    perturbations,
    projection,
    prox,
    tree_util,
)
from ._base import OptStep
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient
from ._iterative_refinement import IterativeRefinement

__all__ = [
    "GradientDescent",
    "IterativeRefinement",
    "OptStep",
    "ProjectedGradient",
    "ProximalGradient",
    "base",
    "cond",
    "isotonic",
    "linear_solve",
    "loop",
    "loss",
    "objective",
    "perturbations",
    "projection",
    "prox",
    "tree_util",
]
