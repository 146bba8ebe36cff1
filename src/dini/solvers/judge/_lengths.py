"""Step sizes that do not depend on units: those of first steps, and those of residuals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...conditions._descent import inverse_curvature
from ...protocols import Composed
from ...scaling import linearized
from ...trees import Scalar, Tree
from ._margins import PROBE, gradient_rounding


def natural_length(value: Any, size: Any, slope: Scalar) -> Any:
    """Return a length in the units of the unknown: the norm ``size`` of the starting point.

    Where that is zero, it is the distance at which the linear model of the value, with a gradient of norm ``slope``, is
    zero. Where the value is zero as well, it is one.
    """
    ahead = jnp.where(slope > 0, jnp.abs(value) / jnp.where(slope > 0, slope, 1), 0)
    return jnp.where(size > 0, size, jnp.where((ahead > 0) & jnp.isfinite(ahead), ahead, 1))


def probe_length(value: Any, size: Any, slope: Scalar, eps: Any, elements: Any) -> Any:
    r"""Return the step size of a first step along minus a gradient, which estimates the curvature.

    The step is short: it moves the point by the :func:`natural_length` times ``eps ** PROBE``. Where the gradient is
    that of smaller ``elements`` of the point, the length is :math:`\sum_i |g_i x_i| / \|g\|` in place of the natural
    one. These lengths do not depend on the units of the unknown.
    """
    whole = size * slope
    share = elements / jnp.where(whole > 0, whole, 1)
    share = jnp.where(share > 0, jnp.clip(share, eps**0.25, 1), 1)
    return eps**PROBE * share * natural_length(value, size, slope) / jnp.where(slope > 0, slope, 1)


def contracting_length(
    problem: Composed, x: Tree, gradient: Tree, args: tuple[Tree, ...], first: Any, step_size: Scalar
) -> Any:
    """Return the step size of the ``first`` of a fixed number of steps, shorter where it would not contract.

    At a solution the gradient is zero or rounding. A step size that moves the point nevertheless is far larger than the
    inverse of the curvature: then the derivative of the steps grows without bound. The step size does not change for a
    function without products with its Hessian (a call of the host), which has no such derivative.
    """
    x, gradient, step_size, args = jax.lax.stop_gradient((x, gradient, step_size, args))
    slopes = lambda u: problem.gradient(u, *args)
    program = linearized(slopes, x, at_any_price=True)
    if program is None:
        return step_size

    def look() -> Any:
        _, bend = program(x, gradient)
        fits = step_size * trees.norm(bend) < trees.norm(gradient)
        return jax.lax.cond(fits, lambda: step_size, lambda: inverse_curvature(slopes, x).astype(step_size.dtype))

    return jax.lax.stop_gradient(jax.lax.cond(first, look, lambda: step_size))


def is_rounding(squared: Any, size: Any, eps: Any) -> Any:
    """Return whether the squared length of a move is rounding of a point of norm ``size``, so that it has no curvature.

    In a fixed number of steps, the next one then has the same step size: it may change the derivative alone.
    """
    return trees.sqrt(squared) <= gradient_rounding(eps) * size


def residual_step(x: Tree, gradient: Tree, *, convex: bool = True) -> Any:
    r"""Return the step size :math:`\eta` of the residual :math:`\|x - P(x - \eta g)\| / \eta` of the stopping test.

    The step moves the point by its own size. A step size that depends on units could be so large that every move ends
    at a bound, or so small that none does. At zero, where no size is known, it is one. It is at most one for sets and
    penalties that are not ``convex``: their proximal operators require small step sizes.
    """
    size, slope = trees.norm(x), trees.norm(gradient)
    known = (size > 0) & (slope > 0)
    own = jnp.where(known, size / jnp.where(known, slope, 1), 1.0)
    return jax.lax.stop_gradient(own if convex else jnp.minimum(own, 1))


def proximal_residual(problem: Composed, x: Tree, gradient: Tree) -> jax.Array:
    """Return the norm of the residual of the proximal gradient step, in units of the gradient."""
    parts = (getattr(problem, name, None) for name in ("constraint", "penalty"))
    eta = residual_step(x, gradient, convex=all(getattr(part, "convex", True) for part in parts))
    return trees.norm(trees.sub(x, problem.prox(trees.axpy(-eta, gradient, x), eta))) / eta
