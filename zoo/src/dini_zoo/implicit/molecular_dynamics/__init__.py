"""Packings of soft disks, and how their positions move with the diameter of half of them.

The parts: the disks and their energy (`energy`, `packing`, `box_side`), the method FIRE as a solver of dini (`FIRE`),
and the derivative of the positions in four ways (`implicit`, `minimum_norm`, `central_difference`, `unroll`). The
experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .fire import FIRE
from .packing import box_side, energy, packing, random_start
from .sensitivity import IMPLICIT, Start, central_difference, examine, implicit, minimum_norm, unroll

__all__ = [
    "FIRE",
    "IMPLICIT",
    "Start",
    "box_side",
    "central_difference",
    "energy",
    "examine",
    "implicit",
    "minimum_norm",
    "packing",
    "random_start",
    "unroll",
]
