"""What JAXopt's solver objects have in common, around dini's solves."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

import dini
from dini import SolveWarning, Status
from dini.extend import as_function, record, trees, untraced, without_tangent

from ._iterated import Limited
from ._objective import Given, bound
from ._table import AutoOrBoolean as AutoOrBoolean
from .implicit_diff import custom_root


class OptStep(NamedTuple):
    """A point and the state of the solver at it."""

    params: Any
    state: Any


class KKTSolution(NamedTuple):
    """A solution of a program with the multipliers of its constraints."""

    primal: Any
    dual_eq: Any = None
    dual_ineq: Any = None


class LineSearchStep(NamedTuple):
    """A step size and the state of the line search at it."""

    stepsize: Any
    state: Any


@record
class WarnedImplicit(dini.Implicit):
    """Implicit differentiation that warns of what JAXopt did not say.

    The derivative of a point that need not be a solution is that of the condition there; where the condition is not
    met to one percent, or its linear system is not solved, that is a warning.
    """

    believes = False

    def run(self, problem: Any, solver: Any, x: Any, args: Any, monitor: Any, on_failure: Any) -> Any:
        """Solve, and attach the implicit derivative."""
        del on_failure
        return super().run(problem, solver, x, args, monitor, "warn")


@record
class WarnedUnrolled(dini.Unrolled):
    """Differentiation of the steps that warns where the derivative has not converged with the point."""

    def run(self, problem: Any, solver: Any, x: Any, args: Any, monitor: Any, on_failure: Any) -> Any:
        """Solve in loops that reverse mode can differentiate."""
        del on_failure
        return super().run(problem, solver, x, args, monitor, "warn")


@dataclasses.dataclass(frozen=True)
class _Printed:
    """Print a line for each iteration."""

    name: str

    def __call__(self, info: dict[str, Any]) -> None:
        print(f"INFO: jaxopt.{self.name}: Iter: {info['steps']} Error (stopping criterion): {info['error']}")


class Solver:
    """Base of all solvers: ``run`` returns an :class:`OptStep`, ``optimality_fun`` vanishes at a solution."""

    optimality_fun: Callable[..., Any]

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Solve from ``init_params``; the other arguments are the function's."""
        raise NotImplementedError

    def l2_optimality_error(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the norm of :meth:`optimality_fun`."""
        return trees.norm(self.optimality_fun(params, *args, **kwargs))

    def attribute_names(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return tuple(each.name for each in dataclasses.fields(self))  # pyright: ignore[reportArgumentType]

    def attribute_values(self) -> tuple[Any, ...]:
        """Return the settings."""
        return tuple(getattr(self, name) for name in self.attribute_names())


class IterativeSolver(Solver):
    """Base of the solvers that take steps, also of a user's own.

    A subclass defines ``init_state(init_params, *args, **kwargs)``, which returns a named tuple with a field
    ``error``, ``update(params, state, *args, **kwargs)``, which returns an :class:`OptStep`, and ``optimality_fun``,
    with the attributes ``maxiter`` and ``tol``. It gets ``run``, whose result is differentiated by
    :class:`dini.Implicit` with that condition, or with ``implicit_diff = False`` by :class:`dini.Unrolled`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> from dataclasses import dataclass
    >>> from typing import Any, NamedTuple
    >>> class State(NamedTuple):
    ...     iter_num: Any
    ...     error: Any
    >>> @dataclass(eq=False)
    ... class Babylonian(jaxopt.base.IterativeSolver):
    ...     maxiter: int = 50
    ...     tol: float = 1e-5
    ...     def init_state(self, init_params, a):
    ...         return State(jnp.asarray(0), jnp.asarray(jnp.inf))
    ...     def update(self, params, state, a):
    ...         new = 0.5 * (params + a / params)
    ...         return jaxopt.OptStep(new, State(state.iter_num + 1, jnp.abs(new - params)))
    ...     def optimality_fun(self, params, a):
    ...         return params**2 - a
    >>> print(jax.grad(lambda a: Babylonian().run(1.0, a).params)(4.0))
    0.25
    """

    maxiter: Any
    tol: Any
    jit: Any = True
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    verbose: Any = False
    unroll: AutoOrBoolean = "auto"

    def __post_init__(self) -> None:
        if self.jit:
            self.update = jax.jit(self.update)

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        raise NotImplementedError

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        raise NotImplementedError

    def log_info(self, state: Any, error_name: str = "Error", additional_info: dict[str, Any] | None = None) -> None:
        """Print a line on an iteration, also from a compiled program."""
        more = additional_info or {}
        text = "".join(f" {name}: {{}}" for name in more)
        line = f"INFO: jaxopt.{type(self).__name__}: Iter: {{}} {error_name} (stopping criterion): {{}}{text}"
        jax.debug.print(line, state.iter_num, state.error, *more.values(), ordered=True)

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        """Return the problem of a call, and the arguments of its function."""
        return dini.Root(bound(self.optimality_fun, "optimality_fun")), (args, kwargs)

    def _posed(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        """Return what ``run`` solves."""
        return self._stated(*args, **kwargs)

    def _solver(self) -> Any:
        """Return the solver of dini's."""
        return Updates(start=self.init_state, advance=self.update, atol=self.tol, **self._limits())

    def _limits(self) -> dict[str, Any]:
        """Return ``maxiter`` as settings of a :class:`Limited` solver."""
        if not isinstance(self.maxiter, jax.core.Tracer):
            return {"most": self._most()}
        if self._unrolled():
            raise TypeError(
                f"{type(self).__name__}'s maxiter must be a Python integer where iterations are differentiated, with "
                "implicit_diff=False or unroll=True: it is traced here. Make it a static argument of jit."
            )
        return {"limit": self.maxiter}

    def _most(self) -> int:
        """Return ``maxiter``, which is known."""
        try:
            most = operator.index(self.maxiter)
        except TypeError:
            most = -1
        if most < 0:
            raise ValueError(
                f"{type(self).__name__}'s maxiter must be an integer of at least zero: given {self.maxiter!r}."
            )
        return most

    def _state_of(self, solution: Any, solver: Any, problem: Any, given: Given) -> Any:
        """Return the state of a solution for users."""
        del solver, problem, given
        state = solution.state.state
        return state._replace(status=solution.status) if "status" in getattr(state, "_fields", ()) else state

    def _start(self, init_params: Any, given: Given) -> Any:
        """Return the starting point; an :class:`OptStep` is one of them."""
        del given
        return init_params.params if isinstance(init_params, OptStep) else init_params

    def _unrolled(self) -> bool:
        """Return whether loops are to be such that reverse mode can differentiate them."""
        if self.unroll not in ("auto", True, False):
            raise ValueError(f'{type(self).__name__}\'s unroll must be "auto", True or False: given {self.unroll!r}.')
        return (not self.implicit_diff or not self.jit) if self.unroll == "auto" else bool(self.unroll)

    def run(self, init_params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until the error is at most ``tol``, or ``maxiter`` times.

        A run that does not come to its test returns its last point, as in JAXopt. Outside of ``jit``, ``grad`` and
        ``vmap`` it warns; everywhere ``state.status`` tells, one of :class:`dini.Status` (of a user's own solver,
        ``state.error``).
        """
        problem, given = self._posed(*args, **kwargs)
        start = self._start(init_params, given)
        if not self.jit:
            in_python = self._run_in_python
            if self.implicit_diff:
                in_python = custom_root(self.optimality_fun, True, self.implicit_diff_solve)(in_python)
            return in_python(start, *args, **kwargs)
        implicit, solver = self.implicit_diff, self._solver()
        solution = dini.solve(
            problem,
            solver,
            start,
            given,
            differentiation=WarnedImplicit(linear_solver=self.implicit_diff_solve) if implicit else WarnedUnrolled(),
            on_failure="ignore",
            monitor=dini.Callback(_Printed(type(self).__name__)) if self.verbose else None,
            return_state=True,
            steps=self._most() if self._counted() else None,
        )
        if untraced() and self._most() > 0:
            self._warn_unless_met(solution.status, stacklevel=3)
        # without a state, nothing was unknown
        state = None if solution.state is None else self._state_of(solution, solver, problem, given)
        return OptStep(solution.x, state)

    def _run_in_python(self, params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate in a loop of Python's, in which the user's functions see values."""
        with jax.disable_jit():
            step = OptStep(params, self.init_state(params, *args, **kwargs))
            for _ in range(self._most()):
                step = self.update(step.params, step.state, *args, **kwargs)
                if bool(jnp.all(step.state.error <= self.tol)):
                    break
        met = bool(np.all(np.asarray(without_tangent(step.state.error)) <= self.tol))
        status = jnp.asarray(Status.CONVERGED if met else Status.MAX_STEPS, jnp.int32)
        if not self._counted():
            self._warn_unless_met(status, stacklevel=4)
        state = step.state
        if "status" in getattr(state, "_fields", ()):
            state = state._replace(status=status)
        return OptStep(step.params, state)

    def _counted(self) -> bool:
        """Return whether there is no stopping test: then iterations are what is asked for."""
        known = not isinstance(self.tol, jax.core.Tracer) and np.ndim(self.tol) == 0
        traced = isinstance(self.maxiter, jax.core.Tracer)
        return known and float(self.tol) == 0 and not traced and self._most() > 0

    def _warn_unless_met(self, status: Any, stacklevel: int) -> None:
        """Warn unless a known status is that of a run that met its test, in all lanes."""
        worst = Status(int(np.max(np.asarray(status))))
        if np.all(np.isin(status, (Status.CONVERGED, Status.STOPPED))):
            return
        why = "Raise maxiter or tol." if worst == Status.MAX_STEPS else worst.explanation
        warnings.warn(
            f"jaxopt.{type(self).__name__} ended before its stopping test was met: {worst.name}, with "
            f"maxiter={self.maxiter} and tol={self.tol}. {why} The last point is returned, and its derivative may not "
            "be that of a solution: see state.error and state.status.",
            SolveWarning,
            stacklevel=stacklevel + 1,
        )


class StochasticSolver(IterativeSolver):
    """Base of the solvers that take one iteration on each batch of data, the keyword argument ``data``."""

    def run_iterator(self, init_params: Any, iterator: Iterator[Any], *args: Any, **kwargs: Any) -> OptStep:
        """Take one iteration on each item of an iterator, at most ``maxiter``; the first item only starts the state."""
        iterator = iter(iterator)
        try:
            first = next(iterator)
        except StopIteration:
            raise ValueError(f"{type(self).__name__}.run_iterator needs at least one item: given none.") from None
        step = OptStep(init_params, self.init_state(init_params, *args, **kwargs, data=first))
        for data in itertools.islice(iterator, self.maxiter):
            step = self.update(step.params, step.state, *args, **kwargs, data=data)
        return step


class UpdatesState(NamedTuple):
    """The error and the user's state."""

    error: Any
    state: Any


@dini.solver
class Updates(Limited):
    """A user's ``init_state`` and ``update`` as a solver of dini's."""

    start: Any = None
    advance: Any = None

    solves = (dini.Root,)

    def __post_init__(self, tol: Any) -> None:
        super().__post_init__(tol)
        for name in ("start", "advance"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), name))

    def init(self, problem: Any, x: Any, *args: Any) -> UpdatesState:
        """Return the user's first state."""
        del problem
        positional, keyword = args[0]
        return _with_error(self.start(x, *positional, **keyword), trees.real_dtype(x))

    def step(self, problem: Any, x: Any, state: UpdatesState, *args: Any) -> tuple[Any, UpdatesState]:
        """Call the user's update."""
        del problem
        positional, keyword = args[0]
        x, new = self.advance(x, state.state, *positional, **keyword)
        new = jax.tree.map(lambda old, leaf: jnp.asarray(leaf, jnp.asarray(old).dtype), state.state, new)
        return x, _with_error(new, state.error.dtype)


def _with_error(state: Any, dtype: Any) -> UpdatesState:
    return UpdatesState(jnp.asarray(state.error, dtype), jax.tree.map(jnp.asarray, state))
