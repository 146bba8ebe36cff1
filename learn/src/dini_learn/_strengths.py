"""From what is tuned to a penalty for each coefficient, and the prior that holds many penalties together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Strengths(NamedTuple):
    r"""Penalties :math:`\lambda_{jc} = s_j \exp(\theta_{g(j, c)})` of features ``j`` and columns of coefficients ``c``.

    Attributes
    ----------
    index
        :math:`g`, of shape ``(features, columns)``.
    size
        How many numbers a kind of penalty has.
    kinds
        How many kinds of penalties there are: two of an elastic net.
    factor
        :math:`s`, of shape ``(features,)``: what belongs to the penalty and is not tuned.
    """

    index: np.ndarray
    size: int
    kinds: int
    factor: np.ndarray

    @classmethod
    def of(cls, penalties: str, groups: Any, features: int, columns: int, kinds: int, factor: Any = None) -> Strengths:
        """Return the map of a setting ``penalties``."""
        place = np.zeros((features, columns), int)
        if penalties == "features":
            place += np.arange(features)[:, None]
        elif penalties == "groups":
            place += groups[:, None]
        elif penalties == "classes":
            place += np.arange(columns)[None, :]
        factor = np.ones(features) if factor is None else factor
        return cls(place, int(place.max()) + 1, kinds, factor)

    def shared(self) -> Strengths:
        """Return the same with one number for all."""
        return self._replace(index=np.zeros_like(self.index), size=1)

    def expand(self, theta: np.ndarray) -> np.ndarray:
        """Return the penalties, of shape ``(kinds, features, columns)``."""
        each = np.exp(theta.reshape(self.kinds, self.size))
        return each[:, self.index] * self.factor[None, :, None]

    def pull(self, slopes: np.ndarray) -> np.ndarray:
        """Return the gradient in ``theta`` from the derivatives in the logarithms of the penalties."""
        gradient = np.zeros((self.kinds, self.size))
        for kind in range(self.kinds):
            np.add.at(gradient[kind], self.index, slopes[kind])
        return gradient.ravel()

    def spread(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the variance of the logarithms around their mean, summed over the kinds, and its gradient."""
        each = theta.reshape(self.kinds, self.size)
        away = each - each.mean(axis=1, keepdims=True)
        return float((away**2).mean(axis=1).sum()), (2 * away / self.size).ravel()
