"""The thresholds of acceptance and stopping tests, and the tests that can be turned off, each with its purpose.

`benchmarks/judgements.py` measures the effect of each test on answers, failures and steps. The environment variable
`DINI_WITHOUT` turns tests off by their names, separated by commas.
"""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp

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
#: the number of accepted steps without progress after which a method has stalled
PATIENCE = 50


def gradient_rounding(eps: Any) -> Any:
    """Return the relative rounding error of a gradient; at most a hundredth, which matters in half precision."""
    return 0.0 if off("gradient_rounding") else min(BLIND * eps, 1e-2)


def relative_rounding(value: Any) -> Any:
    """Return ten units of rounding of a function's value: smaller differences of values are rounding."""
    return 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def doubtful_difference(value: Any) -> Any:
    """Return the difference of values below which the gradient at the new point decides, in place of values.

    After a step that was too long the next gradient is larger, at any difference of values.
    """
    return jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value)
