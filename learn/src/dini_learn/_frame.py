r"""Fewer columns where there are more features than samples: their span, in which all penalties of squares are equal.

With penalties :math:`s P` of squares, ``P`` diagonal, the coefficients are :math:`x = P^{-1/2} V z` with
:math:`X P^{-1/2} = T V^\top` and orthonormal ``V``: they minimize the same loss of :math:`T z` with the penalty ``s``
of all squares of ``z``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: what rounding of the decomposition may be, as a part of a penalty
_ROUNDING = 1e-5


class Frame(NamedTuple):
    """Columns and what leads back from them.

    Attributes
    ----------
    pattern
        The diagonal of ``P``.
    columns
        A column for the intercept, and ``T``.
    back
        :math:`P^{-1/2} V`.
    rounding
        What rounding adds to the squares of columns.
    """

    pattern: np.ndarray
    columns: np.ndarray
    back: np.ndarray
    rounding: float

    @classmethod
    def of(cls, X: np.ndarray, pattern: np.ndarray) -> Frame:
        """Return that of a design matrix, whose first column is the intercept's, for penalties in a proportion."""
        scaled = X[:, 1:] / np.sqrt(pattern)
        values, basis = np.linalg.eigh(scaled @ scaled.T)
        kept = values > len(values) * np.finfo(float).eps * max(values[-1], np.finfo(float).tiny)
        root, basis = np.sqrt(values[kept]), basis[:, kept]
        back = (scaled.T @ (basis / root)) / np.sqrt(pattern)[:, None]
        return cls(pattern, np.hstack([X[:, :1], basis * root]), back, np.finfo(float).eps * float(values[-1]))

    def strength(self, l2: np.ndarray) -> float | None:
        """Return ``s`` of penalties; ``None`` where they are in another proportion."""
        ratio = l2 / self.pattern
        return float(ratio.mean()) if np.ptp(ratio) <= 1e-12 * ratio.mean() else None

    def sees(self, l2: np.ndarray, curvature: float) -> bool:
        """Whether all that matters is in the columns, for penalties in proportion and a curvature of the loss.

        Of features in units far apart the span is known too roughly for those in small ones.
        """
        return self.rounding * curvature <= _ROUNDING * self.strength(l2)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Return coefficients of the columns from those of the features; what follows these stays as it is."""
        last = 1 + len(self.pattern)
        return np.concatenate([x[..., :1], (x[..., 1:last] * self.pattern) @ self.back, x[..., last:]], axis=-1)

    def outside(self, z: np.ndarray) -> np.ndarray:
        """Return coefficients of the features from those of the columns."""
        last = self.columns.shape[1]
        return np.concatenate([z[..., :1], z[..., 1:last] @ self.back.T, z[..., last:]], axis=-1)
