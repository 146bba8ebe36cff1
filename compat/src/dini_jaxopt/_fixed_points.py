"""Fixed-point iterations and Anderson acceleration by JAXopt's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from dini import solvers, trees
from dini.problems import FixedPoint
from dini.status import Status

from ._base import AutoOrBoolean, DiniSolver, IterativeSolver, OptStep
from ._objective import Given, bound


class FixedPointState(NamedTuple):
    """State of fixed-point iterations."""

    iter_num: Any
    error: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class AndersonState(NamedTuple):
    """State of Anderson acceleration."""

    iter_num: Any
    error: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class AndersonWrapperState(NamedTuple):
    """State of an accelerated solver: that of the solver, and that of the acceleration."""

    iter_num: Any
    solver_state: Any
    error: Any
    anderson_state: Any
    status: Any = None


class _FixedPoint(DiniSolver):
    """What the two have in common."""

    fixed_point_fun: Callable[..., Any]
    has_aux: bool

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return FixedPoint(bound(self.fixed_point_fun, "fixed_point_fun"), has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the move of the map."""
        problem, given = self._stated(*args, **kwargs)
        return trees.sub(problem.map(params, given), params)


@dataclass(eq=False)
class FixedPointIteration(_FixedPoint):
    r"""Picard's iteration, :math:`x \leftarrow T(x, \theta)`, by :class:`dini.FixedPointIteration`.

    Parameters
    ----------
    fixed_point_fun
        ``fixed_point_fun(x, *args, **kwargs)``, a tree like ``x``.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the norm of :math:`T(x) - x`.
    has_aux
        Whether ``fixed_point_fun`` returns a pair ``(x, aux)``.
    verbose
        Whether to print a line for each iteration.
    implicit_diff
        Whether to differentiate the condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax
    >>> solver = jaxopt.FixedPointIteration(lambda x, a: 0.5 * (x + a / x))
    >>> print(solver.run(1.0, 4.0).params, jax.grad(lambda a: solver.run(1.0, a).params)(4.0))
    2.0 0.25
    """

    fixed_point_fun: Callable[..., Any]
    maxiter: int = 100
    tol: Any = 1e-5
    has_aux: bool = False
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = FixedPointState

    def _method(self) -> Any:
        return solvers.FixedPointIteration(atol=self.tol, max_steps=max(self.maxiter, 1))


@dataclass(eq=False)
class AndersonAcceleration(_FixedPoint):
    r"""Anderson acceleration of :math:`x = T(x, \theta)`, by :class:`dini.Anderson`.

    The parameters are those of :class:`FixedPointIteration`, and

    Parameters
    ----------
    history_size
        Number of differences that are kept.
    mixing_frequency
        Taken for JAXopt's sake; each step is accelerated.
    beta
        The mixing parameter.
    ridge
        Taken for JAXopt's sake; dependent differences are left out instead.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> print(jaxopt.AndersonAcceleration(jnp.cos).run(jnp.ones(())).params.round(3))
    0.739
    """

    fixed_point_fun: Callable[..., Any]
    history_size: int = 5
    mixing_frequency: int = 1
    beta: Any = 1.0
    maxiter: int = 100
    tol: Any = 1e-5
    ridge: Any = 1e-5
    has_aux: bool = False
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = AndersonState

    def _method(self) -> Any:
        return solvers.Anderson(
            history=self.history_size, mixing=self.beta, atol=self.tol, max_steps=max(self.maxiter, 1)
        )


@dataclass(eq=False)
class AndersonWrapper(IterativeSolver):
    """Anderson acceleration of a solver's iterations, by :class:`dini.Anderson`.

    Each iteration of the solver is one evaluation of the accelerated map; ``maxiter`` and ``tol`` are the solver's.

    Parameters
    ----------
    solver
        Any solver with ``init_state`` and ``update``; of a line search, whose steps jump, little is to be gained.
    history_size
        Number of differences that are kept.
    mixing_frequency
        Taken for JAXopt's sake; each iteration is accelerated.
    beta
        The mixing parameter.
    ridge
        Taken for JAXopt's sake; dependent differences are left out instead.
    verbose
        Whether to print a line for each iteration.
    implicit_diff
        Whether to differentiate the solver's condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> descent = jaxopt.GradientDescent(
    ...     lambda x: jnp.sum((x - 1) ** 4 + x**2), stepsize=0.1, acceleration=False, tol=1e-5
    ... )
    >>> print(jaxopt.AndersonWrapper(descent).run(jnp.zeros(2)).params.round(3))
    [0.41 0.41]
    """

    solver: Any
    history_size: int = 5
    mixing_frequency: int | None = None
    beta: Any = 1.0
    ridge: Any = 1e-5
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    def __post_init__(self) -> None:
        self.maxiter, self.tol = self.solver.maxiter, self.solver.tol
        super().__post_init__()

    def _accelerated(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the map of an iteration, with the solver's new state, and the method."""
        step = lambda x: tuple(self.solver.update(x, inner, *args, **kwargs))
        method = solvers.Anderson(history=self.history_size, mixing=self.beta, atol=0.0, max_steps=max(self.maxiter, 1))
        return FixedPoint(step, has_aux=True), method

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        inner = self.solver.init_state(init_params, *args, **kwargs)
        problem, method = self._accelerated(inner, args, kwargs)
        anderson = method.init(problem, init_params)
        none = jnp.zeros((), jnp.int32)
        return AndersonWrapperState(none, inner, anderson.error, anderson, none + Status.RUNNING)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        problem, method = self._accelerated(state.solver_state, args, kwargs)
        # the map is in the program twice, which XLA recognises
        inner = problem.aux(params)
        new, anderson = method.step(problem, params, state.anderson_state)
        error = jnp.asarray(inner.error, state.error.dtype)
        new_state = AndersonWrapperState(state.iter_num + 1, inner, error, anderson, state.status)
        if self.verbose:
            self.log_info(new_state, error_name="Inner Solver Error")
        return OptStep(new, new_state)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the solver's."""
        return self.solver.optimality_fun(params, *args, **kwargs)
