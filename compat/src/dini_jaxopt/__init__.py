"""JAXopt's public names, thin over dini: ``import dini_jaxopt as jaxopt``."""

from . import (
    base,
    cond,
    implicit_diff,
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
from ._block_coordinate_descent import BlockCoordinateDescent
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient
from ._fixed_points import AndersonAcceleration, AndersonWrapper, FixedPointIteration
from ._iterative_refinement import IterativeRefinement
from ._least_squares import GaussNewton, LevenbergMarquardt
from ._line_search_objects import BacktrackingLineSearch, HagerZhangLineSearch, ZoomLineSearch
from ._mirror_descent import MirrorDescent
from ._osqp import OSQP, BoxOSQP
from ._quasi_newton import BFGS, LBFGS, LBFGSB, NonlinearCG
from ._roots import Bisection, Broyden
from ._scipy import (
    ScipyBoundedLeastSquares,
    ScipyBoundedMinimize,
    ScipyLeastSquares,
    ScipyMinimize,
    ScipyRootFinding,
)
from ._small_programs import BoxCDQP, CvxpyQP, EqualityConstrainedQP
from ._stochastic import ArmijoSGD, OptaxSolver, PolyakSGD

#: the modules that JAXopt has
MODULES = (
    "base",
    "cond",
    "implicit_diff",
    "isotonic",
    "linear_solve",
    "loop",
    "loss",
    "objective",
    "perturbations",
    "projection",
    "prox",
    "tree_util",
)

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "OSQP",
    "AndersonAcceleration",
    "AndersonWrapper",
    "ArmijoSGD",
    "BacktrackingLineSearch",
    "Bisection",
    "BlockCoordinateDescent",
    "BoxCDQP",
    "BoxOSQP",
    "Broyden",
    "CvxpyQP",
    "EqualityConstrainedQP",
    "FixedPointIteration",
    "GaussNewton",
    "GradientDescent",
    "HagerZhangLineSearch",
    "IterativeRefinement",
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
    "cond",
    "implicit_diff",
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
