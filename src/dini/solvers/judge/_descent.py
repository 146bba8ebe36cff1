r"""The referee of the methods that descend: a method says where to go next, and everything else is decided here.

A step evaluates the function at one trial point. The method has three hooks:

* ``trial``: the point to evaluate, and the move to it;
* ``judge``: what the method's own rule says of what was found there (a line search's, a trust region's);
* ``propose``: what is to be tried next, from the new point or, after a trial that was not taken, from the old one.

The referee decides whether the trial is taken, what was learned of the units, whether rounding hides what is asked
for, and whether the method has converged, stalled, or runs away. A trial is **taken** where the method's rule is met;
that of a method that learns from its steps also where the point meets the stopping test and the value has not risen by
more than rounding; the start itself always is.
A method ends

* *converged*, where the stopping test of `_units.py` is met (the loop looks), or where nothing is left to gain beyond
  rounding;
* *stalled*, where no trial of it succeeds, or steps have brought no gain for longer than its patience;
* *diverged*, where the function falls along a whole line or the iterates run away.
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
    """Carried from step to step: the accepted point's value and gradient, what the method itself remembers.

    ``value`` does not rise by rounding. ``progress`` holds the smallest error so far, the steps since the last gain,
    the number of steps, and the point's value itself, as one vector: a loop that carries few arrays compiles and runs
    faster.
    """

    error: Scalar
    value: Any
    gradient: Tree
    memory: Any
    progress: Any
    scales: Any
    status: Any


class Trial(NamedTuple):
    """What a trial shows.

    ``left`` is what vanishes at a solution (the gradient, or what bounds leave of it) and ``size`` its norm; ``each``
    the slope and the curvature of moves in each element's own unit; ``before`` the state, with the last accepted
    point's value and gradient; ``hidden`` the difference of values that says nothing; ``told`` whether the change of
    the gradient is more than its rounding.
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
    hidden: Any
    told: Any

    def curved(self, eps: Any) -> Any:
        """Return whether the move shows a positive curvature."""
        products = self.products
        return self.told & (products.sy > eps * jnp.sqrt(products.ss * products.yy))


class Ruling(NamedTuple):
    """What a method's own rule says of a trial: whether it is met, and what the method remembers now.

    ``exhausted``: no further trial from the same point will do. ``endless``: the function falls as far as it was
    followed.
    """

    fits: Any
    memory: Any
    exhausted: Any = False
    endless: Any = False


class Verdict(NamedTuple):
    """What was decided of a trial.

    ``accept``: it is taken. ``needed``: it is, and does not meet the stopping test, so that a dear direction is worth
    its price. ``exhausted``: it is not, and was the last one from the old point; ``tiny``: since it moved by less than
    rounding. The others are those of the point from which the method goes on.
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
    """What is tried next: what the method remembers now.

    ``stuck`` ends the method: trials are exhausted, and there is nothing else to try. Where the proposal is not
    ``sound``, since a system was singular, the solve ends as ``SINGULAR``.
    """

    memory: Any
    stuck: Any = False
    sound: Any = True


class Descent(Solver):
    """Base of the methods that descend: they say where to go next, and one referee decides what becomes of a trial.

    A subclass defines ``remember`` (what the method knows before the first step) and the three hooks ``trial``,
    ``judge`` and ``propose``.
    """

    monotone = True
    #: Whether the method learns curvatures from its steps alone: its first step only probes, and its steps may leap.
    #: Others look at second derivatives.
    first_order: ClassVar[bool] = False

    def __init_subclass__(cls, **settings: Any) -> None:
        """Refuse a hook by its old name."""
        super().__init_subclass__(**settings)
        require_new_names(cls, renew="propose")

    def trial(self, problem: Any, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the point to evaluate and the move to it; at first that is the start itself."""
        raise NotImplementedError

    def judge(self, memory: Any, trial: Trial) -> Ruling:
        """Return what the method's rule says of a trial."""
        raise NotImplementedError

    def propose(self, problem: Any, memory: Any, trial: Trial, verdict: Verdict, args: tuple[Tree, ...]) -> Proposal:
        """Return what is tried next."""
        raise NotImplementedError

    def remember(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> Any:
        """Return what the method remembers before the first step."""
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
    told = products.yy > _margins.drowning_share(eps) ** 2 * products.gg
    left = left_of_gradient(problem, point, gradient, move, change, products, told)
    size = trees.sqrt(products.gg) if left is gradient else trees.norm(left).astype(dtype)
    # what bounds hold back does not drown the change of the rest
    told = products.yy > (_margins.drowning_share(eps) * size) ** 2
    each = _units.elements(point, left, move, change)
    finite = jnp.isfinite(value) & jnp.isfinite(size) & jnp.isfinite(products.gg)
    hidden, extent = _margins.hidden_difference(before.value), _units.norm(point).astype(dtype)
    steps = before.progress[2]
    return Trial(
        x, point, move, value, gradient, change, left, products, size, extent, each, before, steps, first, finite,
        hidden, told,
    )  # fmt: skip


def armijo(trial: Trial, promised: Any) -> Any:
    """Return whether the value has fallen by a ten thousandth of what a method ``promised``, to first order.

    Where rounding hides it, it is enough that the value has not risen by more, or that the gradient shows it.
    """
    room = _margins.relative_rounding(trial.before.value)
    falls = trial.value <= trial.before.value + _margins.DECREASE * promised + room
    return falls | shown_by_gradients(trial, -promised)


def ratio(trial: Trial, predicted: Any) -> Any:
    """Return the ratio of the actual decrease to the one that a model ``predicted``.

    It tends to one in rounding, and is at least that where the gradient shows that the step is good. A value without a
    gradient is as little of a success as none: the same move would be tried again and again.
    """
    room = jnp.where(trial.first, 0, _margins.relative_rounding(trial.before.value))
    found = (trial.before.value - trial.value + room) / jnp.maximum(predicted + room, jnp.finfo(room.dtype).tiny)
    found = jnp.where(shown_by_gradients(trial, predicted), jnp.maximum(found, 1), found)
    return jnp.where(trial.finite, found, -jnp.inf)


def shown_by_gradients(trial: Trial, promised: Any) -> Any:
    """Return whether gradients show that a step is good whose values drown in rounding.

    What it promised and what came of it are below what is doubtful, and the error falls: to half where the value rises
    by more than rounding.
    """
    if _margins.off("shown"):
        return jnp.zeros((), bool)
    rise, doubtful = trial.value - trial.before.value, _margins.doubtful_difference(trial.before.value)
    share = jnp.where(rise > _margins.relative_rounding(trial.before.value), 0.5, 1)
    return ~trial.first & (promised <= doubtful) & (rise <= doubtful) & (trial.size < share * trial.before.error)


def decided(solver: Descent, trial: Trial, ruling: Ruling) -> Verdict:
    """Return what becomes of a trial."""
    before, eps, products = trial.before, trees.eps(trial.x), trial.products
    pair, point = (products.ss, jnp.where(trial.first, 0, products.yy)), (trial.extent, trial.size)
    learned = _units.learned(
        before.scales, trial.finite, *pair, *point, eps, products.sy, leaps=solver.first_order, each=trial.each
    )
    solved, home = _by_units(solver, trial, learned)
    fits = trial.first | ruling.fits | (solved & (trial.value <= before.value + trial.hidden))
    accept = fits & trial.finite & ~home
    error = jnp.where(accept, trial.size, before.error)
    scales = jnp.where(accept | home, learned, before.scales)
    short = trees.sqrt(products.ss) <= _margins.SHORT * eps * trial.extent
    # where no second derivatives have made up for the units of the elements, a step that is short beside the largest
    # may be long beside the others: there the method's rule alone says that no trial will do
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
    """Return whether a trial need not meet the method's rule, and whether the start has turned out to be a solution.

    So it is with a trial that meets the stopping test, and with the first step, which only probes the curvature. Both
    are for methods whose first step is short, and which know a leap for one: a Newton step may lead to where a gradient
    a billion times larger makes the start's look like nothing.
    """
    no = jnp.zeros((), bool)
    if not solver.first_order:
        return no, no
    probes = trial.steps == 1
    home = no if _margins.off("home") else probes & met(solver, trial.x, trial.before.error, learned)
    probes = no if _margins.off("probe") else probes
    solved = no if _margins.off("solved") else trial.size <= threshold(solver, trial.x, learned)
    return probes | solved, home


def _kept_value(solver: Descent, trial: Trial) -> Any:
    """Return the value that stands for an accepted point: the smaller one, so that rises by rounding do not add up.

    One that gradients have shown to be good is where the point is: beside the last value no step from there would do.
    """
    room = trial.hidden if solver.first_order else _margins.relative_rounding(trial.before.value)
    return jnp.where(trial.value > trial.before.value + room, trial.value, jnp.minimum(trial.before.value, trial.value))


def concluded(
    solver: Descent, problem: Any, trial: Trial, ruling: Ruling, verdict: Verdict, proposal: Proposal
) -> State:
    """Return the next state, with the end that the method has come to."""
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
    status = jnp.where(ruling.endless, Status.DIVERGED, status).astype(jnp.int32)
    error = jnp.where(trial.first & ~trial.finite, jnp.nan, verdict.error)
    progress = jnp.stack([best, idle, steps + 1, exact])
    return State(error, verdict.value, verdict.gradient, proposal.memory, progress, verdict.scales, status)
