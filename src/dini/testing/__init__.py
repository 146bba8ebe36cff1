"""For tests of dini and of your own solvers: problems with known answers, a gradient check, and the battery."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._battery import Battery, Check, battery, cells_left_out
    from ._check_gradient import GradientCheck, check_gradient
    from ._registry import Case, cases

__all__ = ["Battery", "Case", "Check", "GradientCheck", "battery", "cases", "cells_left_out", "check_gradient"]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._battery": "Battery Check battery cells_left_out",
    "._check_gradient": "GradientCheck check_gradient",
    "._registry": "Case cases",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
