"""Optimality conditions: what a solution satisfies, each a few lines of mathematics.

A condition maps ``(problem, x, *args)`` to a residual ``F`` that vanishes at a solution. A problem states one by
default; ``dini.Implicit(condition=...)`` takes another, or a plain function ``F(x, *args)``.
"""

from ._base import Condition, Given, Residual, as_condition, fixed_point
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

__all__ = [
    "KL",
    "BlockProximalGradient",
    "Condition",
    "Geometry",
    "Given",
    "MirrorDescent",
    "NewtonStep",
    "ProjectedGradient",
    "ProximalGradient",
    "Residual",
    "Stationary",
    "as_condition",
    "curvature",
    "fixed_point",
]
