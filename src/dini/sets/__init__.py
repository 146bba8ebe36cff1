"""Convex sets with their Euclidean projections.

Every set has ``project(x)``. Its parameters (a radius, bounds) are leaves of the set as a pytree and are differentiated
like any other parameter of a problem.
"""

from ._balls import L1Ball, L2Ball
from ._base import Custom, Product, Set
from ._bounds import Box, NonNegative
from ._cones import Cone, ConeProduct, DualCone, Free, SecondOrder, Zero
from ._exponential import Exponential, Power
from ._matrix import NuclearNormBall, PositiveSemidefinite, Spectrahedron, SpectralNormBall, smat, svec
from ._simplex import Simplex, project_simplex

__all__ = [
    "Box",
    "Cone",
    "ConeProduct",
    "Custom",
    "DualCone",
    "Exponential",
    "Free",
    "L1Ball",
    "L2Ball",
    "NonNegative",
    "NuclearNormBall",
    "PositiveSemidefinite",
    "Power",
    "Product",
    "SecondOrder",
    "Set",
    "Simplex",
    "Spectrahedron",
    "SpectralNormBall",
    "Zero",
    "project_simplex",
    "smat",
    "svec",
]
