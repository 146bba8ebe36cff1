"""How a problem is solved: one method a file, all of one shape (``init``, ``step``, an error against ``tol``)."""

from ._admm import ADMM
from ._anderson import Anderson
from ._base import Function, Solver
from ._bfgs import BFGS
from ._block_coordinate_descent import BlockCoordinateDescent
from ._condat_vu import ChambollePock, CondatVu
from ._coordinate_descent import CoordinateDescent
from ._douglas_rachford import DouglasRachford
from ._fixed_point_iteration import FixedPointIteration
from ._frank_wolfe import FrankWolfe
from ._gradient_descent import GradientDescent
from ._lbfgs import LBFGS
from ._levenberg_marquardt import LevenbergMarquardt
from ._mirror_descent import MirrorDescent
from ._newton import Newton
from ._proximal_gradient import ProjectedGradient, ProximalGradient
from ._proximal_newton import ProximalNewton

__all__ = [
    "ADMM",
    "BFGS",
    "LBFGS",
    "Anderson",
    "BlockCoordinateDescent",
    "ChambollePock",
    "CondatVu",
    "CoordinateDescent",
    "DouglasRachford",
    "FixedPointIteration",
    "FrankWolfe",
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
