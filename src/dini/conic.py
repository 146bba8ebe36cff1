"""The verb for cone programs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.tree_util import register_pytree_with_keys  # pyright: ignore[reportUnknownVariableType]

from .defaults import Default
from .differentiation import Differentiation, Implicit
from .problems import ConeProgram
from .solution import Solution, flatten, flatten_with_keys
from .solvers import Solver
from .solving import solve
from .status import OnFailure, Status

_IMPLICIT, _DEFAULT = Implicit(), Default()


class ConeSolution(Solution):
    r"""The solution of a cone program: a :class:`dini.Solution` with multipliers and slacks.

    ``x`` is the point, ``multipliers`` the vector ``y`` of the dual cone, ``value`` the objective, and ``status`` how
    the solve ended. Where there is no solution (seen with ``on_failure="ignore"``, or in a lane under ``vmap``) the
    certificate stands in its place: with the status ``PRIMAL_INFEASIBLE`` the multipliers are in the dual cone,
    :math:`A^\top y = 0` and :math:`b^\top y < 0`; with ``DUAL_INFEASIBLE`` the point is a ray along which the objective
    decreases without bound (:attr:`ray`), :math:`Px = 0`, :math:`-Ax \in K`, :math:`c^\top x < 0`.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import NonNegative
    >>> bounds = {"A": -jnp.eye(2), "b": -jnp.array([1.0, 2.0]), "cone": NonNegative()}
    >>> solution = dini.cone_program(c=jnp.ones(2), **bounds)
    >>> print(solution.x, solution.multipliers, solution.slacks)
    [1. 2.] [1. 1.] [0. 0.]
    """

    @property
    def slacks(self) -> Any:
        """``s``, which is :math:`b - Ax`."""
        return self.aux

    @property
    def ray(self) -> Any:
        """The ray along which the objective decreases without bound, NaN where none was found."""
        found = jnp.asarray(self.status == Status.DUAL_INFEASIBLE)
        return jnp.where(found[..., None], self.x, jnp.nan)


def _unflatten(aux: None, children: Any) -> ConeSolution:
    del aux
    solution = object.__new__(ConeSolution)
    solution.__dict__.update(zip(("x", "figures", "aux", "state", "history", "multipliers"), children, strict=True))
    return solution


register_pytree_with_keys(ConeSolution, flatten_with_keys, _unflatten, flatten)


def cone_program(
    *,
    P: Any = None,
    c: Any = None,
    A: Any = None,
    b: Any = None,
    cone: Any = None,
    solver: Solver | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> ConeSolution:
    r"""Minimize a convex quadratic function where an affine map of the unknown is in a cone.

    .. math:: \min_{x, s} \tfrac12 x^\top P x + c^\top x \quad \text{subject to} \quad Ax + s = b,\; s \in K

    The solution is a differentiable function of all data, in every mode and order; see :class:`dini.ConeProgram` for
    the data and the cones, and :func:`dini.solve` for the rest. Without ``solver``, it is
    :class:`dini.ConicInteriorPoint`.

    Returns
    -------
    ConeSolution
        With ``x``, ``multipliers``, ``slacks``, ``value``, ``status``.

    Raises
    ------
    SolveError
        If no point satisfies the constraints (``PRIMAL_INFEASIBLE``), the objective decreases without bound
        (``DUAL_INFEASIBLE``), ``P`` is not positive semidefinite (``NOT_CONVEX``) or the solve failed.
    TypeError, ValueError
        For data that do not fit.

    Examples
    --------
    The distance from a point to a line, the norm as the height of a second-order cone, and its gradient:

    >>> import dini, jax, jax.numpy as jnp
    >>> from dini.sets import SecondOrder
    >>> def distance(p):  # min t, where (t, u - p_1, u - p_2) is in the cone
    ...     A = -jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    ...     b = jnp.concatenate([jnp.zeros(1), -p])
    ...     return dini.cone_program(c=jnp.array([1.0, 0.0]), A=A, b=b, cone=SecondOrder()).x[0]
    >>> print(jax.grad(distance)(jnp.array([1.0, 3.0])).round(3))
    [-0.707  0.707]
    """
    problem = ConeProgram(P, c, A, b, cone)
    found = solve(
        problem,
        _DEFAULT if solver is None else solver,
        problem.start(),
        differentiation=differentiation,
        on_failure=on_failure,
    )
    return ConeSolution(found.x.primal, found.figures, problem.slacks(found.x.primal), multipliers=found.x.dual)
