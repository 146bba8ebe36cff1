r"""The linear system of a step of an interior point method.

With slacks eliminated, a step of the unknown and of the constraints' multipliers solves the symmetric system

.. math:: \begin{pmatrix} H + \Sigma + \delta I & J^\top \\ J & -D \end{pmatrix}
          \begin{pmatrix} \dot x \\ \dot y \end{pmatrix} = -\begin{pmatrix} r \\ c \end{pmatrix}

where :math:`\Sigma` stands for the bounds, and :math:`D` is a small constant for equalities and the inverse barrier
curvature of an inequality's slack. The step descends where :math:`H + \Sigma + \delta I + J^\top D^{-1} J` is positive
definite, that is, where the matrix has as many negative eigenvalues as there are constraints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...linear._dense import lost_pivots
from ...trees.products import dot

#: the first correction of an indefinite Hessian, its growth, and the share of the last one that is tried next
_FIRST, _FAST, _GROWTH, _LESS = 1e-4, 100.0, 8.0, 1 / 3
_LARGEST = 1e20


class Factor(NamedTuple):
    """A factorized system, with the matrix and the scales of its rows and columns."""

    matrix: Any
    lu: Any
    pivots: Any
    scales: Any

    def solve(self, b: jax.Array) -> jax.Array:
        """Solve, with one step of refinement."""
        w = self._once(b)
        return w + self._once(b - dot(self.matrix, w))

    def _once(self, b: jax.Array) -> jax.Array:
        return self.scales * jax.scipy.linalg.lu_solve((self.lu, self.pivots), self.scales * b, check_finite=False)


def factorized(matrix: jax.Array) -> Factor:
    """Factorize a symmetric matrix, in units in which its rows are of one size."""
    scales = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(2):
        size = jnp.max(jnp.abs(matrix) * scales[:, None] * scales[None, :], axis=1, initial=0)
        scales = scales / jnp.sqrt(jnp.where((size > 0) & jnp.isfinite(size), size, 1))
    lu, pivots = jax.scipy.linalg.lu_factor(matrix * scales[:, None] * scales[None, :], check_finite=False)
    return Factor(matrix, lu, pivots, scales)


def assembled(hessian: jax.Array, slopes: jax.Array, softness: jax.Array) -> jax.Array:
    """Return the matrix with ``hessian``, the constraints' gradients, and ``softness`` on the diagonal."""
    return jnp.block([[hessian, slopes.T], [slopes, -jnp.diag(softness)]])


def stiffened(hessian: jax.Array, slopes: jax.Array, softness: jax.Array) -> jax.Array:
    r"""Return :math:`H + J^\top D^{-1} J`, with constraints no stiffer than a Cholesky factorization can bear."""
    size = jnp.max(jnp.abs(hessian), initial=0)
    squares = jnp.sum(jnp.square(slopes), axis=1)
    cap = jnp.finfo(hessian.dtype).eps ** (-1 / 3) * jnp.where(size > 0, size, 1) / jnp.where(squares > 0, squares, 1)
    return hessian + dot(slopes.T * jnp.minimum(1 / softness, cap)[None, :], slopes)


def correction(
    hessian: jax.Array, slopes: jax.Array, softness: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""Return the smallest :math:`\delta` of a few that makes the step descend, and whether there is one.

    ``last`` is what was needed before; the largest sum of a row is enough, however much that was.
    """
    size = jnp.max(jnp.abs(hessian), initial=0)
    size = jnp.where(size > 0, size, 1)
    enough = jnp.max(jnp.sum(jnp.abs(hessian), axis=1), initial=0)
    enough = jnp.where(enough > 0, enough, 1)
    gram = stiffened(hessian, slopes, softness)
    eye = jnp.eye(len(hessian), dtype=hessian.dtype)

    def definite(shift: jax.Array) -> jax.Array:
        matrix = gram + shift * eye
        return ~lost_pivots(jnp.linalg.cholesky(matrix, symmetrize_input=False), jnp.diagonal(matrix))

    def body(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        shift = now[0]
        known = last > 0
        first = jnp.where(known, jnp.clip(_LESS * last, 1e-16 * size, enough), _FIRST * size)
        shift = jnp.where(shift > 0, jnp.where(known, _GROWTH, _FAST) * shift, first)
        return shift, definite(shift)

    going = lambda now: ~now[1] & (now[0] < _LARGEST * size)
    zero = jnp.zeros((), hessian.dtype)
    return jax.lax.while_loop(going, body, (zero, definite(zero)))


def pinned(
    hessian: jax.Array, slopes: jax.Array, pins: jax.Array, moves: jax.Array
) -> tuple[jax.Array, jax.Array, Callable[..., Any]]:
    """Return the Hessian and the gradients where some elements move by a known amount, and what that adds to residuals.

    The rows of these elements become those of the identity, scaled like the others.
    """
    scale = jnp.max(jnp.abs(jnp.diagonal(hessian)), initial=0)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
    moves = jnp.where(pins, moves, 0)
    free = ~pins

    def residuals(upper: jax.Array, lower: jax.Array) -> tuple[jax.Array, jax.Array]:
        upper = jnp.where(pins, -scale * moves, upper + dot(hessian, moves))
        return upper, lower + dot(slopes, moves)

    both = free[:, None] & free[None, :]
    held = jnp.where(both, hessian, 0) + jnp.diag(jnp.where(pins, scale, 0))
    return held, jnp.where(free[None, :], slopes, 0), residuals
