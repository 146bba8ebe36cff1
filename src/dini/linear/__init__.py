"""Linear systems of derivatives: which solver, and whether to believe its answer.

Krylov methods are Lineax's; what stands here is the choice by size and structure, the dense path, the scaling of the
right-hand side and the true residual of every solve.
"""

from ._dense import Dense
from ._krylov import CG, GMRES, BiCGStab, Lineax
from ._pattern import Pattern
from ._protocol import LinearSolver, Structure
from ._solve import solve
from ._sparsity import Linearized, NotSparse, sparsity
from ._system import DENSE_LIMIT, Auto, Reduction, System

__all__ = [
    "CG",
    "DENSE_LIMIT",
    "GMRES",
    "Auto",
    "BiCGStab",
    "Dense",
    "LinearSolver",
    "Linearized",
    "Lineax",
    "NotSparse",
    "Pattern",
    "Reduction",
    "Structure",
    "System",
    "solve",
    "sparsity",
]
