"""Where fits start that know of no other: a constant predictor."""

from __future__ import annotations

import numpy as np

from ._data import Data
from ._losses import LOSSES


def first_coefficients(data: Data, y: np.ndarray, weights: np.ndarray, columns: int) -> np.ndarray:
    """Return coefficients of shape ``(numbers, fits, columns)``, all zero but the intercepts.

    ``y`` is of shape ``(numbers, samples)``, and ``weights`` of shape ``(fits, samples)``.
    """
    x = np.zeros((len(y), len(weights), columns))
    if data.spec.intercept:
        share = weights / weights.sum(axis=1, keepdims=True)
        level = LOSSES[data.spec.loss].center(y @ share.T) - data.offset
        x[..., 0] = level - level.mean(axis=0) if data.together else level
    return x
