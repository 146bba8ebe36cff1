"""What is solved: problems that state their own optimality condition."""

from ._base import Problem, check_unknown
from ._composite import Composite, PrimalDual
from ._cone_program import ConeProgram
from ._fixed_point import FixedPoint
from ._least_squares import LeastSquares
from ._linear_composite import LinearComposite
from ._minimize import Minimize
from ._multipliers import Multipliers
from ._nonlinear_program import NonlinearProgram
from ._quadratic import Quadratic
from ._quadratic_program import QuadraticProgram
from ._root import Root

__all__ = [
    "Composite",
    "ConeProgram",
    "FixedPoint",
    "LeastSquares",
    "LinearComposite",
    "Minimize",
    "Multipliers",
    "NonlinearProgram",
    "PrimalDual",
    "Problem",
    "Quadratic",
    "QuadraticProgram",
    "Root",
    "check_unknown",
]
