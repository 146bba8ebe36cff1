"""What an interior point method for nonlinear programs carries, measures, and derives directions from."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...conditions._activity import active
from ...trees import Scalar, Tree
from ...trees.products import dot
from ._program_view import Derivatives, View

#: what a step is for: descent of the barrier function, feasibility, or the equations of the active constraints
DESCEND, CORRECT, RESTORE, POLISH = 0, 1, 2, 3


class Point(NamedTuple):
    """A point with its slacks and multipliers, all in the units of the start."""

    x: Tree
    slack: Any
    #: of the constraints, of the slacks' bounds, and of the unknown's
    y: Any
    z: Any
    lower: Any
    upper: Any


class Box(NamedTuple):
    """The bounds in units of the start, with what is known of them."""

    lower: Any
    upper: Any

    @property
    def fixed(self) -> jax.Array:
        """Which elements have no room."""
        return self.lower >= self.upper

    @property
    def low(self) -> jax.Array:
        """Which elements have a lower bound, and room."""
        return jnp.isfinite(self.lower) & ~self.fixed

    @property
    def high(self) -> jax.Array:
        """Which elements have an upper bound, and room."""
        return jnp.isfinite(self.upper) & ~self.fixed

    def gaps(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the distances to the bounds, one where there is none."""
        return jnp.where(self.low, x - self.lower, 1), jnp.where(self.high, self.upper - x, 1)

    def inside(self, x: jax.Array, least: Any) -> jax.Array:
        """Return a point that is away from the bounds by a distance, or by a share of the room where that is small."""
        room = jnp.where(self.low & self.high, self.upper - self.lower, jnp.inf)
        # no nearer than what rounding can tell
        reach = lambda b: jnp.minimum(
            jnp.maximum(least, 8 * jnp.finfo(x.dtype).eps * jnp.abs(jnp.where(jnp.isfinite(b), b, 0))), 0.25 * room
        )
        x = jnp.where(self.low, jnp.maximum(x, jnp.where(self.low, self.lower + reach(self.lower), 0)), x)
        x = jnp.where(self.high, jnp.minimum(x, jnp.where(self.high, self.upper - reach(self.upper), 0)), x)
        return jnp.where(self.fixed, self.lower, x)


class Direction(NamedTuple):
    """A step of a :class:`Point`, how far it may go, and the slope of what it descends."""

    step: Point
    primal: Any
    dual: Any
    slope: Scalar


class Measures(NamedTuple):
    """How far a point is from a solution: relative errors, and what they are relative to."""

    error: Scalar
    violation: Any
    work: Any


def padded(inequalities: jax.Array, view: View) -> jax.Array:
    """Return a vector of the inequalities with zeros for the equalities before."""
    return jnp.concatenate([jnp.zeros(view.equalities, inequalities.dtype), inequalities])


def lagrangian(at: Derivatives, point: Point) -> jax.Array:
    """Return the gradient of the Lagrangian."""
    return at.gradient + dot(point.y, at.slopes) - point.lower + point.upper


def barrier(point: Point, box: Box) -> jax.Array:
    """Return the sum of the logarithms of the distances to the bounds."""
    low, high = box.gaps(point.x)
    return jnp.sum(jnp.log(point.slack)) + jnp.sum(jnp.log(low)) + jnp.sum(jnp.log(high))


def violated(constraints: jax.Array, slack: jax.Array, view: View) -> jax.Array:
    """Return the residuals of the constraints with their slacks."""
    return constraints + padded(slack, view)


def measures(view: View, at: Derivatives, point: Point, box: Box) -> Measures:
    r"""Return the errors of a point.

    They are relative: a violation to the terms of its own constraint, :math:`\sum_i |\partial_i c| |x_i|`, but for what
    rounding does beside the change of the constraint where the point moves by its size; a force that is left over to
    the largest one and to that of a point which is wrong by its size; a product of force and slack, or of what is left
    over and its element, to the largest one of force and element.
    """
    eps = jnp.finfo(point.x.dtype).eps
    # a diverging point is not near a solution, however small its relative errors are
    size = jnp.clip(jnp.max(jnp.abs(point.x), initial=0), eps**0.25, eps**-0.25)
    rows = jnp.sqrt(jnp.sum(jnp.square(at.slopes), axis=1))
    top = lambda v: jnp.max(jnp.abs(v), initial=0)
    # elements of unlike size move by their own
    own = jnp.maximum(jnp.abs(point.x), eps * size)
    curves = dot(jnp.abs(at.hessian), own)
    curved = jnp.minimum(top(curves), eps**-0.25)
    net = jnp.maximum(jnp.maximum(top(at.gradient), curved), jnp.maximum(top(point.lower), top(point.upper)))
    force = jnp.maximum(net, top(point.y * rows))
    # of dependent gradients, multipliers that cancel may be as large as they like: what they leave holds the point
    net = jnp.maximum(net, eps**0.5 * force)
    force, net = jnp.where(force > 0, force, 1), jnp.where(net > 0, net, 1)
    # what a product of force and slack is beside: the largest of forces and their elements, whose units do not matter
    work = jnp.maximum(jnp.maximum(jnp.abs(at.gradient), jnp.minimum(curves, eps**-0.25)), point.lower + point.upper)
    work = jnp.clip(top(work * own), eps * net * size, net * size)
    # a gradient that vanishes with its constraint is not informative about a distance
    reach = jnp.maximum(jnp.maximum(dot(jnp.abs(at.slopes), jnp.abs(point.x)), eps**0.5 * rows * size), eps**0.5)
    noise = 4 * eps * rows * size
    equal, values = at.constraints[: view.equalities], at.constraints[view.equalities :]
    y, row = point.y[view.equalities :], rows[view.equalities :]
    over = jnp.maximum(jnp.concatenate([jnp.abs(equal), values]) - noise, 0)
    violation = top(over / reach)
    low, high = box.gaps(point.x)
    gradient = jnp.where(box.fixed, 0, lagrangian(at, point))
    parts = [
        violation,
        top(gradient) / force,
        top(gradient * point.x) / work,
        top(jnp.minimum(y, 0) * row) / force,
        top(y * values) / work,
        top(jnp.where(box.low, point.lower * low, 0)) / work,
        top(jnp.where(box.high, point.upper * high, 0)) / work,
    ]
    return Measures(jnp.max(jnp.stack(parts)), violation, work)


def barrier_error(view: View, at: Derivatives, point: Point, box: Box, mu: jax.Array) -> jax.Array:
    """Return how far a point is from a minimum of the barrier function, in units of the start."""
    top = lambda v: jnp.max(jnp.abs(v), initial=0)
    mean = jnp.sum(jnp.abs(point.y)) + jnp.sum(point.z) + jnp.sum(point.lower) + jnp.sum(point.upper)
    count = point.y.size + point.z.size + 2 * point.x.size
    scale = jnp.maximum(1, mean / (100 * count))
    low, high = box.gaps(point.x)
    gradient = jnp.where(box.fixed, 0, lagrangian(at, point))
    parts = [
        top(gradient) / scale,
        top(point.y[view.equalities :] - point.z) / scale,
        top(violated(at.constraints, point.slack, view)),
        top(point.slack * point.z - mu) / scale,
        top(jnp.where(box.low, point.lower * low - mu, 0)) / scale,
        top(jnp.where(box.high, point.upper * high - mu, 0)) / scale,
    ]
    return jnp.max(jnp.stack(parts))


def estimated(view: View, at: Derivatives, point: Point) -> jax.Array:
    """Return the equalities' multipliers that fit the gradients best, beside those of the inequalities."""
    slopes, others = at.slopes[: view.equalities], at.slopes[view.equalities :]
    force = at.gradient - point.lower + point.upper + dot(point.z, others)
    gram = dot(slopes, slopes.T)
    size = jnp.max(jnp.diagonal(gram), initial=0)
    gram = gram + softness(gram.dtype) * jnp.where(size > 0, size, 1) * jnp.eye(len(gram), dtype=gram.dtype)
    y = -jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(gram), True), dot(slopes, force), check_finite=False)
    # far away, multipliers mean nothing
    return jnp.where(jnp.all(jnp.isfinite(y)) & (jnp.max(jnp.abs(y), initial=0) <= 1e3), y, 0)


def fraction(value: jax.Array, move: jax.Array, tau: jax.Array) -> jax.Array:
    """Return the largest share of a move that takes positive numbers no lower than a fraction of what they are."""
    ratio = jnp.where(move < 0, -tau * value / jnp.where(move < 0, move, -1), 1)
    return jnp.minimum(jnp.min(ratio, initial=1), 1)


def softness(dtype: Any) -> float:
    """Return how much a constraint may give: multipliers are then defined where gradients are dependent."""
    return float(jnp.finfo(dtype).eps) ** 0.5


class Weights(NamedTuple):
    """The numbers of a step: of the barrier, of a restoration's proximal term, and whether its Hessian is exact."""

    mu: Any
    prox: Any
    exact: Any


class Rows(NamedTuple):
    """What a step's system is made of: the Hessian with its barrier, the residuals, and what is held fixed."""

    hessian: Any
    stiff: Any
    gradient: Tree
    residual: Tree
    give: Any
    keep: Any
    pins: Any
    moves: Any


def force_of(box: Box, point: Point, mu: jax.Array) -> jax.Array:
    """Return the gradient of the bounds' barrier."""
    low, high = box.gaps(point.x)
    return jnp.where(box.high, mu / high, 0) - jnp.where(box.low, mu / low, 0)


def at_bounds(point: Point, box: Box) -> tuple[jax.Array, jax.Array]:
    """Return which elements with room stand at their lower bounds, and which at their upper ones."""
    low, high = box.gaps(point.x)
    return box.low & active(point.lower, low), box.high & active(point.upper, high)


def tight(view: View, point: Point, box: Box) -> tuple[jax.Array, jax.Array]:
    """Return which constraints are tight, of a polished step, and which elements stand at their bounds."""
    keep = jnp.concatenate([jnp.ones(view.equalities, bool), active(point.z, point.slack)])
    low, high = at_bounds(point, box)
    return keep, box.fixed | low | high


class State(NamedTuple):
    """Carried from step to step, all in the units of the start."""

    error: Scalar
    #: the accepted point, what the functions are there, and its error
    point: Tree
    at: Any
    units: Any
    measured: Any
    mu: Any
    #: the next trial, the step that a correction replaces, and the share of it that is tried
    direction: Tree
    plain: Any
    share: Any
    factor: Any
    shift: Any
    residual: Tree
    corrections: Any
    #: what trials are compared with
    filter: Any
    first_violation: Any
    left_at: Any
    restoring_mu: Any
    polish_at: Any
    last_try: Any
    #: of the last system, whether its Hessian was positive definite on the constraints' tangent space
    definite: Any
    #: of the last two steps onto the active constraints, and how often a stationary point was left for a lower one
    pace: Any
    left: Any
    #: the point where it began
    start: Any
    mode: Any
    steps: Scalar
    status: Any


class Trial(NamedTuple):
    """A trial point, its values, the merits before and after, and what is thought of it."""

    point: Point
    values: Any
    before: tuple[Any, Any]
    after: tuple[Any, Any]
    accept: Any
    #: whether the filter grows by the point before
    grow: Any
    #: whether it ends a restoration
    restored: Any
