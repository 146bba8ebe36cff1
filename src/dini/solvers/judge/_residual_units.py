"""What a step of Gauss and Newton shows of the units of residuals and unknowns, see ``_newton_steps.py``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...trees import Scalar, Tree
from ...trees.products import largest, summed
from ...verification import _residuals as verification
from ..shared._residual_model import Space
from . import _newton_steps
from ._margins import LONG, NOISE, ROUNDING, relative_rounding
from ._units import Units

#: the words on a point: a step that is damped further says less of the same one
_OF_POINT = ("scale", "floor", "measure", "hidden", "noise")


def kept(new: Units, renew: Any, old: Units) -> Units:
    """Return what is known with the old words on the point, except where ``renew`` holds."""
    return new._replace(**{name: jnp.where(renew, getattr(new, name), getattr(old, name)) for name in _OF_POINT})


def doubted(now: Units, doubt: Any) -> Units:
    """Return what is known without a scale and a floor where there is ``doubt``: no error meets a test then."""
    return now._replace(scale=jnp.where(doubt, 0, now.scale), floor=jnp.where(doubt, 0, now.floor))


def falls_for_ever(now: Units, error: Scalar, u: Tree, extent: Any, last: Any, ahead: Any) -> Any:
    """Return whether the error has vanished beside the largest one, and yet the unknown runs on."""
    vanished = error <= jnp.finfo(error.dtype).eps * now.steepest
    return vanished & _newton_steps.run_away(u, extent, last, ahead)


def settled(now: Units, space: Space, value: Any) -> Any:
    """Return whether a point from which no step succeeds is a solution: what is left to gain is rounding."""
    drowned = space.minimum & (now.hidden <= relative_rounding(value))
    return (now.measure <= LONG) & (drowned | (now.noise <= NOISE))


def rounded(now: Units, space: Space, value: Any) -> Any:
    """Return whether rounding alone can have made the next step fail."""
    eps = jnp.finfo(value.dtype).eps
    small = now.hidden <= relative_rounding(value) if space.minimum else now.measure <= eps**0.375
    return settled(now, space, value) & (now.noise <= NOISE) & small


def _norm(v: Tree) -> Any:
    return jnp.sqrt(summed(v * v))


def _relative(move: Tree, sizes: Any) -> Any:
    """Return the elements of a step beside their sizes; infinity where something of no size moves."""
    p = jnp.abs(move)
    return jnp.where(sizes > 0, p / jnp.where(sizes > 0, sizes, 1), jnp.where(p == 0, 0.0, jnp.inf))


def promised_beyond(space: Space, u: Tree, start: Any, promised: Any, norms: Any, value: Any, rtol: Any) -> Any:
    """Return what a Gauss-Newton step still promises, see `verification/_residuals.py`."""
    if not space.minimum:  # residuals that are to vanish promise all they are
        return jnp.zeros((), space.dtype)
    return verification.promised_beyond(u, start, promised, norms, value, rtol)


def known(
    space: Space,
    u: Tree,
    extent: Any,
    norms: Any,
    gradient: Tree,
    raw: Any,
    move: Tree,
    error: Scalar,
    value: Any,
    curvature: Any,
    old: Units,
    astray: Any,
    learned: Any = None,
) -> Units:
    """Return what the next step shows.

    ``raw`` is the step before it is clipped to bounds: close to one, a clipped step is short anywhere. ``gradient`` has
    zeros where unknowns are held, ``norms`` are those of the Jacobian's columns here, ``curvature`` that of the model
    along the step, ``old`` what was known before, ``astray`` what :class:`Point` knows of the rest of the unknown;
    ``learned`` tells whether an estimate of the curvature is part of it, and the largest norms of the columns so far.
    """
    given = (u, norms, gradient, raw, move, error, value, curvature, astray)
    u, norms, gradient, raw, move, error, value, curvature, astray = jax.lax.stop_gradient(given)
    eps = jnp.finfo(space.dtype).eps
    sizes = jnp.maximum(norms * jnp.abs(u), eps**0.25 * _norm(norms * extent))
    length = largest(_relative(norms * raw, sizes))
    # how much longer the step to the minimum along this one is
    slope = -summed(gradient * move)
    stretch = jnp.where(curvature > 0, slope / jnp.where(curvature > 0, curvature, 1), jnp.inf)
    stretch = jnp.where(length > 0, jnp.maximum(stretch, 1), 1)
    hidden = 0.5 * jnp.where(slope > 0, slope, 0) * stretch
    made_of = _norm(norms * u)
    if space.minimum:
        made_of = made_of + jnp.sqrt(2 * jnp.abs(value))
        apart = largest(jnp.abs(gradient) / jnp.where(norms > 0, norms, 1))
    else:
        apart = error
    made_of = eps * made_of
    noise = jnp.where(made_of > 0, apart / jnp.where(made_of > 0, made_of, 1), jnp.where(apart > 0, jnp.inf, 0))
    measure = _newton_steps.told(stretch * length, astray, eps)
    if learned is not None:
        # at a kink, a curvature that is learned grows until the step is short, and the gradient stays
        used, steep = jax.lax.stop_gradient(learned)
        beside = _norm(steep * u) + jnp.sqrt(2 * jnp.abs(value))
        falls = largest(jnp.abs(gradient) / jnp.where(steep > 0, steep, 1)) <= eps**0.25 * beside
        measure = jnp.where(used & ~falls, jnp.inf, measure)
    if not space.minimum:
        # the linear equations have a solution close by; at a minimum of the norm that is no root they have none
        measure = jnp.where(hidden >= 0.25 * value, measure, jnp.inf)
    quiet = (noise <= ROUNDING) & (measure <= LONG)
    scale = jnp.where(error > 0, _newton_steps.scale_of(error, measure, eps), largest(norms) * _norm(u))
    steepest = jnp.where(jnp.isfinite(error), jnp.maximum(old.steepest, error), old.steepest)
    floor = jnp.where(quiet, error, 0)
    start = jnp.where(old.start > 0, old.start, value)
    return old._replace(
        scale=scale, floor=floor, measure=measure, noise=noise, length=length, stretch=stretch, hidden=hidden,
        steepest=steepest, astray=astray, start=start,
    )  # fmt: skip
