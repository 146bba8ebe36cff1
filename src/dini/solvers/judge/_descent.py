r"""The common step of descent methods: a method proposes trial points, and the code here accepts or rejects them.

A step evaluates the function at one trial point. The method has three hooks:

* ``trial`` returns the point to evaluate, and the move to it;
* ``judge`` applies the method's own acceptance rule to that point: the rule of a line search or of a trust region;
* ``propose`` returns the next trial: from the new point, or from the old one after a rejected trial.

The code here decides whether the trial is accepted, updates the estimates of the scales, and determines the status. A
trial is **accepted** where the method's rule is met. A first-order method also accepts a point that meets the stopping
test where the value has not increased by more than rounding. The starting point is always accepted. A method ends as

* *converged*, where the stopping test of `_units.py` is met (the loop tests this), or where the remaining decrease is
  below rounding;
* *stalled*, where no further trial is accepted, or where no step has made progress for too long;
* *diverged*, where the function decreases along a whole line, or the iterates diverge.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees, xla
from ...loop import met, threshold
from ...protocols import Minimization
from ...status import Status
from ...trees import Scalar, Tree
from .._base import Solver, infinity, require_new_names, running
from ..shared._box import held, left_of_gradient
from ..shared._gram import Gram, gram
from . import _margins, _units


class State(NamedTuple):
    """The state of a descent method: the accepted point's value and gradient, and the method's memory.

    ``value`` does not increase by rounding. ``progress`` is one vector of the smallest error so far, the number of
    steps since the last progress, the number of steps, and the computed value of the point: a loop that carries few
    arrays compiles and runs faster.
    """

    error: Scalar
    value: Any
    gradient: Tree
    memory: Any
    progress: Any
    scales: Any
    status: Any


class Trial(NamedTuple):
    """An evaluated trial.

    ``left`` is the gradient or, where there are bounds, the projected gradient; ``size`` is its norm. ``each`` holds
    the slope and the curvature of moves relative to the size of each element. ``before`` is the state, with the last
    accepted point's value and gradient. Differences of values below ``slack`` are not informative. ``informative`` says
    whether the change of the gradient is above rounding.
    """

    x: Tree
    point: Tree
    move: Tree
    value: Any
    gradient: Tree
    change: Tree
    left: Tree
    products: Gram
    size: Scalar
    extent: Any
    each: _units.Elements
    before: State
    steps: Any
    first: Any
    finite: Any
    slack: Any
    informative: Any

    def curved(self, eps: Any) -> Any:
        """Return whether the curvature along the move is positive, beyond rounding."""
        products = self.products
        return self.informative & (products.sy > eps * jnp.sqrt(products.ss * products.yy))


class Ruling(NamedTuple):
    """The result of a method's own rule for a trial: ``fits`` says whether it is met, ``memory`` is the new memory.

    ``exhausted`` says that the method has no further trial from the same point. ``unbounded`` says that the function
    decreases as far as the line search went.
    """

    fits: Any
    memory: Any
    exhausted: Any = False
    unbounded: Any = False


class Verdict(NamedTuple):
    """The decision on a trial.

    ``accept`` says that the trial is accepted; ``needed`` that it is and does not meet the stopping test, so that a
    direction has to be computed even if it is expensive. ``exhausted`` says that it is rejected and was the last one
    from the old point, ``tiny`` that this is so because the move was below rounding. The other fields describe the
    point from which the method continues.
    """

    accept: Any
    needed: Any
    exhausted: Any
    tiny: Any
    value: Any
    gradient: Tree
    error: Scalar
    extent: Any
    scales: Any


class Proposal(NamedTuple):
    """The proposal of the next trial: the new memory of the method.

    ``stuck`` ends the method: trials are exhausted, and the method has no other direction. Where ``sound`` is false, a
    linear system was singular, and the solve ends as ``SINGULAR``.
    """

    memory: Any
    stuck: Any = False
    sound: Any = True


class Descent(Solver):
    """Base of descent methods: a method proposes trials, and shared code accepts or rejects them.

    A subclass defines ``remember`` (the memory before the first step) and the three hooks ``trial``, ``judge`` and
    ``propose``.
    """

    monotone = True
    #: Whether the method estimates curvatures from its steps alone: its first step is short and only estimates the
    #: curvature, and later steps may be very long. Other methods use second derivatives.
    first_order: ClassVar[bool] = False

    def __init_subclass__(cls, **settings: Any) -> None:
        """Raise where a class defines a hook by its old name."""
        super().__init_subclass__(**settings)
        require_new_names(cls, renew="propose")

    def trial(self, problem: Any, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the point to evaluate and the move to it; the first one is the starting point."""
        raise NotImplementedError

    def judge(self, memory: Any, trial: Trial) -> Ruling:
        """Return the result of the method's own rule for a trial."""
        raise NotImplementedError

    def propose(self, problem: Any, memory: Any, trial: Trial, verdict: Verdict, args: tuple[Tree, ...]) -> Proposal:
        """Return the proposal of the next trial."""
        raise NotImplementedError

    def remember(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> Any:
        """Return the memory before the first step."""
        raise NotImplementedError

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        inf = infinity(x)
        progress = jnp.stack([inf, jnp.zeros_like(inf), jnp.zeros_like(inf), inf])
        memory = self.remember(problem, x, args)
        return State(inf, inf, trees.zeros_like(x), memory, progress, _units.Units.unknown(x), running())

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        trial = look(problem, x, *self.trial(problem, x, state), state, args)
        ruling = self.judge(state.memory, trial)
        verdict = decided(self, trial, ruling)
        proposal = self.propose(problem, ruling.memory, trial, verdict, args)
        return trees.where(verdict.accept, trial.point, x), concluded(self, problem, trial, ruling, verdict, proposal)

    def last_value(self, problem: Any, state: Any) -> Any:
        """Return the objective at the last accepted point."""
        del problem
        return state.progress[3]


def look(problem: Minimization, x: Tree, point: Tree, move: Tree, before: State, args: tuple[Tree, ...]) -> Trial:
    """Evaluate the function at a trial point."""
    dtype, eps = before.error.dtype, trees.eps(x)
    value, gradient = xla.once(problem.value_and_gradient(point, *args), "descent: value")
    value, change = value.astype(dtype), trees.sub(gradient, before.gradient)
    products, first = gram(move, change, gradient, dtype), jnp.isinf(before.value)
    informative = products.yy > _margins.gradient_rounding(eps) ** 2 * products.gg
    left = left_of_gradient(problem, point, gradient, move, change, products, informative)
    size = trees.sqrt(products.gg) if left is gradient else trees.norm(left).astype(dtype)
    # the parts of the gradient that bounds remove do not count in the rounding of the others
    informative = products.yy > (_margins.gradient_rounding(eps) * size) ** 2
    each = _units.elements(point, left, move, change)
    finite = jnp.isfinite(value) & jnp.isfinite(size) & jnp.isfinite(products.gg)
    slack, extent = _margins.value_slack(before.value), _units.norm(point).astype(dtype)
    steps = before.progress[2]
    return Trial(
        x, point, move, value, gradient, change, left, products, size, extent, each, before, steps, first, finite,
        slack, informative,
    )  # fmt: skip


def armijo(trial: Trial, promised: Any) -> Any:
    """Return whether Armijo's condition holds: ``promised`` is the predicted change of the value, to first order.

    Where the decrease is below rounding, it is enough that the value has not increased by more than rounding, or that
    the gradient shows that the step is good.
    """
    room = _margins.relative_rounding(trial.before.value)
    falls = trial.value <= trial.before.value + _margins.DECREASE * promised + room
    return falls | shown_by_gradients(trial, -promised)


def ratio(trial: Trial, predicted: Any) -> Any:
    """Return the ratio of the actual decrease to the one that a model ``predicted``.

    It tends to one where both are below rounding, and is at least one where the gradient shows that the step is good.
    It is minus infinity where the value or the gradient is not finite, so that the same move is not tried again.
    """
    room = jnp.where(trial.first, 0, _margins.relative_rounding(trial.before.value))
    found = (trial.before.value - trial.value + room) / jnp.maximum(predicted + room, jnp.finfo(room.dtype).tiny)
    found = jnp.where(shown_by_gradients(trial, predicted), jnp.maximum(found, 1), found)
    return jnp.where(trial.finite, found, -jnp.inf)


def shown_by_gradients(trial: Trial, promised: Any) -> Any:
    """Return whether the gradient shows that a step is good where its change of the value is below rounding.

    The predicted and the actual change of the value are below the doubtful difference, and the error decreases: to half
    where the value increases by more than rounding.
    """
    if _margins.off("shown"):
        return jnp.zeros((), bool)
    rise, doubtful = trial.value - trial.before.value, _margins.doubtful_difference(trial.before.value)
    share = jnp.where(rise > _margins.relative_rounding(trial.before.value), 0.5, 1)
    return ~trial.first & (promised <= doubtful) & (rise <= doubtful) & (trial.size < share * trial.before.error)


def decided(solver: Descent, trial: Trial, ruling: Ruling) -> Verdict:
    """Return the decision on a trial."""
    before, eps, products = trial.before, trees.eps(trial.x), trial.products
    pair, point = (products.ss, jnp.where(trial.first, 0, products.yy)), (trial.extent, trial.size)
    learned = _units.learned(
        before.scales, trial.finite, *pair, *point, eps, products.sy, leaps=solver.first_order, each=trial.each
    )
    solved, start_is_solution = _by_units(solver, trial, learned)
    fits = trial.first | ruling.fits | (solved & (trial.value <= before.value + trial.slack))
    accept = fits & trial.finite & ~start_is_solution
    error = jnp.where(accept, trial.size, before.error)
    scales = jnp.where(accept | start_is_solution, learned, before.scales)
    short = trees.sqrt(products.ss) <= _margins.SHORT * eps * trial.extent
    # without second derivatives, a step that is short compared with the largest element may be long compared with the
    # others: then only the method's rule says that trials are exhausted
    exhausted = ~accept & ~trial.first & (ruling.exhausted | (False if solver.first_order else short))
    return Verdict(
        accept,
        accept & ~met(solver, trial.x, error, scales),
        exhausted,
        exhausted & short,
        jnp.where(accept, _kept_value(solver, trial), before.value),
        trees.where(accept, trial.gradient, before.gradient),
        error,
        jnp.where(accept, trial.extent, _units.norm(trial.x).astype(error.dtype)),
        scales,
    )


def _by_units(solver: Descent, trial: Trial, learned: Any) -> tuple[Any, Any]:
    """Return whether a trial need not meet the method's rule, and whether the starting point is a solution.

    The rule is not needed for a trial that meets the stopping test, and for the first step, which only estimates the
    curvature. Both hold for first-order methods alone: their first step is short, and very long steps are detected. A
    Newton step may reach a point where the gradient is a billion times larger, and relative to that the gradient of the
    start would be negligible.
    """
    no = jnp.zeros((), bool)
    if not solver.first_order:
        return no, no
    probes = trial.steps == 1
    start_is_solution = (
        no if _margins.off("start_is_solution") else probes & met(solver, trial.x, trial.before.error, learned)
    )
    probes = no if _margins.off("probe") else probes
    solved = no if _margins.off("solved") else trial.size <= threshold(solver, trial.x, learned)
    return probes | solved, start_is_solution


def _kept_value(solver: Descent, trial: Trial) -> Any:
    """Return the value to compare the next trial with: the smaller one, so that increases by rounding do not add up.

    Where a step was accepted because of its gradient and the value has increased, it is the new value: compared with
    the last one, no step from the new point would be accepted.
    """
    room = trial.slack if solver.first_order else _margins.relative_rounding(trial.before.value)
    return jnp.where(trial.value > trial.before.value + room, trial.value, jnp.minimum(trial.before.value, trial.value))


def concluded(
    solver: Descent, problem: Any, trial: Trial, ruling: Ruling, verdict: Verdict, proposal: Proposal
) -> State:
    """Return the next state and its status."""
    before, accept = trial.before, verdict.accept
    best, idle, steps, exact = before.progress
    gain = (trial.value < before.value - _margins.relative_rounding(before.value)) | (trial.size < 0.99 * best)
    idle = jnp.where(accept, jnp.where(gain, 0, idle + 1), idle)
    best = jnp.where(accept, jnp.minimum(best, trial.size), best)
    exact = jax.lax.stop_gradient(jnp.where(accept, trial.value, exact))
    stalled, tiny = proposal.stuck | _margins.lost_patience(idle, steps), proposal.stuck & verdict.tiny
    status = jnp.where(proposal.sound, before.status, Status.SINGULAR)
    point = jnp.where(accept, trial.value, before.value), verdict.extent, verdict.error
    bound = held(problem, trial.point, verdict.gradient)
    ends = {"status": status, "accept": accept, "stalled": stalled, "tiny": tiny, "held": bound}
    status = _units.ending(verdict.scales, point, trees.eps(trial.x), **ends)
    status = jnp.where(ruling.unbounded, Status.DIVERGED, status).astype(jnp.int32)
    error = jnp.where(trial.first & ~trial.finite, jnp.nan, verdict.error)
    progress = jnp.stack([best, idle, steps + 1, exact])
    return State(error, verdict.value, verdict.gradient, proposal.memory, progress, verdict.scales, status)
