"""Descent of the outer objective with hypergradients that become exact as it converges."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..differentiation import Implicit
from ..functions import as_function
from ..problems._base import Problem
from ..solve import as_solver
from ..solvers import LBFGS, Solver
from ..status import Status
from ..trees import Tree
from ._checks import check_outer, require_real
from ._hypergradient import Task, Warm, evaluate
from ._loop import Method, State
from ._rules import as_rule


def _shrinking(count: Any) -> Any:
    """Return the default schedule of tolerances, whose sum is finite."""
    return 0.1 * 0.9**count


@record
class HOAG(Method):
    r"""Gradient descent on :math:`h(\theta) = f(x^*(\theta), \theta)`, with hypergradients of increasing accuracy.

    Step ``k`` solves the inner problem from its last solution to the tolerance :math:`\varepsilon_k`, the adjoint
    system from its last solution to the same, and moves :math:`\theta` along the hypergradient that these give. It
    converges where the tolerances have a finite sum.

    Without ``outer_step`` no learning rate is chosen: a step is tried, of the length that the last two gradients
    suggest (Barzilai and Borwein's), and taken if the outer objective has not grown, up to the tolerance; otherwise the
    next trial, from where the last one was taken, is a quarter as long. A trial is a step, and ``state.theta`` is the
    last point that was taken.

    Parameters
    ----------
    outer
        ``f(x, theta)``, or with data ``f(x, theta, outer_batch)``.
    inner
        A problem of dini's whose functions take ``(x, theta)``, or with data ``(x, theta, inner_batch)``; or a function
        of ``theta`` that returns one of ``x`` (and the data). See :func:`value_and_hypergradient`.
    solver
        The inner solver. Default: :class:`dini.LBFGS`. A relative tolerance that is left open follows the schedule.
    outer_step
        A number, a function of the step's number, or a transformation of optax. Default: as above.
    tolerance
        :math:`\varepsilon_k`, a number or a function of the step's number, relative. Default: :math:`0.1 \cdot 0.9^k`,
        down to the square root of the unit roundoff.
    differentiation
        A mode. Another one than :class:`dini.Implicit` ends where its own gradient vanishes.
    constraint
        A set of :mod:`dini.sets`, onto which ``theta`` is projected.

    Notes
    -----
    ``state.x`` is the inner solution, ``state.v`` the adjoint, ``state.error`` the norm of the hypergradient. An inner
    solve that fails counts as a trial that is not taken; with an ``outer_step`` the loop stops there, with the status
    ``NONFINITE``.

    References
    ----------
    Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016 (arXiv 1602.02355).
    Bertrand, Klopfenstein, Massias, Blondel, Vaiter, Gramfort, Salmon, "Implicit differentiation for fast
    hyperparameter selection in non-smooth convex learning", JMLR 2022 (arXiv 2105.01637), for steps without a rate.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> fit = dini.Minimize(lambda x, t: jnp.sum(x**2 - t * x))
    >>> method = dini.bilevel.HOAG(lambda x, t: jnp.sum((x - 1) ** 2), fit)
    >>> print(method.run(method.init(jnp.zeros(1), jnp.zeros(1)), 10).theta.round(3))
    [2.]
    """

    outer: Any
    inner: Any
    solver: Any = field(default_factory=LBFGS)
    outer_step: Any = None
    tolerance: Any = _shrinking
    differentiation: Any = field(default_factory=Implicit)
    constraint: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outer", as_function(self.outer, "HOAG's outer"))
        if not isinstance(self.inner, Problem):
            object.__setattr__(self, "inner", as_function(self.inner, "HOAG's inner"))
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "tolerance", as_rule("tolerance", self.tolerance))
        if self.outer_step is not None:
            object.__setattr__(self, "outer_step", as_rule("outer_step", self.outer_step))

    def init(self, theta: Tree, x: Tree, outer_batch: Any = None, inner_batch: Any = None) -> State:
        """Return the state before the first step; batches are the data."""
        theta, x = require_real("theta", theta), require_real("x", x)
        check_outer("outer", self.outer, x, theta, *_data(outer_batch))
        return self._started(theta, x, outer_batch, inner_batch)

    @property
    def batches(self) -> tuple[int, int]:
        """One of each."""
        return 1, 1

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        del outer, inner
        dtype = trees.real_dtype(theta)
        if self.outer_step is not None:
            return trees.zeros_like(x), self.outer_step.init(theta)
        # the point of the last trial, the objective and the gradient where one was taken, the length of the next
        unknown, zero = jnp.full((), jnp.inf, dtype), jnp.zeros((), dtype)
        return trees.zeros_like(x), (theta, unknown, trees.zeros_like(theta), zero)

    def _advance(self, state: State, outer: Any, inner: Any) -> State:
        dtype = state.error.dtype
        floor = trees.eps(state.x) ** 0.5
        rtol = jnp.maximum(jnp.asarray(self.tolerance.length(state.steps), dtype), floor)
        at = state.theta if self.outer_step is not None else state.memory[0]
        found = self._evaluate(at, state, outer, inner, rtol)
        bad = found.solution.status != Status.CONVERGED
        if self.outer_step is not None:
            gradient = trees.where(bad, trees.scale(jnp.nan, found.gradient), found.gradient)
            theta, rule = self.outer_step.step(state.theta, gradient, state.memory, state.steps)
            theta = self._projected(theta)
            error = trees.norm(gradient).astype(dtype)
            return state._replace(theta=theta, x=found.state.x, v=found.state.adjoint, error=error, memory=rule)
        return self._tried(state, at, found, bad, rtol)

    def _evaluate(self, theta: Tree, state: State, outer: Any, inner: Any, rtol: Any) -> Any:
        solver = self.solver
        open_rtol = isinstance(solver, Solver) and solver.rtol is None and solver.atol is None
        if open_rtol:
            solver = dataclasses.replace(solver, rtol=rtol)
        task = Task(self.outer, self.inner, solver, self.differentiation, _data(outer), _data(inner))
        return evaluate(task, theta, state.x, Warm(state.x, state.v), False, "ignore")

    def _projected(self, theta: Tree) -> Any:
        return theta if self.constraint is None else self.constraint.project(theta)

    def _tried(self, state: State, at: Tree, found: Any, bad: Any, rtol: Any) -> State:
        """Return the state after a trial: where it is taken, the length of the next comes from the gradients."""
        dtype = state.error.dtype
        _, value, gradient, length = state.memory
        new, slope = found.value.astype(dtype), found.gradient
        first = ~jnp.isfinite(value)
        slack = rtol * jnp.abs(jnp.where(first, 0, value))
        sound = ~bad & jnp.isfinite(new) & trees.all_finite(slope)
        taken = sound & (first | (new <= value + slack))
        moved, changed = trees.sub(at, state.theta), trees.sub(slope, gradient)
        bend = trees.vdot(moved, changed)
        square = trees.vdot(moved, moved)
        # the first step moves by a tenth of the point's size, or by a tenth
        size, steepness = trees.norm(at), trees.norm(slope)
        start = 0.1 * jnp.where(size > 0, size, 1) / jnp.where(steepness > 0, steepness, 1)
        longer = jnp.where(bend > 0, square / jnp.where(bend > 0, bend, 1), 2 * length)
        longer = jnp.clip(longer, 0.1 * length, 10 * length)
        length = jnp.where(taken, jnp.where(first, start, longer), 0.25 * length)
        theta = trees.where(taken, at, state.theta)
        gradient = trees.where(taken, slope, gradient)
        value = jnp.where(taken, new, value)
        trial = self._projected(trees.axpy(-length, gradient, theta))
        x = trees.where(sound, found.state.x, state.x)
        v = trees.where(sound, found.state.adjoint, state.v)
        error = trees.norm(gradient)
        if self.constraint is not None:
            error = trees.norm(trees.sub(trial, theta)) / length
        # where the first trial fails there is nothing to go back to
        error = jnp.where(first & ~taken, jnp.nan, error).astype(dtype)
        return state._replace(theta=theta, x=x, v=v, error=error, memory=(trial, value, gradient, length))


def _data(batch: Any) -> tuple[Any, ...]:
    return () if batch is None else (batch,)
