"""Sets with their Euclidean projections.

Every set has ``project(x)``. Its parameters (a radius, bounds, a matrix) are leaves of the set as a pytree and are
differentiated like any other parameter of a problem.
"""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ..numerics.isotonic import isotonic_regression
    from ._affine import Affine, Halfspace, Hyperplane
    from ._balls import L1Ball, L2Ball, project_l2_ball
    from ._base import Custom, Product, Set
    from ._bounds import Box, Hypercube, LInfBall, NonNegative
    from ._box_section import BoxSection
    from ._cones import Cone, ConeProduct, DualCone, Free, SecondOrder, Zero
    from ._exponential import Exponential
    from ._intersection import Intersection
    from ._matrix import NuclearNormBall, PositiveSemidefinite, Spectrahedron, SpectralNormBall, smat, svec
    from ._moved import Scaled, Shifted
    from ._nonconvex import L1Sphere, L2Sphere, SparseSimplex
    from ._order import IsotonicCone, Permutahedron
    from ._polyhedron import Polyhedron
    from ._power import Power
    from ._simplex import Simplex, project_simplex
    from ._transport import Birkhoff, TransportationPolytope

__all__ = [
    "Affine",
    "Birkhoff",
    "Box",
    "BoxSection",
    "Cone",
    "ConeProduct",
    "Custom",
    "DualCone",
    "Exponential",
    "Free",
    "Halfspace",
    "Hypercube",
    "Hyperplane",
    "Intersection",
    "IsotonicCone",
    "L1Ball",
    "L1Sphere",
    "L2Ball",
    "L2Sphere",
    "LInfBall",
    "NonNegative",
    "NuclearNormBall",
    "Permutahedron",
    "Polyhedron",
    "PositiveSemidefinite",
    "Power",
    "Product",
    "Scaled",
    "SecondOrder",
    "Set",
    "Shifted",
    "Simplex",
    "SparseSimplex",
    "Spectrahedron",
    "SpectralNormBall",
    "TransportationPolytope",
    "Zero",
    "isotonic_regression",
    "project_l2_ball",
    "project_simplex",
    "smat",
    "svec",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "..numerics.isotonic": "isotonic_regression",
    "._affine": "Affine Halfspace Hyperplane",
    "._balls": "L1Ball L2Ball project_l2_ball",
    "._base": "Custom Product Set",
    "._bounds": "Box Hypercube LInfBall NonNegative",
    "._box_section": "BoxSection",
    "._cones": "Cone ConeProduct DualCone Free SecondOrder Zero",
    "._exponential": "Exponential",
    "._intersection": "Intersection",
    "._matrix": "NuclearNormBall PositiveSemidefinite Spectrahedron SpectralNormBall smat svec",
    "._moved": "Scaled Shifted",
    "._nonconvex": "L1Sphere L2Sphere SparseSimplex",
    "._order": "IsotonicCone Permutahedron",
    "._polyhedron": "Polyhedron",
    "._power": "Power",
    "._simplex": "Simplex project_simplex",
    "._transport": "Birkhoff TransportationPolytope",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
