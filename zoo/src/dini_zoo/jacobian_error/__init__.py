"""The error of a Jacobian beside the error of the solution at which it was taken.

The parts: the bound of the paper's theorem (`Constants`), ridge regression with a strength a feature (`ridge`) and its
closed form (`Exact`), and the Jacobians along a solver's path, implicit and unrolled (`follow`). The experiment is in
`dini_zoo.jacobian_error.experiment`.
"""

from .path import Path, follow, iterates
from .ridge import Data, Exact, diabetes, ridge
from .theorem import Constants

__all__ = ["Constants", "Data", "Exact", "Path", "diabetes", "follow", "iterates", "ridge"]
