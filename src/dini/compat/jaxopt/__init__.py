"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

from . import base
from ._base import OptStep
from ._block_coordinate_descent import BlockCoordinateDescent
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient
from ._fixed_points import AndersonAcceleration, AndersonWrapper, FixedPointIteration
from ._least_squares import GaussNewton, LevenbergMarquardt
from ._mirror_descent import MirrorDescent
from ._quasi_newton import BFGS, LBFGS, LBFGSB, NonlinearCG
from ._roots import Bisection, Broyden

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "AndersonAcceleration",
    "AndersonWrapper",
    "Bisection",
    "BlockCoordinateDescent",
    "Broyden",
    "FixedPointIteration",
    "GaussNewton",
    "GradientDescent",
    "LevenbergMarquardt",
    "MirrorDescent",
    "NonlinearCG",
    "OptStep",
    "ProjectedGradient",
    "ProximalGradient",
    "base",
]
