"""How a problem is solved: one method a file, all of one shape (``init``, ``step``, an error against ``tol``)."""

from ._anderson import Anderson
from ._base import Function, Solver
from ._bfgs import BFGS
from ._block_coordinate_descent import BlockCoordinateDescent
from ._fixed_point_iteration import FixedPointIteration
from ._gradient_descent import GradientDescent
from ._lbfgs import LBFGS
from ._lbfgsb import LBFGSB
from ._levenberg_marquardt import LevenbergMarquardt
from ._line_search import Backtracking, HagerZhang, LineSearch, StrongWolfe, WeakWolfe
from ._mirror_descent import MirrorDescent
from ._newton import Newton
from ._nonlinear_cg import NonlinearCG
from ._projected_newton import ProjectedNewton
from ._proximal_gradient import ProjectedGradient, ProximalGradient

__all__ = [
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "Anderson",
    "Backtracking",
    "BlockCoordinateDescent",
    "FixedPointIteration",
    "Function",
    "GradientDescent",
    "HagerZhang",
    "LevenbergMarquardt",
    "LineSearch",
    "MirrorDescent",
    "Newton",
    "NonlinearCG",
    "ProjectedGradient",
    "ProjectedNewton",
    "ProximalGradient",
    "Solver",
    "StrongWolfe",
    "WeakWolfe",
]
