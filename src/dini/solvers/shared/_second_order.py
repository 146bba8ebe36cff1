r"""What methods share whose directions come from the Hessian at the point.

The direction from a new point is computed at the beginning of a step, since the last point needs none: a full Newton
step :math:`s` to it, which has reduced the gradient by a factor :math:`\theta`, leaves an error of about

.. math:: \max(\theta\,|s|, |s|^2, q^2 |s|), \qquad (1)

with lengths relative to the point, and the ratio :math:`q` of this Newton step to the shortest one before: where steps
converge quadratically, the next one is :math:`q^2` times this one, and in a bent valley :math:`q` is about one. That is
so if :math:`\theta \le 1/10`. Where the gradient has become rounding of what it was, :math:`\theta \le \epsilon^{3/4}`,
the function is quadratic, and :math:`\theta\,|s|` is left. Without such a step, the error is that of the last point,
:math:`|s|`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...protocols import Composed, Minimization
from ...status import Status
from ...trees import Tree
from ...verification._minimum import relative
from ._line_method import Aim, LineMethod, Outcome, Pair, State, size_of
from ._line_search import Halving, LineSearch

#: a Newton step is successful where it reduces the gradient to this fraction
WORKED = 0.1
#: the power of the unit roundoff to which a gradient falls in one step only where the function is quadratic
QUADRATIC = 0.75
#: a first trial is no longer than so many times the point, or the gradient step: nearly singular matrices have longer
#: ones
FARTHEST = 1e4


class Newton(NamedTuple):
    """The model: whether there is a direction from the point, the left side of the stopping test, and the rest.

    ``exact`` says that the direction is a Newton step: that of an indefinite Hessian, which is changed, says
    nothing of the error. ``least`` is the smallest ``far`` of the points before. ``matrix`` is what is kept of the
    Hessian.
    """

    ready: Any
    far: Any
    least: Any
    exact: Any
    matrix: Any


def reduction(pair: Pair) -> Any:
    r"""Return :math:`\theta`, the factor by which a trial has changed the norm of the gradient."""
    now, change = jax.lax.stop_gradient((pair.gradient, pair.change))
    old = trees.sized_norm(trees.sub(now, change))
    return trees.sized_norm(now) / jnp.where(old > 0, old, 1)


class SecondOrder(LineMethod):
    """Base of the methods whose directions come from the Hessian at the point: what is left is :meth:`direction`."""

    superlinear = True
    knows_errors = True
    # Newton steps know the error well: in single precision, narrow valleys have gradients of rounding far from the end
    short = 1e-3
    # a Newton step that has nothing to gain and leaves no smaller gradient is rounding
    patience = 1
    #: whether (1) holds, and not only the first part of it
    quadratic: ClassVar[bool] = True

    @property
    def line_search(self) -> LineSearch:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The search that tests trials."""
        return Halving()

    def matrix(self, problem: Composed, x: Tree) -> Any:
        """Return what is kept of the Hessian, before the first step."""
        raise NotImplementedError

    def direction(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> tuple[Tree, Any, Any, Any]:
        """Return the direction from the point in the user's units, its slope, if it is exact, and what is kept."""
        raise NotImplementedError

    def moved(self, problem: Composed, x: Tree, step: Tree) -> Tree:
        """Return the move of a step from the point, shorter where there are bounds; both in the user's units."""
        del problem, x
        return step

    def start_model(self, problem: Composed, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Newton:
        """Return the model before the first step."""
        del scales, args
        no, far = jnp.zeros((), bool), jnp.full((), jnp.inf, trees.real_dtype(x))
        return Newton(no, far, far, no, self.matrix(problem, x))

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one trial point; from a new point, compute the direction before."""
        due = ~state.model.ready & (state.progress[0] > 0)
        state = jax.lax.cond(due, lambda: self._directed(problem, x, state, args), lambda: state)
        return super().step(problem, x, state, *args)

    def _directed(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> State:
        step, slope, exact, matrix = self.direction(problem, x, state, args)
        move = self.moved(problem, *jax.lax.stop_gradient((x, step)))
        far = relative(move, jax.lax.stop_gradient(x), state.extent, state.scaling).astype(state.error.dtype)
        direction = jax.tree.map(jnp.divide, step, state.scaling)
        length, steepest = trees.norms(*jax.lax.stop_gradient((direction, self.forces(problem, x, state)[1])))
        reach = FARTHEST * jnp.maximum(size_of(x, state.scaling), steepest)
        length = jnp.minimum(1, reach / jnp.where(length > 0, length, 1)).astype(state.error.dtype)
        begun = self.begin_search(length, state, jax.lax.stop_gradient(slope).astype(state.error.dtype))
        sound, least = trees.all_finite(step), jnp.minimum(state.model.least, state.model.far)
        return state._replace(
            model=Newton(jnp.ones((), bool), far, least, jnp.asarray(exact), matrix),
            direction=direction,
            search=begun,
            status=jnp.where(sound, state.status, Status.SINGULAR).astype(jnp.int32),
        )

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return the model, which is to be made again after a move; the slope shows what is left to gain."""
        del problem, x, args
        model = state.model._replace(ready=state.model.ready & ~now.accept)
        slope = pair.last.slope * jnp.where(now.accept, reduction(pair) ** 2, 1)
        no = jnp.zeros((), bool)
        return Aim(model, state.direction, slope, jnp.ones_like(slope), no, now.failed, model.exact)

    def far(self, x: Tree, state: State, extent: Tree, pair: Pair, now: Outcome) -> Any:
        """Return the estimate (1) of the error after a full step, else that of the last point."""
        move = jax.tree.map(jnp.multiply, state.scaling, jax.lax.stop_gradient(pair.move))
        whole, left = relative(move, x, extent, state.scaling), reduction(pair)
        share = jnp.maximum(whole, (whole / state.model.least) ** 2)
        share = jnp.where(left > trees.eps(x) ** QUADRATIC, jnp.maximum(left, share), left)
        after = jnp.where(left <= WORKED, jnp.minimum(share, 1) * whole, whole)
        after = after if self.quadratic else whole
        return jnp.where(now.accept & self.full(state, pair) & ~pair.first, after, state.model.far)

    def full(self, state: State, pair: Pair) -> Any:
        """Return whether the trial was a full step."""
        del state
        return pair.last.trial == 1
