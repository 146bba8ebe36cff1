"""Newton's method for the equations of the active constraints, from a point nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._interior_state import Box, Mode, Point, descent
from ._program_view import Derivatives, Units, View

#: so many steps, each of which has to leave so much of the error of the last
_STEPS, _LESS = 6, 0.1


class Refined(NamedTuple):
    """A point in the problem's own units, its multipliers in those of the start, and what was measured there."""

    x: Any
    y: Any
    known: Any


def refined(
    view: View, units: Units, start: Refined, measured: Callable[[jax.Array, jax.Array], Any], tol: jax.Array
) -> Refined:
    """Return a point with a smaller error, or the one that is given.

    What is active is what has a multiplier larger than its slack, in units of the start. ``measured(x, y)`` returns the
    error and the multipliers of the bounds; a step that does not reduce the error by much is not taken.
    """
    box = Box(view.lower / units.length, view.upper / units.length)

    def step(now: tuple[Refined, Any, Any]) -> tuple[Refined, Any, Any]:
        at, _, count = now
        x, y = _stepped(view, units, box, at)
        known = measured(x, y)
        within = at.known.error <= tol
        better = known.error < jnp.where(within, 1, _LESS) * at.known.error
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), Refined(x, y, known), at)
        # within the tolerance one more step takes the last digits
        return kept, better & ~within, count + 1

    going = lambda now: now[1] & (now[2] < _STEPS)
    first = start, jnp.isfinite(start.known.error), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, step, first)[0]


def _stepped(view: View, units: Units, box: Box, at: Refined) -> tuple[jax.Array, jax.Array]:
    """Return the point and the multipliers after one step."""
    u = at.x / units.length
    one = jnp.ones((), u.dtype)
    values, jacobian = view.values(u, units), view.jacobian(u, units)
    here = Derivatives(values, jacobian, view.hessian(u, units, one, at.y))
    slack, z = jnp.maximum(-values[1 + view.equalities :], 0), at.y[view.equalities :]
    lower, upper = jnp.maximum(-at.known.bounds, 0), jnp.maximum(at.known.bounds, 0)
    point = Point(u, slack, at.y, z, lower, upper)
    polish = Mode(restore=False, polish=True, mu=0 * one, prox=0 * one, exact=False)
    moved = descent(view, here, point, box, polish, 0 * one)[0].step
    low, high = box.gaps(u)
    # an element that is held stands on its bound to the last digit
    x = jnp.clip(at.x + units.length * moved.x, view.lower, view.upper)
    x = jnp.where(box.fixed | (box.low & (lower > low)), view.lower, x)
    x = jnp.where(box.high & (upper > high), view.upper, x)
    held = jnp.where(z > slack, jnp.maximum(z + moved.y[view.equalities :], 0), 0)
    return x, jnp.concatenate([(at.y + moved.y)[: view.equalities], held])
