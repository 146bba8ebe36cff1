"""How a derivative passes through a solution."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
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

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._approximate": "Auto Choice JacobianFree Neumann",
    "._decorators": "custom_fixed_point custom_root root_jvp root_vjp",
    "._modes": "Differentiation Implicit OneStep Unrolled",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
