r"""Fits of smooth losses with penalties of squares, for all folds at once: Newton's method by conjugate gradients.

A product with the Hessian :math:`X^\top D X + \mu` is two products with ``X``, for all fits together. All fits share a
preconditioner, the Hessian's blocks of the numbers of a predictor each, with the mean over the folds of ``D``; it lives
from one point of a search to the next, as long as it does. Derivatives come from the adjoint equation, solved in the
same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._smooth import Smooth

#: the relative residual of a step, at least and at most
_FORCING = 1e-4, 0.1
_HALVINGS = 60
#: so many products for one step say that the preconditioner is old, and so many are the most
_OLD, _PRODUCTS = 20, 40
#: the slope at the end of a step, in relation to that at its start
_SLOPE = 0.1
#: a direction has no curvature that has less than this part of the preconditioner's
_STRAIGHT = 1e-13
#: more columns than this have a preconditioner that is diagonal
_BLOCK = 1000


class Problem(NamedTuple):
    """Fits that share their data.

    Attributes
    ----------
    loss
        The loss.
    X
        Of shape ``(samples, columns)``.
    y
        Of shape ``(numbers, 1, samples)``.
    weights
        Of shape ``(fits, samples)``.
    l2
        Penalties of squares, of shape ``(numbers, 1, columns)``.
    """

    loss: Smooth
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    l2: np.ndarray

    def predictor(self, x: np.ndarray) -> np.ndarray:
        """Return the predictor of coefficients of shape ``(numbers, fits, columns)``."""
        flat = x.reshape(-1, x.shape[-1]) @ self.X.T
        return flat.reshape(*x.shape[:2], -1)

    def pull(self, z: np.ndarray) -> np.ndarray:
        """Return products with the columns."""
        flat = z.reshape(-1, z.shape[-1]) @ self.X
        return flat.reshape(*z.shape[:2], -1)

    def squares(self, curvature: np.ndarray) -> np.ndarray:
        """Return blocks of the Hessian by curvatures of shape ``(numbers, samples)``; of many columns the diagonals."""
        X = self.X
        if X.shape[1] > _BLOCK:
            return curvature @ X**2
        found = np.empty((len(curvature), X.shape[1], X.shape[1]))
        for place, own in enumerate(curvature):
            part = np.sqrt(own)[:, None] * X
            found[place] = part.T @ part
        return found

    def centered(self, x: np.ndarray) -> np.ndarray:
        """Return coefficients of several numbers less what changes no probability and costs a penalty."""
        if len(x) == 1:
            return x
        total = self.l2.sum(axis=0)
        share = np.where(total > 0, self.l2 / np.where(total > 0, total, 1.0), 1 / len(x))
        return x - (share * x).sum(axis=0)


class Scaled(Problem):
    """Fits with a scale, which is the last coefficient, and the same for all samples: the second number of a loss."""

    def predictor(self, x: np.ndarray) -> np.ndarray:
        """Return the predictor and the scale."""
        return np.concatenate([super().predictor(x[..., :-1]), np.repeat(x[..., -1:], len(self.X), axis=-1)])

    def pull(self, z: np.ndarray) -> np.ndarray:
        """Return products with the columns, and the sum of what belongs to the scale."""
        return np.concatenate([super().pull(z[:1]), z[1:].sum(axis=-1, keepdims=True)], axis=-1)

    def squares(self, curvature: np.ndarray) -> np.ndarray:
        """Return the block of the Hessian by the curvatures in the predictor, in both, and in the scale."""
        own, both, last = curvature
        inner = super().squares(own[None])
        if inner.ndim == 2:
            return np.append(inner, [[last.sum()]], axis=1)
        found = np.pad(inner, ((0, 0), (0, 1), (0, 1)))
        found[0, -1, :-1] = found[0, :-1, -1] = both @ self.X
        found[0, -1, -1] = last.sum()
        return found


class Preconditioner(NamedTuple):
    """Blocks of the data's part of the Hessian, one for each number of a predictor; or their diagonals."""

    square: np.ndarray

    @classmethod
    def of(cls, problem: Problem, curvature: np.ndarray) -> Preconditioner:
        """Return that of weighted curvatures of shape ``(numbers, fits, samples)``."""
        return cls(problem.squares(curvature.mean(axis=1)))

    def ready(self, problem: Problem) -> Ready:
        """Return it with penalties."""
        l2 = problem.l2[:, 0]
        tiny, flat = np.finfo(float).eps, self.square.ndim == 2
        diagonal = l2 + (self.square if flat else np.diagonal(self.square, axis1=1, axis2=2))
        # what has no curvature at all is as large as the largest, and so is rounding there
        void = diagonal == 0
        size = np.where(void, diagonal.max(), diagonal)
        if flat:
            return Ready(problem, diagonal, 1 / np.where(void, tiny * size, size))
        whole = self.square.copy()
        place = np.arange(whole.shape[-1])
        whole[:, place, place] = diagonal
        # in units in which the diagonal is one: rounding is that of each column, not of the largest
        root = np.sqrt(size)
        safe = whole / root[:, :, None] / root[:, None, :]
        safe[:, place, place] += tiny * whole.shape[-1]
        return Ready(problem, whole, np.linalg.inv(safe) / root[:, :, None] / root[:, None, :])


class Ready(NamedTuple):
    """A preconditioner with penalties, and its inverse."""

    problem: Problem
    whole: np.ndarray
    inverse: np.ndarray

    def _times(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        return x * matrix[:, None] if matrix.ndim == 2 else x @ matrix

    def solve(self, x: np.ndarray) -> np.ndarray:
        """Return a gradient as a step."""
        return self.problem.centered(self._times(self.inverse, x))

    def size(self, x: np.ndarray) -> np.ndarray:
        """Return the squared length of coefficients, for each fit."""
        return _dot(x, self._times(self.whole, x))


class Solution(NamedTuple):
    """Where fits ended.

    Attributes
    ----------
    x
        Coefficients, of shape ``(numbers, fits, columns)``.
    z
        Their predictors.
    kept
        What is kept of the losses for their curvatures.
    gradient
        What is left of the gradient.
    error
        The size of what is left of each error, in the norm of the preconditioner.
    size
        That of the coefficients.
    ready
        The preconditioner with the penalties.
    following
        The preconditioner for the next point of a search, ``None`` where this one is too old for it.
    """

    x: np.ndarray
    z: np.ndarray
    kept: np.ndarray
    gradient: np.ndarray
    error: np.ndarray
    size: np.ndarray
    ready: Ready
    following: Preconditioner | None


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ckj,ckj->k", a, b)


def minimize(
    problem: Problem, x: np.ndarray, preconditioner: Preconditioner | None, accuracy: float, steps: int
) -> Solution:
    """Return the minimizers of the fits.

    Parameters
    ----------
    problem
        The fits.
    x
        Where to start.
    preconditioner
        One that may serve, ``None`` for a new one.
    accuracy
        The size of an error, relative to the coefficients, in the norm of the preconditioner.
    steps
        At most so many.
    """
    loss, weights, l2 = problem.loss, problem.weights, problem.l2
    x = problem.centered(x)
    z, ready = problem.predictor(x), None
    slope, kept = loss.slope(z, problem.y)
    for _ in range(steps):
        gradient = problem.pull(weights * slope) + l2 * x
        if preconditioner is None:
            preconditioner, ready = Preconditioner.of(problem, weights * loss.curvature(kept)), None
        ready = preconditioner.ready(problem) if ready is None else ready
        error = np.sqrt(np.maximum(_dot(gradient, ready.solve(gradient)), 0.0))
        size = np.sqrt(ready.size(x))
        solved = error <= accuracy * size
        if solved.all() or not np.isfinite(error).all():
            break
        relative = error / np.where(size > 0, size, 1.0)
        goal = np.where(solved, 1.0, np.clip(relative, *_FORCING))
        step, products, _ = conjugate(problem, kept, -gradient, ready, goal, _PRODUCTS)
        length, z, slope, kept = _advance(problem, z, x, step, _dot(gradient, step))
        x = x + length * step
        if products > _OLD:
            preconditioner = None
    return Solution(x, z, kept, gradient, error, size, ready, preconditioner)


def _advance(problem: Problem, z: np.ndarray, x: np.ndarray, step: np.ndarray, first: np.ndarray) -> tuple:
    """Return the lengths of steps, one or where the slope along them about vanishes, and the loss's parts there.

    ``first`` is the slope where they start.
    """
    ahead = problem.predictor(step)
    low, high = np.zeros(x.shape[1]), np.ones(x.shape[1])
    length = np.ones((x.shape[1], 1))
    flat, bend = _dot(problem.l2 * x, step), _dot(problem.l2 * step, step)
    for _ in range(_HALVINGS):
        to = z + length * ahead
        slope, kept = problem.loss.slope(to, problem.y)
        now = _dot(problem.weights * slope, ahead) + flat + length[:, 0] * bend
        far = ~(now <= _SLOPE * np.abs(first))
        near = ~far & (length[:, 0] < 1) & (now < -0.5 * np.abs(first))
        if not (far | near).any():
            break
        high, low = np.where(far, length[:, 0], high), np.where(near, length[:, 0], low)
        length = np.where(far | near, 0.5 * (low + high), length[:, 0])[:, None]
    return length, to, slope, kept


def conjugate(
    problem: Problem, kept: np.ndarray, right: np.ndarray, ready: Ready, goal: np.ndarray, most: int, start: Any = None
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return solutions with the Hessian, the number of products, and whether each solution is one.

    Where there is no curvature along a direction, none goes on.

    ``goal`` is the size of their residuals, relative to that of the right-hand sides.
    """

    def product(x: np.ndarray) -> np.ndarray:
        bent = problem.loss.bend(kept, problem.predictor(x))
        bent *= problem.weights
        return problem.pull(bent) + problem.l2 * x

    toward = ready.solve(right)
    size = np.maximum(_dot(right, toward), 0.0)
    x, rest, scale = np.zeros_like(right), right, np.sqrt(size)
    if start is not None:
        near = problem.centered(start)
        left = right - product(near)
        # a start that is further away than nothing leaves its rounding
        nearer = (_dot(left, ready.solve(left)) < size)[:, None]
        x, rest = np.where(nearer, near, x), np.where(nearer, left, rest)
        toward = ready.solve(rest)
        size = _dot(rest, toward)
    along, curved = toward, np.ones(len(size), bool)
    for count in range(most):
        going = curved & (np.sqrt(np.maximum(size, 0.0)) > goal * scale)
        if not going.any():
            return x, count, curved
        image = product(along)
        bend = _dot(along, image)
        curved &= ~going | (bend > _STRAIGHT * ready.size(along))
        going &= curved
        length = np.where(going, size / np.where(going, bend, 1.0), 0.0)[:, None]
        x = x + length * along
        rest = rest - length * image
        toward = ready.solve(rest)
        before, size = size, _dot(rest, toward)
        along = toward + np.where(before > 0, size / np.where(before > 0, before, 1.0), 0.0)[:, None] * along
    return x, most, curved & ~going
