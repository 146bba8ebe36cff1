"""SciPy's solvers by JAXopt's names, through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

import dini
from dini import SolveWarning, Status, losses
from dini.extend import trees, untraced

from ._base import OptStep, Solver, WarnedImplicit
from ._objective import bound, objective
from ._table import AutoOrBoolean, Function, Number, solver_class


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
    **dict.fromkeys(("bfgs", "cg", "tnc", "dogleg", "trust-ncg", "trust-exact", "trust-krylov"), ("gtol",)),
    **dict.fromkeys(("broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden", "df-sane"), ("fatol",)),
    **dict.fromkeys(("excitingmixing", "krylov"), ("fatol",)),
}
_LOSSES: dict[str, Any] = {
    "linear": lambda scale: None,
    "soft_l1": losses.SoftL1,
    "huber": losses.Huber,
    "cauchy": losses.Cauchy,
    "arctan": losses.Arctan,
}


class ScipyWrapper(Solver):
    """Base of SciPy's solvers."""

    method: str | None
    options: dict[str, Any] | None
    tol: Any = None
    implicit_diff_solve: Any
    has_aux: bool
    #: whether bounds come before the function's arguments
    bounded: ClassVar[bool] = False

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the bounds, and the function's arguments."""
        if not self.bounded:
            return None, (args, kwargs)
        bounds = args[0] if args else kwargs.pop("bounds", None)
        return None if bounds is None else dini.sets.Box(*bounds), (args[1:], kwargs)

    def _solved(self, problem: Any, default: str, options: dict[str, Any], init_params: Any, given: Any) -> Any:
        method = (self.method or default).lower()
        tolerances = {} if self.tol is None else dict.fromkeys(_TOLERANCES.get(method, ()), self.tol)
        adapter = dini.adapters.SciPy(method, tolerances | options)
        start = init_params.params if isinstance(init_params, OptStep) else init_params
        mode = WarnedImplicit(linear_solver=self.implicit_diff_solve)
        solution = dini.solve(problem, adapter, start, given, differentiation=mode, on_failure="ignore")
        if untraced() and not bool(solution.success):
            status = Status(int(solution.status))
            warnings.warn(
                f"jaxopt.{type(self).__name__} by SciPy's {adapter.method!r} has found no solution: {status.name}. "
                f"{status.explanation} The last point is returned.",
                SolveWarning,
                stacklevel=3,
            )
        return solution

    def _problem(self, box: Any = None) -> Any:
        raise NotImplementedError

    def optimality_fun(self, sol: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient; with bounds the move of a projected-gradient step of unit size."""
        box, given = self._given(args, kwargs)
        gradient = self._problem().gradient(sol, given)
        if not self.bounded:
            return gradient
        step = trees.sub(sol, gradient)
        return trees.sub(step if box is None else box.project(step), sol)


class _Minimize(ScipyWrapper):
    """Functions."""

    fun: Any
    callback: Any
    maxiter: Any
    value_and_grad: Any

    def __post_init__(self) -> None:
        if self.callback is not None:
            raise ValueError(
                f"{type(self).__name__}'s callback must be None, because a compiled program evaluates the functions. "
                "Use a solver of dini and a monitor of its solve."
            )
        if "maxiter" in (self.options or {}):
            raise ValueError("Cannot pass maxiter through options: use the argument maxiter.")

    def _problem(self, box: Any = None) -> Any:
        fun = objective(self.fun, self.value_and_grad, self.has_aux)
        return dini.Minimize(fun, constraint=box, has_aux=self.has_aux)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Minimize from ``init_params``; the other arguments are the function's, after ``bounds`` where it has them."""
        box, given = self._given(args, kwargs)
        default = "bfgs" if box is None else "l-bfgs-b"
        options = dict(self.options or {})
        if (self.method or default).lower() != "tnc":  # which has a limit on evaluations alone
            options["maxiter"] = self.maxiter
        solution = self._solved(self._problem(box), default, options, init_params, given)
        steps = solution.stats.steps
        info = ScipyMinimizeInfo(solution.value, solution.success, solution.status, steps, None, steps, steps)
        return OptStep(solution.x, info)


class _Roots(ScipyWrapper):
    """Equations."""

    def _problem(self, box: Any = None) -> Any:
        del box
        return dini.Root(bound(self.optimality_fun, "optimality_fun"), has_aux=self.has_aux)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Solve from ``init_params``; the other arguments are the function's."""
        problem, given = self._problem(), (args, kwargs)
        solution = self._solved(problem, "hybr", dict(self.options or {}), init_params, given)
        steps, residual = solution.stats.steps, problem.residual(solution.x, given)
        return OptStep(solution.x, ScipyRootInfo(residual, solution.success, solution.status, steps, steps))

    def l2_optimality_error(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the norm of the residual."""
        return trees.norm(self._problem().residual(params, (args, kwargs)))


class _LeastSquares(ScipyWrapper):
    """Residuals."""

    fun: Any
    loss: str

    def __post_init__(self) -> None:
        if self.loss not in _LOSSES:
            raise ValueError(
                f"{type(self).__name__}'s loss must be one of {', '.join(map(repr, _LOSSES))}: given {self.loss!r}."
            )

    def _problem(self, box: Any = None) -> Any:
        loss = _LOSSES[self.loss]((self.options or {}).get("f_scale", 1.0))
        return dini.LeastSquares(bound(self.fun), constraint=box, loss=loss, has_aux=self.has_aux)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Fit from ``init_params``; the other arguments are the function's, after ``bounds`` where it has them."""
        box, given = self._given(args, kwargs)
        problem = self._problem(box)
        options = {name: value for name, value in (self.options or {}).items() if name != "f_scale" and value != {}}
        solution = self._solved(problem, "trf", options, init_params, given)
        steps, residuals = solution.stats.steps, problem.residuals(solution.x, given)
        ended = solution.success, solution.status
        info = ScipyLeastSquaresInfo(solution.value, residuals, *ended, steps, steps, solution.stats.error)
        return OptStep(solution.x, info)


_ROW: dict[str, Any] = {
    "solver": "adapters.SciPy",
    "error": "SciPy's own; by default as much as can be had",
    "about": {
        "method": "SciPy's name of the method.",
        "optimality_fun": "``optimality_fun(x, *args, **kwargs)``, a tree like ``x``.",
        "callback": "Must be ``None``: a compiled program calls nothing of the kind; ``dini.solve`` has a ``monitor``.",
        "options": "SciPy's options of the method; of fits its further arguments, ``f_scale`` among them.",
        "loss": "``'linear'``, ``'soft_l1'``, ``'huber'``, ``'cauchy'`` or ``'arctan'``.",
    },
}


@solver_class(
    ignored="dtype jit",
    **_ROW,
)
class ScipyMinimize(_Minimize):
    """``scipy.optimize.minimize`` without constraints.

    It runs through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyMinimize(fun=lambda x, a: jnp.sum(jnp.cosh(x) - a * x), method="bfgs")
    >>> print(jax.jacobian(lambda a: solver.run(jnp.zeros(2), a).params)(jnp.array([0.0, 1.0])).round(3))
    [[1.    0.   ]
     [0.    0.707]]
    """

    method: str | None = None
    dtype: Any = np.float64
    jit: AutoOrBoolean = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    fun: Function | None = None
    callback: None = None
    tol: Number | None = None
    options: dict[str, Any] | None = None
    maxiter: int | jax.Array = 500
    value_and_grad: bool | Function = False


@solver_class(
    ignored="dtype jit",
    solver=_ROW["solver"],
    error=_ROW["error"],
)
class ScipyBoundedMinimize(ScipyMinimize):
    """``scipy.optimize.minimize`` with bounds: ``run(init_params, bounds, ...)``, a pair ``(lower, upper)``.

    It runs through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyBoundedMinimize(fun=lambda x: jnp.sum((x - 2.0) ** 2), method="l-bfgs-b")
    >>> print(solver.run(jnp.zeros(2), (jnp.zeros(2), jnp.ones(2))).params)
    [1. 1.]
    """

    bounded = True


@solver_class(
    ignored="dtype jit use_jacrev",
    **_ROW,
)
class ScipyRootFinding(_Roots):
    """``scipy.optimize.root``.

    It runs through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyRootFinding(optimality_fun=lambda x, a: x**3 - a, method="hybr")
    >>> print(jax.grad(lambda a: solver.run(1.0, a).params)(8.0))
    0.083333336
    """

    method: str | None = None
    dtype: Any = np.float64
    jit: AutoOrBoolean = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    optimality_fun: Any = None
    tol: Number | None = None
    options: dict[str, Any] | None = None
    use_jacrev: bool = True


@solver_class(
    ignored="dtype jit use_jacrev",
    **_ROW,
)
class ScipyLeastSquares(_LeastSquares):
    r"""``scipy.optimize.least_squares``, :math:`\min_x \tfrac12 \sum_i \rho(r_i(x, \theta)^2)`.

    It runs through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyLeastSquares(fun=lambda x, y: x - y, loss="linear")
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.0, -1.0])).params)
    [ 1. -1.]
    """

    method: str | None = None
    dtype: Any = np.float64
    jit: AutoOrBoolean = True
    implicit_diff_solve: Function | None = None
    has_aux: bool = False
    fun: Function | None = None
    loss: str = "linear"
    options: dict[str, Any] | None = None
    use_jacrev: bool = True


@solver_class(
    ignored="dtype jit use_jacrev",
    solver=_ROW["solver"],
    error=_ROW["error"],
)
class ScipyBoundedLeastSquares(ScipyLeastSquares):
    """``scipy.optimize.least_squares`` with bounds: ``run(init_params, bounds, ...)``, a pair ``(lower, upper)``.

    It runs through :class:`dini.adapters.SciPy`, also under ``jit`` and ``vmap``.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> solver = jaxopt.ScipyBoundedLeastSquares(fun=lambda x, y: x - y)
    >>> bounds = (jnp.zeros(2), jnp.ones(2))
    >>> print(solver.run(jnp.full(2, 0.5), bounds, jnp.array([0.25, -1.0])).params.round(3))
    [0.25 0.  ]
    """

    bounded = True
