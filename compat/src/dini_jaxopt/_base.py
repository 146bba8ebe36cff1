"""What JAXopt's solver objects have in common, on dini's road from a problem to its solution."""

from __future__ import annotations

import dataclasses
import itertools
import re
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from dini import trees
from dini.checks.records import record
from dini.differentiation import Differentiation, Implicit, Unrolled
from dini.differentiation._tangents import solve_tangent_at_solution
from dini.functions import as_function
from dini.functions.traces import untraced
from dini.loop import Outcome
from dini.monitors import Callback
from dini.problems import Root
from dini.reports import without_tangent
from dini.solve import solve
from dini.solvers import Solver as Method
from dini.solvers import solver
from dini.status import SolveWarning, Status
from dini.trees import Tree

from ._iterated import Iterated, Iteration, advanced, begun, begun_evaluated, ended
from ._objective import Given, bound
from .implicit_diff import custom_root

AutoOrBoolean = str | bool


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
class WarnedImplicit(Implicit):
    """Implicit differentiation that warns of what JAXopt did not say.

    The derivative of a point that need not be a solution is that of the condition there; where the condition is not
    met to one percent, or its linear system is not solved, that is a warning.
    """

    def run(self, problem: Any, solver: Any, x: Tree, args: tuple[Tree, ...], monitor: Any, on_failure: Any) -> Outcome:
        """Solve, and attach the implicit derivative."""
        del on_failure
        return super().run(problem, solver, x, args, monitor, "warn")

    def _tangents(self, problem: Any) -> Any:
        del problem
        return solve_tangent_at_solution


@record
class WarnedUnrolled(Unrolled):
    """Differentiation of the steps that warns where the derivative has not converged with the point."""

    def run(self, problem: Any, solver: Any, x: Tree, args: tuple[Tree, ...], monitor: Any, on_failure: Any) -> Outcome:
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

    maxiter: int
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
        return Root(bound(self.optimality_fun, "optimality_fun")), (args, kwargs)

    def _posed(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        """Return what ``run`` solves."""
        return self._stated(*args, **kwargs)

    def _measured(self, state: Any, problem: Any, x: Any, given: Given) -> Any:
        """Return a state with what is to be evaluated at its point."""
        del problem, x, given
        return state

    def _solver(self) -> Any:
        """Return the solver of dini's."""
        return Updates(start=self.init_state, advance=self.update, atol=self.tol, max_steps=self.maxiter)

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        """Return the state for users; ``known`` are value and gradient."""
        del iter_num, aux, known
        return iteration.state

    def _start(self, init_params: Any, given: Given) -> Any:
        """Return the starting point; an :class:`OptStep` is one of them."""
        del given
        return init_params.params if isinstance(init_params, OptStep) else init_params

    def _unrolled(self) -> bool:
        """Return whether loops are to be such that reverse mode can differentiate them."""
        if self.unroll not in ("auto", True, False):
            raise ValueError(f'{type(self).__name__}\'s unroll must be "auto", True or False: given {self.unroll!r}.')
        return (not self.implicit_diff or not self.jit) if self.unroll == "auto" else bool(self.unroll)

    def _differentiation(self) -> Differentiation:
        if self.implicit_diff:
            return WarnedImplicit(linear_solver=self.implicit_diff_solve)
        return WarnedUnrolled()

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
        solution = solve(
            problem,
            self._solver(),
            start,
            given,
            differentiation=self._differentiation(),
            on_failure="ignore",
            monitor=Callback(_Printed(type(self).__name__)) if self.verbose else None,
            return_state=True,
            steps=self.maxiter if self._counted() else None,
        )
        if untraced() and self.maxiter > 0:
            self._told(solution.status, stacklevel=3)
        aux = solution.aux
        if isinstance(solution.state, Iteration):
            aux = getattr(solution.state.method, "aux", aux)
        state = self._measured(self._state(solution.stats.steps, solution.state, aux), problem, solution.x, given)
        return OptStep(solution.x, _ended_with(state, solution))

    def _run_in_python(self, params: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate in a loop of Python's, in which the user's functions see values."""
        with jax.disable_jit():
            step = OptStep(params, self.init_state(params, *args, **kwargs))
            for _ in range(self.maxiter):
                step = self.update(step.params, step.state, *args, **kwargs)
                if bool(jnp.all(step.state.error <= self.tol)):
                    break
        known = without_tangent(step.state.error)
        met = bool(np.all(np.asarray(known) <= self.tol))
        status = jnp.asarray(Status.CONVERGED if met else Status.MAX_STEPS, jnp.int32)
        if not self._counted():
            self._told(status, stacklevel=4)
        state = step.state
        if "status" in getattr(state, "_fields", ()):
            state = state._replace(status=status)
        return OptStep(step.params, state)

    def _counted(self) -> bool:
        """Return whether there is no stopping test: then iterations are what is asked for."""
        known = not isinstance(self.tol, jax.core.Tracer) and np.ndim(self.tol) == 0
        return known and float(self.tol) == 0 and self.maxiter > 0

    def _told(self, status: Any, stacklevel: int) -> None:
        """Warn unless a known status is that of a run that met its test."""
        if ended(status):
            return
        worst = Status(int(np.max(np.asarray(status))))
        why = "Raise maxiter or tol." if worst == Status.MAX_STEPS else worst.explanation
        warnings.warn(
            f"jaxopt.{type(self).__name__} ended without meeting its stopping test: {worst.name}, with "
            f"maxiter={self.maxiter} and tol={self.tol}. {why} The last point is returned, and its derivative need not "
            "be that of a solution: see state.error and state.status.",
            SolveWarning,
            stacklevel=stacklevel + 1,
        )


def _ended_with(state: Any, solution: Any) -> Any:
    """Return a state with how the solve ended."""
    if "status" not in getattr(state, "_fields", ()):
        return state
    return state._replace(status=solution.status)


@contextmanager
def evaluating_the_start(owner: str) -> Generator[None]:
    """Say of a ``TypeError`` for a missing argument that ``init_state`` takes those of ``update``."""
    try:
        yield
    except TypeError as error:
        missing = re.search(r"missing .*argument(s?): (.*)", str(error))
        if missing is None:
            raise
        raise TypeError(
            f"{owner}.init_state evaluates the function at the start and takes the arguments that update takes: "
            f"{missing[2]} {'are' if missing[1] else 'is'} missing."
        ) from error


class StochasticSolver(IterativeSolver):
    """Base of the solvers that take one iteration on each batch of data, the keyword argument ``data``."""

    def run_iterator(self, init_params: Any, iterator: Iterator[Any], *args: Any, **kwargs: Any) -> OptStep:
        """Take one iteration on each item of an iterator, at most ``maxiter``; the first item only starts the state."""
        iterator = iter(iterator)
        try:
            first = next(iterator)
        except StopIteration:
            raise ValueError(f"{type(self).__name__}.run_iterator needs an item at least: given none.") from None
        step = OptStep(init_params, self.init_state(init_params, *args, **kwargs, data=first))
        for data in itertools.islice(iterator, self.maxiter):
            step = self.update(step.params, step.state, *args, **kwargs, data=data)
        return step


class DiniSolver(IterativeSolver):
    """Base of JAXopt's own solvers: a problem, a solver of dini's, and the fields of a state.

    A subclass defines :meth:`_stated` and :meth:`_method`, and has a ``state_type`` with the fields of JAXopt's state
    (those that it can know), ``status`` and ``solver_state``.
    """

    state_type: ClassVar[Any]
    #: steps that the first iteration takes at least: the start is evaluated, and the curvature probed
    lead: ClassVar[int] = 1
    maxls: int = 0
    has_aux: bool = False

    def _method(self) -> Method:
        """Return the solver of dini's."""
        raise NotImplementedError

    def _searches(self) -> bool:
        """Return whether one iteration may take several steps."""
        return self.maxls > 0

    def _lead(self) -> int:
        """Return how many steps the first iteration takes at least."""
        return self.lead

    def _resumed(self, state: Any) -> Iteration:
        """Return dini's state in one of JAXopt's."""
        return state.solver_state

    def _fields(self, method: Any) -> dict[str, Any]:
        """Return what the state of dini's solver tells of the fields of JAXopt's."""
        return {
            ours: value
            for ours, theirs in (("value", "value"), ("grad", "gradient"), ("stepsize", "step_size"))
            if (value := getattr(method, theirs, None)) is not None
        }

    def _solver(self) -> Iterated:
        trials = max(self.maxls, 1) if self._searches() else 1
        return Iterated(
            method=self._method(),
            max_steps=self.maxiter,
            trials=trials,
            lead=self._lead(),
            bounded=self._unrolled(),
        )

    def _stepper(self) -> Iterated:
        """Return the solver for iterations by hand."""
        return self._solver()

    def _state(self, iter_num: Any, iteration: Any, aux: Any = None, known: Any = None) -> Any:
        if iteration is None:  # nothing was unknown
            return None
        if isinstance(iteration, UpdatesState):
            return iteration.state
        fields = self._fields(iteration.method)
        if known is not None:
            fields |= dict(zip(("value", "grad"), known, strict=True))
        if "grad" in fields:
            # of a complex unknown, JAX's gradient is the conjugate of the pair of both derivatives
            fields["grad"] = jax.tree.map(jnp.conj, trees.from_real(fields["grad"]))
        fields |= {"iter_num": iter_num, "error": iteration.error, "aux": aux, "num_fun_eval": iteration.steps}
        fields |= {"status": iteration.status, "solver_state": iteration}
        return self.state_type(**{name: fields[name] for name in self.state_type._fields if name in fields})

    def init_state(self, init_params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        problem, given = self._stated(*args, **kwargs)
        params = self._start(init_params, given)
        # a state without gradient says nothing of the function, and needs none of its arguments
        start = begun_evaluated if "grad" in self.state_type._fields else begun
        with evaluating_the_start(type(self).__name__):
            known = start(self._solver(), problem, params, given)
            return self._measured(self._state(jnp.zeros((), jnp.int32), *known), problem, params, given)

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        problem, given = self._stated(*args, **kwargs)
        params = self._start(params, given)
        params, iteration, aux = advanced(self._stepper(), problem, params, self._resumed(state), given)
        new = self._measured(self._state(state.iter_num + 1, iteration, aux), problem, params, given)
        step = OptStep(params, new)
        if self.verbose:
            self.log_info(step.state)
        return step


class UpdatesState(NamedTuple):
    """The error and the user's state."""

    error: Any
    state: Any


@solver
class Updates(Method):
    """A user's ``init_state`` and ``update`` as a solver of dini's."""

    start: Any
    advance: Any
    max_steps: int = dataclasses.field(default=500, metadata={"static": True})

    solves = (Root,)

    def __post_init__(self, tol: Any) -> None:
        super().__post_init__(tol)
        for name in ("start", "advance"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), name))

    def init(self, problem: Any, x: Tree, *args: Tree) -> UpdatesState:
        """Return the user's first state."""
        del problem
        positional, keyword = args[0]
        return _with_error(self.start(x, *positional, **keyword), trees.real_dtype(x))

    def step(self, problem: Any, x: Tree, state: UpdatesState, *args: Tree) -> tuple[Any, UpdatesState]:
        """Call the user's update."""
        del problem
        positional, keyword = args[0]
        x, new = self.advance(x, state.state, *positional, **keyword)
        new = jax.tree.map(lambda old, leaf: jnp.asarray(leaf, jnp.asarray(old).dtype), state.state, new)
        return x, _with_error(new, state.error.dtype)


def _with_error(state: Any, dtype: Any) -> UpdatesState:
    return UpdatesState(jnp.asarray(state.error, dtype), jax.tree.map(jnp.asarray, state))
