"""Linear systems of derivatives: which solver, and whether to believe its answer.

BiCGStab is JAX's and LSMR Lineax's; what stands here is the choice by size and structure, the dense path, the other
Krylov methods, the scaling of the right-hand side and the true residual of every solve, and sparse systems.
"""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._cg import CG
    from ._condition import condition_estimate, ritz_values
    from ._dense import Dense
    from ._gmres import GMRES
    from ._krylov import LSMR, BiCGStab, Lineax
    from ._minres import MINRES
    from ._nystrom import Nystrom
    from ._pattern import Pattern
    from ._preconditioner import Preconditioner
    from ._protocol import LinearSolver, Structure
    from ._series import Series, SeriesFirst
    from ._solve import solve
    from ._sparse import Banded, Diagonal, Sparse, SparseDirect
    from ._sparsity import Linearized, sparsity
    from ._sparsity_rules import NotSparse
    from ._system import DENSE_LIMIT, Auto, Reduction, Solved, System
    from ._wrappers import MinimumNorm, Refined, Ridge

__all__ = [
    "CG",
    "DENSE_LIMIT",
    "GMRES",
    "LSMR",
    "MINRES",
    "Auto",
    "Banded",
    "BiCGStab",
    "Dense",
    "Diagonal",
    "LinearSolver",
    "Linearized",
    "Lineax",
    "MinimumNorm",
    "NotSparse",
    "Nystrom",
    "Pattern",
    "Preconditioner",
    "Reduction",
    "Refined",
    "Ridge",
    "Series",
    "SeriesFirst",
    "Solved",
    "Sparse",
    "SparseDirect",
    "Structure",
    "System",
    "condition_estimate",
    "ritz_values",
    "solve",
    "sparsity",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._cg": "CG",
    "._condition": "condition_estimate ritz_values",
    "._dense": "Dense",
    "._gmres": "GMRES",
    "._krylov": "LSMR BiCGStab Lineax",
    "._minres": "MINRES",
    "._nystrom": "Nystrom",
    "._pattern": "Pattern",
    "._preconditioner": "Preconditioner",
    "._protocol": "LinearSolver Structure",
    "._series": "Series SeriesFirst",
    "._solve": "solve",
    "._sparse": "Banded Diagonal Sparse SparseDirect",
    "._sparsity": "Linearized sparsity",
    "._sparsity_rules": "NotSparse",
    "._system": "DENSE_LIMIT Auto Reduction Solved System",
    "._wrappers": "MinimumNorm Refined Ridge",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
