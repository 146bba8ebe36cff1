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
from ._osqp import OSQP, BoxOSQP
from ._small_programs import BoxCDQP, CvxpyQP, EqualityConstrainedQP

__all__ = [
    "OSQP",
    "BoxCDQP",
    "BoxOSQP",
    "CvxpyQP",
    "EqualityConstrainedQP",
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
