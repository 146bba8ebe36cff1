"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

from . import base
from ._base import OptStep
from ._block_coordinate_descent import BlockCoordinateDescent
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient
from ._mirror_descent import MirrorDescent
from ._quasi_newton import BFGS, LBFGS, LBFGSB, NonlinearCG

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "BlockCoordinateDescent",
    "GradientDescent",
    "MirrorDescent",
    "NonlinearCG",
    "OptStep",
    "ProjectedGradient",
    "ProximalGradient",
    "base",
]
