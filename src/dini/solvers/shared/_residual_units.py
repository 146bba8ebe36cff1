"""Estimates of the scales of residuals and unknowns from Gauss-Newton steps, see ``_newton_steps.py``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...trees import Scalar, Tree
from ...trees.products import largest, summed
from ...verification import _residuals as verification
from ..judge import _newton_steps
from ..judge._margins import LONG, NOISE, ROUNDING, relative_rounding
from ..judge._units import Units
from ._residual_model import Space

#: the estimates for one point: a step from it with more damping does not improve them
_OF_POINT = ("scale", "rounding", "measure", "decrease", "noise")


def kept(new: Units, renew: Any, old: Units) -> Units:
    """Return the new estimates, with the old ones for the point except where ``renew`` holds."""
    return new._replace(**{name: jnp.where(renew, getattr(new, name), getattr(old, name)) for name in _OF_POINT})


def doubted(now: Units, doubt: Any) -> Units:
    """Return the estimates, without scale and rounding where ``doubt`` holds: then no error meets the stopping test."""
    return now._replace(scale=jnp.where(doubt, 0, now.scale), rounding=jnp.where(doubt, 0, now.rounding))


def diverging(now: Units, error: Scalar, u: Tree, extent: Any, last: Any, ahead: Any) -> Any:
    """Return whether the iterates diverge while the error is negligible compared with the largest one."""
    vanished = error <= jnp.finfo(error.dtype).eps * now.steepest
    return vanished & _newton_steps.diverging(u, extent, last, ahead)


def stalled_at_solution(now: Units, space: Space, value: Any) -> Any:
    """Return whether a point at which all steps are rejected is a solution: the predicted decrease is rounding."""
    drowned = space.minimum & (now.decrease <= relative_rounding(value))
    return (now.measure <= LONG) & (drowned | (now.noise <= NOISE))


def failed_by_rounding(now: Units, space: Space, value: Any) -> Any:
    """Return whether rounding can explain that the next step was rejected."""
    eps = jnp.finfo(value.dtype).eps
    small = now.decrease <= relative_rounding(value) if space.minimum else now.measure <= eps**0.375
    return stalled_at_solution(now, space, value) & (now.noise <= NOISE) & small


def _norm(v: Tree) -> Any:
    return jnp.sqrt(summed(v * v))


def _relative(move: Tree, sizes: Any) -> Any:
    """Return the elements of a step relative to their sizes; infinity where an element of size zero moves."""
    p = jnp.abs(move)
    return jnp.where(sizes > 0, p / jnp.where(sizes > 0, sizes, 1), jnp.where(p == 0, 0.0, jnp.inf))


def promised_beyond(space: Space, u: Tree, start: Any, promised: Any, norms: Any, value: Any, rtol: Any) -> Any:
    """Return the decrease that a Gauss-Newton step predicts, see `verification/_residuals.py`."""
    if not space.minimum:  # for equations the predicted decrease is the value
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
    rest_error: Any,
    learned: Any = None,
) -> Units:
    """Return the estimates with the next step.

    ``raw`` is the step before it is clipped to bounds: close to a bound, a clipped step is short although the error is
    large. ``gradient`` is zero where unknowns are at bounds. ``norms`` are those of the Jacobian's columns at this
    point, ``curvature`` is that of the model along the step, ``old`` are the estimates before, ``rest_error`` is that
    of :class:`Point`. ``learned`` says whether the model contains an estimate of the curvature of the residuals, and
    has the largest norms of the columns so far.
    """
    given = (u, norms, gradient, raw, move, error, value, curvature, rest_error)
    u, norms, gradient, raw, move, error, value, curvature, rest_error = jax.lax.stop_gradient(given)
    eps = jnp.finfo(space.dtype).eps
    sizes = jnp.maximum(norms * jnp.abs(u), eps**0.25 * _norm(norms * extent))
    length = largest(_relative(norms * raw, sizes))
    # the ratio of the step to the minimum of the model along this one to this one
    slope = -summed(gradient * move)
    stretch = jnp.where(curvature > 0, slope / jnp.where(curvature > 0, curvature, 1), jnp.inf)
    stretch = jnp.where(length > 0, jnp.maximum(stretch, 1), 1)
    decrease = 0.5 * jnp.where(slope > 0, slope, 0) * stretch
    made_of = _norm(norms * u)
    if space.minimum:
        made_of = made_of + jnp.sqrt(2 * jnp.abs(value))
        apart = largest(jnp.abs(gradient) / jnp.where(norms > 0, norms, 1))
    else:
        apart = error
    made_of = eps * made_of
    noise = jnp.where(made_of > 0, apart / jnp.where(made_of > 0, made_of, 1), jnp.where(apart > 0, jnp.inf, 0))
    measure = _newton_steps.relative_error(stretch * length, rest_error, eps)
    if learned is not None:
        # at a kink, an estimated curvature grows until the step is short, but the gradient does not decrease
        used, steep = jax.lax.stop_gradient(learned)
        beside = _norm(steep * u) + jnp.sqrt(2 * jnp.abs(value))
        falls = largest(jnp.abs(gradient) / jnp.where(steep > 0, steep, 1)) <= eps**0.25 * beside
        measure = jnp.where(used & ~falls, jnp.inf, measure)
    if not space.minimum:
        # close to a root the linear equations have a solution; at a minimum of the norm that is no root they have none
        measure = jnp.where(decrease >= 0.25 * value, measure, jnp.inf)
    quiet = (noise <= ROUNDING) & (measure <= LONG)
    scale = jnp.where(error > 0, _newton_steps.scale_of(error, measure, eps), largest(norms) * _norm(u))
    steepest = jnp.where(jnp.isfinite(error), jnp.maximum(old.steepest, error), old.steepest)
    rounding = jnp.where(quiet, error, 0)
    start = jnp.where(old.start > 0, old.start, value)
    return old._replace(
        scale=scale, rounding=rounding, measure=measure, noise=noise, length=length, stretch=stretch, decrease=decrease,
        steepest=steepest, rest_error=rest_error, start=start,
    )  # fmt: skip
