"""A quick solver, and a safe one where that fails."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from ... import trees
from ...loop import Outcome, iterate
from ...problems import LeastSquares, Minimize
from ...protocols import Composed
from ...status import Status
from ...trees import Tree
from .._base import Solver, solver


@solver
class FirstThen(Solver):
    """Solve by one solver, and where it fails, ends above the start or far away, by another one from the start.

    A first solver that takes no steps leaves a better start, if all that it lacks is accuracy. They run one after the
    other: of a batch, the second one continues for the lanes that need it alone.
    """

    first: Any
    then: Any

    solves = (Minimize, LeastSquares)
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}, then {self.then.name}"

    def run(self, problem: Composed, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Run both loops."""
        alone = not self.first.takes_steps
        quick = self.first.run(problem, x, args) if alone else iterate(problem, self.first, x, args)
        # full steps may come to rest where residuals level off, far above the start
        lower = problem.value(quick.x, *args) <= problem.value(x, *args)
        # or at infinity, where a gradient vanishes as well
        size = trees.norm(x)
        near = (trees.norm(quick.x) <= trees.eps(x) ** -0.5 * size) | (size == 0)
        done = (quick.status == Status.CONVERGED) & lower & (near | alone) & jnp.isfinite(quick.error)
        if alone:  # of one step, what rounding has left is a better start; of a matrix that is not definite, a saddle
            x = trees.where((quick.status == Status.STALLED) & lower, quick.x, x)
        safe = iterate(problem, self.then, x, args, skip=done)
        dtype = safe.error.dtype
        pick = lambda ours, theirs: trees.where(done, ours, theirs)
        return Outcome(
            pick(quick.x, safe.x),
            (),
            quick.steps + safe.steps,
            pick(quick.status, safe.status),
            pick(quick.error.astype(dtype), safe.error),
            tol=pick(jnp.asarray(quick.tol, dtype), jnp.asarray(safe.tol, dtype)),
        )
