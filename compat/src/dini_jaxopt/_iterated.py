"""dini's steps as JAXopt's iterations: one iteration is one step of the method with all trials of its line search."""

from __future__ import annotations

from dataclasses import field
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dini
from dini import Status
from dini.extend import allowed, by_hand, on_reals, trees


class Iteration(NamedTuple):
    """Carried from iteration to iteration: the method's own state, and how many of its steps were taken.

    A step evaluates the problem's function about once.
    """

    error: Any
    status: Any
    scales: Any
    method: Any
    steps: Any


@dini.solver
class Limited(dini.Solver):
    """Base of solvers whose limit on the number of steps is known, ``most``, or traced, ``limit``."""

    most: int = field(default=500, metadata={"static": True})
    limit: Any = None

    @property
    def max_steps(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The limit on the number of steps."""
        return self.most if self.limit is None else self.limit

    def __post_init__(self, tol: Any) -> None:
        if self.limit is None:  # else there is no number to be checked
            super().__post_init__(tol)


@dini.solver
class Iterated(Limited):
    """A solver of dini's whose step is an iteration in JAXopt's sense.

    A line search of dini's takes one trial a step, and a rejected trial leaves the point where it is. Here the trials
    go on until the point moves, the stopping test is met or the method says that it failed.

    Parameters
    ----------
    method
        The solver.
    trials
        Limit on the number of steps within one iteration; with one the iterations are the solver's own steps.
    lead
        Number of steps that the first iteration takes at least: a start is evaluated, and its curvature probed.
    bounded
        Whether the trials are a loop of fixed length, which reverse mode can differentiate.
    by_step
        Whether the error is the length of the iteration's step, in place of the method's own.
    """

    method: Any = None
    trials: int = field(default=1, metadata={"static": True})
    lead: int = field(default=1, metadata={"static": True})
    bounded: bool = field(default=False, metadata={"static": True})
    by_step: bool = field(default=False, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        object.__setattr__(self, "rtol", self.method.rtol)
        object.__setattr__(self, "atol", self.method.atol)
        super().__post_init__(tol)

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def solves(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The method's, which an object that is being copied has not got yet."""
        return self.__dict__["method"].solves if "method" in self.__dict__ else dini.Solver.solves

    composite = property(lambda self: self.method.composite)  # pyright: ignore[reportAssignmentType]
    monotone = property(lambda self: self.method.monotone)  # pyright: ignore[reportAssignmentType]
    error_before_step = property(lambda self: self.method.error_before_step)  # pyright: ignore[reportAssignmentType]
    gradient_only = property(lambda self: self.method.gradient_only)  # pyright: ignore[reportAssignmentType]
    superlinear = property(lambda self: self.method.superlinear)  # pyright: ignore[reportAssignmentType]
    differentiable = property(lambda self: self.method.differentiable)  # pyright: ignore[reportAssignmentType]
    adaptive = property(lambda self: self.method.adaptive)  # pyright: ignore[reportAssignmentType]

    def check(self, problem: Any, x: Any) -> None:
        """Raise unless the method can solve the problem."""
        self.method.check(problem, x)

    def fixed_steps(self) -> Any:
        """Return the solver for a fixed number of iterations."""
        fixed = super().fixed_steps()
        object.__setattr__(fixed, "method", self.method.fixed_steps())
        return fixed

    def last_value(self, problem: Any, state: Iteration) -> Any:
        """Return the method's."""
        return self.method.last_value(problem, state.method)

    def readings(self, x: Any, state: Iteration) -> dict[str, Any]:
        """Return what the method tells."""
        return self.method.readings(x, state.method)

    def derivative_solver(self, problem: Any, x: Any, state: Iteration) -> Any:
        """Return the method's."""
        return self.method.derivative_solver(problem, x, state.method)

    def init(self, problem: Any, x: Any, *args: Any) -> Iteration:
        """Return the state before the first iteration."""
        state = _around(self.method.init(problem, x, *args), jnp.zeros((), jnp.int32))
        return self._measured(x, x, state)

    def step(self, problem: Any, x: Any, state: Iteration, *args: Any) -> tuple[Any, Iteration]:
        """Take one iteration."""
        if self.trials == self.lead == 1:
            new, method = self.method.step(problem, x, state.method, *args)
            return new, self._measured(x, new, _around(method, state.steps + 1))
        start = state.steps
        most = jnp.where(start == 0, self.trials + self.lead - 1, self.trials)

        def going(now: tuple[Any, Iteration, Any]) -> Any:
            point, at, before = now
            met = (at.error <= allowed(self, point, at)) & self.stops & (not self.by_step)
            running = (at.status == Status.RUNNING) & ~met
            taken = at.steps - start
            return (taken == 0) | (running & (at.steps < self.lead)) | (running & _same(point, before) & (taken < most))

        def one(now: tuple[Any, Iteration, Any]) -> tuple[Any, Iteration, Any]:
            point, method = self.method.step(problem, now[0], now[1].method, *args)
            at = _around(method, now[1].steps + 1)
            # a step that only probes is no move
            return point, at, trees.where(at.steps < self.lead, point, now[2])

        if self.bounded:
            body = lambda now, _: (jax.lax.cond(going(now), one, lambda same: same, now), None)
            new, after, _ = jax.lax.scan(body, (x, state, x), None, length=self.trials + self.lead - 1)[0]
        else:
            new, after, _ = jax.lax.while_loop(going, one, (x, state, x))
        return new, self._measured(x, new, after)

    def _measured(self, x: Any, new: Any, state: Iteration) -> Iteration:
        """Return the state after an iteration from ``x`` to ``new`` with its error."""
        if not self.by_step:
            return state
        step = trees.norm(jax.lax.stop_gradient(trees.sub(new, x)))
        return state._replace(error=jnp.where(state.steps > 0, step, jnp.inf).astype(state.error.dtype))


def _around(method: Any, steps: Any) -> Iteration:
    running = jnp.zeros((), jnp.int32) + Status.RUNNING
    return Iteration(method.error, getattr(method, "status", running), getattr(method, "scales", None), method, steps)


def _same(point: Any, other: Any) -> Any:
    """Return whether two points are equal; NaN is none."""
    equal = jax.tree.map(lambda u, v: jnp.all(u == v), point, other)
    return reduce(jnp.logical_and, jax.tree.leaves(equal), jnp.asarray(True))


@by_hand
def begun(solver: Any, problem: Any, x: Any, *args: Any) -> tuple[Iteration, Any]:
    """Return the first state and the auxiliary output."""
    problem, x = on_reals(problem, x)
    state = solver.init(problem, x, *args)
    return state, _aux(solver, problem, x, state, args)


@by_hand
def begun_evaluated(solver: Any, problem: Any, x: Any, *args: Any) -> tuple[Iteration, Any, Any]:
    """Return the first state, the auxiliary output, and value and gradient of an objective at the start."""
    problem, x = on_reals(problem, x)
    return *begun(solver, problem, x, *args), problem.value_and_gradient(x, *args)


@by_hand
def advanced(solver: Any, problem: Any, x: Any, state: Iteration, *args: Any) -> tuple[Any, Iteration, Any]:
    """Return the point and the state after one iteration, and the auxiliary output there."""
    complex_unknown = trees.has_complex(x)
    problem, x = on_reals(problem, x)
    x, state = solver.step(problem, x, state, *args)
    aux = _aux(solver, problem, x, state, args)
    return trees.from_real(x) if complex_unknown else x, state, aux


def _aux(solver: Any, problem: Any, x: Any, state: Iteration, args: tuple[Any, ...]) -> Any:
    """Return the auxiliary output, of the step where the method keeps it."""
    readings = solver.readings(x, state)
    return readings["aux"] if "aux" in readings else problem.aux(x, *args)


@by_hand
def aux_at(solver: Any, problem: Any, x: Any, *args: Any) -> Any:
    """Return the auxiliary output at a point."""
    del solver
    return problem.aux(x, *args)


@by_hand
def residuals_at(solver: Any, problem: Any, x: Any, *args: Any) -> tuple[Any, Any]:
    """Return the residuals of a least-squares problem and the gradient."""
    del solver
    x = jax.lax.stop_gradient(x)
    return problem.residuals(x, *args), problem.gradient(x, *args)
