r"""What a step of an interior point method for nonlinear programs is for, as objects.

:class:`Barrier` descends on the barrier function, :class:`Restoration` on half the squared violation, and
:class:`Polish` is Newton's method for the equations of the active constraints. Each says which linear system its step
solves (``system``), which step belongs to a solution of that (``completed``), where that leads (``trial``), what is
thought of the point (``judge``), and which slacks and multipliers are those of the next (``renew``). A mode is a number
in the state; :func:`by_mode` takes the object that it stands for.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...trees.products import dot
from ..judge._margins import relative_rounding
from . import _filter
from ._interior_state import (
    Box,
    Direction,
    Point,
    Rows,
    State,
    Trial,
    Weights,
    at_bounds,
    barrier,
    force_of,
    fraction,
    padded,
    softness,
    tight,
    violated,
)
from ._margins import LESS_VALUE, LESS_VIOLATION, STAY
from ._program_view import Derivatives, View

# The constants of Waechter and Biegler (2006), sections 2 to 4.
_ARMIJO = 1e-8
_MAY_VIOLATE, _SWITCH_BELOW, _SWITCH_SLOPE, _SWITCH_VIOLATION = 10.0, 1e-4, 2.3, 1.1
_CLIP, _RESTORED = 1e10, 0.9
#: the share of the predicted decrease of the squared violation that a restoration must bring
_ARMIJO_RESTORING = 1e-4
PUSH = 1e-2


class Barrier:
    """Descent of the barrier function, on the constraints linearized."""

    @staticmethod
    def system(view: View, at: Derivatives, point: Point, box: Box, by: Weights, residual: jax.Array) -> Rows:
        """Return what a step's system is made of, for given residuals of the constraints."""
        low, high = box.gaps(point.x)
        stiff = point.z / point.slack
        pull = (point.y[view.equalities :] - by.mu / point.slack) / stiff
        curved = jnp.where(box.low, point.lower / low, 0) + jnp.where(box.high, point.upper / high, 0)
        gradient = at.gradient + dot(point.y, at.slopes) + force_of(box, point, by.mu)
        give = padded(1 / stiff, view) + softness(point.x.dtype)
        residual = residual - padded(pull, view)
        return Rows(at.hessian + jnp.diag(curved), stiff, gradient, residual, give, *_nothing_held(view, box, point))

    @staticmethod
    def completed(
        view: View, at: Derivatives, point: Point, box: Box, by: Weights, stiff: jax.Array, dx: jax.Array, dy: jax.Array
    ) -> Direction:
        """Return the step with that of slacks and bounds' multipliers, how far it may go, and its slope."""
        low, high = box.gaps(point.x)
        of_slacks = point.y[view.equalities :] + dy[view.equalities :]
        ds = -(of_slacks - by.mu / point.slack) / stiff
        dual = lambda z, gap, move: by.mu / gap - z - z / gap * move
        lower, upper = dual(point.lower, low, dx), dual(point.upper, high, -dx)
        step = Point(
            dx, ds, dy, dual(point.z, point.slack, ds), jnp.where(box.low, lower, 0), jnp.where(box.high, upper, 0)
        )
        tau = jnp.maximum(STAY, 1 - by.mu)
        duals = [(point.z, step.z), (point.lower, step.lower), (point.upper, step.upper)]
        far = jnp.min(jnp.stack([fraction(z, move, tau) for z, move in duals]))
        slope = dot(at.gradient, dx) - by.mu * _logs(box, point, step)
        return Direction(step, _room(box, point, step, tau), far, slope)

    @staticmethod
    def trial(view: View, state: State, box: Box) -> Point:
        """Return the point to try, off its bounds."""
        del view
        point, step, share, dual, mu = state.point, state.direction.step, state.share, state.direction.dual, state.mu
        x = point.x + share * step.x
        x = box.inside(x, jnp.zeros((), x.dtype))
        slack = point.slack + share * step.slack
        low, high = box.gaps(x)
        z = _clipped(point.z + dual * step.z, slack, mu)
        # the multiplier of an inequality is that of its slack, and positive
        y = point.y + share * step.y
        return Point(
            x,
            slack,
            jnp.concatenate([y[: y.size - z.size], z]),
            z,
            jnp.where(box.low, _clipped(point.lower + dual * step.lower, low, mu), point.lower),
            jnp.where(box.high, _clipped(point.upper + dual * step.upper, high, mu), point.upper),
        )

    @staticmethod
    def judge(view: View, state: State, box: Box, point: Point, values: jax.Array) -> Trial:
        """Return whether a filter of violations and objectives takes the point."""
        # a slack that falls short of its constraint's is made as long: that violates nothing, and the barrier falls
        short = jnp.maximum(point.slack, -values[1 + view.equalities :])
        point = point._replace(slack=jnp.where(jnp.all(jnp.isfinite(values)), short, point.slack))
        before, after = merits(view, state, box, point, values)
        share, slope, rounding = state.share, state.plain.slope, relative_rounding(before[1])
        steep = (slope < 0) & (share * jnp.maximum(-slope, 0) ** _SWITCH_SLOPE > before[0] ** _SWITCH_VIOLATION)
        first = jnp.maximum(1, state.first_violation)
        steep &= before[0] <= _SWITCH_BELOW * first
        armijo = after[1] <= before[1] + _ARMIJO * share * slope + rounding
        less = (after[0] <= (1 - LESS_VIOLATION) * before[0]) | (
            after[1] <= before[1] - LESS_VALUE * before[0] + rounding
        )
        passes = _passes(state, after)
        ends = jnp.max(jnp.abs(share * state.direction.step.x), initial=0)
        eps = jnp.finfo(values.dtype).eps
        tiny = (ends <= 10 * eps * jnp.max(jnp.abs(state.point.x), initial=0)) & (after[0] <= before[0])
        good = (passes & jnp.where(steep, armijo, less)) | tiny
        accept = jnp.all(jnp.isfinite(values)) & jnp.isfinite(after[1]) & good
        accept = accept | (state.steps == 0)
        return Trial(point, values, before, after, accept, accept & ~(steep & armijo), jnp.zeros_like(accept))

    @staticmethod
    def renew(view: View, state: State, box: Box, trial: Trial, values: jax.Array, jacobian: jax.Array) -> Point:
        """Return the point with its multipliers; those of elements without room are what holds them."""
        del view, state, values
        point = trial.point
        force = jacobian[0] + dot(point.y, jacobian[1:])
        lower = jnp.where(box.fixed, jnp.maximum(force, 0), point.lower)
        return point._replace(lower=lower, upper=jnp.where(box.fixed, jnp.maximum(-force, 0), point.upper))


class Restoration(Barrier):
    """Descent of half the squared violation, with the multipliers as residuals."""

    @staticmethod
    def system(view: View, at: Derivatives, point: Point, box: Box, by: Weights, residual: jax.Array) -> Rows:
        """Return what a step's system is made of."""
        low, high = box.gaps(point.x)
        stiff = by.mu / point.slack**2 + by.prox
        curved = jnp.where(box.low, by.mu / low**2, 0) + jnp.where(box.high, by.mu / high**2, 0)
        near = by.prox * jnp.eye(view.unknowns, dtype=point.x.dtype) + jnp.where(by.exact, at.hessian, 0)
        residual = residual + padded(by.mu / point.slack / stiff, view)
        hessian, gradient = near + jnp.diag(curved), force_of(box, point, by.mu)
        return Rows(hessian, stiff, gradient, residual, padded(1 / stiff, view) + 1, *_nothing_held(view, box, point))

    @staticmethod
    def completed(
        view: View, at: Derivatives, point: Point, box: Box, by: Weights, stiff: jax.Array, dx: jax.Array, dy: jax.Array
    ) -> Direction:
        """Return the step with that of the slacks, how far it may go, and its slope."""
        ds = -(dy[view.equalities :] - by.mu / point.slack) / stiff
        step = jax.tree.map(jnp.zeros_like, point)._replace(x=dx, slack=ds)
        change = dot(at.slopes, dx) + padded(ds, view)
        slope = dot(violated(at.constraints, point.slack, view), change) - by.mu * _logs(box, point, step)
        room = _room(box, point, step, jnp.maximum(STAY, 1 - by.mu))
        return Direction(step, room, jnp.ones_like(room), slope)

    @staticmethod
    def judge(view: View, state: State, box: Box, point: Point, values: jax.Array) -> Trial:
        """Return whether the squared violation falls, and whether that is enough to continue with the objective."""
        before, after = merits(view, state, box, point, values)
        mu, finite = state.restoring_mu, jnp.all(jnp.isfinite(values))
        squared = lambda values, at: (
            0.5 * jnp.sum(jnp.square(violated(values[1:], at.slack, view))) - mu * barrier(at, box)
        )
        here, there = squared(state.at.values, state.point), squared(values, point)
        falls = _ARMIJO_RESTORING * state.share * state.plain.slope
        accept = finite & (there <= here + falls + relative_rounding(here))
        restored = (after[0] <= _RESTORED * state.left_at) & _passes(state, after)
        return Trial(point, values, before, after, accept, jnp.zeros_like(accept), restored)

    @staticmethod
    def renew(view: View, state: State, box: Box, trial: Trial, values: jax.Array, jacobian: jax.Array) -> Point:
        """Return the point; where the restoration ends, its multipliers begin as at a start."""
        plain = Barrier.renew(view, state, box, trial, values, jacobian)
        low, high = box.gaps(plain.x)
        again = plain._replace(
            z=state.mu / plain.slack,
            lower=jnp.where(box.low, state.mu / low, plain.lower),
            upper=jnp.where(box.high, state.mu / high, plain.upper),
        )
        back = trial.accept & trial.restored
        return jax.tree.map(lambda a, b: jnp.where(back, a, b), again, plain)


class Polish:
    """Newton's method for the equations of the active constraints: bounds and slacks are either gone or tight."""

    @staticmethod
    def system(view: View, at: Derivatives, point: Point, box: Box, by: Weights, residual: jax.Array) -> Rows:
        """Return what a step's system is made of."""
        del by, residual
        low, high = box.gaps(point.x)
        keep, pins = tight(view, point, box)
        at_low, at_high = at_bounds(point, box)
        moves = jnp.where(at_low, -low, jnp.where(at_high, high, 0))
        give = jnp.where(keep, softness(point.x.dtype), 1).astype(point.x.dtype)
        gradient = at.gradient + dot(jnp.where(keep, point.y, 0), at.slopes)
        left = jnp.where(keep, at.constraints, -point.y)
        stiff = jnp.ones_like(point.slack)
        return Rows(at.hessian, stiff, gradient, left, give, keep, pins, jnp.where(box.fixed, 0, moves))

    @staticmethod
    def completed(
        view: View, at: Derivatives, point: Point, box: Box, by: Weights, stiff: jax.Array, dx: jax.Array, dy: jax.Array
    ) -> Direction:
        """Return the whole step."""
        del view, box, by, stiff
        one = jnp.ones((), dx.dtype)
        return Direction(jax.tree.map(jnp.zeros_like, point)._replace(x=dx, y=dy), one, one, dot(at.gradient, dx))

    @staticmethod
    def trial(view: View, state: State, box: Box) -> Point:
        """Return the point to try, within its bounds."""
        del view
        point, step, share = state.point, state.direction.step, state.share
        x = jnp.clip(point.x + share * step.x, box.lower, box.upper)
        return point._replace(x=x, y=point.y + share * step.y)

    @staticmethod
    def judge(view: View, state: State, box: Box, point: Point, values: jax.Array) -> Trial:
        """Return the point: whether it is good, only derivatives tell."""
        del view, box
        no, zero = jnp.zeros((), bool), jnp.zeros_like(state.mu)
        return Trial(point, values, (zero, zero), (zero, zero), no, no, no)

    @staticmethod
    def renew(view: View, state: State, box: Box, trial: Trial, values: jax.Array, jacobian: jax.Array) -> Point:
        """Return the point with the slacks that it has, and what holds the elements that were held as multipliers."""
        point, last = trial.point, state.point
        force = jacobian[0] + dot(point.y, jacobian[1:])
        low, high = at_bounds(last, box)
        return point._replace(
            slack=jnp.maximum(-values[1 + view.equalities :], 0),
            z=jnp.maximum(point.y[view.equalities :], 0),
            lower=jnp.where(box.fixed | low, jnp.maximum(force, 0), 0),
            upper=jnp.where(box.fixed | high, jnp.maximum(-force, 0), 0),
        )


_MODES: tuple[Any, ...] = (Barrier, Restoration, Polish)


def by_mode(mode: jax.Array, hook: str, *given: Any) -> Any:
    """Return what the object of a mode makes of something.

    All are computed, which are some vectors each: branches would be called one by one, and compile apart.
    """
    # a correction is a step of the barrier's descent
    which = jnp.maximum(mode - 1, 0)
    made = [getattr(each, hook)(*given) for each in _MODES]
    one = lambda *each: each[0] if all(part is each[0] for part in each) else jax.lax.select_n(which, *each)
    return jax.tree.map(one, *made)


def merits(
    view: View, state: State, box: Box, point: Point, values: jax.Array
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the violation of the constraints and the barrier function, of the last point and of another."""

    def one(values: jax.Array, point: Point) -> tuple[jax.Array, jax.Array]:
        left = jnp.sum(jnp.abs(violated(values[1:], point.slack, view)))
        # what rounding leaves is no violation
        size = jnp.maximum(1, jnp.max(jnp.abs(point.x), initial=0))
        level = 10 * view.rows * jnp.finfo(values.dtype).eps * size
        return jnp.maximum(left - level, 0), values[0] - state.mu * barrier(point, box)

    return one(state.at.values, state.point), one(values, point)


def _passes(state: State, after: tuple[Any, Any]) -> jax.Array:
    most = _MAY_VIOLATE * jnp.maximum(1, state.first_violation)
    return _filter.passes(state.filter, *after) & (after[0] <= most)


def _clipped(z: jax.Array, gap: jax.Array, mu: jax.Array) -> jax.Array:
    return jnp.clip(z, mu / (_CLIP * gap), _CLIP * mu / gap)


def _nothing_held(view: View, box: Box, point: Point) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return that all constraints are in the system, and no element is pinned but those without room."""
    return jnp.ones(view.rows, bool), box.fixed, jnp.zeros_like(point.x)


def _room(box: Box, point: Point, step: Point, tau: jax.Array) -> jax.Array:
    """Return how far slacks and unknowns may go."""
    low, high = box.gaps(point.x)
    moves = (point.slack, step.slack), (low, jnp.where(box.low, step.x, 0)), (high, jnp.where(box.high, -step.x, 0))
    return jnp.min(jnp.stack([fraction(gap, move, tau) for gap, move in moves]))


def _logs(box: Box, point: Point, step: Point) -> jax.Array:
    """Return the slope of the barrier's logarithms."""
    low, high = box.gaps(point.x)
    logs = jnp.sum(step.slack / point.slack)
    return logs + jnp.sum(jnp.where(box.low, step.x / low, 0)) - jnp.sum(jnp.where(box.high, step.x / high, 0))
