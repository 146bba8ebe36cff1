"""How a problem is solved: one method a file, all of one shape (``init``, ``step``, an error against ``tol``)."""

from ._anderson import Anderson
from ._base import Function, Solver
from ._bfgs import BFGS
from ._block_coordinate_descent import BlockCoordinateDescent
from ._fixed_point_iteration import FixedPointIteration
from ._gradient_descent import GradientDescent
from ._lbfgs import LBFGS
from ._levenberg_marquardt import LevenbergMarquardt
from ._mirror_descent import MirrorDescent
from ._newton import Newton
from ._proximal_gradient import ProjectedGradient, ProximalGradient
from ._proximal_newton import ProximalNewton

__all__ = [
    "BFGS",
    "LBFGS",
    "Anderson",
    "BlockCoordinateDescent",
    "FixedPointIteration",
    "Function",
    "GradientDescent",
    "LevenbergMarquardt",
    "MirrorDescent",
    "Newton",
    "ProjectedGradient",
    "ProximalGradient",
    "ProximalNewton",
    "Solver",
]
