r"""What quasi-Newton methods share: everything but their model of the Hessian.

Steps are taken in the variables :math:`u_i = x_i / d_i`, whose scales :math:`d` are estimated once, when a solve starts
(:mod:`dini.scaling`), so that the identity is a model of the Hessian from which to begin. With a model :math:`H_k` of
the inverse Hessian, gradients :math:`g_k` in these variables and the line search's :math:`\alpha_k`,

.. math::
    \begin{aligned}
    p_k &= -H_k g_k, \qquad (1) \\
    u_{k+1} &= u_k + \alpha_k p_k, \qquad (2) \\
    s_k &= u_{k+1} - u_k, \quad y_k = g_{k+1} - g_k . \qquad (3)
    \end{aligned}

The model takes in a pair of (3) where :math:`y_k` is more than rounding of the gradients and the curvature is positive,

.. math:: s_k^\top y_k > \epsilon \|s_k\| \|y_k\| . \qquad (4)

The step (1) is about the error of the point, so that the method has converged where

.. math:: \max_i |p_i| / |u_i| \le \text{rtol}, \qquad (5)

or where the gradient is rounding, :math:`\|g\| \le 10 \epsilon \|u\|`: the Hessian has the norm one in these variables.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ... import scaling, trees, xla
from ...checks.settings import require_positive
from ...conditions._descent import inverse_curvature
from ...functions import as_function
from ...protocols import Composed, Minimization
from ...status import Status
from ...trees import Scalar, Tree
from ...verification._minimum import relative
from .._base import Solver, infinity, running
from ._gram import Gram, gram
from ._line_search import Given, LineSearch, exhausted, require_line_search, unbounded

#: units of rounding below which nothing is asked for
ROUNDING = 10
#: units of rounding of a gradient in which a change of it drowns
BLIND = 64
#: a step that is longer than this share of the point is no step close to a solution
LONG = 1e-2
#: the share of the root of the roundoff by which values may differ before they say more than slopes
SLACK = 1e-2
#: the share of the tolerance that is asked of the step (5): the model may not have seen the least curvature
UNSEEN = 0.3
#: what is kept of the largest inverse curvature at each step, of methods without a model of the Hessian
FORGETTING = 0.9
#: the power of the unit roundoff by which a first step moves the point where there are no scales, to see a curvature
PROBE = 0.4


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


def _size(x: Tree, scales: Tree) -> Any:
    """Return the norm of a point in scaled variables."""
    return trees.norm(jax.tree.map(jnp.divide, jax.lax.stop_gradient(x), scales))


def softest(soft: Any, products: Gram, keep: Any) -> Any:
    r"""Return the largest inverse curvature :math:`s^\top s / s^\top y` of the last steps, where a pair counts."""
    here = products.ss / jnp.where(keep, products.sy, 1)
    return jax.lax.stop_gradient(jnp.where(keep, jnp.maximum(here, FORGETTING * soft), soft))


def softest_step(soft: Any, pair: Pair, gradient: Tree) -> Tree:
    """Return the estimate of the error that the largest inverse curvature gives, without signs.

    A long step sees little of the curvature where it ends: the estimate is at least a hundredth of the last move.
    """
    one = lambda g, s: jnp.maximum(soft.astype(g.dtype) * jnp.abs(g), LONG * jnp.abs(s))
    return jax.tree.map(one, gradient, jax.lax.stop_gradient(pair.move))


class QuasiNewton(Solver):
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

    adaptive: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    #: a method has stalled after so many steps without a smaller gradient, while the value could show no decrease
    patience: ClassVar[float] = math.inf

    line_search: LineSearch
    #: lengths of the steps, for methods that take them
    step_size: Any = None

    @property
    def scales_unknowns(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether steps are taken in scaled variables; steps of given lengths are in the user's."""
        return self.step_size is None

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the steps are tested."""
        return self.step_size is None

    def _check_settings(self, tol: Any = None) -> None:
        super()._check_settings(tol)
        require_line_search(self.name, self.line_search)
        require_positive(f"{self.name}'s step_size", self.step_size)
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "step_size"))

    def search(self) -> LineSearch:
        """Return the search that tests trials; one that takes all where their lengths are given."""
        return self.line_search if self.step_size is None else Given()

    def empty(self, x: Tree, dtype: Any) -> Any:
        """Return the model that knows nothing."""
        raise NotImplementedError

    def take_in(self, model: Any, pair: Pair, old: Tree, keep: Any, accept: Any) -> tuple[Any, Any, Any]:
        """Take in a pair where ``keep`` holds; return the model, minus its product with ``g``, and that one's slope.

        ``old`` is minus the given model's product with the last gradient. ``accept`` says that the point is new, also
        where its pair is not to be kept.
        """
        raise NotImplementedError

    def forget(self, model: Any, forget: Any) -> Any:
        """Drop all pairs where ``forget`` holds."""
        raise NotImplementedError

    def first_trial(self, old: Any, model: Any, slope: Scalar) -> Any:
        """Return the first step size to try along a direction of the model, after a search that ended in ``old``."""
        del old, model
        return jnp.ones_like(slope)

    def newton_step(self, model: Any, direction: Tree, pair: Pair, gradient: Tree) -> Tree:
        """Return the step (1), which estimates the error: the direction, unless that is another one."""
        del model, pair, gradient
        return direction

    def start_model(self, problem: Composed, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Any:
        """Return the model before the first step."""
        del problem, scales, args
        return self.empty(x, trees.real_dtype(x))

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
        search = jnp.stack(self.search().begin(0.0, inf, 0.0))
        none = jnp.zeros((2, *inf.shape), inf.dtype)
        progress = jnp.stack([jnp.zeros_like(inf), known, inf, jnp.zeros_like(inf)])
        return State(inf, inf, zero, model, zero, search, zero, scales, none, progress, running())

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one trial point."""
        bracket = self._bracket(state)
        move = trees.scale(bracket.trial, state.direction)
        point = jax.tree.map(lambda u, d, s: u + d * s, x, state.scaling, move)
        value, gradient = xla.once(problem.value_and_gradient(point, *args), "descent: value")
        value = value.astype(state.error.dtype)
        pair = self._pair(state, move, gradient, bracket)
        products, first = pair.products, pair.first
        finite = jnp.isfinite(value) & jnp.isfinite(products.gg)
        slack = jnp.where(first, 0, SLACK * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(state.value))
        slope = products.sg / jnp.where(first, 1, bracket.trial)
        fits, bracket = self.search().judge(bracket, state.value, value, slope, slack)
        accept = (fits | first) & finite
        if not self.stops:
            # of a fixed number of steps, the first trial of a search is taken if it moves the point by rounding alone:
            # the gradient is rounding as well, and the search would take its changes for curvature
            rounding = trees.eps(x) * _size(x, state.scaling)
            accept |= (trees.sqrt(products.ss) <= rounding) & (pair.last.trials == 0) & finite
        new = trees.where(accept, point, x)
        value = jnp.where(accept, value, state.value)
        gradient = trees.where(accept, gradient, state.gradient)
        state = self._renewed(problem, new, state._replace(value=value, gradient=gradient), pair, bracket, accept, args)
        error = jnp.where(first & ~finite, jnp.nan, state.error)
        return new, state._replace(error=error)

    def _bracket(self, state: State) -> Any:
        """Return the search's bracket with its fields by name; where lengths are given, the trial is the next one."""
        bracket = self.search().bracket(*state.search)
        if self.step_size is None:
            return bracket
        steps = state.progress[0]
        length = self.step_size(steps.astype(jnp.int32) - 1) if callable(self.step_size) else self.step_size
        return bracket._replace(trial=jnp.where(steps == 0, 0, jnp.asarray(length, steps.dtype)))

    def _pair(self, state: State, move: Tree, gradient: Tree, last: Any) -> Pair:
        """Return (3), and what it says."""
        dtype, eps = state.error.dtype, trees.eps(gradient)
        change = jax.tree.map(lambda d, g, old: d * (g - old), state.scaling, gradient, state.gradient)
        scaled = jax.tree.map(jnp.multiply, state.scaling, gradient)
        products = gram(move, change, scaled, dtype)
        informative = products.yy > min(BLIND * eps, LONG) ** 2 * products.gg
        return Pair(move, change, scaled, products, informative, state.progress[0] == 0, last)

    def _renewed(
        self, problem: Composed, x: Tree, state: State, pair: Pair, bracket: Any, accept: Any, args: tuple[Tree, ...]
    ) -> State:
        """Return the state with the model's direction (1), or minus the gradient where the model has to be given up."""
        products, first, eps = pair.products, pair.first, trees.eps(x)
        size = _size(x, state.scaling)
        # of a fixed number of steps, one that is rounding of the point shows no curvature, and the next is like it
        rests = (trees.sqrt(products.ss) <= BLIND * eps * size) & ~first & (not self.stops)
        # (4)
        keep = accept & ~first & ~rests & pair.informative & (products.sy > eps * jnp.sqrt(products.ss * products.yy))
        old = state.model
        model, direction, slope = self.take_in(
            old, pair._replace(informative=pair.informative & ~rests), state.direction, keep, accept
        )
        failed = ~accept & ~first & exhausted(bracket)
        # a search that fails along a quasi-Newton direction starts again along the gradient; a direction that does not
        # descend means that the pairs are worn out
        restart = (failed & (old.count > 0)) | (accept & ~(slope < 0) & ~rests)
        fresh = accept | restart
        scaled = jax.tree.map(jnp.multiply, state.scaling, state.gradient)
        direction = trees.where(restart, trees.neg(scaled), direction)
        size_of_gradient = trees.norm(scaled).astype(slope.dtype)
        slope = jnp.where(restart, -(size_of_gradient**2), slope)
        cold = restart | (model.count == 0)
        length = jnp.where(
            cold,
            self._cold(problem, x, state, pair, size, size_of_gradient, args),
            self.first_trial(pair.last, model, slope),
        )
        length = jnp.where(cold & accept & rests, pair.last.trial, length)
        begun = self.search().begin(jax.lax.stop_gradient(length).astype(slope.dtype), state.value, slope)
        search = jnp.where(fresh, jnp.stack(begun), jnp.stack(bracket))
        direction = trees.where(fresh, direction, state.direction)
        state = state._replace(
            model=self.forget(model, restart),
            direction=direction,
            search=search,
            progress=state.progress.at[0].add(1),
        )
        stuck = failed & (old.count == 0)
        known = (state.progress[1] > 0) | (model.count > 0)
        left = jnp.where(accept, slope, -(size_of_gradient**2))
        return self._ended(x, state, pair, fresh, known, stuck, unbounded(bracket) & ~accept, size, left, scaled)

    def _cold(self, problem: Any, x: Tree, state: State, pair: Pair, size: Any, slope: Any, args: Any) -> Any:
        """Return the first step size along minus the gradient: one, in scaled variables.

        Without scales it moves the point by its own size, or, where that is zero, by the distance in which the value
        would vanish along the gradient; the first one moves it by a small share of that, to see a curvature.
        """
        ahead = jnp.where(size > 0, size, jnp.abs(state.value) / jnp.where(slope > 0, slope, 1))
        own = jnp.where(ahead > 0, ahead, 1) / jnp.where(slope > 0, slope, 1)
        own = jnp.where(pair.first, trees.eps(x) ** PROBE, 1) * own
        length = jnp.where(state.progress[1] > 0, jnp.ones_like(own), own)
        if self.stops:
            return length
        # of a fixed number of steps from a solution the first must contract: derivatives would grow without bound
        slopes = lambda u: jax.tree.map(
            jnp.multiply,
            state.scaling,
            problem.gradient(jax.tree.map(lambda a, d, s: a + d * s, x, state.scaling, u), *args),
        )
        if scaling.linearized(slopes, x, at_any_price=True) is None:
            return length
        safe = lambda: jnp.minimum(length, inverse_curvature(slopes, trees.zeros_like(x)).astype(length.dtype))
        near = jnp.sqrt(jnp.maximum(pair.products.gg, 0)) <= trees.eps(x) ** 0.5 * size
        return jax.lax.cond(pair.first & near, safe, lambda: length)

    def _ended(
        self,
        x: Tree,
        state: State,
        pair: Pair,
        fresh: Any,
        known: Any,
        stuck: Any,
        falls_on: Any,
        size: Any,
        slope: Any,
        scaled: Tree,
    ) -> State:
        """Return the state with the error of its point, what it is compared with, and the end that has come."""
        x, now, scaled = jax.lax.stop_gradient((x, state, scaled))
        eps, dtype = trees.eps(x), state.error.dtype
        extent = jax.tree.map(lambda most, u: jnp.maximum(most, jnp.abs(u)), now.extent, x)
        # (5)
        step = self.newton_step(now.model, now.direction, pair, scaled)
        step = jax.tree.map(jnp.multiply, now.scaling, step)
        far = relative(step, x, extent, now.scaling)
        error = trees.sized_norm(now.gradient).astype(dtype)
        shown = known & (far > 0) & jnp.isfinite(far)
        scale = jnp.where(shown, UNSEEN * error / jnp.where(far > 0, far, 1), 0)
        # after a long move the rounding of a gradient says nothing: the next point may be as far away
        short = (far <= LONG) & (trees.sqrt(pair.products.ss) <= LONG * size)
        rounded = known & short & (trees.norm(scaled) <= ROUNDING * eps * size)
        scales = jnp.stack([scale, jnp.where(rounded, error, 0)]).astype(dtype)
        # where nothing is left to gain beyond rounding, a search that fails has ended at a solution
        negligible = 0.5 * jnp.abs(slope) <= ROUNDING * jnp.finfo(dtype).eps * jnp.abs(now.value)
        steps, has_scales, least, when = now.progress
        gains = error < least
        least, when = jnp.where(gains, error, least), jnp.where(gains, steps, when)
        idle = fresh & negligible & (steps - when >= self.patience) & self.stops
        stalled = jnp.where(stuck & negligible, Status.CONVERGED, Status.STALLED)
        status = jnp.where(stuck | idle, stalled, state.status)
        status = jnp.where(falls_on, Status.DIVERGED, status).astype(jnp.int32)
        return state._replace(
            error=jnp.where(fresh, error, now.error),
            scales=jnp.where(fresh, scales, now.scales),
            extent=trees.where(fresh, extent, now.extent),
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
