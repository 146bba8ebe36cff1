r"""The implicit function theorem as one rule of differentiation.

Let ``x`` be a solution of :math:`F(x, \theta) = 0` with :math:`A = \partial_1 F(x, \theta)` invertible.
Differentiating the equation along a tangent :math:`\dot\theta`,

.. math:: A\,\dot x + \partial_2 F(x, \theta)\,\dot\theta = 0 \quad\Longrightarrow\quad
          \dot x = -A^{-1}\,\partial_2 F(x, \theta)\,\dot\theta .

That is the whole rule, in forward mode. Reverse mode is its transpose: JAX transposes the linear solve and the
product with :math:`\partial_2 F`, so one transposed solve serves all parameters. Higher orders need nothing more:
``x`` inside the rule comes from the differentiable function itself, so differentiating the rule applies the theorem
again.

A tangent that is symbolically zero never enters: what is not differentiated is not linearized, and when nothing is,
nothing is solved. The starting point and the solver's settings have no influence on a solution and hence no
derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import trees
from ..status import OnFailure
from ..trees import Tree
from ._guards import as_declared, mark, times
from ._linearization import Linearization, Parameters
from ._rules import ruled
from ._tangents import solve_tangent


class Ended(NamedTuple):
    """What a solver hands to the rule.

    Attributes
    ----------
    x
        The solution, which the rule differentiates; nothing else here has a derivative.
    status
        How the solve ended, where that is known: the derivative of a failed solve is marked like its value.
    linear_solver
        A linear solver for the derivative that is made of what the solve has left behind, or ``None``.
    rest
        Whatever else is returned.
    """

    x: Tree
    status: Any = None
    linear_solver: Any = None
    rest: Any = None


class How(NamedTuple):
    r"""How the equation :math:`A\,\dot x = -B\,\dot\theta` is solved.

    Attributes
    ----------
    solve
        ``solve(at, parameters, tangents, linear_solver, on_failure, name)`` returns :math:`\dot x`, linear in the
        tangents: one of :mod:`dini.differentiation._tangents`, or the one that certifies it.
    linear_solver, on_failure, name
        See :func:`dini.linear.solve`.
    """

    solve: Callable[..., Any] = solve_tangent
    linear_solver: Any = None
    on_failure: OnFailure = "raise"
    name: str = "the solution"


def implicit(
    run: Callable[[Any, Any], Ended],
    constants: Any,
    parameters: Any,
    linearize: Callable[[Any, Any], Linearization],
    how: How,
) -> Ended:
    """Return ``run(constants, parameters)``, with the implicit derivative of the solution in the parameters.

    Parameters
    ----------
    run
        The solver, a pure function (see :class:`dini.functions.hoist`). It is called through the rule at every order of
        differentiation.
    constants
        What the solver uses and the condition does not; it has no derivative.
    parameters
        A pytree; leaves that are not floating-point or complex are accepted and not differentiated.
    linearize
        ``linearize(x, parameters)`` returns the condition at ``x``.
    how
        How the derivative's equation is solved, and what is made of failures.
    """
    # the rule runs after the trace that it is defined in: what the linear solver holds comes to it as an operand
    held, solver_of = trees.parted(
        how.linear_solver, lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic)
    )

    def derive(ended: Ended, operands: Any, moved: Parameters, tangents: list[Any]) -> Any:
        linear_solver = ended.linear_solver
        if linear_solver is None:
            linear_solver = solver_of(jax.lax.stop_gradient(operands[1]))
        at = linearize(ended.x, moved.values)
        # the mark of a failure stands where the derivative enters and where it leaves: in between, an inactive
        # coordinate may hide it
        failed = mark(ended.status, how.on_failure)
        dx = how.solve(at, moved, times(failed, tangents), linear_solver, how.on_failure, how.name)
        return times(failed, as_declared(dx, at, how.on_failure, how.name))

    return ruled(lambda operands, parameters: run(operands[0], parameters), (constants, held), parameters, derive)


def one_step(
    run: Callable[[Any, Any], Ended],
    constants: Any,
    parameters: Any,
    step: Callable[[Ended, Any, Any], Any],
) -> Ended:
    """Return ``run(constants, parameters)``, with the derivative of one step from the solution.

    The derivative of the solution is that of ``step(ended, constants, parameters)`` in the parameters. At every higher
    order, the point in it moves as it does.
    """

    def derive(ended: Ended, constants: Any, moved: Parameters, tangents: list[Any]) -> Any:
        return jax.jvp(lambda some: step(ended, constants, moved.merge(some)), (moved.moving,), (tangents,))[1]

    return ruled(run, constants, parameters, derive)
