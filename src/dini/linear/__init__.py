"""Linear systems of derivatives: which solver, and whether to believe its answer.

Krylov methods are Lineax's; what stands here is the choice by size and structure, the dense path, the scaling of the
right-hand side and the true residual of every solve.
"""

from ._dense import Dense
from ._krylov import CG, GMRES, BiCGStab, Lineax
from ._pattern import Pattern
from ._solve import DENSE_LIMIT, Auto, LinearSolver, Reduction, Structure, solve
from ._sparsity import Linearized, NotSparse, sparsity

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
    "solve",
    "sparsity",
]
