"""Fixed-point iteration."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..problems import FixedPoint
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from .judge import _units


class State(NamedTuple):
    """Carried from step to step."""

    error: Scalar
    scales: Any


@solver
class FixedPointIteration(Solver):
    r"""Picard's iteration with relaxation.

    .. math:: x \leftarrow (1 - \omega) x + \omega T(x) . \qquad (1)

    The error is :math:`\|T(x) - x\|_2` at the point before the step.

    Parameters
    ----------
    relaxation
        :math:`\omega > 0`; one is the plain iteration.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.FixedPoint(lambda x: jnp.cos(x))
    >>> round(float(dini.solve(problem, dini.FixedPointIteration(), 1.0).x), 3)
    0.739
    """

    relaxation: Any = 1.0
    max_steps: int = field(default=2000, metadata={"static": True})

    solves = (FixedPoint,)
    error_before_step = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("FixedPointIteration's relaxation", self.relaxation)

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        del problem, args
        return State(infinity(x), _units.Units.unknown(x))

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Apply the map once."""
        move = trees.sub(problem.map(x, *args), x)
        error, size = (norm.astype(state.error.dtype) for norm in trees.norms(move, x))
        # the residuals of two steps differ by no less than their norms
        last = jnp.where(jnp.isfinite(state.error), state.error, 0)
        pair = (self.relaxation * last) ** 2, jnp.where(last > 0, (error - last) ** 2, 0)
        scales = _units.of_point(state.scales, *pair, size, error, trees.eps(x))
        # (1): T(x) - x = move
        return trees.axpy(self.relaxation, move, x), State(error, scales)

    def differentiable_step(self, problem: Any, x: Tree, state: State, *args: Tree) -> Any:
        """Return the map's value."""
        del state
        return problem.map(x, *args)
