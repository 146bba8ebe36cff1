"""The ledger of margins: each number by which values, slopes and steps are judged, with what it is for.

`benchmarks/judgements.py` shows what each buys: right answers, wrong claims, failures and steps, with it and without.
The environment variable `DINI_WITHOUT` turns judgements off by their names, separated by commas.
"""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp

from ...trees import Scalar

_OFF = frozenset(filter(None, os.environ.get("DINI_WITHOUT", "").split(",")))

#: what can be turned off, and what it is for
JUDGEMENTS = {
    "run_away": "iterates that run away from every point have not converged, however small their gradient is",
    "floor": "an error below the rounding of what it is made of counts as zero",
    "unlike_elements": "the slope of each element's own move must be small as well, not that of the whole point alone",
    "forgetting": "what was seen of little curvature is forgotten as the error falls",
    "along": "little curvature is seen better by the inner product of step and change than by their lengths",
    "unseen": "the least curvature may lie along no step: a tenth of what is seen is asked for",
    "leaps": "after a step that leaps, only a further one shows whether the point is a solution",
    "drowning_share": "a change of the gradient that drowns in its rounding shows no curvature",
    "probe": "the first step, which only shows the curvature, need not meet the method's rule",
    "home": "the first step may show that the start is a solution, which is then kept",
    "solved": "a point that meets the stopping test need not meet the method's rule",
    "hidden_difference": "values that differ by a hundredth of the root of the roundoff give way to slopes",
    "shown": "a step whose values drown in rounding is good where its gradient falls",
    "settled": "a method at its end has converged where what is left to gain drowns in the value's rounding",
    "patience": "steps without gain end at last",
}


def off(name: str) -> bool:
    """Return whether one of :data:`JUDGEMENTS` is turned off."""
    return name in _OFF


#: units of rounding below which nothing is asked for
ROUNDING = 10
#: units of rounding of a gradient in which a change of it drowns
BLIND = 64
#: units of rounding within which a Newton step that fails has met rounding
NOISE = 1000
#: the power of the unit roundoff by which a first step moves the point, to see the curvature: with the square root the
#: difference of two gradients would have lost half of its digits, with this a third
PROBE = 0.4
#: a step that is longer than this share of the point is no step close to a solution
LONG = 1e-2
#: a step of this share of the point's rounding moves nothing
SHORT = 1e-2
#: a Newton step has worked where it lowers the error by so much
WORKED = 0.5
#: the least curvature may lie along no step: what is seen of it is taken for so much less
UNSEEN = 0.1
#: what may be made of the Rayleigh quotient of a step, beside the ratio of the lengths: where curvatures of both signs
#: cancel it is large without a meaning
CANCELED = 30
#: what is kept of the largest curvature at each step
STIFF = 0.9
#: the share of a promised decrease that has to come true (Armijo)
DECREASE = 1e-4
#: the share of a slope that may be left where the values along a line say nothing (Wolfe)
CURVATURE = 0.9
#: steps of Newton's method without gain after which one that promises nothing is its last
IDLE = 1
#: accepted steps without gain after which a method has stalled
PATIENCE = 50


def lost_patience(idle: Scalar, steps: Scalar) -> Any:
    """Return whether a method has stalled, after so many steps without gain.

    On an ill-conditioned function its gradients rise and fall, near a solution by amounts that values no longer show:
    hundreds of steps may go by between two gains. A quarter of all steps is what they may take.
    """
    if off("patience"):
        return jnp.zeros((), bool)
    return (idle >= PATIENCE) & (4 * idle >= steps)


def drowning_share(eps: Any) -> Any:
    """Return the share of a gradient in which a change of it drowns; no more than a hundredth in half precision."""
    return 0.0 if off("drowning_share") else min(BLIND * eps, 1e-2)


def relative_rounding(value: Any) -> Any:
    """Return a few units of rounding error of a function's value: smaller differences between values mean nothing."""
    return 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def hidden_difference(value: Any) -> Any:
    """Return the difference from a function's value below which its slopes say more than its values do.

    That is more than :func:`relative_rounding`: a value that is small by cancellation, such as a sum of squares whose
    residuals are small beside the data, has lost further digits, which slopes have not. Hager and Zhang ("A new
    conjugate gradient method with guaranteed descent and an efficient line search", 2005) take a millionth; this is
    what double precision needs where the data are some 100,000 times the residuals.
    """
    if off("hidden_difference"):
        return relative_rounding(value)
    return jnp.maximum(relative_rounding(value), 1e-2 * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value))


def doubtful_difference(value: Any) -> Any:
    """Return the difference from a function's value below which a test of values gives way to one of gradients.

    That may be more than :func:`hidden_difference`, which must keep a line search from climbing by itself: a step that
    was too long shows in the next gradient, at any size.
    """
    return jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value)
