"""Convex sets with their Euclidean projections.

Every set has ``project(x)``. Its parameters (a radius, bounds) are leaves of the set as a pytree and are differentiated
like any other parameter of a problem.
"""

from ._balls import L1Ball, L2Ball
from ._base import Custom, Product, Set
from ._bounds import Box, NonNegative
from ._simplex import Simplex, project_simplex

__all__ = ["Box", "Custom", "L1Ball", "L2Ball", "NonNegative", "Product", "Set", "Simplex", "project_simplex"]
