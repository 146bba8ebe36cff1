"""The thresholds of acceptance and stopping tests, and the tests that can be turned off, each with its purpose.

`benchmarks/judgements.py` measures the effect of each test on answers, failures and steps. The environment variable
`DINI_WITHOUT` turns tests off by their names, separated by commas.
"""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp

from ...trees import Scalar

_OFF = frozenset(filter(None, os.environ.get("DINI_WITHOUT", "").split(",")))

#: the tests that can be turned off, and their purpose
JUDGEMENTS = {
    "diverging": "iterates that diverge have not converged, even if their gradient is small",
    "rounding": "an error below the rounding error of its own terms counts as zero",
    "unlike_elements": "the slope of moves relative to each element's size must be small as well",
    "forgetting": "old estimates of the smallest curvature are discounted as the error decreases",
    "along": "the Rayleigh quotient of a step estimates the smallest curvature better than the ratio of norms",
    "unseen": "no step may be along the smallest curvature: the tolerance is a tenth of the estimate",
    "leaps": "after a very long step, the stopping test waits for a further step",
    "gradient_rounding": "a change of the gradient below its rounding error gives no curvature",
    "probe": "the first step, which only estimates the curvature, need not meet the method's rule",
    "start_is_solution": "where the first step shows that the start is a solution, the start is returned",
    "solved": "a point that meets the stopping test need not meet the method's rule",
    "value_slack": "below a relative difference of sqrt(eps) / 100 of values, slopes decide",
    "shown": "a step whose change of the value is below rounding is accepted where the gradient decreases",
    "decrease_is_rounding": "a method that stalls has converged where the remaining decrease is rounding",
    "patience": "a method ends after many steps without progress",
}
if unknown := sorted(_OFF - JUDGEMENTS.keys()):
    raise ValueError(f"DINI_WITHOUT must name some of {', '.join(JUDGEMENTS)}: given {', '.join(unknown)}.")


def off(name: str) -> bool:
    """Return whether one of :data:`JUDGEMENTS` is turned off."""
    return name in _OFF


#: an error of this many units of rounding counts as zero
ROUNDING = 10
#: a change of a gradient below this many units of its rounding is not informative
BLIND = 64
#: a Newton step that fails at an error of at most this many units of rounding has failed because of rounding
NOISE = 1000
#: the relative length of a first step, which estimates the curvature, is this power of the unit roundoff: with a power
#: of 1/2 the difference of two gradients would lose half of its digits, with this one it loses a third
PROBE = 0.4
#: a step is long where its relative length is above this number: the point is not close to a solution
LONG = 1e-2
#: a step below this fraction of the rounding error of the point does not move the point
SHORT = 1e-2
#: a Newton step is successful where it reduces the error to this fraction
WORKED = 0.5
#: the factor on the estimate of the smallest curvature, since no step may be along that curvature
UNSEEN = 0.1
#: the limit of the inverse Rayleigh quotient of a step, relative to the ratio of the norms: where curvatures of both
#: signs cancel, the former is large without a meaning
CANCELED = 30
#: the factor on the old estimate of the largest curvature at each step
STIFF = 0.9
#: the constant of Armijo's condition
DECREASE = 1e-4
#: the constant of Wolfe's curvature condition, where the values along a line are not informative
CURVATURE = 0.9
#: the number of Newton steps without progress after which one with a negligible predicted decrease is the last
IDLE = 1
#: the number of accepted steps without progress after which a method has stalled
PATIENCE = 50


def lost_patience(idle: Scalar, steps: Scalar) -> Any:
    """Return whether a method has stalled: ``idle`` is the number of steps without progress, ``steps`` that of all.

    On an ill-conditioned function the norm of the gradient increases and decreases. Near a solution the changes of the
    value are below rounding, and there may be hundreds of steps between two steps with progress. So steps without
    progress may be up to a quarter of all steps.
    """
    if off("patience"):
        return jnp.zeros((), bool)
    return (idle >= PATIENCE) & (4 * idle >= steps)


def gradient_rounding(eps: Any) -> Any:
    """Return the relative rounding error of a gradient; at most a hundredth, which matters in half precision."""
    return 0.0 if off("gradient_rounding") else min(BLIND * eps, 1e-2)


def relative_rounding(value: Any) -> Any:
    """Return ten units of rounding of a function's value: smaller differences of values are rounding."""
    return 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def value_slack(value: Any) -> Any:
    """Return the difference of values below which a line search uses slopes in place of values.

    This is larger than :func:`relative_rounding`: a value that is small by cancellation, such as a sum of squares whose
    residuals are small relative to the data, has lost more digits than the slopes. Hager and Zhang ("A new conjugate
    gradient method with guaranteed descent and an efficient line search", 2005) use a millionth of the value. The
    number here is sufficient in double precision where the data are 100,000 times as large as the residuals.
    """
    if off("value_slack"):
        return relative_rounding(value)
    return jnp.maximum(relative_rounding(value), 1e-2 * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value))


def doubtful_difference(value: Any) -> Any:
    """Return the difference of values below which the gradient at the new point decides, in place of values.

    This may be larger than :func:`value_slack`, which must prevent a line search from accepting increases: after a step
    that was too long the next gradient is larger, at any difference of values.
    """
    return jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value)
