"""How a derivative passes through a solution."""

from ._approximate import Auto, Choice, JacobianFree, Neumann
from ._decorators import custom_fixed_point, custom_root, root_jvp, root_vjp
from ._modes import Differentiation, Implicit, OneStep, Unrolled

__all__ = [
    "Auto",
    "Choice",
    "Differentiation",
    "Implicit",
    "JacobianFree",
    "Neumann",
    "OneStep",
    "Unrolled",
    "custom_fixed_point",
    "custom_root",
    "root_jvp",
    "root_vjp",
]
