r"""A ridge regression with one penalty for all features, by one decomposition for all penalties.

With :math:`s = \sqrt a` and columns around their means, :math:`s X = U D^{1/2} V^\top` and :math:`T = U D^{1/2}`, the
fit is :math:`T (D + \lambda)^{-1} T^\top s y` and the diagonal of the smoother that of :math:`T (D + \lambda)^{-1}
T^\top`, beside the intercept's. An evaluation costs four products of ``T`` with a vector.
"""

from __future__ import annotations

from typing import NamedTuple

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
        The weighted targets.
    pulled
        ``T`` transposed, times the targets.
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
        root = np.sqrt(weights)[:, None]
        scaled, goal = root * X, root * y
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

    def criterion(self, which: str, penalty: float, noise: tuple[float, ...]) -> tuple[float, float]:
        """Return half of the criterion, and its derivative in the logarithm of the penalty: sums over the targets."""
        shrink = 1 / (self.values + penalty)
        slope = penalty * shrink**2
        rest = 1 - self.own - self.squares @ shrink
        residual = self.goal - self.columns @ (self.pulled * shrink[:, None])
        # derivatives in the logarithm
        along, more = self.columns @ (self.pulled * slope[:, None]), self.squares @ slope
        total, used = self.weights.sum(), self.weights > 0
        if which == "sure":
            variance = float(np.square(noise).sum())
            value = 0.5 * ((residual**2).sum() / total - variance) + variance * float((1 - rest)[used].sum()) / total
            return value, float((residual * along).sum() - variance * more.sum()) / total
        rest, more = rest[used, None], more[used, None]
        ratio = residual[used] / rest
        gradient = (ratio * (along[used] / rest - ratio * more / rest)).sum()
        return 0.5 * float((ratio**2).sum()) / total, float(gradient) / total

    def coefficients(self, penalty: float) -> np.ndarray:
        """Return the coefficients of the features, a column for each target."""
        return self.back @ (self.pulled / (self.values + penalty)[:, None])

    def of_target(self, target: int) -> Spectrum:
        """Return the same of one target."""
        return self._replace(goal=self.goal[:, [target]], pulled=self.pulled[:, [target]])
