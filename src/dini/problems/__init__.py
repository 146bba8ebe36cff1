"""What is solved: problems that state their own optimality condition."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
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
    from ._variational_inequality import VariationalInequality

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
    "VariationalInequality",
    "check_unknown",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._base": "Problem check_unknown",
    "._composite": "Composite PrimalDual",
    "._cone_program": "ConeProgram",
    "._fixed_point": "FixedPoint",
    "._least_squares": "LeastSquares",
    "._linear_composite": "LinearComposite",
    "._minimize": "Minimize",
    "._multipliers": "Multipliers",
    "._nonlinear_program": "NonlinearProgram",
    "._quadratic": "Quadratic",
    "._quadratic_program": "QuadraticProgram",
    "._root": "Root",
    "._variational_inequality": "VariationalInequality",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
