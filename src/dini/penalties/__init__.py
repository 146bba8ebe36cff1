"""Penalties with their proximal operators.

Every penalty has ``value(x)`` and ``prox(x, step_size)``. Its strength is a leaf of the penalty as a pytree and is
differentiated like any other parameter of a problem.
"""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._barriers import Entropy, LogBarrier
    from ._base import Custom, Penalty
    from ._constrained import Constrained
    from ._from_sets import Indicator, LInf, SupportFunction
    from ._huber import Huber
    from ._nonconvex import L0, MCP, SCAD
    from ._norms import L1, ElasticNet, GroupLasso, Ridge
    from ._nuclear_norm import NuclearNorm
    from ._sorted_l1 import SortedL1
    from ._total_variation import TotalVariation
    from ._wrappers import NonNegative, Orthogonal, Product, Scaled, Shifted

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "Constrained",
    "Custom",
    "ElasticNet",
    "Entropy",
    "GroupLasso",
    "Huber",
    "Indicator",
    "LInf",
    "LogBarrier",
    "NonNegative",
    "NuclearNorm",
    "Orthogonal",
    "Penalty",
    "Product",
    "Ridge",
    "Scaled",
    "Shifted",
    "SortedL1",
    "SupportFunction",
    "TotalVariation",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._barriers": "Entropy LogBarrier",
    "._base": "Custom Penalty",
    "._constrained": "Constrained",
    "._from_sets": "Indicator LInf SupportFunction",
    "._huber": "Huber",
    "._nonconvex": "L0 MCP SCAD",
    "._norms": "L1 ElasticNet GroupLasso Ridge",
    "._nuclear_norm": "NuclearNorm",
    "._sorted_l1": "SortedL1",
    "._total_variation": "TotalVariation",
    "._wrappers": "NonNegative Orthogonal Product Scaled Shifted",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
