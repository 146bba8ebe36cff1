"""What an interior point method for nonlinear programs carries, measures, and derives directions from."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...trees import Scalar, Tree
from ...trees.products import dot
from ._kkt_system import Factor, assembled, correction, factorized, pinned
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
    # a point that runs away is near nothing, however small errors are beside it
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
    # a gradient that vanishes with its constraint says nothing of a distance
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


def _fraction(value: jax.Array, move: jax.Array, tau: jax.Array) -> jax.Array:
    """Return the largest share of a move that takes positive numbers no lower than a fraction of what they are."""
    ratio = jnp.where(move < 0, -tau * value / jnp.where(move < 0, move, -1), 1)
    return jnp.minimum(jnp.min(ratio, initial=1), 1)


def softness(dtype: Any) -> float:
    """Return how much a constraint may give: multipliers are then defined where gradients are dependent."""
    return float(jnp.finfo(dtype).eps) ** 0.5


class Mode(NamedTuple):
    """The numbers of what a step is for."""

    restore: Any
    polish: Any
    mu: Any
    prox: Any
    #: whether the Hessian is that of the squared violation
    exact: Any


class _Rows(NamedTuple):
    """The curvatures of the barrier, the residuals, and what is held fixed, of a step's system."""

    sigma: Any
    stiff: Any
    gradient: Tree
    residual: Tree
    keep: Any
    give: Any
    pins: Any
    moves: Any


def active(view: View, point: Point, box: Box) -> tuple[jax.Array, jax.Array]:
    """Return which constraints are tight, of a polished step, and which elements stand at their bounds."""
    low, high = box.gaps(point.x)
    keep = jnp.concatenate([jnp.ones(view.equalities, bool), point.z > point.slack])
    return keep, box.fixed | (box.low & (point.lower > low)) | (box.high & (point.upper > high))


def _rows(view: View, at: Derivatives, point: Point, box: Box, mode: Mode, residual: jax.Array) -> _Rows:
    """Return what a step's system is made of, for given residuals of the constraints."""
    restore, polish, mu, prox, _ = mode
    dtype, equalities = point.x.dtype, view.equalities
    low, high = box.gaps(point.x)
    # of a polished step, bounds and slacks are either gone or tight
    tight_low, tight_high = box.low & (point.lower > low), box.high & (point.upper > high)
    tight, pins = active(view, point, box)
    moves = jnp.where(tight_low, -low, jnp.where(tight_high, high, 0))
    curve = lambda z, gap: jnp.where(polish, 0, jnp.where(restore, mu / gap**2, z / gap))
    force = jnp.where(box.high, mu / high, 0) - jnp.where(box.low, mu / low, 0)
    stiff = jnp.where(polish, 1, jnp.where(restore, mu / point.slack**2 + prox, point.z / point.slack))
    keep = ~jnp.asarray(polish) | tight
    y = jnp.where(restore, 0, point.y)
    pull = (y[equalities:] - mu / point.slack) / stiff
    residual = jnp.where(polish, at.constraints, residual - padded(pull, view))
    own = jnp.where(polish, jnp.where(tight[equalities:], 0, 1), 1 / stiff)
    gives = jnp.where(restore, 1, softness(dtype)).astype(dtype)
    return _Rows(
        jnp.where(box.low, curve(point.lower, low), 0) + jnp.where(box.high, curve(point.upper, high), 0),
        stiff,
        jnp.where(restore, 0, at.gradient + dot(jnp.where(keep, point.y, 0), at.slopes)) + jnp.where(polish, 0, force),
        jnp.where(keep, residual, -point.y),
        keep,
        padded(own, view) + jnp.where(keep, gives, 0),
        box.fixed | (polish & pins),
        jnp.where(polish & ~box.fixed, moves, 0),
    )


def descent(
    view: View, at: Derivatives, point: Point, box: Box, mode: Mode, last_shift: jax.Array
) -> tuple[Direction, Factor, jax.Array, jax.Array]:
    """Return a direction, the factor that made it, the Hessian's correction, and whether all went well.

    To restore feasibility is to minimize half the squared violation, with the multipliers as residuals. To polish is
    one step of Newton's method for the equations of the active constraints.
    """
    rows = _rows(view, at, point, box, mode, violated(at.constraints, point.slack, view))
    dtype = point.x.dtype
    near = mode.prox * jnp.eye(view.unknowns, dtype=dtype) + jnp.where(mode.exact, at.hessian, 0)
    hessian = jnp.where(mode.restore, near, at.hessian)
    slopes = jnp.where(rows.keep[:, None], at.slopes, 0)
    held, kept, moved = pinned(hessian + jnp.diag(rows.sigma), slopes, rows.pins, rows.moves)
    shift, found = correction(held, kept, jnp.where(rows.keep, rows.give, 1), last_shift)
    # at a solution nothing is to be corrected
    held = held + jnp.where(mode.polish, 0, shift) * jnp.diag(jnp.where(rows.pins, 0, 1).astype(dtype))
    factor = factorized(assembled(held, kept, rows.give))
    w = factor.solve(-jnp.concatenate(moved(rows.gradient, rows.residual)))
    step = completed(view, point, box, mode, rows.stiff, w[: view.unknowns], w[view.unknowns :])
    return limited(view, at, point, box, mode, step), factor, shift, found & jnp.all(jnp.isfinite(w))


def corrected(
    view: View, at: Derivatives, point: Point, box: Box, mode: Mode, factor: Factor, residual: jax.Array
) -> Direction:
    """Return a direction of descent by the factor of the last one, with other residuals of the constraints."""
    rows = _rows(view, at, point, box, mode, residual)
    upper = jnp.where(rows.pins, 0, rows.gradient)
    w = factor.solve(-jnp.concatenate([upper, rows.residual]))
    step = completed(view, point, box, mode, rows.stiff, w[: view.unknowns], w[view.unknowns :])
    return limited(view, at, point, box, mode, step)


def completed(view: View, point: Point, box: Box, mode: Mode, stiff: jax.Array, dx: jax.Array, dy: jax.Array) -> Point:
    """Return the step of slacks and bounds' multipliers that goes with one of the unknown and the multipliers."""
    restore, polish, mu = mode[:3]
    low, high = box.gaps(point.x)
    y = jnp.where(restore, 0, point.y)
    ds = jnp.where(polish, 0, -(y[view.equalities :] + dy[view.equalities :] - mu / point.slack) / stiff)
    plain = ~restore & ~polish
    dual = lambda z, gap, move: jnp.where(plain, mu / gap - z - z / gap * move, 0)
    return Point(
        dx,
        ds,
        jnp.where(restore, 0, dy),
        dual(point.z, point.slack, ds),
        jnp.where(box.low, dual(point.lower, low, dx), 0),
        jnp.where(box.high, dual(point.upper, high, -dx), 0),
    )


def limited(view: View, at: Derivatives, point: Point, box: Box, mode: Mode, step: Point) -> Direction:
    """Return a step with how far it may go, and its slope."""
    restore, polish, mu = mode[:3]
    low, high = box.gaps(point.x)
    tau = jnp.maximum(0.99, 1 - mu)
    primal = jnp.minimum(
        _fraction(point.slack, step.slack, tau),
        jnp.minimum(
            _fraction(low, jnp.where(box.low, step.x, 0), tau), _fraction(high, jnp.where(box.high, -step.x, 0), tau)
        ),
    )
    dual = jnp.minimum(
        _fraction(point.z, step.z, tau),
        jnp.minimum(_fraction(point.lower, step.lower, tau), _fraction(point.upper, step.upper, tau)),
    )
    logs = jnp.sum(step.slack / point.slack)
    logs = logs + jnp.sum(jnp.where(box.low, step.x / low, 0)) - jnp.sum(jnp.where(box.high, step.x / high, 0))
    residual = violated(at.constraints, point.slack, view)
    change = dot(at.slopes, step.x) + padded(step.slack, view)
    slope = jnp.where(restore, dot(residual, change), dot(at.gradient, step.x)) - mu * logs
    one = jnp.ones_like(primal)
    return Direction(step, jnp.where(polish, one, primal), jnp.where(polish, one, dual), slope)
