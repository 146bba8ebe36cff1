"""JAXopt's other quadratic programs: with equations alone, by CVXPY's name, and on a box by coordinate descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._base import KKTSolution, OptStep, Solver
from ._linear_solves import solve_gmres
from ._osqp import kkt_residual
from ._program_data import Settings, general, kkt, require_one_objective, solved


@dataclass(eq=False)
class EqualityConstrainedQP(Solver):
    r"""Quadratic programs with equations alone, :math:`\min_x \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = b`.

    ``run(init_params, params_obj=(Q, c), params_eq=(A, b))`` solves the linear system of the optimality conditions, by
    :class:`dini.QuadraticProgram`, and returns ``KKTSolution(x, y, None)``. Rows of ``A`` may depend on each other. A
    program without a solution, or with a ``Q`` that is not positive semidefinite, is NaN and warns.

    Parameters
    ----------
    matvec_Q, matvec_A, fun
        As for :class:`OSQP`.
    solve, refine_regularization, refine_maxiter, tol
        Taken for JAXopt's sake: the system is factorized, and solved to rounding.
    maxiter
        Limit on the number of iterations where matrices are known by products and too large to be made.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether a program without a solution leaves NaN (``True``) or raises.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> Q, c = 2 * jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, 1.0])
    >>> A, b = jnp.ones((1, 2)), jnp.array([1.0])
    >>> step = jaxopt.EqualityConstrainedQP().run(params_obj=(Q, c), params_eq=(A, b))
    >>> print(step.params.primal.round(3), step.params.dual_eq.round(3))
    [0.25 0.75] [-2.75]
    """

    matvec_Q: Callable[..., Any] | None = None
    matvec_A: Callable[..., Any] | None = None
    fun: Callable[..., Any] | None = None
    solve: Callable[..., Any] = solve_gmres
    refine_regularization: float = 0.0
    refine_maxiter: int = 10
    maxiter: int = 1000
    tol: Any = 1e-5
    implicit_diff_solve: Any = None
    jit: bool = True

    def __post_init__(self) -> None:
        require_one_objective("EqualityConstrainedQP", self.fun, self.matvec_Q)

    def _program(self, x: Any, params_obj: Any, params_eq: Any) -> Any:
        maps = self.fun, self.matvec_Q, self.matvec_A, None
        return general("EqualityConstrainedQP", maps, params_obj, params_eq, None, x)

    def run(self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None) -> OptStep:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve the program; ``init_params`` says what ``x`` is where ``fun`` is given."""
        x = None if init_params is None else init_params.primal
        problem, like = self._program(x, params_obj, params_eq)
        settings = Settings("EqualityConstrainedQP", self.maxiter, self.implicit_diff_solve, raises=not self.jit)
        return OptStep(kkt(solved(settings, problem), like, params_eq, None), None)

    def optimality_fun(self, params: Any, params_obj: Any, params_eq: Any) -> KKTSolution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return stationarity and the residual of the equations."""
        return kkt_residual(self._program(params.primal, params_obj, params_eq)[0], params)


@dataclass(eq=False)
class CvxpyQP(Solver):
    r"""Quadratic programs of arrays, :math:`\min_x \tfrac12 x^\top Q x + c^\top x` with :math:`Ax = b, Gx \le h`.

    ``run(init_params, params_obj=(Q, c), params_eq=None, params_ineq=None)`` returns ``KKTSolution(x, y, z)``. It is
    solved by :class:`dini.QuadraticProgram`, not by CVXPY, which need not be there: to rounding, and under ``jit``,
    ``vmap`` and on accelerators as well. A program without a solution raises (NaN where that is traced).

    Parameters
    ----------
    solver
        ``"OSQP"``, ``"ECOS"`` or ``"SCS"``: taken for JAXopt's sake.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.

    Raises
    ------
    ValueError
        Where there is no solution, or the parameters do not fit.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> Q, c, G, h = jnp.eye(2), jnp.array([-2.0, -3.0]), jnp.ones((1, 2)), jnp.array([1.0])
    >>> step = jaxopt.CvxpyQP().run(None, (Q, c), params_ineq=(G, h))
    >>> print(step.params.primal.round(3), step.params.dual_ineq.round(3))
    [0. 1.] [2.]
    """

    solver: str = "OSQP"
    implicit_diff_solve: Any = None

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, init_params: Any = None, params_obj: Any = None, params_eq: Any = None, params_ineq: Any = None
    ) -> OptStep:
        """Solve the program; ``init_params`` has no part in it."""
        del init_params
        problem, like = self._program(params_obj, params_eq, params_ineq)
        settings = Settings("CvxpyQP", _LIMIT, self.implicit_diff_solve, raises=True)
        return OptStep(kkt(solved(settings, problem), like, params_eq, params_ineq), None)

    def _program(self, params_obj: Any, params_eq: Any, params_ineq: Any) -> Any:
        return general("CvxpyQP", (None, None, None, None), params_obj, params_eq, params_ineq)

    def optimality_fun(
        self, params: Any, params_obj: Any, params_eq: Any = None, params_ineq: Any = None
    ) -> KKTSolution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return stationarity, the residual of the equations, and complementarity."""
        return kkt_residual(self._program(params_obj, params_eq, params_ineq)[0], params)


#: iterations of the method of multipliers, as OSQP's default is
_LIMIT = 4000
