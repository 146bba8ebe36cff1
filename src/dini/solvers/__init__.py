"""How a problem is solved: one method a file, all of one shape (``init``, ``step``, an error, a test)."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._active_set import ActiveSet
    from ._admm import ADMM
    from ._anderson import Anderson
    from ._armijo_sgd import ArmijoSGD
    from ._augmented_lagrangian import AugmentedLagrangian
    from ._base import Solver, solver
    from ._bfgs import BFGS
    from ._bisection import Bisection
    from ._block_coordinate_descent import BlockCoordinateDescent
    from ._broyden import Broyden
    from ._chandrupatla import Chandrupatla
    from ._chord import Chord
    from ._condat_vu import ChambollePock, CondatVu
    from ._conic_interior_point import ConicInteriorPoint
    from ._coordinate_descent import CoordinateDescent
    from ._dogleg import Dogleg
    from ._dogleg_least_squares import DoglegLeastSquares
    from ._douglas_rachford import DouglasRachford
    from ._extragradient import Extragradient
    from ._fixed_point_iteration import FixedPointIteration
    from ._frank_wolfe import FrankWolfe
    from ._function import Function
    from ._gauss_newton import GaussNewton
    from ._gradient_descent import GradientDescent
    from ._host_cone_solver import HostConeSolver
    from ._interior_point import InteriorPoint
    from ._lbfgs import LBFGS
    from ._lbfgsb import LBFGSB
    from ._levenberg_marquardt import LevenbergMarquardt
    from ._mirror_descent import MirrorDescent
    from ._nelder_mead import NelderMead
    from ._newton import Newton
    from ._newton_krylov import NewtonKrylov
    from ._nonlinear_cg import NonlinearCG
    from ._nonlinear_interior_point import NonlinearInteriorPoint
    from ._operator_splitting import OperatorSplitting
    from ._optax import OptaxSolver
    from ._polyak_sgd import PolyakSGD
    from ._projected_newton import ProjectedNewton
    from ._proximal_gradient import ProjectedGradient, ProximalGradient
    from ._proximal_newton import ProximalNewton
    from ._semismooth_newton import SemismoothNewton
    from ._trust_region_newton_cg import TrustRegionNewtonCG
    from ._variable_projection import VariableProjection
    from .shared._line_search import Backtracking, HagerZhang, LineSearch, StrongWolfe, WeakWolfe

__all__ = [
    "ADMM",
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "ActiveSet",
    "Anderson",
    "ArmijoSGD",
    "AugmentedLagrangian",
    "Backtracking",
    "Bisection",
    "BlockCoordinateDescent",
    "Broyden",
    "ChambollePock",
    "Chandrupatla",
    "Chord",
    "CondatVu",
    "ConicInteriorPoint",
    "CoordinateDescent",
    "Dogleg",
    "DoglegLeastSquares",
    "DouglasRachford",
    "Extragradient",
    "FixedPointIteration",
    "FrankWolfe",
    "Function",
    "GaussNewton",
    "GradientDescent",
    "HagerZhang",
    "HostConeSolver",
    "InteriorPoint",
    "LevenbergMarquardt",
    "LineSearch",
    "MirrorDescent",
    "NelderMead",
    "Newton",
    "NewtonKrylov",
    "NonlinearCG",
    "NonlinearInteriorPoint",
    "OperatorSplitting",
    "OptaxSolver",
    "PolyakSGD",
    "ProjectedGradient",
    "ProjectedNewton",
    "ProximalGradient",
    "ProximalNewton",
    "SemismoothNewton",
    "Solver",
    "StrongWolfe",
    "TrustRegionNewtonCG",
    "VariableProjection",
    "WeakWolfe",
    "solver",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._active_set": "ActiveSet",
    "._admm": "ADMM",
    "._anderson": "Anderson",
    "._armijo_sgd": "ArmijoSGD",
    "._augmented_lagrangian": "AugmentedLagrangian",
    "._base": "Solver solver",
    "._bfgs": "BFGS",
    "._bisection": "Bisection",
    "._block_coordinate_descent": "BlockCoordinateDescent",
    "._broyden": "Broyden",
    "._chandrupatla": "Chandrupatla",
    "._chord": "Chord",
    "._condat_vu": "ChambollePock CondatVu",
    "._conic_interior_point": "ConicInteriorPoint",
    "._coordinate_descent": "CoordinateDescent",
    "._dogleg": "Dogleg",
    "._dogleg_least_squares": "DoglegLeastSquares",
    "._douglas_rachford": "DouglasRachford",
    "._extragradient": "Extragradient",
    "._fixed_point_iteration": "FixedPointIteration",
    "._frank_wolfe": "FrankWolfe",
    "._function": "Function",
    "._gauss_newton": "GaussNewton",
    "._gradient_descent": "GradientDescent",
    "._host_cone_solver": "HostConeSolver",
    "._interior_point": "InteriorPoint",
    "._lbfgs": "LBFGS",
    "._lbfgsb": "LBFGSB",
    "._levenberg_marquardt": "LevenbergMarquardt",
    "._mirror_descent": "MirrorDescent",
    "._nelder_mead": "NelderMead",
    "._newton": "Newton",
    "._newton_krylov": "NewtonKrylov",
    "._nonlinear_cg": "NonlinearCG",
    "._nonlinear_interior_point": "NonlinearInteriorPoint",
    "._operator_splitting": "OperatorSplitting",
    "._optax": "OptaxSolver",
    "._polyak_sgd": "PolyakSGD",
    "._projected_newton": "ProjectedNewton",
    "._proximal_gradient": "ProjectedGradient ProximalGradient",
    "._proximal_newton": "ProximalNewton",
    "._semismooth_newton": "SemismoothNewton",
    "._trust_region_newton_cg": "TrustRegionNewtonCG",
    "._variable_projection": "VariableProjection",
    ".shared._line_search": "Backtracking HagerZhang LineSearch StrongWolfe WeakWolfe",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
