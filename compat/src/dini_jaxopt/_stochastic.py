"""Stochastic solvers by JAXopt's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from dini import solvers
from dini.problems import Minimize

from ._base import AutoOrBoolean, DiniSolver, IterativeSolver, OptStep, StochasticSolver, evaluating_the_start
from ._iterated import Iterated, Iteration, aux_at
from ._objective import Given, objective


class ArmijoState(NamedTuple):
    """State of Armijo SGD."""

    iter_num: Any
    error: Any
    value: Any
    aux: Any
    stepsize: Any
    velocity: Any
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class PolyakSGDState(NamedTuple):
    """State of SGD with Polyak's step size."""

    iter_num: Any
    error: Any
    value: Any
    aux: Any
    stepsize: Any
    velocity: Any
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class OptaxState(NamedTuple):
    """State of a solver of optax's; ``internal_state`` is the transformation's."""

    iter_num: Any
    value: Any
    error: Any
    internal_state: Any
    aux: Any
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class _Stochastic(DiniSolver, StochasticSolver):
    """What the three have in common."""

    fun: Callable[..., Any]
    value_and_grad: Any
    has_aux: bool
    pre_update: Callable[..., Any] | None

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        fun = objective(self.fun, self.value_and_grad, self.has_aux)
        return Minimize(fun, has_aux=self.has_aux), (args, kwargs)

    def _posed(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        # with something that is done before each update, updates are what is to be run
        if self.pre_update is not None:
            return IterativeSolver._stated(self, *args, **kwargs)
        return self._stated(*args, **kwargs)

    def _solver(self) -> Any:
        return super()._solver() if self.pre_update is None else IterativeSolver._solver(self)

    def _stepper(self) -> Iterated:
        # a batch whose gradient is small is no end
        return DiniSolver._solver(self).untested()

    def _fields(self, method: Any) -> dict[str, Any]:
        return {"value": method.value, "stepsize": method.step_size, "velocity": method.velocity}

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        # the value at the start is that of no step: the next one evaluates it
        del known
        return super()._state(iter_num, iteration, aux)

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        problem, given = self._stated(*args, **kwargs)
        start = self._start(init_params, given)
        solver = self._stepper()
        with evaluating_the_start(type(self).__name__):
            aux = aux_at(solver, problem, start, given) if self.has_aux else None
        return self._state(jnp.zeros((), jnp.int32), solver.init(problem, start, given), aux)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        if self.pre_update is not None:
            params, state = self.pre_update(params, state, *args, **kwargs)
        return super().update(params, state, *args, **kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(params, given)


@dataclass(eq=False)
class ArmijoSGD(_Stochastic):
    r"""Stochastic gradient descent with a line search on the batch, by :class:`dini.ArmijoSGD`.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``, with the batch as ``data`` where ``run_iterator`` is used.
    value_and_grad
        Whether ``fun`` returns the value and the gradient.
    has_aux
        Whether the value is a pair ``(value, aux)``.
    aggressiveness
        One minus the share of the linear decrease that a step must bring.
    decrease_factor, increase_factor
        Factors of the step size after a failed trial, and between steps.
    reset_option
        ``"increase"``, ``"goldstein"`` (the same here) or ``"conservative"``: steps do not grow again.
    momentum
        Weight of the last move.
    max_stepsize
        Largest step size, and the first one.
    pre_update
        Optional: ``pre_update(params, state, *args, **kwargs)``, called before each update.
    maxiter
        Limit on the number of iterations.
    maxls
        Taken for JAXopt's sake.
    tol
        Absolute tolerance on the norm of the gradient.
    verbose
        Whether to print a line for each iteration.
    implicit_diff
        Whether to differentiate the condition or the iterations (``False``).
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(64, 2))
    >>> y = X @ np.array([1.0, -2.0])
    >>> batches = ((X[i : i + 8], y[i : i + 8]) for epoch in range(20) for i in range(0, 64, 8))
    >>> solver = jaxopt.ArmijoSGD(lambda w, data: jnp.mean((data[0] @ w - data[1]) ** 2))
    >>> print(solver.run_iterator(jnp.zeros(2), batches).params.round(2))
    [ 1. -2.]
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    aggressiveness: float = 0.9
    decrease_factor: float = 0.8
    increase_factor: float = 1.5
    reset_option: str = "increase"
    momentum: float = 0.0
    max_stepsize: Any = 1.0
    pre_update: Callable[..., Any] | None = None
    maxiter: int = 500
    maxls: int = 15
    tol: Any = 1e-3
    verbose: Any = False
    implicit_diff: bool = False
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = ArmijoState

    def __post_init__(self) -> None:
        if self.reset_option not in ("increase", "goldstein", "conservative"):
            raise ValueError(
                'ArmijoSGD\'s reset_option must be "increase", "goldstein" or "conservative": given '
                f"{self.reset_option!r}."
            )
        super().__post_init__()

    def _searches(self) -> bool:
        return False

    def _method(self) -> Any:
        return solvers.ArmijoSGD(
            max_step_size=self.max_stepsize,
            aggressiveness=1 - self.aggressiveness,
            decrease=self.decrease_factor,
            growth=1.0 if self.reset_option == "conservative" else self.increase_factor,
            momentum=self.momentum,
            atol=self.tol,
            max_steps=max(self.maxiter, 1),
        )


@dataclass(eq=False)
class PolyakSGD(_Stochastic):
    r"""Stochastic gradient descent with Polyak's step size, by :class:`dini.PolyakSGD`.

    The parameters are those of :class:`ArmijoSGD`, and

    Parameters
    ----------
    fun_min
        The smallest value of the objective on a batch.
    variant
        ``"SPS_max"``, or ``"SPS+"``, without a largest step size.
    delta
        Taken for JAXopt's sake: a gradient of zero makes no step.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> solver = jaxopt.PolyakSGD(lambda x, a: jnp.sum((x - a) ** 2))
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
    [ 1.5 -1. ]
    """

    fun: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    fun_min: Any = 0.0
    variant: str = "SPS_max"
    max_stepsize: Any = 1.0
    delta: Any = 0.0
    momentum: Any = 0.0
    pre_update: Callable[..., Any] | None = None
    maxiter: int = 500
    tol: Any = 1e-3
    verbose: Any = False
    implicit_diff: bool = False
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = PolyakSGDState

    def __post_init__(self) -> None:
        if self.variant not in ("SPS_max", "SPS+"):
            raise ValueError(f'PolyakSGD\'s variant must be "SPS_max" or "SPS+": given {self.variant!r}.')
        super().__post_init__()

    def _method(self) -> Any:
        most = jnp.inf if self.variant == "SPS+" else self.max_stepsize
        settings: dict[str, Any] = {"momentum": self.momentum, "atol": self.tol, "max_steps": max(self.maxiter, 1)}
        return solvers.PolyakSGD(max_step_size=most, lower_bound=self.fun_min, **settings)


@dataclass(eq=False)
class OptaxSolver(_Stochastic):
    r"""A transformation of optax's as a solver, by :class:`dini.OptaxSolver`.

    The parameters are those of :class:`ArmijoSGD`, and

    Parameters
    ----------
    opt
        ``optax.adam(1e-3)``, say.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp, optax
    >>> solver = jaxopt.OptaxSolver(lambda x, a: jnp.sum((x - a) ** 2), optax.sgd(0.1))
    >>> print(solver.run(jnp.zeros(2), jnp.array([1.5, -1.0])).params.round(2))
    [ 1.5 -1. ]
    """

    fun: Callable[..., Any]
    opt: Any
    value_and_grad: Any = False
    pre_update: Callable[..., Any] | None = None
    maxiter: int = 500
    tol: Any = 1e-3
    verbose: Any = False
    implicit_diff: bool = False
    implicit_diff_solve: Any = None
    has_aux: bool = False
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = OptaxState

    def _method(self) -> Any:
        return solvers.OptaxSolver(transformation=self.opt, atol=self.tol, max_steps=max(self.maxiter, 1))

    def _fields(self, method: Any) -> dict[str, Any]:
        return {"value": method.value, "internal_state": method.inner}

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        state = super()._state(iter_num, iteration, aux, known)
        if not isinstance(iteration, Iteration):
            return state
        # the transformation's state is in the state once, where a user may change it
        method = iteration.method._replace(inner=None)
        return state._replace(solver_state=iteration._replace(method=method))

    def _resumed(self, state: Any) -> Iteration:
        method = state.solver_state.method._replace(inner=state.internal_state)
        return state.solver_state._replace(method=method)
