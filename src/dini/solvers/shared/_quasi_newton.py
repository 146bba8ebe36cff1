r"""What quasi-Newton methods share: everything but their model of the Hessian.

With a model :math:`H_k` of the inverse Hessian, gradients :math:`g_k` and the line search's :math:`\alpha_k`,

.. math::
    \begin{aligned}
    p_k &= -H_k g_k, \qquad (1) \\
    x_{k+1} &= x_k + \alpha_k p_k, \qquad (2) \\
    s_k &= x_{k+1} - x_k, \quad y_k = g_{k+1} - g_k . \qquad (3)
    \end{aligned}

The model takes in a pair of (3) where :math:`y_k` is more than rounding of the gradients and the curvature is positive,

.. math:: s_k^\top y_k > \epsilon \|s_k\| \|y_k\| . \qquad (4)
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ... import trees
from ...checks.settings import require_positive
from ...functions import as_function
from ...protocols import Composed
from ...trees import Scalar, Tree
from ..judge._descent import Proposal, Seen, State, Verdict
from ..judge._lengths import contracting_length
from ._line_method import Line, LineMethod
from ._line_search import Given, LineSearch, require_line_search


class QuasiNewton(LineMethod):
    """Base of the quasi-Newton methods: a direction from a model of the inverse Hessian, and a line search.

    A model is a named tuple with a field ``count``, the number of pairs of differences that it has taken in.
    """

    adaptive = True

    line_search: LineSearch
    #: lengths of the steps, for methods that take them
    step_size: Any = None

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
        """Return the search that judges trials; one that takes all where their lengths are given."""
        return self.line_search if self.step_size is None else Given()

    def empty(self, x: Tree, dtype: Any) -> Any:
        """Return the model that knows nothing."""
        raise NotImplementedError

    def take_in(self, model: Any, seen: Seen, old: Tree, keep: Any, accept: Any) -> tuple[Any, Any, Any]:
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

    def remember(self, problem: Composed, x: Tree, args: tuple[Tree, ...]) -> Line:
        """Return a search that has not begun, and a model that knows nothing."""
        del problem, args
        return self.line(x, self.empty(x, trees.real_dtype(x)))

    def trial(self, problem: Composed, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the next trial point, by (2); where lengths are given, by these, once the start has been seen."""
        if self.step_size is None:
            return super().trial(problem, x, state)
        steps = state.progress[2]
        length = self.step_size(steps.astype(jnp.int32) - 1) if callable(self.step_size) else self.step_size
        length = jnp.where(steps == 0, 0, jnp.asarray(length, steps.dtype))
        own = state.own._replace(search=state.own.search.at[0].set(length))
        return super().trial(problem, x, state._replace(own=own))

    def renew(self, problem: Composed, own: Line, seen: Seen, verdict: Verdict, args: tuple[Tree, ...]) -> Proposal:
        """Return the model's direction (1), or minus the gradient where the model has to be given up."""
        accept, last = verdict.accept, self.bracket(seen.before.own)
        still = self.rests(seen)
        seen = seen._replace(told=seen.told & ~still)
        # (4)
        keep = accept & ~seen.first & seen.curved(trees.eps(seen.x))
        model, direction, slope = self.take_in(own.model, seen, own.direction, keep, accept)
        # a search that fails along a quasi-Newton direction starts again along the gradient; a direction that does not
        # descend means that the pairs are worn out
        restart = (verdict.spent & (own.model.count > 0)) | (accept & ~(slope < 0) & ~still)
        direction = trees.where(restart, trees.neg(verdict.gradient), direction)
        slope = jnp.where(restart, -(verdict.error**2), slope)
        known = self.first_trial(last, model, slope)
        cold = restart | (model.count == 0)
        start = jnp.where(cold, jnp.where(accept & still, last.trial, self.cold_start(seen, verdict)), known)
        if not self.stops:
            start = contracting_length(problem, seen.point, seen.gradient, args, seen.first, start)
        own = self.along(own, verdict, direction, slope, start, accept | restart)
        stuck = verdict.spent & (own.model.count == 0)
        return Proposal(own._replace(model=self.forget(model, restart)), stuck)
