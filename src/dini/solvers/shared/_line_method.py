r"""What methods share that search along directions: everything but the direction.

Steps are taken in the variables :math:`u_i = x_i / d_i`, whose scales :math:`d` are estimated once, when a solve starts
(:mod:`dini.scaling`), so that the identity is a model of the Hessian from which to begin. With a direction :math:`p_k`
and the line search's :math:`\alpha_k`,

.. math:: u_{k+1} = u_k + \alpha_k p_k . \qquad (1)

A Newton step, or what stands for one, is about the error of the point, so that the method has converged where

.. math:: \max_i |p_i| / |u_i| \le \text{rtol}, \qquad (2)

or where the gradient is rounding, :math:`\|g\| \le 10 \epsilon \|u\|`: the Hessian has the norm one in these variables.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ... import scaling, trees, xla
from ...protocols import Composed, Minimization
from ...status import Status
from ...trees import Scalar, Tree
from ...verification._minimum import relative
from .._base import Solver, infinity, running
from ._gram import Gram, gram
from ._line_search import LineSearch, WeakWolfe, exhausted, unbounded

#: units of rounding below which nothing is asked for
ROUNDING = 10
#: units of rounding of a gradient in which a change of it drowns
BLIND = 64
#: a step that is longer than this share of the point is no step close to a solution
LONG = 1e-2
#: the share of the root of the roundoff by which values may differ before they say more than slopes
SLACK = 1e-2
#: the share of the tolerance that is asked of the step (2): the model may not have seen the least curvature
UNSEEN = 0.3


class State(NamedTuple):
    """Carried from step to step: what belongs to the accepted point, the model, and the search along a direction.

    ``gradient`` is in the user's units; ``direction`` and the model are in scaled variables. ``scales`` are what the
    loop compares the error with, ``scaling`` those of the unknowns. ``progress`` holds the number of steps, whether
    there are scales, the least error and the number of the step that had it, as one vector.
    """

    error: Scalar
    value: Any
    gradient: Tree
    model: Any
    direction: Tree
    search: Any
    extent: Tree
    scaling: Tree
    scales: Any
    progress: Any
    status: Any


class Pair(NamedTuple):
    """What a trial has shown in scaled variables: a move, the change of the gradient along it, and the gradient there.

    ``informative`` says that the change is more than its rounding, ``last`` is the search's bracket with the trial.
    """

    move: Tree
    change: Tree
    gradient: Tree
    products: Gram
    informative: Any
    first: Any
    last: Any


class Outcome(NamedTuple):
    """What has become of a trial: whether it is accepted, or the search has ``failed``, so that there is no other.

    ``gradient`` is that of the accepted point in scaled variables, or what bounds leave of it. ``size`` and ``slope``
    are the norms of the point and of the gradient. ``keep`` says that the pair shows a positive curvature, ``rests``
    that the trial has moved by rounding.
    """

    gradient: Tree
    size: Any
    slope: Any
    accept: Any
    keep: Any
    failed: Any
    rests: Any


class Aim(NamedTuple):
    """A direction in scaled variables with its slope, and the first multiple of it to try.

    ``fresh`` says that they are new, ``stuck`` that there is no other direction, ``known`` that the
    step estimates the error.
    """

    model: Any
    direction: Tree
    slope: Any
    length: Any
    fresh: Any
    stuck: Any
    known: Any


def size_of(x: Tree, scales: Tree) -> Any:
    """Return the norm of a point in scaled variables."""
    return trees.norm(jax.tree.map(jnp.divide, jax.lax.stop_gradient(x), scales))


class LineMethod(Solver):
    """Base of the methods that search along directions: what is left to a method is its model, and :meth:`aim`."""

    adaptive: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    scales_unknowns = True
    monotone = True

    #: a method has stalled after so many steps without a smaller gradient, while the value could show no decrease
    patience: ClassVar[float] = math.inf

    #: the largest left side of (2) where the rounding of the gradient ends a solve
    short: ClassVar[float] = LONG

    #: whether the error of a point is known also where a trial from there was not accepted
    knows_errors: ClassVar[bool] = False

    line_search: LineSearch = WeakWolfe()

    def search(self) -> LineSearch:
        """Return the search that tests trials."""
        return self.line_search

    def start_model(self, problem: Composed, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Any:
        """Return the model before the first step."""
        raise NotImplementedError

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return the direction of the next trial."""
        raise NotImplementedError

    def newton_step(self, model: Any, direction: Tree, pair: Pair, gradient: Tree) -> Tree:
        """Return the step that estimates the error (2): the direction, unless that is another one."""
        del model, pair, gradient
        return direction

    def far(self, x: Tree, state: State, extent: Tree, pair: Pair, now: Outcome) -> Any:
        """Return the left side of (2)."""
        step = self.newton_step(state.model, state.direction, pair, now.gradient)
        return relative(jax.tree.map(jnp.multiply, state.scaling, step), x, extent, state.scaling)

    def longest(self, model: Any) -> Any:
        """Return the longest multiple of the direction that may be tried, ``None`` where there is no limit."""
        del model

    def forces(self, problem: Composed, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the gradient, and that in scaled variables; where there are bounds, what these leave of them."""
        del problem, x
        return state.gradient, jax.tree.map(jnp.multiply, state.scaling, state.gradient)

    def init(self, problem: Minimization, x: Tree, *args: Tree) -> Any:
        """Return the state before the first step, with the scales of the unknowns."""
        return self.begin(problem, x, scaling.at_start(problem, x, args) if self.scales_unknowns else None, args)

    def begin(self, problem: Minimization, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> Any:
        """Return the state before the first step, whose first trial is the start itself."""
        inf, zero = infinity(x), trees.zeros_like(x)
        scales = scales if self.scales_unknowns else None
        known = jnp.full_like(inf, scales is not None)
        scales = jax.tree.map(jnp.ones_like, x) if scales is None else scales
        model = self.start_model(problem, x, scales, args)
        none = jnp.zeros((2, *inf.shape), inf.dtype)
        progress = jnp.stack([jnp.zeros_like(inf), known, inf, jnp.zeros_like(inf)])
        state = State(inf, inf, zero, model, zero, None, zero, scales, none, progress, running())
        return state._replace(search=self.begin_search(0.0, state, jnp.zeros_like(inf)))

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        bracket = self.bracket(state)
        point, move = self.trial(problem, x, state, bracket.trial)
        value, gradient = xla.once(problem.value_and_gradient(point, *args), "descent: value")
        value = value.astype(state.error.dtype)
        pair = self._pair(state, move, gradient, bracket)
        products, first = pair.products, pair.first
        finite = jnp.isfinite(value) & jnp.isfinite(products.gg)
        fits, bracket = self.judge(state, bracket, value, pair)
        accept = (fits | first) & finite
        if not self.stops:
            # of a fixed number of steps, the first trial of a search is taken if it moves the point by rounding alone:
            # the gradient is rounding as well, and the search would take its changes for curvature
            rounding = trees.eps(x) * size_of(x, state.scaling)
            accept |= (trees.sqrt(products.ss) <= rounding) & (pair.last.trials == 0) & finite
        new = trees.where(accept, point, x)
        value = jnp.where(accept, value, state.value)
        gradient = trees.where(accept, gradient, state.gradient)
        state = self._renewed(problem, new, state._replace(value=value, gradient=gradient), pair, bracket, accept, args)
        error = jnp.where(first & ~finite, jnp.nan, state.error)
        return new, state._replace(error=error)

    def trial(self, problem: Minimization, x: Tree, state: State, share: Any) -> tuple[Tree, Tree]:
        """Return the point (1) at a multiple of the direction, and the move to it in scaled variables."""
        del problem
        move = trees.scale(share, state.direction)
        return jax.tree.map(lambda u, d, s: u + d * s, x, state.scaling, move), move

    def bracket(self, state: State) -> Any:
        """Return the search's bracket with its fields by name."""
        return self.search().bracket(*state.search)

    def begin_search(self, length: Any, state: State, slope: Any) -> Any:
        """Return a search along a direction with its slope, whose first trial has a length."""
        return jnp.stack(self.search().begin(length, state.value, slope))

    def exhausted(self, bracket: Any) -> Any:
        """Return whether a search has no further trial."""
        return exhausted(bracket)

    def unbounded(self, bracket: Any) -> Any:
        """Return whether the function falls as far as a search has looked."""
        return unbounded(bracket)

    def judge(self, state: State, bracket: Any, value: Any, pair: Pair) -> tuple[Any, Any]:
        """Return whether a trial is accepted, and the bracket with the next one."""
        slack = jnp.where(pair.first, 0, SLACK * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(state.value))
        slope = pair.products.sg / jnp.where(pair.first, 1, bracket.trial)
        return self.search().judge(bracket, state.value, value, slope, slack, self.longest(state.model))

    def _pair(self, state: State, move: Tree, gradient: Tree, last: Any) -> Pair:
        """Return what a move shows, in scaled variables."""
        dtype, eps = state.error.dtype, trees.eps(gradient)
        change = jax.tree.map(lambda d, g, old: d * (g - old), state.scaling, gradient, state.gradient)
        scaled = jax.tree.map(jnp.multiply, state.scaling, gradient)
        products = gram(move, change, scaled, dtype)
        informative = products.yy > min(BLIND * eps, LONG) ** 2 * products.gg
        return Pair(move, change, scaled, products, informative, state.progress[0] == 0, last)

    def _renewed(
        self, problem: Composed, x: Tree, state: State, pair: Pair, bracket: Any, accept: Any, args: tuple[Tree, ...]
    ) -> State:
        """Return the state with the next trial: along a new direction, or along the last one."""
        products, first, eps = pair.products, pair.first, trees.eps(x)
        size = size_of(x, state.scaling)
        # of a fixed number of steps, one that is rounding of the point shows no curvature, and the next is like it
        rests = (trees.sqrt(products.ss) <= BLIND * eps * size) & ~first & (not self.stops)
        pair = pair._replace(informative=pair.informative & ~rests)
        curved = products.sy > eps * jnp.sqrt(products.ss * products.yy)
        keep = accept & ~first & pair.informative & curved
        failed = ~accept & ~first & self.exhausted(bracket)
        force, scaled = self.forces(problem, x, state)
        norm = trees.norm(scaled).astype(state.error.dtype)
        now = Outcome(scaled, size, norm, accept, keep, failed, rests)
        aim = self.aim(problem, x, state, pair, now, args)
        begun = self.begin_search(jax.lax.stop_gradient(aim.length).astype(aim.slope.dtype), state, aim.slope)
        state = state._replace(
            model=aim.model,
            direction=trees.where(aim.fresh, aim.direction, state.direction),
            search=jnp.where(aim.fresh, begun, jnp.stack(bracket)),
            progress=state.progress.at[0].add(1),
        )
        falls_on = self.unbounded(bracket) & ~accept
        return self._ended(x, state, force, pair, now, aim, falls_on)

    def _ended(self, x: Tree, state: State, force: Tree, pair: Pair, now: Outcome, aim: Aim, falls_on: Any) -> State:
        """Return the state with the error of its point, what it is compared with, and the end that has come."""
        x, old, force, now, slope = jax.lax.stop_gradient((x, state, force, now, aim.slope))
        eps, dtype = trees.eps(x), state.error.dtype
        extent = jax.tree.map(lambda most, u: jnp.maximum(most, jnp.abs(u)), old.extent, x)
        # (2)
        far = jax.lax.stop_gradient(self.far(x, old, extent, pair, now))
        error = trees.sized_norm(force).astype(dtype)
        shown = aim.known & (far > 0) & jnp.isfinite(far)
        scale = jnp.where(shown, UNSEEN * error / jnp.where(far > 0, far, 1), 0)
        # after a long move the rounding of a gradient says nothing: the next point may be as far away
        short = (far <= self.short) & (trees.sqrt(pair.products.ss) <= LONG * now.size)
        rounded = ((old.progress[1] > 0) | aim.known) & short & (now.slope <= ROUNDING * eps * now.size)
        scales = jnp.stack([scale, jnp.where(rounded, error, 0)]).astype(dtype)
        # where nothing is left to gain beyond rounding, a search that fails has ended at a solution
        slope = jnp.where(now.accept | self.knows_errors, slope, -(now.slope**2))
        negligible = 0.5 * jnp.abs(slope) <= ROUNDING * jnp.finfo(dtype).eps * jnp.abs(old.value)
        steps, has_scales, least, when = old.progress
        gains = error < least
        least, when = jnp.where(gains, error, least), jnp.where(gains, steps, when)
        judged = aim.fresh | self.knows_errors
        idle = judged & aim.known & negligible & (steps - when >= self.patience) & self.stops
        done = negligible & (aim.stuck | self.knows_errors)
        stalled = jnp.where(done, Status.CONVERGED, Status.STALLED)
        status = jnp.where(aim.stuck | idle, stalled, state.status)
        status = jnp.where(falls_on, Status.DIVERGED, status).astype(jnp.int32)
        return state._replace(
            error=jnp.where(judged, error, old.error),
            scales=jnp.where(judged, scales, old.scales),
            extent=trees.where(judged, extent, old.extent),
            progress=jnp.stack([steps, has_scales, least, when]),
            status=status,
        )

    def last_value(self, problem: Any, state: Any) -> Any:
        """Return the objective at the last accepted point."""
        del problem
        return state.value

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        """Return the objective, its gradient, the next direction and the next trial's step size."""
        direction = jax.tree.map(jnp.multiply, state.scaling, state.direction)
        return super().readings(x, state) | {"step_size": state.search[..., 0], "direction": direction}
