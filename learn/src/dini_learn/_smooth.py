"""Losses as Newton's method sees them: in NumPy, slopes and curvatures in the predictor, for all fits at once.

A predictor is of shape ``(numbers, fits, samples)``, several numbers for a multinomial distribution, and for Huber's
loss, whose second one is the scale; a target is of shape ``(numbers, 1, samples)``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.special import expit


class Smooth(Protocol):
    """A loss of a predictor."""

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the loss, without the first axis."""

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the slope, and what is needed for the curvature."""

    def curvature(self, kept: np.ndarray) -> np.ndarray:
        """Return the second derivatives in each number on its own."""

    def bend(self, kept: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the second derivative's product with a change of the predictor, a new array."""


class _Alone:
    """A loss of one number, of which the second derivative is kept."""

    def curvature(self, kept: np.ndarray) -> np.ndarray:
        return kept

    def bend(self, kept: np.ndarray, z: np.ndarray) -> np.ndarray:
        return kept * z


class Logistic(_Alone):
    """Minus the logarithm of the probability of one class of two."""

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.logaddexp(0.0, z) - y * z)[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = expit(z)
        return p - y, p * (1 - p)


class SquaredHinge(_Alone):
    """The square of what a margin lacks of one."""

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.maximum(1.0 - y * z, 0.0) ** 2)[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        short = np.maximum(1.0 - y * z, 0.0)
        return -2.0 * y * short, 2.0 * (short > 0)


class Tube(_Alone):
    """The square of what is outside of a tube of a half width."""

    def __init__(self, width: float):
        self.width = width

    def _outside(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        away = z - y
        return np.sign(away) * np.maximum(np.abs(away) - self.width, 0.0)

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (self._outside(z, y) ** 2)[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = self._outside(z, y)
        return 2.0 * away, 2.0 * (away != 0)


class Poisson(_Alone):
    """Half of the deviance of counts, whose expectation is the exponential of the predictor and a level."""

    def __init__(self, level: float):
        self.level = level

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        # of large counts the deviance is a small part of the likelihood
        z = z + self.level
        away = z - np.log(np.where(y > 0, y, 1.0))
        return np.where(y > 0, y * (np.expm1(away) - away), np.exp(z))[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = np.exp(z + self.level)
        return mean - y, mean


class Pinball(_Alone):
    """That of a quantile, whose kink is rounded within a width: curved everywhere, if little."""

    def __init__(self, quantile: float, width: float):
        self.quantile, self.width = quantile, width

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        away = y - z
        return ((self.quantile - 1.0) * away + self.width * np.logaddexp(0.0, away / self.width))[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        above = expit((y - z) / self.width)
        return 1.0 - self.quantile - above, above * expit((z - y) / self.width) / self.width


#: Huber's scale is kept from vanishing by this part of its start
_LEAST = 1e-4


class Huber:
    r"""Half of :math:`\sigma + \sigma H(r / \sigma) + \tau^2 / \sigma`, convex in ``r`` and the scale together.

    ``H`` is a square up to a limit, and goes on as a line. Where more than half of the residuals vanish, so would the
    scale: a :math:`\tau` that is small against its start keeps it positive. Of no scale nothing is a number.
    """

    def __init__(self, limit: float, start: float):
        self.limit, self.start, self._least = limit, start, (_LEAST * start) ** 2

    def _parts(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the scale, NaN where there is none, the residual over it, and where that is within the limit."""
        scale = np.where(z[1] > 0, z[1], np.nan)
        size = (z[0] - y[0]) / scale
        return scale, size, np.abs(size) <= self.limit

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        scale, size, inside = self._parts(z, y)
        size = np.abs(size)
        terms = np.where(inside, np.where(inside, size, 0.0) ** 2, self.limit * (2 * size - self.limit))
        return 0.5 * (scale * (1 + terms) + self._least / scale)

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale, size, inside = self._parts(z, y)
        size = np.clip(size, -self.limit, self.limit)
        rest = self._least / scale**2
        return np.stack([size, 0.5 * (1 - size**2 - rest)]), np.stack([inside / scale, size, rest / scale])

    def curvature(self, kept: np.ndarray) -> np.ndarray:
        """Return the second derivatives in the predictor, in both, and in the scale."""
        bent, size, rest = kept
        return np.stack([bent, -size * bent, size**2 * bent + rest])

    def bend(self, kept: np.ndarray, z: np.ndarray) -> np.ndarray:
        bent, size, rest = kept
        along = bent * (z[0] - size * z[1])
        return np.stack([along, rest * z[1] - size * along])


class Multinomial:
    """Minus the logarithm of the probability of one class of several, whose probabilities are kept."""

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        top = z.max(axis=0)
        return top + np.log(np.exp(z - top).sum(axis=0)) - (y * z).sum(axis=0)

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = z - z.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        return p - y, p

    def curvature(self, kept: np.ndarray) -> np.ndarray:
        return kept * (1 - kept)

    def bend(self, kept: np.ndarray, z: np.ndarray) -> np.ndarray:
        found = kept * z
        found -= kept * found.sum(axis=0)
        return found


def smooth(name: str, setting: tuple[float, float]) -> Smooth | None:
    """Return a loss by its name in the table of losses; ``None`` for the squared one, which has solvers of its own."""
    if name == "squared_epsilon_insensitive":
        return Tube(setting[1])
    if name == "pinball":
        return Pinball(*setting)
    if name == "huber":
        return Huber(*setting)
    if name == "poisson":
        return Poisson(setting[1])
    kinds = {"logistic": Logistic, "multinomial": Multinomial, "squared_hinge": SquaredHinge}
    return kinds[name]() if name in kinds else None
