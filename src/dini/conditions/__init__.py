"""Optimality conditions: what a solution satisfies, each a few lines of mathematics.

A condition maps ``(problem, x, *args)`` to a residual ``F`` that vanishes at a solution. A problem states one by
default; ``dini.Implicit(condition=...)`` takes another, or a plain function ``F(x, *args)``. ``KKT``,
``ConicResidual``, ``ConvexHull`` and ``VariationalInequality`` are such functions. They need no problem, so they also
serve ``dini.custom_root``, ``dini.root_jvp`` and ``dini.Root``.
"""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._active import ActiveConstraints, margins
    from ._base import Condition, Given, Residual, as_condition, fixed_point
    from ._cone_program import ConeKKT
    from ._conic import ConicResidual
    from ._descent import (
        BlockProximalGradient,
        MirrorDescent,
        NewtonStep,
        ProjectedGradient,
        ProximalGradient,
        Stationary,
        curvature,
    )
    from ._geometry import KL, Geometry
    from ._kkt import KKT, multipliers, quadratic_program
    from ._polyhedral import ConvexHull
    from ._program import ProgramKKT
    from ._relaxed_program import RelaxedKKT
    from ._saddle_point import SaddlePoint
    from ._smoothed import PerturbedProximalGradient, SmoothedProximalGradient
    from ._variational import NaturalResidual, VariationalInequality

__all__ = [
    "KKT",
    "KL",
    "ActiveConstraints",
    "BlockProximalGradient",
    "Condition",
    "ConeKKT",
    "ConicResidual",
    "ConvexHull",
    "Geometry",
    "Given",
    "MirrorDescent",
    "NaturalResidual",
    "NewtonStep",
    "PerturbedProximalGradient",
    "ProgramKKT",
    "ProjectedGradient",
    "ProximalGradient",
    "RelaxedKKT",
    "Residual",
    "SaddlePoint",
    "SmoothedProximalGradient",
    "Stationary",
    "VariationalInequality",
    "as_condition",
    "curvature",
    "fixed_point",
    "margins",
    "multipliers",
    "quadratic_program",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._active": "ActiveConstraints margins",
    "._base": "Condition Given Residual as_condition fixed_point",
    "._cone_program": "ConeKKT",
    "._conic": "ConicResidual",
    "._descent": (
        "BlockProximalGradient MirrorDescent NewtonStep ProjectedGradient ProximalGradient Stationary curvature"
    ),
    "._geometry": "KL Geometry",
    "._kkt": "KKT multipliers quadratic_program",
    "._polyhedral": "ConvexHull",
    "._program": "ProgramKKT",
    "._relaxed_program": "RelaxedKKT",
    "._saddle_point": "SaddlePoint",
    "._smoothed": "PerturbedProximalGradient SmoothedProximalGradient",
    "._variational": "NaturalResidual VariationalInequality",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
