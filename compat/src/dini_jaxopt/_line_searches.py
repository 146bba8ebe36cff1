"""Line searches by JAXopt's names: those of solvers, and on their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dini
from dini import solvers
from dini.extend import trees

from ._base import IterativeSolver, LineSearchStep
from ._objective import objective
from ._table import AutoOrBoolean, Function, Number, solver_class

#: what each condition of a backtracking search asks for
_CONDITIONS = {
    "armijo": lambda c1, c2: solvers.Backtracking(c1),
    "goldstein": solvers.WeakWolfe,
    "wolfe": solvers.WeakWolfe,
    "strong-wolfe": solvers.StrongWolfe,
}


def _backtracking(owner: str, condition: Any, c1: float = 1e-4, c2: float = 0.9) -> Any:
    """Return a backtracking search for a condition."""
    if condition not in _CONDITIONS:
        known = ", ".join(map(repr, _CONDITIONS))
        raise ValueError(f"{owner}'s condition must be one of {known}: given {condition!r}.")
    return _CONDITIONS[condition](c1, c2)


def named_search(owner: str, name: Any, condition: Any = None, curvature: float = 0.9) -> Any:
    """Return the line search of a name, or of one of JAXopt's objects."""
    if hasattr(name, "search"):
        return name.search()
    # JAXopt's backtracking asks for these conditions too
    if name == "zoom" or (name == "backtracking" and condition is None):
        return solvers.StrongWolfe(curvature=curvature)
    if name == "hager-zhang":
        return solvers.HagerZhang()
    if name == "backtracking":
        return _backtracking(owner, condition)
    raise ValueError(
        f'{owner}\'s linesearch must be "backtracking", "zoom", "hager-zhang" or one of their objects: given {name!r}.'
    )


class LineSearchState(NamedTuple):
    """State of a line search: the trial point with its value and gradient, and whether it is accepted."""

    iter_num: Any
    params: Any
    value: Any
    grad: Any
    error: Any
    done: Any
    failed: Any
    aux: Any = None
    value_init: Any = None
    slope_init: Any = None
    bracket: Any = None
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0


class IterativeLineSearch(IterativeSolver):
    """Base of the line searches: ``run`` returns a :class:`LineSearchStep`.

    Along ``params + stepsize * descent_direction`` (by default minus the gradient) it looks for a step size that its
    conditions accept, from ``init_stepsize`` on. A search that has found none says so in ``state.failed``.
    """

    fun: Callable[..., Any]
    value_and_grad: Any
    has_aux: bool
    maxiter: Any
    max_stepsize: Any

    def __post_init__(self) -> None:
        self.search()

    def search(self) -> Any:
        """Return the line search of dini's."""
        raise NotImplementedError

    def _problem(self) -> Any:
        return dini.Minimize(objective(self.fun, self.value_and_grad, self.has_aux), has_aux=self.has_aux)

    def init_state(
        self,
        init_stepsize: Any,
        params: Any,
        value: Any = None,
        grad: Any = None,
        descent_direction: Any = None,
        fun_args: Any = (),
        fun_kwargs: Any = None,
    ) -> LineSearchState:
        """Return the state before the first trial; what is not given of the start is evaluated."""
        problem, given = self._problem(), (tuple(fun_args), dict(fun_kwargs or {}))
        params, evaluations = trees.inexact(params), jnp.zeros((), jnp.int32)
        if value is None or grad is None:
            value, grad = problem.value_and_gradient(params, given)
            evaluations = evaluations + 1
        value = jnp.asarray(value)
        direction = _steepest(grad) if descent_direction is None else trees.inexact(descent_direction)
        slope = _slope(grad, direction, value)
        bracket = self.search().begin(jnp.asarray(init_stepsize, value.dtype), value, slope)
        inf, no = jnp.full_like(value, jnp.inf), jnp.zeros((), bool)
        aux = problem.aux(params, given)
        start = (jnp.zeros((), jnp.int32), params, value, grad, inf, no, no, aux)
        return LineSearchState(*start, value, slope, bracket, evaluations, evaluations)

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        stepsize: Any,
        state: LineSearchState,
        params: Any,
        value: Any = None,
        grad: Any = None,
        descent_direction: Any = None,
        fun_args: Any = (),
        fun_kwargs: Any = None,
    ) -> LineSearchStep:
        """Try one step size; the next one is returned, or the same where it is accepted."""
        del value
        problem, given = self._problem(), (tuple(fun_args), dict(fun_kwargs or {}))
        params = trees.inexact(params)
        if descent_direction is None:
            # the state's gradient is that of the last trial
            descent_direction = _steepest(problem.gradient(params, given) if grad is None else grad)
        descent_direction = trees.inexact(descent_direction)
        longest = None if self.max_stepsize is None else jnp.asarray(self.max_stepsize, state.value.dtype)
        stepsize = jnp.asarray(stepsize, state.value.dtype)
        stepsize = stepsize if longest is None else jnp.minimum(stepsize, longest)
        point = trees.axpy(stepsize, descent_direction, params)
        new_value, new_grad = problem.value_and_gradient(point, given)
        new_value = new_value.astype(state.value.dtype)
        slope = _slope(new_grad, descent_direction, state.value)
        bracket = state.bracket._replace(trial=stepsize)
        slack = jnp.finfo(state.value.dtype).eps * jnp.abs(state.value_init)
        done, bracket = self.search().judge(bracket, state.value_init, new_value, slope, slack, longest)
        failed = ~done & (state.iter_num + 1 >= self.maxiter)
        evaluations = state.num_fun_eval + 1
        over = jnp.maximum(new_value - state.value_init - 1e-4 * stepsize * state.slope_init, 0)
        error = jnp.where(done, 0.0, jnp.where(over > 0, over, jnp.abs(slope))).astype(state.error.dtype)
        head = (state.iter_num + 1, point, new_value, new_grad, error, done, failed, problem.aux(point, given))
        new = LineSearchState(*head, state.value_init, state.slope_init, bracket, evaluations, evaluations)
        if self.verbose:
            self.log_info(new, additional_info={"Stepsize": stepsize, "Objective Value": new_value})
        return LineSearchStep(jnp.where(done | failed, stepsize, bracket.trial), new)

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        init_stepsize: Any,
        params: Any,
        value: Any = None,
        grad: Any = None,
        descent_direction: Any = None,
        fun_args: Any = (),
        fun_kwargs: Any = None,
    ) -> LineSearchStep:
        """Search from ``init_stepsize``, at most ``maxiter`` trials."""
        given = (value, grad, descent_direction, fun_args, fun_kwargs)
        state = self.init_state(init_stepsize, params, *given)
        stepsize = jnp.asarray(init_stepsize, state.value.dtype)
        if descent_direction is None:
            given = (value, grad, _steepest(state.grad), fun_args, fun_kwargs)
        start = LineSearchStep(stepsize, state)
        going = lambda now: ~now.state.done & ~now.state.failed
        with nullcontext() if self.jit else jax.disable_jit():
            return jax.lax.while_loop(going, lambda now: self.update(now.stepsize, now.state, params, *given), start)


def _steepest(gradient: Any) -> Any:
    """Return the direction of steepest descent; of a complex unknown, JAX's gradient is the conjugate of the ascent."""
    return jax.tree.map(lambda g: -jnp.conj(g), gradient)


def _slope(gradient: Any, direction: Any, value: Any) -> Any:
    """Return the slope of the function along a direction."""
    return trees.vdot(jax.tree.map(jnp.conj, gradient), direction).astype(value.dtype)


_SEARCH: dict[str, Any] = {
    "error": "which is zero where the conditions hold",
    "about": {
        "c1": "The constant of the sufficient decrease.",
        "c2": "The constant of the slope.",
        "maxiter": "Limit on the number of trials.",
        "verbose": "Whether to print a line for each trial.",
    },
}


@solver_class(
    ignored="tol decrease_factor unroll",
    **_SEARCH
    | {
        "about": _SEARCH["about"]
        | {
            "condition": "``'armijo'`` for a sufficient decrease; ``'wolfe'`` and ``'strong-wolfe'`` for slopes too "
            "(steps grow again where that is needed); ``'goldstein'`` is taken for ``'wolfe'``."
        }
    },
)
class BacktrackingLineSearch(IterativeLineSearch):
    """A line search that shortens steps, by :class:`dini.solvers.Backtracking` or a similar one.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> search = jaxopt.BacktrackingLineSearch(lambda x: jnp.sum(x**2), condition="armijo")
    >>> stepsize, state = search.run(1.0, jnp.ones(2))
    >>> print(stepsize, state.params, bool(state.failed))
    0.5 [0. 0.] False
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 30
    tol: Number = 0.0
    condition: str | None = "strong-wolfe"
    c1: float = 1e-4
    c2: float = 0.9
    decrease_factor: Number | None = 0.8
    max_stepsize: Number | None = 1.0
    verbose: bool | int = False
    jit: AutoOrBoolean = "auto"
    unroll: AutoOrBoolean = "auto"

    def search(self) -> Any:
        """Return dini's search."""
        return _backtracking("BacktrackingLineSearch", self.condition, self.c1, self.c2)


@solver_class(
    ignored="tol c3 rel_tol_cubic rel_tol_quad interval_threshold increase_factor unroll",
    **_SEARCH,
)
class ZoomLineSearch(IterativeLineSearch):
    """A line search for the strong Wolfe conditions, by :class:`dini.solvers.StrongWolfe`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> search = jaxopt.ZoomLineSearch(lambda x: jnp.sum(x**2), c2=0.1)
    >>> print(search.run(1.0, jnp.ones(2)).stepsize)
    0.5
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    c1: float = 1e-4
    c2: float = 0.9
    c3: Number = 1e-6
    rel_tol_cubic: Number = 0.2
    rel_tol_quad: Number = 0.1
    interval_threshold: Number = 1e-6
    increase_factor: Number = 2.0
    tol: Number = 0.0
    maxiter: int | jax.Array = 30
    max_stepsize: Number | None = None
    verbose: bool | int = False
    jit: AutoOrBoolean = "auto"
    unroll: AutoOrBoolean = "auto"

    def search(self) -> Any:
        """Return dini's search."""
        return solvers.StrongWolfe(self.c1, self.c2)


@solver_class(
    ignored="tol expansion_factor unroll",
    **_SEARCH | {"about": _SEARCH["about"] | {"shrinkage_factor": "``shrink`` of :class:`dini.solvers.HagerZhang`."}},
)
class HagerZhangLineSearch(IterativeLineSearch):
    """Hager and Zhang's line search, by :class:`dini.solvers.HagerZhang`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> search = jaxopt.HagerZhangLineSearch(lambda x: jnp.sum(x**2))
    >>> print(bool(search.run(1.0, jnp.ones(2)).state.value < 2.0))
    True
    """

    fun: Function
    value_and_grad: bool | Function = False
    has_aux: bool = False
    maxiter: int | jax.Array = 30
    tol: Number = 0.0
    c1: float = 0.1
    c2: float = 0.9
    expansion_factor: Number = 5.0
    shrinkage_factor: float = 0.66
    max_stepsize: Number | None = 1.0
    verbose: bool | int = False
    jit: AutoOrBoolean = "auto"
    unroll: AutoOrBoolean = "auto"

    def search(self) -> Any:
        """Return dini's search."""
        return solvers.HagerZhang(self.c1, self.c2, self.shrinkage_factor)
