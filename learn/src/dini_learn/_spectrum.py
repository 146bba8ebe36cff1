r"""A ridge regression with one penalty for all features, by one decomposition for all penalties.

With :math:`s = \sqrt a` and columns around their means, :math:`s X = U D^{1/2} V^\top` and :math:`T = U D^{1/2}`, the
fit is :math:`T (D + \lambda)^{-1} T^\top s y` and the diagonal of the smoother that of :math:`T (D + \lambda)^{-1}
T^\top`, beside the intercept's. An evaluation costs four products of ``T`` with a vector.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Spectrum(NamedTuple):
    """The decomposition, and what the criteria need beside it.

    Attributes
    ----------
    values
        The diagonal of ``D``.
    columns
        ``T``.
    squares
        Its elements' squares.
    goal
        The weighted target.
    pulled
        ``T`` transposed, times the target.
    own
        What the intercept adds to the diagonal of the smoother.
    weights
        Of the samples.
    back
        From coefficients of the columns of ``T`` to those of the features.
    solved
        Whether the decomposition is one.
    """

    values: np.ndarray
    columns: np.ndarray
    squares: np.ndarray
    goal: np.ndarray
    pulled: np.ndarray
    own: np.ndarray
    weights: np.ndarray
    back: np.ndarray
    solved: bool = True

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, weights: np.ndarray, intercept: bool) -> Spectrum:
        """Decompose; where there is an intercept, columns and target are around their weighted means."""
        root = np.sqrt(weights)
        scaled, goal = root[:, None] * X, root * y
        own = weights / weights.sum() * intercept
        if X.shape[1] <= X.shape[0]:
            values, basis = np.linalg.eigh(scaled.T @ scaled)
            values = np.maximum(values, 0.0)
            columns = scaled @ basis
            back = basis
        else:
            values, basis = np.linalg.eigh(scaled @ scaled.T)
            # a sample less than there are: the mean is out
            kept = values > len(values) * np.finfo(float).eps * max(values[-1], np.finfo(float).tiny)
            values, basis = values[kept], basis[:, kept]
            columns = basis * np.sqrt(values)
            back = scaled.T @ (basis / np.sqrt(values))
        return cls(values, columns, columns**2, goal, columns.T @ goal, own, weights, back)

    def criterion(self, which: str, penalty: float, noise: float) -> tuple[float, float]:
        """Return half of the criterion, and its derivative in the logarithm of the penalty."""
        shrink = 1 / (self.values + penalty)
        slope = penalty * shrink**2
        rest = 1 - self.own - self.squares @ shrink
        residual = self.goal - self.columns @ (self.pulled * shrink)
        # derivatives in the logarithm
        along, more = self.columns @ (self.pulled * slope), self.squares @ slope
        total = self.weights.sum()
        if which == "sure":
            value = 0.5 * (residual @ residual / total - noise**2) + noise**2 * float(self._freedom(rest)) / total
            return value, float(residual @ along - noise**2 * more.sum()) / total
        used = self.weights > 0
        ratio = residual[used] / rest[used]
        gradient = ratio @ (along[used] / rest[used] - ratio * more[used] / rest[used])
        return 0.5 * float(ratio @ ratio) / total, float(gradient) / total

    def _freedom(self, rest: np.ndarray) -> Any:
        return np.sum((1 - rest)[self.weights > 0])

    def coefficients(self, penalty: float) -> np.ndarray:
        """Return the coefficients of the features."""
        return self.back @ (self.pulled / (self.values + penalty))
