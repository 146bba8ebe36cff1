"""Gauss-Newton and Levenberg-Marquardt by JAXopt's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from dini import solvers
from dini.problems import LeastSquares

from ._base import AutoOrBoolean, DiniSolver
from ._iterated import residuals_at
from ._objective import Given, bound
from .linear_solve import solve_cg


class GaussNewtonState(NamedTuple):
    """State of Gauss-Newton."""

    iter_num: Any
    residual: Any
    value: Any
    error: Any
    gradient: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class LevenbergMarquardtState(NamedTuple):
    """State of Levenberg-Marquardt."""

    iter_num: Any
    damping_factor: Any
    increase_factor: Any
    residual: Any
    value: Any
    error: Any
    gradient: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class _LeastSquares(DiniSolver):
    """What the two have in common."""

    lead = 2

    residual_fun: Callable[..., Any]
    has_aux: bool

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return LeastSquares(bound(self.residual_fun, "residual_fun"), has_aux=self.has_aux), (args, kwargs)

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        # what belongs to the point is measured there
        nothing = dict.fromkeys(("residual", "gradient", "value"))
        fields = nothing | self._fields(iteration.method)
        fields |= {"iter_num": iter_num, "error": iteration.error, "aux": aux, "num_fun_eval": iteration.steps}
        fields |= {"status": iteration.status, "solver_state": iteration}
        del known
        return self.state_type(**{name: fields[name] for name in self.state_type._fields})

    def _measured(self, state: Any, problem: Any, x: Any, given: Given) -> Any:
        residual, gradient = residuals_at(self._solver(), problem, x, given)
        return state._replace(residual=residual, gradient=gradient, value=problem.cost(residual))

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient of half the squared norm of the residuals."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(params, given)


@dataclass(eq=False)
class GaussNewton(_LeastSquares):
    r"""Gauss-Newton, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.GaussNewton`.

    Parameters
    ----------
    residual_fun
        ``residual_fun(x, *args, **kwargs)``.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the norm of the gradient.
    implicit_diff
        Whether to differentiate the condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    has_aux
        Whether ``residual_fun`` returns a pair ``(residual, aux)``.
    verbose
        Whether to print a line for each iteration.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> residuals = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> print(jaxopt.GaussNewton(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
    [1. 1.]
    """

    residual_fun: Callable[..., Any]
    maxiter: int = 30
    tol: Any = 1e-5
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    has_aux: bool = False
    verbose: Any = False
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type: ClassVar[Any] = GaussNewtonState

    def _method(self) -> Any:
        return solvers.GaussNewton(atol=self.tol, max_steps=max(self.maxiter, 1))


@dataclass(eq=False)
class LevenbergMarquardt(_LeastSquares):
    r"""Levenberg-Marquardt, :math:`\min_x \tfrac12 \|r(x, \theta)\|^2`, by :class:`dini.LevenbergMarquardt`.

    Parameters
    ----------
    residual_fun
        ``residual_fun(x, *args, **kwargs)``.
    maxiter
        Limit on the number of trials, rejected ones included.
    damping_parameter
        The first damping, relative to the squared norms of the Jacobian's columns.
    stop_criterion
        ``"grad-l2-norm"`` for the test by ``tol``, ``"madsen-nielsen"`` for that by ``gtol``.
    tol, gtol
        Absolute tolerance on the norm of the gradient.
    xtol
        Taken for JAXopt's sake; a short step alone is no solution.
    solver
        ``"cholesky"``, ``"lu"``, ``"qr"``, ``"inv"`` or a function; with a matrix, dini takes Cholesky or QR, and for a
        function it chooses by the number of unknowns.
    geodesic
        Whether to add the geodesic acceleration.
    verbose
        Whether to print a line for each iteration.
    jac_fun
        Taken for JAXopt's sake; the Jacobian is JAX's.
    materialize_jac
        Whether to insist on a matrix.
    implicit_diff
        Whether to differentiate the condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    has_aux
        Whether ``residual_fun`` returns a pair ``(residual, aux)``.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> residuals = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> print(jaxopt.LevenbergMarquardt(residuals).run(jnp.array([-1.2, 1.0])).params.round(3))
    [1. 1.]
    """

    residual_fun: Callable[..., Any]
    maxiter: int = 30
    damping_parameter: Any = 1e-6
    stop_criterion: str = "grad-l2-norm"
    tol: Any = 1e-3
    xtol: Any = 1e-3
    gtol: Any = 1e-3
    solver: Any = solve_cg
    geodesic: bool = False
    verbose: Any = False
    jac_fun: Callable[..., Any] | None = None
    materialize_jac: bool = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    has_aux: bool = False
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type: ClassVar[Any] = LevenbergMarquardtState

    def __post_init__(self) -> None:
        if self.stop_criterion not in ("grad-l2-norm", "madsen-nielsen"):
            raise ValueError(
                'LevenbergMarquardt\'s stop_criterion must be "grad-l2-norm" or "madsen-nielsen": given '
                f"{self.stop_criterion!r}."
            )
        if not callable(self.solver) and self.solver not in _ALGEBRA:
            raise ValueError(
                f"LevenbergMarquardt's solver must be one of {', '.join(map(repr, _ALGEBRA))} or a function: given "
                f"{self.solver!r}."
            )
        super().__post_init__()

    def _method(self) -> Any:
        algebra: Any = "auto" if callable(self.solver) else _ALGEBRA[self.solver]
        return solvers.LevenbergMarquardt(
            damping=self.damping_parameter,
            linear_solver="cholesky" if self.materialize_jac and algebra == "auto" else algebra,
            geodesic=self.geodesic,
            atol=self.tol if self.stop_criterion == "grad-l2-norm" else self.gtol,
            max_steps=max(self.maxiter, 1),
        )

    def _fields(self, method: Any) -> dict[str, Any]:
        return {"damping_factor": method.control.damping, "increase_factor": method.control.growth}


_ALGEBRA: dict[str, Any] = {"cholesky": "cholesky", "lu": "cholesky", "qr": "qr", "inv": "cholesky"}
