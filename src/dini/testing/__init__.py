"""For tests of dini and of your own solvers: problems with known answers, a gradient check, and the battery."""

from ._battery import Check, battery, cells_left_out
from ._check_gradient import GradientCheck, check_gradient
from ._registry import Case, cases

__all__ = ["Case", "Check", "GradientCheck", "battery", "cases", "cells_left_out", "check_gradient"]
