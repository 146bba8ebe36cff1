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
from ._equations import AndersonAcceleration, Broyden, FixedPointIteration, GaussNewton, LevenbergMarquardt
from ._line_searches import BacktrackingLineSearch, HagerZhangLineSearch, ZoomLineSearch
from ._programs import OSQP, BoxOSQP, CvxpyQP, EqualityConstrainedQP
from ._refinement import IterativeRefinement
from ._scipy import (
    ScipyBoundedLeastSquares,
    ScipyBoundedMinimize,
    ScipyLeastSquares,
    ScipyMinimize,
    ScipyRootFinding,
)
from ._solvers import BFGS, LBFGS, LBFGSB, GradientDescent, NonlinearCG, ProjectedGradient, ProximalGradient
from ._special import (
    AndersonWrapper,
    Bisection,
    BlockCoordinateDescent,
    BoxCDQP,
    MirrorDescent,
)
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
