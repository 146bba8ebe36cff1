"""JAXopt's names of line searches as dini's, and steps of given length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from dini import solvers
from dini.functions import as_function
from dini.solvers import solver
from dini.solvers._gradient_descent import schedule_value
from dini.solvers.shared._quasi_newton import State
from dini.trees import Tree

#: what each condition of a backtracking search asks for
CONDITIONS = {
    "armijo": solvers.Backtracking(),
    "wolfe": solvers.WeakWolfe(),
    "strong-wolfe": solvers.StrongWolfe(),
    "goldstein": solvers.WeakWolfe(),
}


def named_search(owner: str, name: Any, condition: Any = None, curvature: float = 0.9) -> solvers.LineSearch:
    """Return the line search of a name, or of one of JAXopt's objects."""
    if hasattr(name, "search"):
        return name.search()
    # JAXopt's backtracking asks for these conditions too
    if name == "zoom" or (name == "backtracking" and condition is None):
        return solvers.StrongWolfe(curvature=curvature)
    if name == "hager-zhang":
        return solvers.HagerZhang()
    if name == "backtracking":
        if condition not in CONDITIONS:
            known = ", ".join(map(repr, CONDITIONS))
            raise ValueError(f"{owner}'s condition must be one of {known}: given {condition!r}.")
        return CONDITIONS[condition]
    raise ValueError(
        f'{owner}\'s linesearch must be "backtracking", "zoom", "hager-zhang" or one of their objects: given {name!r}.'
    )


@dataclass(frozen=True)
class Fixed(solvers.LineSearch):
    """Accept the first trial, whatever it is: for steps of given length."""

    decrease: float = 1e-4

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        del start_value, slope, slack
        return jnp.ones_like(value, bool), bracket


class _FixedLength:
    """Steps of given lengths along a quasi-Newton direction."""

    step_size: Any

    def __post_init__(self, tol: Any) -> None:
        super().__post_init__(tol)  # pyright: ignore[reportAttributeAccessIssue]
        object.__setattr__(self, "line_search", Fixed())
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "stepsize"))

    def _set(self, state: State) -> State:
        """Return the state with the length of the next trial: the first one is the start itself."""
        count = state.search[2]
        length = jnp.asarray(schedule_value(self.step_size, count.astype(jnp.int32) - 1), count.dtype)
        return state._replace(search=state.search.at[4].set(jnp.where(count == 0, 0, length)))


@solver
class FixedLBFGS(_FixedLength, solvers.LBFGS):
    """L-BFGS with steps of given length, whose pairs change the identity itself where it is not ``scaled``."""

    step_size: Any = None
    scaled: bool = field(default=True, metadata={"static": True})

    def _scaling(self, curvature: Any, squared: Any) -> Any:
        return super()._scaling(curvature, squared) if self.scaled else jnp.ones_like(squared)

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step."""
        return solvers.LBFGS.step(self, problem, x, self._set(state), *args)


@solver
class FixedBFGS(_FixedLength, solvers.BFGS):
    """BFGS with steps of given length, whose first model is the identity, not scaled."""

    step_size: Any = None

    def _renew(self, model: Any, *rest: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # a model with a pair is not scaled by its first one
        return super()._renew(model._replace(count=jnp.maximum(model.count, 1)), *rest)

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step."""
        return solvers.BFGS.step(self, problem, x, self._set(state), *args)
