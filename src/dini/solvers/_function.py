"""A plain function as a solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .. import trees
from ..checks.records import record
from ..functions import function_name
from ..loop import Outcome
from ..problems import Composite, FixedPoint, LeastSquares, Minimize, Root
from ..protocols import AnyProblem
from ..trees import Tree
from ._base import Solver
from .judge._judged import judged


@record
class Function(Solver):
    """A plain function ``(problem, init, *args) -> x`` as a solver.

    What it returns is believed only if it satisfies the problem's own condition: the norm of the condition's residual
    must be at most ``rtol`` times that at a point which is away by the solution's own size (by that of ``init`` where
    the solution is zero, by one where both are), or ten times that at a tenth of this distance, if it is smaller. A
    residual of ``atol`` is always good enough. Of up to 64 numbers, none may be off by more than ten times ``rtol`` of
    its own size, where Newton's method can tell.

    Parameters
    ----------
    fun
        The function.
    rtol
        Default: the fourth root of the unit roundoff, or zero where ``atol`` is given.
    atol
        Default: zero.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> closed_form = lambda problem, init, a: a
    >>> print(jax.jacobian(lambda a: dini.solve(problem, closed_form, jnp.zeros(2), a).x)(jnp.ones(2)))
    [[1. 0.]
     [0. 1.]]
    """

    fun: Callable[..., Any]

    solves = (Minimize, LeastSquares, Root, FixedPoint, Composite)
    composite = True
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:
        """The function's name."""
        return function_name(self.fun)

    def run(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Call the function and test what it returns."""
        solution = self.fun(problem, x, *args)
        trees.require_same(f"The solution returned by {self.name}", solution, x, "init")
        return judged(self, problem, solution, x, args)
