"""Solvers of equations by JAXopt's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dini import solvers
from dini.functions.traces import untraced
from dini.problems import Root
from dini.solvers import solver
from dini.trees import Tree

from ._base import AutoOrBoolean, DiniSolver, OptStep
from ._objective import Given, bound


class BisectionState(NamedTuple):
    """State of bisection: the ends of the bracket, and the value at the point."""

    iter_num: Any
    value: Any
    error: Any
    low: Any
    high: Any
    sign: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


class BroydenState(NamedTuple):
    """State of Broyden's method."""

    iter_num: Any
    error: Any
    aux: Any = None
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


@solver
class SmallValue(solvers.Bisection):
    """Bisection until the function's value is small, which is JAXopt's test; dini's is the width of the bracket."""

    def step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Evaluate the function at one point of each bracket."""
        x, new = solvers.Bisection.step(self, problem, x, state, *args)
        value = jnp.max(jnp.minimum(jnp.abs(new.at_a), jnp.abs(new.at_b))).astype(new.error.dtype)
        return x, new._replace(error=jnp.where(jnp.isfinite(new.error), value, new.error))


@dataclass(eq=False)
class Bisection(DiniSolver):
    r"""Bisection, :math:`F(x, \theta) = 0` with a sign change between two ends, by :class:`dini.Bisection`.

    ``run`` ignores its starting point, which may be left out.

    Parameters
    ----------
    optimality_fun
        ``optimality_fun(x, *args, **kwargs)``, a number.
    lower, upper
        The ends of the bracket.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the function's value.
    check_bracket
        Whether a bracket without a change of sign raises ``ValueError``, where values are known; ``state.status`` tells
        it everywhere.
    verbose
        Whether to print a line for each iteration.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    has_aux
        Whether ``optimality_fun`` returns a pair ``(value, aux)``.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Raises
    ------
    ValueError
        Where the bracket holds no change of sign.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax
    >>> solver = jaxopt.Bisection(lambda x, a: x**3 - a, lower=0.0, upper=4.0)
    >>> print(solver.run(a=8.0).params.round(3), jax.grad(lambda a: solver.run(a=a).params)(8.0))
    2.0 0.083333336
    """

    optimality_fun: Callable[..., Any]
    lower: Any
    upper: Any
    maxiter: int = 30
    tol: Any = 1e-5
    check_bracket: bool = True
    verbose: Any = False
    implicit_diff_solve: Any = None
    has_aux: bool = False
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = BisectionState
    lead = 3

    def _method(self) -> Any:
        return SmallValue(lower=self.lower, upper=self.upper, atol=self.tol, max_steps=max(self.maxiter, 1))

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return Root(bound(self.optimality_fun, "optimality_fun"), has_aux=self.has_aux), (args, kwargs)

    def _start(self, init_params: Any, given: Given) -> Any:
        del init_params, given
        return jnp.asarray(0.5 * (jnp.asarray(self.lower, float) + jnp.asarray(self.upper, float)))

    def _fields(self, method: Any) -> dict[str, Any]:
        better = jnp.abs(method.at_a) <= jnp.abs(method.at_b)
        shape = jnp.shape(self._start(None, ((), {})))
        low, high = jnp.minimum(method.a, method.b), jnp.maximum(method.a, method.b)
        value = jnp.where(better, method.at_a, method.at_b)
        sign = jnp.sign(jnp.where(method.a <= method.b, method.at_b, method.at_a)).astype(jnp.int32)
        fields = {"low": low, "high": high, "value": value, "sign": sign}
        return {name: leaf.reshape(shape) for name, leaf in fields.items()}

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        return super().init_state(init_params, *args, **kwargs)

    def run(self, init_params: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until the value is at most ``tol``, or ``maxiter`` times; see ``IterativeSolver``."""
        if self.check_bracket and untraced():
            ends = (jnp.asarray(end, float) for end in (self.lower, self.upper))
            values = [self.optimality_fun(end, *args, **kwargs) for end in ends]
            signs = [np.sign(np.asarray(value[0] if self.has_aux else value)) for value in values]
            if np.any(signs[0] * signs[1] > 0):
                raise ValueError(
                    f"Bisection's function has no change of sign between lower={self.lower} and upper={self.upper}: "
                    f"its values there are {values[0]} and {values[1]}. Widen the bracket."
                )
        return super().run(init_params, *args, **kwargs)


@dataclass(eq=False)
class Broyden(DiniSolver):
    r"""Broyden's method, :math:`F(x, \theta) = 0`, by :class:`dini.Broyden`.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``, a tree like ``x``.
    has_aux
        Whether ``fun`` returns a pair ``(residual, aux)``.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the norm of the residual.
    stepsize, linesearch, stop_if_linesearch_fails, condition, decrease_factor, increase_factor, max_stepsize
        Taken for JAXopt's sake; dini's method finds its steps.
    min_stepsize, gamma
        Taken for JAXopt's sake, too.
    maxls
        Limit on the number of trials in an iteration.
    history_size
        Number of updates that are kept; ``None`` for dini's choice.
    implicit_diff
        Whether to differentiate the equation (``True``) or the iterations.
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
    >>> F = lambda x, a: jnp.array([x[0] ** 2 + x[1] - a, x[0] - x[1]])
    >>> print(jaxopt.Broyden(F, tol=1e-6).run(jnp.array([1.0, 2.0]), 6.0).params.round(4))
    [2. 2.]
    """

    fun: Callable[..., Any]
    has_aux: bool = False
    maxiter: int = 500
    tol: Any = 1e-3
    stepsize: Any = 0.0
    linesearch: Any = "backtracking"
    stop_if_linesearch_fails: bool = False
    condition: Any = "wolfe"
    maxls: int = 15
    decrease_factor: float = 0.8
    increase_factor: float = 1.5
    max_stepsize: float = 1.0
    min_stepsize: float = 1e-6
    history_size: int | None = None
    gamma: float = 1.0
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"
    verbose: Any = False

    state_type = BroydenState
    lead = 2

    def _method(self) -> Any:
        settings: dict[str, Any] = {} if self.history_size is None else {"history": self.history_size}
        return solvers.Broyden(**settings, atol=self.tol, max_steps=max(self.maxiter, 1))

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return Root(bound(self.fun), has_aux=self.has_aux), (args, kwargs)

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the residual."""
        problem, given = self._stated(*args, **kwargs)
        return problem.residual(params, given)
