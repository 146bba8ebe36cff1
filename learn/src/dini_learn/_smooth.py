"""Losses as Newton's method sees them: in NumPy, slopes and curvatures in the predictor, for all fits at once.

A predictor is of shape ``(numbers, fits, samples)``, several numbers for a multinomial distribution alone, and a target
of shape ``(numbers, 1, samples)``.
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
    """Counts, whose expectation is the exponential of the predictor."""

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.exp(z) - y * z)[0]

    def slope(self, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = np.exp(z)
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
    """Return a loss by its name in the table of losses; ``None`` for what Newton's method does not suit."""
    if name == "squared_epsilon_insensitive":
        return Tube(setting[1])
    if name == "pinball":
        return Pinball(*setting)
    kinds = {"logistic": Logistic, "multinomial": Multinomial, "squared_hinge": SquaredHinge, "poisson": Poisson}
    return kinds[name]() if name in kinds else None
