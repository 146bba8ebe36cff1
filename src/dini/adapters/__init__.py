"""Other people's solvers as solvers of dini's problems, each imported when it is used."""

from ..solvers import OptaxSolver
from ._mpax import MPAX
from ._nlopt import NLopt
from ._optimistix import Optimistix
from ._pounce import Pounce
from ._qpsolvers import QPSolvers
from ._scipy import SciPy

__all__ = ["MPAX", "NLopt", "OptaxSolver", "Optimistix", "Pounce", "QPSolvers", "SciPy"]
