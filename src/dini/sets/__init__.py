"""Convex sets with their Euclidean projections.

Every set has ``project(x)``. Its parameters (a radius, bounds, a matrix) are leaves of the set as a pytree and are
differentiated like any other parameter of a problem.
"""

from ..isotonic import isotonic_regression
from ._affine import Affine, Halfspace, Hyperplane
from ._balls import L1Ball, L2Ball
from ._base import Custom, Product, Set
from ._bounds import Box, Hypercube, LInfBall, NonNegative
from ._box_section import BoxSection
from ._moved import Scaled, Shifted
from ._order import IsotonicCone, Permutahedron
from ._simplex import Simplex, project_simplex
from ._transport import Birkhoff, TransportationPolytope

__all__ = [
    "Affine",
    "Birkhoff",
    "Box",
    "BoxSection",
    "Custom",
    "Halfspace",
    "Hypercube",
    "Hyperplane",
    "IsotonicCone",
    "L1Ball",
    "L2Ball",
    "LInfBall",
    "NonNegative",
    "Permutahedron",
    "Product",
    "Scaled",
    "Set",
    "Shifted",
    "Simplex",
    "TransportationPolytope",
    "isotonic_regression",
    "project_simplex",
]
