"""How a derivative passes through a solution."""

from ._decorators import custom_fixed_point, custom_root, root_jvp, root_vjp
from ._modes import Differentiation, Implicit, OneStep, Unrolled

__all__ = [
    "Differentiation",
    "Implicit",
    "OneStep",
    "Unrolled",
    "custom_fixed_point",
    "custom_root",
    "root_jvp",
    "root_vjp",
]
