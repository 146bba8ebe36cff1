"""Quasi-Newton methods and nonlinear conjugate gradients by JAXopt's names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from dini import solvers, trees
from dini.problems import Minimize
from dini.sets import Box
from dini.status import SolveWarning, Status

from ._base import AutoOrBoolean, DiniSolver
from ._line_searches import FixedBFGS, FixedLBFGS, named_search
from ._objective import Given, objective


class LbfgsState(NamedTuple):
    """State of L-BFGS."""

    iter_num: Any
    value: Any
    grad: Any
    stepsize: Any
    error: Any
    aux: Any = None
    failed_linesearch: Any = False
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_linesearch_iter: Any = 0
    status: Any = None
    solver_state: Any = None


class BfgsState(NamedTuple):
    """State of BFGS; ``H`` is the model of the inverse Hessian."""

    iter_num: Any
    value: Any
    grad: Any
    stepsize: Any
    error: Any
    H: Any
    aux: Any = None
    failed_linesearch: Any = False
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_linesearch_iter: Any = 0
    status: Any = None
    solver_state: Any = None


class NonlinearCGState(NamedTuple):
    """State of nonlinear conjugate gradients."""

    iter_num: Any
    stepsize: Any
    error: Any
    value: Any
    grad: Any
    descent_direction: Any
    aux: Any = None
    failed_linesearch: Any = False
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_linesearch_iter: Any = 0
    status: Any = None
    solver_state: Any = None


class LbfgsbState(NamedTuple):
    """State of L-BFGS-B; ``theta`` is the model's curvature."""

    iter_num: Any
    value: Any
    grad: Any
    stepsize: Any
    error: Any
    theta: Any
    aux: Any = None
    failed_linesearch: Any = False
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_linesearch_iter: Any = 0
    status: Any = None
    solver_state: Any = None


class _Searching(DiniSolver):
    """What methods with a line search have in common."""

    fun: Callable[..., Any]
    value_and_grad: Any
    has_aux: bool
    linesearch: Any
    linesearch_init: str
    condition: Any
    decrease_factor: Any
    stepsize: Any = 0.0

    def __post_init__(self) -> None:
        for name in ("condition", "decrease_factor"):
            if getattr(self, name) is not None:
                warnings.warn(f"JAXopt's argument {name} is deprecated.", DeprecationWarning, stacklevel=3)
        if self.linesearch_init not in ("increase", "max", "current"):
            raise ValueError(
                f'{type(self).__name__}\'s linesearch_init must be "increase", "max" or "current": given '
                f"{self.linesearch_init!r}."
            )
        self._search()
        super().__post_init__()

    def _search(self) -> solvers.LineSearch:
        return named_search(type(self).__name__, self.linesearch, self.condition)

    def _fixed(self) -> bool:
        return callable(self.stepsize) or bool(self.stepsize > 0)

    def _lead(self) -> int:
        return 2 if self._fixed() else 3

    def _settings(self) -> dict[str, Any]:
        settings = {"atol": self.tol, "max_steps": max(self.maxiter, 1)}
        return settings | ({"step_size": self.stepsize} if self._fixed() else {"line_search": self._search()})

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        fun = objective(self.fun, self.value_and_grad, self.has_aux)
        return Minimize(fun, has_aux=self.has_aux), (args, kwargs)

    def _fields(self, method: Any) -> dict[str, Any]:
        # search: best, idle, steps, value or longest step, and the bracket, whose first number is the next step
        return {"value": method.value, "grad": method.gradient, "stepsize": method.search[..., 4]}

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        state = super()._state(iter_num, iteration, aux, known)
        if iteration is None:
            return state
        failed = (iteration.status != Status.RUNNING) & (iteration.status != Status.CONVERGED)
        trials = jnp.maximum(iteration.steps - 1, 0)
        return state._replace(failed_linesearch=failed, num_grad_eval=iteration.steps, num_linesearch_iter=trials)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(self._start(params, given), given)


@dataclass(eq=False)
class LBFGS(_Searching):
    r"""Limited-memory BFGS, by :class:`dini.LBFGS`.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``.
    value_and_grad
        Whether ``fun`` returns the value and the gradient.
    has_aux
        Whether the value is a pair ``(value, aux)``.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the norm of the gradient.
    stepsize
        A number, a function of the iteration, or at most zero for a line search.
    linesearch
        ``"zoom"``, ``"hager-zhang"``, ``"backtracking"``, or one of their objects.
    linesearch_init, increase_factor, max_stepsize, min_stepsize
        Taken for JAXopt's sake; dini's searches start at a step of one along a direction of the model.
    stop_if_linesearch_fails
        Taken for JAXopt's sake; a run ends where nothing decreases the objective.
    condition
        What a backtracking search asks for (deprecated).
    maxls
        Limit on the number of trials of a line search.
    decrease_factor
        Taken for JAXopt's sake (deprecated).
    history_size
        Number of pairs of differences.
    use_gamma
        Whether the model is scaled, with a ``stepsize``; with a line search it always is.
    implicit_diff
        Whether to differentiate the condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Whether loops inside ``update`` are of fixed length: ``"auto"`` where the iterations are differentiated.
    verbose
        Whether to print a line for each iteration.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> params, state = jaxopt.LBFGS(rosenbrock, maxiter=100).run(jnp.zeros(2))
    >>> print(params.round(2), bool(state.error <= 1e-3))
    [1. 1.] True
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    maxiter: int = 500
    tol: Any = 1e-3
    stepsize: Any = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    stop_if_linesearch_fails: bool = False
    condition: Any = None
    maxls: int = 30
    decrease_factor: Any = None
    increase_factor: float = 1.5
    max_stepsize: float = 1.0
    min_stepsize: float = 1e-6
    history_size: int = 10
    use_gamma: bool = True
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"
    verbose: Any = False

    state_type = LbfgsState

    def _method(self) -> Any:
        if self._fixed():
            return FixedLBFGS(history=self.history_size, scaled=self.use_gamma, **self._settings())
        return solvers.LBFGS(history=self.history_size, **self._settings())


@dataclass(eq=False)
class BFGS(_Searching):
    r"""BFGS, by :class:`dini.BFGS`, for unknowns of moderate size; the parameters are those of :class:`LBFGS`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> print(jaxopt.BFGS(rosenbrock).run(jnp.zeros(2)).params.round(2))
    [1. 1.]
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    maxiter: int = 500
    tol: Any = 1e-3
    stepsize: Any = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    condition: Any = None
    maxls: int = 30
    decrease_factor: Any = None
    increase_factor: float = 1.5
    max_stepsize: float = 1.0
    min_stepsize: float = 1e-6
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"
    verbose: Any = False

    state_type = BfgsState

    def _method(self) -> Any:
        return (FixedBFGS if self._fixed() else solvers.BFGS)(**self._settings())

    def _fields(self, method: Any) -> dict[str, Any]:
        return super()._fields(method) | {"H": method.model.matrix}


@dataclass(eq=False)
class NonlinearCG(_Searching):
    r"""Nonlinear conjugate gradients, by :class:`dini.NonlinearCG`; the parameters are those of :class:`LBFGS`.

    Parameters
    ----------
    method
        ``"polak-ribiere"``, ``"hestenes-stiefel"`` or ``"hager-zhang"``; ``"fletcher-reeves"`` warns and is the last.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> print(jaxopt.NonlinearCG(rosenbrock, maxiter=300).run(jnp.zeros(2)).params.round(2))
    [1. 1.]
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    maxiter: int = 100
    tol: Any = 1e-3
    method: str = "polak-ribiere"
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    condition: Any = None
    maxls: int = 30
    decrease_factor: Any = None
    increase_factor: float = 1.2
    max_stepsize: float = 1.0
    min_stepsize: float = 1e-6
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"
    verbose: Any = False

    state_type = NonlinearCGState

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("polak-ribiere", "hestenes-stiefel", "hager-zhang", "fletcher-reeves")
        if self.method not in known:
            raise ValueError(f"NonlinearCG's method must be one of {known}: given {self.method!r}.")
        if self.method == "fletcher-reeves":
            warnings.warn(
                "NonlinearCG's method 'fletcher-reeves' is not in dini, which takes 'hager-zhang': the solution is the "
                "same, and each direction descends.",
                SolveWarning,
                stacklevel=3,
            )

    def _search(self) -> solvers.LineSearch:
        # conjugate directions need nearly exact searches
        return named_search("NonlinearCG", self.linesearch, self.condition, curvature=0.1)

    def _method(self) -> Any:
        formula = "hager-zhang" if self.method == "fletcher-reeves" else self.method
        return solvers.NonlinearCG(formula=formula, **self._settings())

    def _fields(self, method: Any) -> dict[str, Any]:
        return super()._fields(method) | {"descent_direction": trees.from_real(method.direction)}


@dataclass(eq=False)
class LBFGSB(_Searching):
    r"""L-BFGS with bounds, by :class:`dini.LBFGSB`; the parameters are those of :class:`LBFGS`.

    ``run``, ``init_state`` and ``update`` take ``bounds``, a pair ``(lower, upper)``, before the function's arguments.

    Parameters
    ----------
    theta
        Taken for JAXopt's sake; dini measures the first curvature.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> bounds = (jnp.full(2, -2.0), jnp.array([0.5, 2.0]))
    >>> print(jaxopt.LBFGSB(rosenbrock).run(jnp.zeros(2), bounds=bounds).params.round(2))
    [0.5  0.25]
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    maxiter: int = 50
    tol: Any = 1e-3
    stepsize: Any = 0.0
    linesearch: Any = "zoom"
    linesearch_init: str = "increase"
    stop_if_linesearch_fails: bool = False
    condition: Any = None
    maxls: int = 30
    decrease_factor: Any = None
    increase_factor: float = 1.5
    max_stepsize: float = 1.0
    min_stepsize: float = 1e-6
    theta: float = 1.0
    history_size: int = 10
    use_gamma: bool = True
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"
    verbose: Any = False

    state_type = LbfgsbState

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._fixed():
            raise ValueError(
                "LBFGSB's stepsize must be at most zero: a step of given length along a path that bends at the bounds "
                "need not descend. ProjectedGradient(fun, projection_box, stepsize=...) takes one."
            )

    def _method(self) -> Any:
        return solvers.LBFGSB(history=self.history_size, **self._settings())

    def _fields(self, method: Any) -> dict[str, Any]:
        return super()._fields(method) | {"theta": method.model.theta}

    def _stated(self, bounds: Any = None, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        fun = objective(self.fun, self.value_and_grad, self.has_aux)
        box = None if bounds is None else Box(*bounds)
        return Minimize(fun, constraint=box, has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, sol: Any, bounds: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a projected-gradient step of unit size."""
        problem, given = self._stated(bounds, *args, **kwargs)
        sol = self._start(sol, given)
        return trees.sub(problem.prox(trees.sub(sol, problem.gradient(sol, given)), 1.0), sol)
