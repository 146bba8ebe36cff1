"""Descent of the outer objective with hypergradients that become exact as it converges."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive
from ..differentiation import Implicit
from ..entry import as_solver
from ..functions import as_function
from ..problems._base import Problem
from ..solvers import LBFGS, Solver
from ..status import Status
from ..trees import Tree
from ._batches import arguments, part
from ._checks import check_outer, require_real
from ._hypergradient import Task, Warm, evaluate
from ._loop import Method, Moved, State
from ._progress import residual
from ._rules import Schedule, as_rule

#: what to do where a method fails that solves its inner problems
SOLVED = (
    "The inner problem or its adjoint system could not be solved, or an objective is not finite. "
    "dini.bilevel.value_and_hypergradient(outer, inner, state.theta, state.x), at the last finite state, reports the "
    "cause. Reduce the outer step size, bound theta by a constraint, or start elsewhere."
)


def _shrinking(count: Any) -> Any:
    """Return the default schedule of tolerances, whose sum is finite."""
    return 0.1 * 0.9**count


@record
class HOAG(Method):
    r"""Gradient descent on :math:`h(\theta) = f(x^*(\theta), \theta)`, with hypergradients of increasing accuracy.

    Step ``k`` solves the inner problem from its last solution to the tolerance :math:`\varepsilon_k`, the adjoint
    system, to its linear solver's own tolerance and from its last solution where that is iterative, and moves
    :math:`\theta` along the hypergradient that these give. It converges where the tolerances have a finite sum.

    Without ``outer_step`` no learning rate is chosen: a step is tried, of the length that the last two gradients
    suggest (Barzilai and Borwein's), and taken if the outer objective has not grown, up to the tolerance; otherwise the
    next trial, from where the last one was taken, is a quarter as long. In between, a step evaluates again where the
    last one was taken, to the tolerance of the day: what a coarser one has promised there, no point may ever keep. A
    trial is a step, and ``state.theta`` is the last point that was taken.

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
    ``state.x`` is the inner solution, ``state.residual`` its error, ``state.v`` the adjoint, ``state.error`` the norm
    of the hypergradient (projected, where there is a constraint). A trial at which the inner problem or the adjoint
    system cannot be solved is not taken; where the last point that was taken is such a one itself at a smaller
    tolerance, and with an ``outer_step`` at any failure, the loop stops with the status ``NONFINITE``.

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
    solver: Solver = field(default_factory=LBFGS)
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
        check_outer("outer", self.outer, x, theta, *data_of(outer_batch))
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
        # where the next evaluation is, the objective and the gradient where a trial was taken, the length of the next
        # trial, whether the evaluation is one again, after a trial that was not taken, and where the gradient is from
        unknown, zero = jnp.full((), jnp.inf, dtype), jnp.zeros((), dtype)
        return trees.zeros_like(x), (theta, unknown, trees.zeros_like(theta), zero, jnp.zeros((), bool), theta)

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        dtype = state.error.dtype
        floor = trees.eps(state.x) ** 0.5
        rule = self.tolerance
        rtol = rule.value(state.steps) if isinstance(rule, Schedule) else rule.length(state.steps)
        # a schedule that goes to zero may underflow
        rtol = jnp.maximum(positive(jnp.asarray(rtol, dtype), or_zero=True), floor)
        at = state.theta if self.outer_step is not None else state.memory[0]
        found = self._evaluate(at, state, outer, inner, rtol)
        bad = (found.solution.status != Status.CONVERGED) | jnp.isnan(rtol)
        if self.outer_step is not None:
            gradient = trees.where(bad, trees.scale(jnp.nan, found.gradient), found.gradient)
            theta, rule = self.outer_step.step(state.theta, gradient, state.memory, state.steps)
            theta = self._projected(theta)
            error = self._error(state.theta, gradient, theta).astype(dtype)
            new = state._replace(theta=theta, x=found.state.x, v=found.state.adjoint, error=error, memory=rule)
        else:
            new, gradient = self._tried(state, at, found, bad, rtol)
        left = jnp.asarray(found.solution.stats.error, dtype)
        return Moved(new._replace(residual=left), left, gradient)

    def _evaluate(self, theta: Tree, state: State, outer: Any, inner: Any, rtol: Any) -> Any:
        solver = self.solver
        open_rtol = isinstance(solver, Solver) and solver.rtol is None and solver.atol is None
        if open_rtol:
            solver = dataclasses.replace(solver, rtol=rtol)
        task = Task(self.outer, self.inner, solver, self.differentiation, data_of(outer), data_of(inner))
        return evaluate(task, theta, state.x, Warm(state.x, state.v), False, "nan")

    def _projected(self, theta: Tree) -> Any:
        return theta if self.constraint is None else self.constraint.project(theta)

    def _error(self, theta: Tree, gradient: Tree, moved: Tree) -> Any:
        """Return the norm of the gradient, projected where there is a constraint."""
        prox = None if self.constraint is None else lambda theta, _: self._projected(theta)
        return residual(prox, theta, gradient, moved, 1.0, penalized=False)

    def _tried(self, state: State, at: Tree, found: Any, bad: Any, rtol: Any) -> tuple[State, Any]:
        """Return the state after an evaluation, and its gradient.

        Where a trial is taken, the next one's length is of the gradients.
        """
        dtype = state.error.dtype
        _, value, gradient, length, again, anchor = state.memory
        new, slope = found.value.astype(dtype), found.gradient
        first = ~jnp.isfinite(value)
        slack = rtol * jnp.abs(jnp.where(first, 0, value))
        sound = ~bad & jnp.isfinite(new) & trees.all_finite((slope, found.state))
        # of the point that is kept, the new value holds, be it above the old one or not
        taken = sound & (first | again | (new <= value + slack))
        # the gradient has changed since the point from which on the inner solution stood still
        moved, changed = trees.sub(at, anchor), trees.sub(slope, gradient)
        bend = trees.vdot(moved, changed)
        square = trees.vdot(moved, moved)
        # the first step moves by a tenth of the point's size, or by a tenth
        size, steepness = trees.norm(at), trees.norm(slope)
        start = 0.1 * jnp.where(size > 0, size, 1) / jnp.where(steepness > 0, steepness, 1)
        # where the tolerance lets the inner solution and the gradient stand, a trial is not informative about the
        # objective
        same = trees.max_abs(trees.sub(found.state.x, state.x)) == 0
        same &= trees.norm(changed) <= 16 * trees.eps(slope) * steepness
        still = same & (square > 0)
        longer = jnp.where((bend > 0) & ~still, square / jnp.where(bend > 0, bend, 1), jnp.where(still, 1, 2) * length)
        longer = jnp.clip(longer, 0.1 * length, 10 * length)
        longer = jnp.where(first, start, jnp.where(again, length, longer))
        length = jnp.where(taken, longer, 0.25 * length)
        theta = trees.where(taken, at, state.theta)
        gradient = trees.where(taken, slope, gradient)
        value = jnp.where(taken, new, value)
        trial = self._projected(trees.axpy(-jnp.asarray(length), gradient, theta))
        error = self._error(theta, gradient, trial)
        x = trees.where(sound, found.state.x, state.x)
        v = trees.where(sound, found.state.adjoint, state.v)
        # where the first trial fails there is nothing to go back to, nor where the point that is kept does
        error = jnp.where((first | again) & ~taken, jnp.nan, error).astype(dtype)
        anchor = trees.where(taken & ~still, at, anchor)
        memory = trees.where(taken, trial, theta), value, gradient, length, ~taken, anchor
        return state._replace(theta=theta, x=x, v=v, error=error, memory=memory), gradient

    @property
    def remedy(self) -> str:
        """What to do where a run fails."""
        return SOLVED


def data_of(batch: Any) -> tuple[Any, ...]:
    """Return what the functions of a method that solves get of a batch."""
    return arguments(part(batch, 0))
