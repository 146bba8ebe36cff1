"""Penalties with their proximal operators.

Every penalty has ``value(x)`` and ``prox(x, step_size)``. Its strength is a leaf of the penalty as a pytree and is
differentiated like any other parameter of a problem.
"""

from typing import TYPE_CHECKING

from ..explanations import missing_name as _missing_name
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

if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name):
        raise _missing_name(__name__, name)
