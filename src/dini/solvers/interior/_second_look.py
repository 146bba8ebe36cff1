r"""What a stationary point must show beside a small error before it is called a minimum.

Errors are relative, and a force can be small compared with others for two reasons that are none of a minimum. On the
way to an infimum at infinity it vanishes, and so does its curvature: Newton's steps do not become shorter, until both
underflow. At a saddle, a maximum or an inflection it is zero, and the Lagrangian is lower near it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...trees.products import dot
from ...verification._minimum import LEFT, ROUNDING
from ._kkt_system import pinned, stiffened
from ._margins import SHRINKS
from ._program_view import Derivatives, Units, View

#: a step that leaves more than this share of the last one is one of a singular system
_SINGULAR = 0.1
#: by which powers of the unit roundoff, times its size, a point is moved to look for a lower one
_LOOKS = 1 / 4, 1 / 6, 1 / 8
#: a decrease is significant above so many times what the remaining slope explains, and so many units in the last place
_SLOPES, _ROUNDING = 2, 64
#: a way along the tangent space moves a constraint by less than this power of the unit roundoff, times its slopes
_TANGENT = 1 / 4
#: places on the way from the start, each nearer to it by this factor, down to a share of one unit of rounding (the last
#: step before an underflow may have led very far), and how many of them lie between two shares of what the way was
#: worth where a function only tends to its bound
_FACTOR, _PLACES, _TAIL = 1.15, 256, 3


class Pace(NamedTuple):
    """Whether Newton's steps do not shrink, and whether they are those of a singular system."""

    drifts: Any
    slow: Any


def pace(last: jax.Array, new: jax.Array, x: jax.Array) -> Pace:
    """Return what two of Newton's steps in a row say of the point between them."""
    eps = jnp.finfo(x.dtype).eps
    # a step that is one of rounding says nothing
    noise = jnp.maximum(eps**0.375 * jnp.abs(x), 16 * eps * jnp.max(jnp.abs(x), initial=0))
    on = (jnp.abs(new) > noise) & (jnp.abs(new) >= SHRINKS * jnp.abs(last)) & (last != 0)
    top = lambda v: jnp.max(jnp.abs(v), initial=0)
    return Pace(jnp.any(on), (top(new) > _SINGULAR * top(last)) & (top(last) > 0))


def once(needed: jax.Array, look: Callable[[], Any], otherwise: Any) -> Any:
    """Return what a look shows where it is needed; in a batch it is not taken until one lane needs it."""
    body = lambda now: (jnp.zeros_like(now[0]), look())
    return jax.lax.while_loop(lambda now: now[0], body, (needed, otherwise))[1]


def levels_off(
    view: View, units: Units, at: Derivatives, x: jax.Array, start: jax.Array, keep: jax.Array, needed: jax.Array
) -> jax.Array:
    """Return whether the objective is constant only by underflow, along a way on which it decreases without bound.

    The way is that of the elements without force and curvature, which no constraint holds. See
    :mod:`dini.verification`: where a function ends, as a hinge does, the last shares of its fall are left at nearly the
    same place.
    """
    felt = (at.gradient != 0) | jnp.any(at.hessian != 0, axis=0) | jnp.any(keep[:, None] & (at.slopes != 0), axis=0)
    way = jnp.where(felt, 0, x - start)
    places = jnp.concatenate([jnp.zeros(1, x.dtype), _FACTOR ** -jnp.arange(_PLACES, dtype=x.dtype)])

    def look() -> jax.Array:
        falls = jax.lax.map(lambda share: view.values(x - (1 - share) * way, units)[0], places) - at.values[0]
        worth, falls = falls[0], falls[1:]
        passed = lambda left: jnp.sum(jnp.cumprod(falls <= left * worth, dtype=jnp.int32))
        seen = worth > ROUNDING * jnp.finfo(x.dtype).eps * jnp.abs(at.values[0]) / LEFT[1]
        return seen & (passed(LEFT[0]) >= passed(LEFT[1]) + _TAIL)

    return once(needed & jnp.any(way != 0), look, jnp.zeros((), bool))


def lower_beside(
    view: View, units: Units, at: Derivatives, x: jax.Array, y: jax.Array, keep: jax.Array, pins: jax.Array, step: Any
) -> tuple[jax.Array, jax.Array]:
    """Return whether the Lagrangian is lower near a stationary point, and where, all in units of the start.

    It is looked for in the direction of least curvature on the tangent space of the constraints that are held
    (``keep``, ``pins``), and along a ``step`` of Newton's method, which leads along the kernel of a singular system.
    The others must hold there.
    """
    eps, size = jnp.finfo(x.dtype).eps, jnp.maximum(1, jnp.max(jnp.abs(x), initial=0))
    held, kept, _ = pinned(at.hessian, jnp.where(keep[:, None], at.slopes, 0), pins, jnp.zeros_like(x))
    gram = stiffened(held, kept, jnp.full(view.rows, eps, x.dtype))
    safe = jnp.where(jnp.all(jnp.isfinite(gram)), gram, 0)
    ways = jnp.stack([jnp.linalg.eigh(safe, symmetrize_input=False)[1][:, 0], step])
    ways = jnp.where(jnp.isfinite(ways) & ~pins[None], ways, 0)
    most = jnp.max(jnp.abs(ways), axis=1, keepdims=True)
    ways = ways / jnp.where(most > 0, most, 1)
    # a step of rounding leads anywhere, and off a constraint the Lagrangian may be lower
    turned = jnp.abs(dot(ways, kept.T)) <= eps**_TANGENT * jnp.sum(jnp.abs(kept), axis=1)[None]
    ways = jnp.where(jnp.all(turned, axis=1, keepdims=True), ways, 0)
    reach = size * jnp.asarray([eps**power for power in _LOOKS], x.dtype)
    moves = (reach[:, None, None] * jnp.concatenate([ways, -ways])[None]).reshape(-1, x.size)
    lower, upper = view.lower / units.length, view.upper / units.length
    ends = jnp.clip(x[None] + moves, lower[None], upper[None])
    weights = jnp.concatenate([jnp.ones(1, x.dtype), jnp.where(keep, y, 0)])
    # a map, which compiles the functions once more and not for a batch
    there = jax.lax.map(lambda end: view.values(end, units), ends)
    fall = dot(at.values, weights) - dot(there, weights)
    force = at.gradient + dot(weights[1:], at.slopes)
    terms = dot(jnp.abs(at.jacobian).T, jnp.abs(weights)) + dot(jnp.abs(at.hessian), jnp.abs(x))
    noise = jnp.abs(at.values[0]) + dot(terms, jnp.abs(x))
    slope = jnp.abs(dot(ends - x[None], force))
    inside = jnp.all(keep[None] | (there[:, 1:] <= jnp.maximum(at.constraints, 0)[None]), axis=1)
    good = inside & (fall > _SLOPES * slope + _ROUNDING * eps * noise)
    best = jnp.argmax(jnp.where(good, fall, -jnp.inf))
    return jnp.any(good), ends[best]
