"""Lengths in the units of the problem: of first steps, and of the steps by which residuals are measured."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...conditions._descent import inverse_curvature
from ...protocols import Composed
from ...scaling import linearized
from ...trees import Scalar, Tree
from ._margins import PROBE, drowning_share
from ._units import Units


def natural_length(value: Any, size: Any, slope: Scalar) -> Any:
    """Return a length in the unknown's units, at a start of norm ``size``: that norm.

    Where it is zero, it is the distance in which the value would fall to zero along the gradient, of norm ``slope``;
    where the value is zero as well nothing is known, and it is one.
    """
    ahead = jnp.where(slope > 0, jnp.abs(value) / jnp.where(slope > 0, slope, 1), 0)
    return jnp.where(size > 0, size, jnp.where((ahead > 0) & jnp.isfinite(ahead), ahead, 1))


def probe_length(value: Any, size: Any, slope: Scalar, eps: Any, elements: Any) -> Any:
    r"""Return the step size of a first step along minus a gradient, which shows the curvature there.

    It moves the point by the cube root of the unit roundoff of the :func:`natural_length`, or, where that is the size
    of the point but the gradient is that of smaller ``elements``, of :math:`\sum_i |g_i x_i| / \|g\|`. Any other length
    would be one in the units of the unknown.
    """
    whole = size * slope
    share = elements / jnp.where(whole > 0, whole, 1)
    share = jnp.where(share > 0, jnp.clip(share, eps**0.25, 1), 1)
    return eps**PROBE * share * natural_length(value, size, slope) / jnp.where(slope > 0, slope, 1)


def cold_length(scales: Units, size: Any, slope: Scalar) -> Any:
    """Return the step size along minus a gradient of norm ``slope`` where no model of the curvature is left.

    It is the inverse curvature of the last steps, if one is known, and moves the point, of norm ``size``, no farther
    than that, or than the start was large.
    """
    far = jnp.maximum(size, scales.origin)
    own = jnp.where(far > 0, far, 1) / jnp.where(slope > 0, slope, 1)
    return jnp.where(scales.soft > 0, jnp.minimum(scales.soft, own), own)


def contracting_length(
    problem: Composed, x: Tree, gradient: Tree, args: tuple[Tree, ...], first: Any, step_size: Scalar
) -> Any:
    """Return the step size of the ``first`` of a fixed number of steps, shorter where it would not contract.

    Close to a solution, or at one, a gradient is rounding or nothing, and a step that moves the point in spite of it is
    far longer than the curvature allows: the point comes back, and the derivative of the steps grows without bound.
    A function without products with its Hessian (a call of the host) has no such derivative, and keeps its step.
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
    """Return whether a move, by its squared length, is rounding of a point of norm ``size``, and shows no curvature.

    Of a fixed number of steps the next one, which may move nothing but the derivative, is then like it.
    """
    return trees.sqrt(squared) <= drowning_share(eps) * size


def residual_step(x: Tree, gradient: Tree, *, convex: bool = True) -> Any:
    r"""Return the step size :math:`\eta` of the residual :math:`\|x - P(x - \eta g)\| / \eta` that a solver tests.

    It moves the point by its own size: with one in other units, a move would be cut off by a bound, or a bound be out
    of reach, whatever the gradient. At zero, where no size is known, it is one, and at most one for parts that are not
    ``convex``: their proximal operators are for steps that are short beside their own curvature.
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
