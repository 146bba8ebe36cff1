"""Other people's solvers as solvers of dini's problems, each imported when it is used."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ..solvers import OptaxSolver
    from ._mpax import MPAX
    from ._nlopt import NLopt
    from ._optimistix import Optimistix
    from ._pounce import Pounce
    from ._qpsolvers import QPSolvers
    from ._scipy import SciPy

__all__ = ["MPAX", "NLopt", "OptaxSolver", "Optimistix", "Pounce", "QPSolvers", "SciPy"]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "..solvers": "OptaxSolver",
    "._mpax": "MPAX",
    "._nlopt": "NLopt",
    "._optimistix": "Optimistix",
    "._pounce": "Pounce",
    "._qpsolvers": "QPSolvers",
    "._scipy": "SciPy",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
