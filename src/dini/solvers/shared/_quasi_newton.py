r"""What quasi-Newton methods share: everything but their model of the Hessian.

With a model :math:`H_k` of the inverse Hessian and gradients :math:`g_k`, in the scaled variables of
:class:`~dini.solvers.shared._line_method.LineMethod`, the directions are

.. math:: p_k = -H_k g_k . \qquad (1)

The model takes in a move and the change of the gradient along it,

.. math:: s_k = u_{k+1} - u_k, \quad y_k = g_{k+1} - g_k , \qquad (2)

where :math:`y_k` is more than rounding of the gradients and the curvature is positive,
:math:`s_k^\top y_k > \epsilon \|s_k\| \|y_k\|`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import scaling, trees
from ...checks.settings import require_positive
from ...conditions._descent import inverse_curvature
from ...functions import as_function
from ...protocols import Composed
from ...trees import Scalar, Tree
from ._gram import Gram
from ._line_method import LONG, Aim, LineMethod, Outcome, Pair, State
from ._line_search import Given, LineSearch, require_line_search

#: what is kept of the largest inverse curvature at each step, of methods without a model of the Hessian
FORGETTING = 0.9
#: the power of the unit roundoff by which a first step moves the point where there are no scales, to see a curvature
PROBE = 0.4


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


class QuasiNewton(LineMethod):
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

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

    def start_model(self, problem: Composed, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Any:
        """Return the model before the first step."""
        del problem, scales, args
        return self.empty(x, trees.real_dtype(x))

    def bracket(self, state: State) -> Any:
        """Return the search's bracket with its fields by name; where lengths are given, the trial is the next one."""
        bracket = super().bracket(state)
        if self.step_size is None:
            return bracket
        steps = state.progress[0]
        length = self.step_size(steps.astype(jnp.int32) - 1) if callable(self.step_size) else self.step_size
        return bracket._replace(trial=jnp.where(steps == 0, 0, jnp.asarray(length, steps.dtype)))

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return the model with the pair, and its direction (1), or minus the gradient where the model is given up."""
        old, accept = state.model, now.accept
        model, direction, slope = self.take_in(old, pair, state.direction, now.keep, accept)
        # a search that fails along a quasi-Newton direction starts again along the gradient; a direction that does not
        # descend means that the pairs are worn out
        restart = (now.failed & (old.count > 0)) | (accept & ~(slope < 0) & ~now.rests)
        direction = trees.where(restart, trees.neg(now.gradient), direction)
        slope = jnp.where(restart, -(now.slope.astype(slope.dtype) ** 2), slope)
        cold = restart | (model.count == 0)
        length = self.cold_length(problem, x, state, pair, now, args)
        length = jnp.where(cold, length, self.first_trial(pair.last, model, slope))
        length = jnp.where(cold & accept & now.rests, pair.last.trial, length)
        stuck, known = now.failed & (old.count == 0), (state.progress[1] > 0) | (model.count > 0)
        return Aim(self.forget(model, restart), direction, slope, length, accept | restart, stuck, known)

    def cold_length(self, problem: Any, x: Tree, state: State, pair: Pair, now: Outcome, args: Any) -> Any:
        """Return the first step size along minus the gradient: one, in scaled variables.

        Without scales it moves the point by its own size, or, where that is zero, by the distance in which the value
        would vanish along the gradient; the first one moves it by a small share of that, to see a curvature.
        """
        size, slope = now.size, now.slope
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
        near = slope <= trees.eps(x) ** 0.5 * size
        return jax.lax.cond(pair.first & near, safe, lambda: length)
