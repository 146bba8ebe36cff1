"""SciPy's solvers by JAXopt's names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dini import losses, trees
from dini.adapters import SciPy
from dini.functions.traces import untraced
from dini.problems import LeastSquares, Minimize, Root
from dini.sets import Box
from dini.solve import solve
from dini.status import SolveWarning, Status

from ._base import OptStep, Solver, WarnedImplicit
from ._objective import bound, objective


class ScipyMinimizeInfo(NamedTuple):
    """What is known of a minimum that SciPy has found; ``status`` is one of :class:`dini.Status`."""

    fun_val: Any
    success: Any
    status: Any
    iter_num: Any
    hess_inv: Any = None
    num_fun_eval: Any = 0
    num_jac_eval: Any = 0
    num_hess_eval: Any = 0


class ScipyRootInfo(NamedTuple):
    """What is known of a root that SciPy has found; ``fun_val`` is the residual."""

    fun_val: Any
    success: Any
    status: Any
    iter_num: Any
    num_fun_eval: Any = 0


class ScipyLeastSquaresInfo(NamedTuple):
    """What is known of a least-squares fit that SciPy has found; ``fun_val`` are the residuals."""

    cost_val: Any
    fun_val: Any
    success: Any
    status: Any
    num_fun_eval: Any
    num_jac_eval: Any
    error: Any


#: the options by which SciPy's ``tol`` is passed to each method
_TOLERANCES = {
    "nelder-mead": ("xatol", "fatol"),
    "powell": ("xtol", "ftol"),
    "newton-cg": ("xtol",),
    "l-bfgs-b": ("ftol", "gtol"),
    "slsqp": ("ftol",),
    "cobyla": ("tol",),
    "cobyqa": ("final_tr_radius",),
    "trust-constr": ("xtol", "gtol", "barrier_tol"),
    "hybr": ("xtol",),
    "lm": ("xtol", "ftol"),
    "df-sane": ("fatol",),
    **dict.fromkeys(("bfgs", "cg", "tnc", "dogleg", "trust-ncg", "trust-exact", "trust-krylov"), ("gtol",)),
    **dict.fromkeys(("broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden"), ("fatol",)),
    **dict.fromkeys(("excitingmixing", "krylov"), ("fatol",)),
}


@dataclass(eq=False)
class ScipyWrapper(Solver):
    """Base of SciPy's solvers, which run through ``dini.adapters.SciPy``, also under ``jit`` and ``vmap``.

    Parameters
    ----------
    method
        SciPy's name of the method.
    dtype
        Taken for JAXopt's sake; SciPy computes in double precision.
    jit
        Taken for JAXopt's sake; the functions are compiled.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    has_aux
        Whether the function returns a pair with an auxiliary output.
    """

    method: str | None = None
    dtype: Any = np.float64
    jit: bool = True
    implicit_diff_solve: Any = None
    has_aux: bool = False

    def _adapter(self, default: str, options: dict[str, Any] | None, tol: Any = None) -> SciPy:
        method = (self.method or default).lower()
        given = {} if tol is None else dict.fromkeys(_TOLERANCES.get(method, ()), tol)
        return SciPy(method, given | dict(options or {}))

    def _solved(self, problem: Any, adapter: SciPy, init_params: Any, given: Any) -> Any:
        start = init_params.params if isinstance(init_params, OptStep) else init_params
        mode = WarnedImplicit(linear_solver=self.implicit_diff_solve)
        solution = solve(problem, adapter, start, given, differentiation=mode, on_failure="ignore")
        if untraced() and not bool(solution.success):
            status = Status(int(solution.status))
            warnings.warn(
                f"jaxopt.{type(self).__name__} by SciPy's {adapter.method!r} has found no solution: {status.name}. "
                f"{status.explanation} The last point is returned.",
                SolveWarning,
                stacklevel=3,
            )
        return solution


@dataclass(eq=False)
class ScipyMinimize(ScipyWrapper):
    r"""``scipy.optimize.minimize`` without constraints.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``.
    callback
        Must be ``None``: a compiled program calls nothing of a user's; ``dini.solve`` takes a ``monitor``.
    tol
        SciPy's tolerance; by default as much as can be had.
    options
        SciPy's options of the method.
    maxiter
        SciPy's limit on the number of iterations.
    value_and_grad
        Whether ``fun`` returns the value and the gradient.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyMinimize(fun=lambda x, a: jnp.sum(jnp.cosh(x) - a * x), method="bfgs")
    >>> print(jax.jacobian(lambda a: solver.run(jnp.zeros(2), a).params)(jnp.array([0.0, 1.0])).round(3))
    [[1.    0.   ]
     [0.    0.707]]
    """

    fun: Any = None
    callback: Callable[..., Any] | None = None
    tol: Any = None
    options: dict[str, Any] | None = None
    maxiter: int = 500
    value_and_grad: Any = False

    def __post_init__(self) -> None:
        if self.callback is not None:
            raise ValueError(
                f"{type(self).__name__}'s callback must be None: the functions are computed in a compiled program. "
                "Take a solver of dini's, whose solve has a monitor."
            )
        if "maxiter" in (self.options or {}):
            raise ValueError("Cannot pass maxiter through options: use the argument maxiter.")

    def _run(self, init_params: Any, bounds: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OptStep:
        problem = Minimize(
            objective(self.fun, self.value_and_grad, self.has_aux),
            constraint=None if bounds is None else Box(*bounds),
            has_aux=self.has_aux,
        )
        default = "bfgs" if bounds is None else "l-bfgs-b"
        options = dict(self.options or {})
        if (self.method or default).lower() != "tnc":  # which has a limit on evaluations alone
            options["maxiter"] = self.maxiter
        solution = self._solved(problem, self._adapter(default, options, self.tol), init_params, (args, kwargs))
        steps = solution.stats.steps
        info = ScipyMinimizeInfo(solution.value, solution.success, solution.status, steps, None, steps, steps)
        return OptStep(solution.x, info)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Minimize from ``init_params``; the other arguments are the function's."""
        return self._run(init_params, None, args, kwargs)

    def optimality_fun(self, sol: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient."""
        problem = Minimize(objective(self.fun, self.value_and_grad, self.has_aux), has_aux=self.has_aux)
        return problem.gradient(sol, (args, kwargs))


@dataclass(eq=False)
class ScipyBoundedMinimize(ScipyMinimize):
    r"""``scipy.optimize.minimize`` with bounds; the parameters are those of :class:`ScipyMinimize`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> solver = jaxopt.ScipyBoundedMinimize(fun=lambda x: jnp.sum((x - 2.0) ** 2), method="l-bfgs-b")
    >>> print(solver.run(jnp.zeros(2), (jnp.zeros(2), jnp.ones(2))).params)
    [1. 1.]
    """

    def run(self, init_params: Any, bounds: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Minimize between ``bounds``, a pair ``(lower, upper)``."""
        return self._run(init_params, bounds, args, kwargs)

    def optimality_fun(self, sol: Any, bounds: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a projected-gradient step of unit size."""
        gradient = super().optimality_fun(sol, *args, **kwargs)
        return _projected_move(sol, gradient, bounds)


@dataclass(eq=False)
class ScipyRootFinding(ScipyWrapper):
    r"""``scipy.optimize.root``.

    Parameters
    ----------
    optimality_fun
        ``optimality_fun(x, *args, **kwargs)``, a tree like ``x``.
    tol
        SciPy's tolerance; by default as much as can be had.
    options
        SciPy's options of the method.
    use_jacrev
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax
    >>> solver = jaxopt.ScipyRootFinding(optimality_fun=lambda x, a: x**3 - a, method="hybr")
    >>> print(jax.grad(lambda a: solver.run(1.0, a).params)(8.0))
    0.083333336
    """

    optimality_fun: Any = None
    tol: Any = None
    options: dict[str, Any] | None = None
    use_jacrev: bool = True

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Solve from ``init_params``; the other arguments are the function's."""
        problem, given = Root(bound(self.optimality_fun, "optimality_fun"), has_aux=self.has_aux), (args, kwargs)
        solution = self._solved(problem, self._adapter("hybr", self.options, self.tol), init_params, given)
        steps = solution.stats.steps
        residual = problem.residual(solution.x, given)
        return OptStep(solution.x, ScipyRootInfo(residual, solution.success, solution.status, steps, steps))

    def l2_optimality_error(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the norm of the residual."""
        problem = Root(bound(self.optimality_fun, "optimality_fun"), has_aux=self.has_aux)
        return trees.norm(problem.residual(params, (args, kwargs)))


_LOSSES: dict[str, Any] = {
    "linear": lambda scale: None,
    "soft_l1": losses.SoftL1,
    "huber": losses.Huber,
    "cauchy": losses.Cauchy,
    "arctan": losses.Arctan,
}


@dataclass(eq=False)
class ScipyLeastSquares(ScipyWrapper):
    r"""``scipy.optimize.least_squares``, :math:`\min_x \tfrac12 \sum_i \rho(r_i(x, \theta)^2)`.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``, the residuals.
    loss
        ``"linear"``, ``"soft_l1"``, ``"huber"``, ``"cauchy"`` or ``"arctan"``.
    options
        SciPy's further arguments, ``f_scale`` among them.
    use_jacrev
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> solver = jaxopt.ScipyLeastSquares(fun=lambda x, y: x - y, loss="linear")
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.0, -1.0])).params)
    [ 1. -1.]
    """

    fun: Any = None
    loss: str = "linear"
    options: dict[str, Any] | None = None
    use_jacrev: bool = True

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise ValueError(
                f"{type(self).__name__}'s loss must be one of {', '.join(map(repr, _LOSSES))}: given {self.loss!r}."
            )

    def _problem(self, bounds: Any = None) -> LeastSquares:
        loss = _LOSSES[self.loss]((self.options or {}).get("f_scale", 1.0))
        box = None if bounds is None else Box(*bounds)
        return LeastSquares(bound(self.fun), constraint=box, loss=loss, has_aux=self.has_aux)

    def _run(self, init_params: Any, bounds: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OptStep:
        problem, given = self._problem(bounds), (args, kwargs)
        options = {name: value for name, value in (self.options or {}).items() if name != "f_scale" and value != {}}
        solution = self._solved(problem, self._adapter("trf", options), init_params, given)
        steps, residuals = solution.stats.steps, problem.residuals(solution.x, given)
        ended = solution.success, solution.status
        info = ScipyLeastSquaresInfo(solution.value, residuals, *ended, steps, steps, solution.stats.error)
        return OptStep(solution.x, info)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Fit from ``init_params``; the other arguments are the function's."""
        return self._run(init_params, None, args, kwargs)

    def optimality_fun(self, sol: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient of the cost."""
        return self._problem().gradient(sol, (args, kwargs))


@dataclass(eq=False)
class ScipyBoundedLeastSquares(ScipyLeastSquares):
    r"""``scipy.optimize.least_squares`` with bounds; the parameters are those of :class:`ScipyLeastSquares`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> solver = jaxopt.ScipyBoundedLeastSquares(fun=lambda x, y: x - y)
    >>> bounds = (jnp.zeros(2), jnp.ones(2))
    >>> print(solver.run(jnp.full(2, 0.5), bounds, jnp.array([0.25, -1.0])).params.round(3))
    [0.25 0.  ]
    """

    def run(self, init_params: Any, bounds: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Fit between ``bounds``, a pair ``(lower, upper)``."""
        return self._run(init_params, bounds, args, kwargs)

    def optimality_fun(self, sol: Any, bounds: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a projected-gradient step of unit size."""
        return _projected_move(sol, super().optimality_fun(sol, *args, **kwargs), bounds)


def _projected_move(x: Any, gradient: Any, bounds: Any) -> Any:
    step = trees.sub(x, gradient)
    return trees.sub(step if bounds is None else Box(*bounds).project(step), x)
