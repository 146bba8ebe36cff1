"""The losses: of a linear predictor and a target, sample by sample, what NumPy's solvers and the search need of them.

The losses themselves, as JAX differentiates them, stand with the programs that it compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, softmax


class Loss(NamedTuple):
    """A convex loss of a linear predictor.

    Attributes
    ----------
    slope
        ``slope(z, y, setting)``: the derivative in ``z``, which is of shape ``(n,)``, or ``(n, classes)``.
    center
        ``center(mean of y)``: a constant predictor that fits about as well as a constant can. Targets of robust losses
        are around their median.
    curvature
        About the largest second derivative: the unit of penalties of squares.
    degree
        Of a loss of the difference to the target: by what power of the unit of both it grows.
    """

    slope: Callable[..., Any]
    center: Callable[..., Any]
    curvature: float = 1.0
    degree: int = 2


def _constant(mean: Any) -> Any:
    return mean


def _zero(mean: Any) -> Any:
    return 0.0 * mean


def _log_odds(mean: Any) -> Any:
    mean = np.clip(mean, 1e-6, 1 - 1e-6)
    return np.log(mean / (1 - mean))


def _tube(r: Any, width: Any) -> Any:
    return np.sign(r) * np.maximum(np.abs(r) - width, 0.0)


def _huber_slope(z: Any, y: Any, s: Any) -> Any:
    r = z - y
    return np.clip(r, -s[0] * s[1], s[0] * s[1])


LOSSES: dict[str, Loss] = {
    "squared": Loss(lambda z, y, _: z - y, _constant),
    "logistic": Loss(lambda z, y, _: expit(z) - y, _log_odds, curvature=0.25),
    "multinomial": Loss(
        lambda z, y, _: softmax(z, axis=-1) - y, lambda mean: np.log(np.clip(mean, 1e-6, 1.0)), curvature=0.25
    ),
    # the last setting is a level of the predictor
    "poisson": Loss(lambda z, y, s: np.exp(z + s[1]) - y, lambda mean: np.log(np.maximum(mean, np.finfo(float).tiny))),
    # targets are -1 and 1
    "squared_hinge": Loss(lambda z, y, _: -2.0 * y * np.maximum(1.0 - y * z, 0.0), _zero, curvature=2.0),
    # the last setting is the half width of the tube
    "squared_epsilon_insensitive": Loss(lambda z, y, s: 2.0 * _tube(z - y, s[1]), _constant, curvature=2.0),
    # has a scale of its own, see `_smooth`; the settings are where squares end, and a scale to start at
    "huber": Loss(_huber_slope, _zero, degree=1),
    # the settings are the quantile and the width within which the kink is rounded: curved everywhere, if little
    "pinball": Loss(lambda z, y, s: (1.0 - s[0]) - expit((y - z) / s[1]), _zero, degree=1),
}
