r"""A ridge regression with one penalty for all features, by one decomposition for all penalties.

With :math:`s = \sqrt a` and columns around their means, :math:`s X = U D^{1/2} V^\top` and :math:`T = U D^{1/2}`, the
fit is :math:`T (D + \lambda)^{-1} T^\top s y` and the diagonal of the smoother that of :math:`T (D + \lambda)^{-1}
T^\top`, beside the intercept's. An evaluation costs four products of ``T`` with a vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._stein import counted

#: rounding of a decomposition may be this part of a penalty: of what is seen of it in coefficients there is less
_ROUNDING = 1e-4


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
    least
        With smaller penalties rounding of the decomposition decides.
    count
        How many samples there are.
    """

    values: np.ndarray
    columns: np.ndarray
    squares: np.ndarray
    goal: np.ndarray
    pulled: np.ndarray
    own: np.ndarray
    weights: np.ndarray
    back: np.ndarray
    least: float
    count: float

    @classmethod
    def of(
        cls, X: np.ndarray, y: np.ndarray, weights: np.ndarray, intercept: bool, low: float, repeated: bool = False
    ) -> Spectrum:
        """Decompose; where there is an intercept, columns and target are around their weighted means.

        It is for penalties from a least one on. Features in units far apart take singular values: of their squares
        rounding leaves too little.
        """
        root = np.sqrt(weights)[:, None]
        scaled, goal = root * X, root * y
        own = weights / weights.sum() * intercept
        tiny, tall = np.finfo(float).eps, X.shape[1] <= X.shape[0]
        values, basis = np.linalg.eigh(scaled.T @ scaled if tall else scaled @ scaled.T)
        least = tiny * max(values[-1], 0.0) / _ROUNDING
        if least > low:
            left, roots, right = np.linalg.svd(scaled, full_matrices=False)
            rounded = max(X.shape) * tiny * roots[0]
            kept = roots > rounded
            values, columns, back = roots[kept] ** 2, left[:, kept] * roots[kept], right[kept].T
            # features that are lost in the others have no fit, however weak the penalty
            sizes = np.linalg.norm(scaled, axis=0)
            least = np.inf if ((sizes > 0) & (sizes <= rounded)).any() else (tiny * roots[0] / _ROUNDING) ** 2
        elif tall:
            values, columns, back = np.maximum(values, 0.0), scaled @ basis, basis
        else:
            # a sample less than there are: the mean is out
            kept = values > len(values) * tiny * max(values[-1], np.finfo(float).tiny)
            values, basis = values[kept], basis[:, kept]
            columns = basis * np.sqrt(values)
            back = scaled.T @ (basis / np.sqrt(values))
        count = counted(weights, repeated)
        return cls(values, columns, columns**2, goal, columns.T @ goal, own, weights, back, float(least), count)

    def solved(self, penalty: float) -> bool:
        """Whether fits with a penalty are what they should be."""
        return penalty >= self.least

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
            freedom = float((1 - rest)[used].sum())
            value = 0.5 * ((residual**2).sum() / total - variance) + variance * freedom / self.count
            return value, float((residual * along).sum() / total - variance * more.sum() / self.count)
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
