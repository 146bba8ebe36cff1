"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

from . import base, implicit_diff
from ._base import OptStep
from ._block_coordinate_descent import BlockCoordinateDescent
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient
from ._fixed_points import AndersonAcceleration, AndersonWrapper, FixedPointIteration
from ._least_squares import GaussNewton, LevenbergMarquardt
from ._line_search_objects import BacktrackingLineSearch, HagerZhangLineSearch, ZoomLineSearch
from ._mirror_descent import MirrorDescent
from ._quasi_newton import BFGS, LBFGS, LBFGSB, NonlinearCG
from ._roots import Bisection, Broyden
from ._scipy import (
    ScipyBoundedLeastSquares,
    ScipyBoundedMinimize,
    ScipyLeastSquares,
    ScipyMinimize,
    ScipyRootFinding,
)
from ._stochastic import ArmijoSGD, OptaxSolver, PolyakSGD

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "AndersonAcceleration",
    "AndersonWrapper",
    "ArmijoSGD",
    "BacktrackingLineSearch",
    "Bisection",
    "BlockCoordinateDescent",
    "Broyden",
    "FixedPointIteration",
    "GaussNewton",
    "GradientDescent",
    "HagerZhangLineSearch",
    "LevenbergMarquardt",
    "MirrorDescent",
    "NonlinearCG",
    "OptStep",
    "OptaxSolver",
    "PolyakSGD",
    "ProjectedGradient",
    "ProximalGradient",
    "ScipyBoundedLeastSquares",
    "ScipyBoundedMinimize",
    "ScipyLeastSquares",
    "ScipyMinimize",
    "ScipyRootFinding",
    "ZoomLineSearch",
    "base",
    "implicit_diff",
]
