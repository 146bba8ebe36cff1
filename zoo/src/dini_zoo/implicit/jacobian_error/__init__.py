"""The error of a Jacobian beside the error of the solution at which it was taken.

The parts: the bound of the paper's theorem (`Constants`), ridge regression with a strength a feature (`ridge`) and its
closed form (`Exact`), and the Jacobians along a solver's path, implicit and unrolled (`follow`). The experiment is in
`study`, what it prints and draws in `report`.
"""

from .path import Path, follow, iterates
from .ridge import Data, Exact, ridge
from .theorem import Constants

__all__ = ["Constants", "Data", "Exact", "Path", "follow", "iterates", "ridge"]
