"""A solver that continues from a state, and one that takes so many steps."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...loop import threshold
from ...protocols import AnyProblem, AnySolver
from ...status import Status
from ...trees import Tree


@record
class Resumed:
    """A solver that starts in the state of an earlier solve and may take fewer steps, unknown to the compiler.

    All else is the solver's own.
    """

    solver: Any
    state: Any
    limit: Any = None

    #: the state has its scales
    scales_unknowns = False

    @property
    def max_steps(self) -> Any:
        """The limit on the number of steps."""
        return self.solver.max_steps if self.limit is None else self.limit

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("solver", "state", "limit"):
            raise AttributeError(name)
        return getattr(self.solver, name)

    def fixed_steps(self) -> Resumed:
        """Return the solver for a fixed number of steps."""
        return dataclasses.replace(self, solver=self.solver.fixed_steps())

    def last_value(self, problem: AnyProblem, state: Any) -> Any:
        """Return nothing: the state may hold the objective of earlier arguments."""
        del problem, state

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> Any:
        """Return the state to continue from, without the failure that it may have ended with.

        A state that meets the stopping test is accepted if the problem's condition holds as well. A state of
        another point or of other arguments is not: the solve starts again.
        """
        fresh = self.solver.init(problem, x, *args)
        state = fitting(self.state, fresh, self.solver)
        tol = threshold(self.solver, x, getattr(state, "scales", None))
        stale = (state.error <= tol) & ~(problem.condition.error(problem, x, *args) <= 100 * tol)
        return running(
            trees.where(stale | ~jnp.asarray(self.solver.accepts_state(problem, x, state, *args)), fresh, state)
        )


@record
class Counted:
    """A solver that takes exactly so many steps. All else is the solver's own."""

    solver: Any
    steps_to_take: int = field(metadata={"static": True})

    #: a point that meets the stopping test is moved on
    stops = False

    @property
    def max_steps(self) -> int:
        """The number of steps."""
        return self.steps_to_take

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("solver", "steps_to_take"):
            raise AttributeError(name)
        return getattr(self.solver, name)

    def step(self, problem: AnyProblem, x: Tree, state: Any, *args: Tree) -> Any:
        """Take a step, also from a point that meets the test."""
        return self.solver.fixed_steps().step(problem, x, state, *args)

    def fewer(self, count: int) -> Counted:
        """Return the solver that takes so many steps less."""
        return dataclasses.replace(self, steps_to_take=self.steps_to_take - count)


def fitting(state: Any, fresh: Any, solver: AnySolver) -> Any:
    """Return a state as arrays; raise unless it has the structure, shapes and dtypes of the solver's own."""
    trees.require_same("state", state, fresh, f"{solver.name}'s state at this init")
    return jax.tree.map(lambda old, new: jnp.asarray(old, new.dtype), state, fresh)


def running(state: Any) -> Any:
    """Return a state without the failure that it may have ended with."""
    if hasattr(state, "status"):
        return state._replace(status=jnp.full_like(state.status, Status.RUNNING))
    return state
