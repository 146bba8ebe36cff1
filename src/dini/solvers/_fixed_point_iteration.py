"""Fixed-point iteration."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import scaling, trees
from ..checks.settings import require_positive
from ..problems import FixedPoint
from ..protocols import AnyProblem
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from .judge import _units


class State(NamedTuple):
    """Carried from step to step.

    ``sizes`` are the units of scaled variables, zero where they are not known.
    """

    error: Scalar
    sizes: Tree
    scales: Any


@solver
class FixedPointIteration(Solver):
    r"""Picard's iteration with relaxation.

    .. math:: x \leftarrow (1 - \omega) x + \omega T(x) . \qquad (1)

    The error is :math:`\|T(x) - x\|_2` at the point before the step. If it meets the test although an element is
    wrong relative to its own size, the iteration continues, and the error is measured in units of the elements' sizes.

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

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        return self.begin(problem, x, None, args)

    def begin(self, problem: AnyProblem, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> State:
        """Return the state before the first step, where the sizes of elements are known or not."""
        del problem, args
        sizes = trees.zeros_like(x) if scales is None else scaling.evened(scales)
        return State(infinity(x), sizes, _units.Units.unknown(x))

    def step(self, problem: FixedPoint, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Apply the map once."""
        move, units = trees.sub(problem.map(x, *args), x), _units.units_of(state.sizes)
        # the error, and the test, are in scaled variables
        inside = lambda v: jax.tree.map(jnp.divide, v, units)
        residual = inside(move)
        error, size = (norm.astype(state.error.dtype) for norm in trees.norms(residual, inside(x)))
        # the residuals of two steps differ by no less than their norms
        last = jnp.where(jnp.isfinite(state.error), state.error, 0)
        pair = (self.relaxation * last) ** 2, jnp.where(last > 0, (error - last) ** 2, 0)
        scales = _units.of_point(state.scales, *pair, size, error, trees.eps(x))
        scales = _units.of_elements(scales, residual, state.sizes, error, trees.eps(x))
        # (1): T(x) - x = move
        return trees.axpy(self.relaxation, move, x), State(error, state.sizes, scales)

    def differentiable_step(self, problem: FixedPoint, x: Tree, state: State, *args: Tree) -> Any:
        """Return the map's value."""
        del state
        return problem.map(x, *args)
