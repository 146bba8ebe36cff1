r"""Quadratic functions with absolute values, minimized exactly: by their support and its signs.

The minimizer of :math:`\tfrac12 x^\top H x - c^\top x + \sum_j \lambda_j |x_j|` is known in closed form once one knows
which coefficients do not vanish, ``S``, and their signs: :math:`x_S = H_{SS}^{-1} (c_S - \lambda_S s_S)`. From a start
near by, both are found in a few steps, each a factorization of the support's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

#: a correlation exceeds its penalty if by more than this part of it, or of the largest correlation
_TIE, _ROUNDING = 1e-10, 1e-13
#: at most so many coefficients join a support at once, or as many as it has
_JOIN = 10


class Face(NamedTuple):
    """Where the minimizer lies.

    Attributes
    ----------
    support
        The indices of coefficients that do not vanish, or have no penalty of absolute values.
    signs
        Theirs, zero for those without that penalty.
    values
        The coefficients themselves.
    factor
        The Cholesky factor of the support's block.
    margin
        How far correlations are from their penalties and coefficients from zero, relative to the largest: zero where
        the minimizer has no derivative.
    solved
        Whether the conditions of a minimizer hold.
    """

    support: np.ndarray
    signs: np.ndarray
    values: np.ndarray
    factor: np.ndarray
    margin: float
    solved: bool

    @classmethod
    def corner(cls, l1: np.ndarray) -> Face:
        """Return the face on which all coefficients vanish that have a penalty."""
        free = np.flatnonzero(l1 == 0)
        return cls(free, np.zeros(len(free)), np.zeros(len(free)), np.empty((0, 0)), 0.0, False)

    def full(self, size: int) -> np.ndarray:
        """Return all coefficients."""
        found = np.zeros(size)
        found[self.support] = self.values
        return found

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return the solution of the block's equations."""
        return lapack.dpotrs(self.factor, right, lower=1)[0] if len(right) else right


class Quadratic(NamedTuple):
    """A quadratic function that is only looked at where it is needed.

    Attributes
    ----------
    block
        ``block(S)``: the rows and columns ``S`` of ``H``, a new array.
    product
        ``product(S, x)``: ``H`` times the vector that is ``x`` on ``S``.
    linear
        ``c``.
    """

    block: Callable[[np.ndarray], np.ndarray]
    product: Callable[[np.ndarray, np.ndarray], np.ndarray]
    linear: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray, linear: np.ndarray, squares: np.ndarray) -> Quadratic:
        """Return the function of a symmetric matrix, and of squares beside it."""

        def block(some: np.ndarray) -> np.ndarray:
            found = matrix.take(some, 0).take(some, 1)
            found.flat[:: len(some) + 1] += squares[some]
            return found

        def product(some: np.ndarray, x: np.ndarray) -> np.ndarray:
            if 4 * len(some) < len(matrix):
                found = x @ matrix.take(some, 0)
                found[some] += squares[some] * x
                return found
            full = np.zeros(len(matrix))
            full[some] = x
            return matrix @ full + squares * full

        return cls(block, product, linear)


def allowed(l1: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Return what correlations off the support may be: their penalties, and what rounding adds."""
    return l1 * (1 + _TIE) + _ROUNDING * np.abs(linear).max(initial=0.0)


def least(of: Quadratic, l1: np.ndarray, start: Face, same: bool = False) -> Face:
    """Return the face of the minimizer of a quadratic function and absolute values.

    The value falls from step to step, so that no support comes twice. A step solves for the support with its signs. If
    signs change on the way, it ends at zeros, which leave the support. If not, coefficients join whose correlation
    exceeds their penalty (a block form of feature-sign search: Lee, Battle, Raina, Ng, NeurIPS 2006).

    Parameters
    ----------
    of
        The quadratic function.
    l1
        The penalties of absolute values.
    start
        A face near by.
    same
        Whether the start is that of the same matrix, so that its factor serves, too.
    """
    linear, (support, signs, x) = of.linear, start[:3]
    factor = start.factor if same else None
    slack = allowed(l1, linear)
    for _ in range(100 + 20 * len(l1)):
        if factor is None:
            factor, info = lapack.dpotrf(of.block(support).T, lower=1, clean=0, overwrite_a=1)
            if info:
                # not positive definite: nothing is known
                return Face(support, signs, np.full(len(support), np.nan), factor, 0.0, False)
        target = lapack.dpotrs(factor, linear[support] - l1[support] * signs, lower=1)[0] if len(support) else x
        turned = signs * target < 0
        if turned.any():
            still = turned & (x == 0)
            if still.any():
                # of those that joined, some would go against their sign
                kept = ~still
            else:
                x = _shorter(x, target, turned, factor, linear[support], l1[support])
                kept = (x != 0) | (signs == 0)
            support, x, signs, factor = support[kept], x[kept], signs[kept], None
            continue
        x = target
        away = linear - of.product(support, x)
        over = np.abs(away) - slack
        over[support] = -np.inf
        joining = np.flatnonzero(over > 0)
        if not len(joining):
            return Face(support, signs, x, factor, _margin(x, signs, over, slack), True)
        room = max(_JOIN, len(support))
        if len(joining) > room:
            joining = joining[np.argpartition(-over[joining], room - 1)[:room]]
        support = np.concatenate([support, joining])
        x = np.concatenate([x, np.zeros(len(joining))])
        signs = np.concatenate([signs, np.sign(away[joining])])
        factor = None
    return Face(support, signs, x, factor, 0.0, False)


def _shorter(x: Any, target: Any, turned: Any, factor: Any, linear: Any, l1: Any) -> np.ndarray:
    """Return a lower point between ``x`` and a target: where the first sign turns, or with zeros where any would."""
    moves = np.where(turned, x / np.where(turned, x - target, 1.0), np.inf)
    first = int(np.argmin(moves))
    near = x + moves[first] * (target - x)
    near[first] = 0.0
    far = np.where(turned, 0.0, target)

    def value(z: np.ndarray) -> float:
        half = blas.dtrmv(factor, z, lower=1, trans=1)
        return 0.5 * half @ half - linear @ z + l1 @ np.abs(z)

    return far if value(far) < value(near) else near


def _margin(x: np.ndarray, signs: np.ndarray, over: np.ndarray, slack: np.ndarray) -> float:
    sizes = np.abs(x[signs != 0])
    near = float(sizes.min() / sizes.max()) if len(sizes) else np.inf
    outside = np.isfinite(over) & (slack > 0)
    return min(near, float((-over[outside] / slack[outside]).min())) if outside.any() else near
