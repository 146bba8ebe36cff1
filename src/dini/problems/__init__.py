"""What is solved: problems that state their own optimality condition."""

from ._base import Problem, check_unknown
from ._composite import Composite, PrimalDual
from ._fixed_point import FixedPoint
from ._least_squares import LeastSquares
from ._linear_composite import LinearComposite
from ._minimize import Minimize
from ._quadratic import Quadratic
from ._quadratic_program import Multipliers, QuadraticProgram
from ._root import Root

__all__ = [
    "Composite",
    "FixedPoint",
    "LeastSquares",
    "LinearComposite",
    "Minimize",
    "Multipliers",
    "PrimalDual",
    "Problem",
    "Quadratic",
    "QuadraticProgram",
    "Root",
    "check_unknown",
]
