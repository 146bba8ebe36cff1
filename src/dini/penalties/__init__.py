"""Penalties with their proximal operators.

Every penalty has ``value(x)`` and ``prox(x, step_size)``. Its strength is a leaf of the penalty as a pytree and is
differentiated like any other parameter of a problem.
"""

from ._base import Custom, Penalty
from ._norms import L1, ElasticNet, GroupLasso, Ridge

__all__ = ["L1", "Custom", "ElasticNet", "GroupLasso", "Penalty", "Ridge"]
