"""Gradient descent, proximal gradient and projected gradient by JAXopt's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from dini import solvers, trees
from dini.problems import Minimize

from ._base import AutoOrBoolean, DiniSolver
from ._objective import Given, constraint, objective, penalty
from .prox import prox_none


class ProxGradState(NamedTuple):
    """State of the proximal-gradient methods."""

    iter_num: Any
    stepsize: Any
    error: Any
    aux: Any = None
    velocity: Any = None
    t: Any = 1.0
    status: Any = None
    solver_state: Any = None


class _ProximalMethod(DiniSolver):
    """What the three have in common."""

    state_type = ProxGradState

    fun: Callable[..., Any]
    value_and_grad: Any
    has_aux: bool
    stepsize: Any
    acceleration: bool

    def _lead(self) -> int:
        return (2 if self.acceleration else 3) if self._adaptive() else 1

    def _adaptive(self) -> bool:
        return not callable(self.stepsize) and bool(self.stepsize <= 0)

    def _searches(self) -> bool:
        return self._adaptive()

    def _step_size(self) -> Any:
        return None if self._adaptive() else self.stepsize

    def _method(self) -> Any:
        return solvers.ProximalGradient(
            step_size=self._step_size(), acceleration=self.acceleration, atol=self.tol, max_steps=max(self.maxiter, 1)
        )

    def _fields(self, method: Any) -> dict[str, Any]:
        fields = {"stepsize": method.step_size, "t": jnp.ones_like(method.step_size)}
        if self.acceleration:
            fields |= {"velocity": trees.from_real(method.extrapolated), "t": method.momentum}
        return fields

    def _objective(self) -> Any:
        return objective(self.fun, self.value_and_grad, self.has_aux)

    def _prox_residual(self, params: Any, problem: Any, given: Given) -> Any:
        """Return the move of a proximal-gradient step of unit size."""
        step = problem.prox(trees.sub(params, problem.gradient(params, given)), 1.0)
        return trees.sub(step, params)


@dataclass(eq=False)
class ProximalGradient(_ProximalMethod):
    r"""Proximal gradient, :math:`\min_x f(x, \theta) + g(x, \lambda)`, by :class:`dini.ProximalGradient`.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``, the smooth part.
    prox
        ``prox(x, hyperparams_prox, scale)``, the proximal operator of ``scale * g``.
    value_and_grad
        Whether ``fun`` returns the value and the gradient.
    has_aux
        Whether the value is a pair ``(value, aux)``.
    stepsize
        A number, a function of the iteration, or at most zero for a backtracking line search.
    maxiter
        Limit on the number of iterations.
    maxls
        Limit on the number of trials of a line search.
    tol
        Absolute tolerance on the norm of the gradient mapping.
    acceleration
        Whether to use momentum.
    decrease_factor
        Taken for JAXopt's sake; dini's line search halves.
    verbose
        Whether to print a line for each iteration.
    implicit_diff
        Whether to differentiate the condition (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Whether loops inside ``update`` are of fixed length: ``"auto"`` where the iterations are differentiated.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> def soft(x, strength, scale=1.0):
    ...     return jnp.sign(x) * jnp.maximum(jnp.abs(x) - scale * strength, 0.0)
    >>> solver = jaxopt.ProximalGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), soft)
    >>> print(solver.run(jnp.zeros(2), hyperparams_prox=1.0, y=jnp.array([3.0, 0.5])).params.round(3))
    [2. 0.]
    """

    fun: Callable[..., Any]
    prox: Callable[..., Any] = prox_none
    value_and_grad: Any = False
    has_aux: bool = False
    stepsize: Any = 0.0
    maxiter: int = 500
    maxls: int = 15
    tol: Any = 1e-3
    acceleration: bool = True
    decrease_factor: float = 0.5
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    def _stated(self, hyperparams_prox: Any = None, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        problem = Minimize(self._objective(), penalty=penalty(self.prox, hyperparams_prox), has_aux=self.has_aux)
        return problem, (args, kwargs)

    def optimality_fun(self, sol: Any, hyperparams_prox: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a step of unit size."""
        return self._prox_residual(sol, *self._stated(hyperparams_prox, *args, **kwargs))


@dataclass(eq=False)
class GradientDescent(ProximalGradient):
    r"""Gradient descent, by :class:`dini.ProximalGradient` or :class:`dini.GradientDescent` without ``acceleration``.

    The parameters are those of :class:`ProximalGradient`, but for ``prox``, which there is none of.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> def ridge(w, strength, X, y):
    ...     return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> solver = jaxopt.GradientDescent(ridge, tol=1e-5)
    >>> print(solver.run(jnp.zeros(2), 0.5, X=X, y=y).params.round(3))
    [1. 2.]
    >>> print(jax.jacobian(lambda s: solver.run(jnp.zeros(2), s, X=X, y=y).params)(0.5).round(3))
    [-1.  -0.8]
    """

    def _method(self) -> Any:
        if self.acceleration:
            return super()._method()
        return solvers.GradientDescent(step_size=self._step_size(), atol=self.tol, max_steps=max(self.maxiter, 1))

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Minimize(self._objective(), has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradient."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(params, given)


@dataclass(eq=False)
class ProjectedGradient(_ProximalMethod):
    r"""Projected gradient, :math:`\min_{x \in C(\lambda)} f(x, \theta)`, by :class:`dini.ProjectedGradient`.

    The parameters are those of :class:`ProximalGradient`, but for ``prox``.

    Parameters
    ----------
    projection
        ``projection(x, hyperparams_proj)``, the projection onto the set.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> solver = jaxopt.ProjectedGradient(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), lambda x, _: jnp.maximum(x, 0))
    >>> print(solver.run(jnp.zeros(2), y=jnp.array([3.0, -0.5])).params.round(3))
    [3. 0.]
    """

    fun: Callable[..., Any]
    projection: Callable[..., Any]
    value_and_grad: Any = False
    has_aux: bool = False
    stepsize: Any = 0.0
    maxiter: int = 500
    maxls: int = 15
    tol: Any = 1e-3
    acceleration: bool = True
    decrease_factor: float = 0.5
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    def _stated(self, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        part = constraint(self.projection, hyperparams_proj)
        return Minimize(self._objective(), constraint=part, has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, sol: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a step of unit size."""
        return self._prox_residual(sol, *self._stated(hyperparams_proj, *args, **kwargs))
