r"""The linear system of a derivative, :math:`A\,\dot x = -B\,\dot\theta`, and its solution.

What solves it has the signature ``solve(at, parameters, tangents, linear_solver, on_failure, name)`` and is linear in
the tangents. The one that comes with a certificate is in ``_certificate.py``.
"""

from __future__ import annotations

from typing import Any

import jax

from .. import trees
from ..linear._solve import solve_known
from ..status import OnFailure
from ._degenerate import Doubt
from ._guards import never, on_a_solution, times
from ._linearization import Linearization, Parameters


def solve_tangent(
    at: Linearization, parameters: Parameters, tangents: list[Any], linear_solver: Any, on_failure: OnFailure, name: str
) -> Any:
    """Return the derivative along ``tangents``."""
    return _solved(at, parameters, tangents, linear_solver, on_failure, name)[0]


def solve_tangent_at_solution(
    at: Linearization, parameters: Parameters, tangents: list[Any], linear_solver: Any, on_failure: OnFailure, name: str
) -> Any:
    """Return the derivative along ``tangents``, of a solver that does not say whether its point is a solution."""
    dx, residual = _solved(at, parameters, tangents, linear_solver, on_failure, name)
    return on_a_solution(dx, at, parameters.values, residual, on_failure, name)


def _solved(
    at: Linearization, parameters: Parameters, tangents: list[Any], linear_solver: Any, on_failure: OnFailure, name: str
) -> tuple[Any, Any]:
    """Return the derivative, and the condition's residual."""
    residual, moved = jax.jvp(parameters.apply(at, at.x), (parameters.moving,), (tangents,))
    nothing = never((at.x, parameters.moving))
    b = jax.tree.map(lambda leaf: leaf + nothing.astype(leaf.dtype), trees.neg(moved))
    doubt = Doubt(at, parameters.values, residual) if at.smooth else None
    return times(1 + nothing, solve_real(at, b, linear_solver, on_failure, name, doubt)), residual


def solve_real(
    at: Linearization, b: Any, linear_solver: Any, on_failure: OnFailure, name: str, doubt: Doubt | None = None
) -> Any:
    r"""Solve :math:`A\,w = b`, on pairs of real numbers where the unknown is complex: ``F`` need not be holomorphic.

    ``doubt`` is a test of a real system, see :func:`dini.linear._solve.solve_known`.
    """

    def solve(matvec: Any, b: Any, reduction: Any) -> Any:
        return solve_known(
            matvec,
            b,
            structure=at.structure,
            reduction=reduction,
            solver=linear_solver,
            on_failure=on_failure,
            name=name,
            doubt=None if trees.has_complex(b) or on_failure == "ignore" else doubt,
        )

    if not trees.has_complex(b):
        return solve(at.matvec, b, at.reduction)
    return trees.from_real(solve(lambda w: trees.to_real(at.matvec(trees.from_real(w))), trees.to_real(b), None))
