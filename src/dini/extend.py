"""What libraries on top of dini use besides its classes, as :mod:`jax.extend` is for JAX.

Classes of problems, sets, penalties, conditions, modes and solvers are derived from those of their modules; here is
what such a class, and a verb of one's own around :func:`dini.solve`, is made with.
"""

from __future__ import annotations

from typing import Any

from . import trees
from .checks.records import record
from .defaults import Default
from .entry import on_reals
from .functions import as_function, close, function_name
from .functions.traces import untraced
from .loop import allowed
from .losses._fenchel_young import operands as targets
from .protocols import AnyProblem
from .reports import without_tangent
from .solvers.shared._by_hand import by_hand
from .solvers.shared._line_method import Pair
from .solvers.shared._quasi_newton import QuasiNewton
from .trees import Tree
from .trees.products import dot, tensordot, vdot

__all__ = [
    "Pair",
    "QuasiNewton",
    "allowed",
    "as_function",
    "by_hand",
    "close",
    "default_solver",
    "dot",
    "function_name",
    "on_reals",
    "record",
    "targets",
    "tensordot",
    "trees",
    "untraced",
    "vdot",
    "without_tangent",
]


def default_solver(problem: AnyProblem, x: Tree, *args: Tree) -> Any:
    """Return the solver that the verbs choose for a problem, its starting point and its functions' arguments.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> print(dini.extend.default_solver(dini.Root(lambda x: x**2 - 2), jnp.ones(())).name)
    Newton
    """
    return Default().chosen(problem, x, args).solver
