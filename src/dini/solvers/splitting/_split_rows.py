"""The constraints of a quadratic program as one interval for each row, and the steps of its splitting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...linear._matrices import column_squares, diagonal
from ...trees import Scalar
from ...trees.products import dot
from ..interior._scaled_program import Scaled

#: the weight of an equality relative to that of an inequality, and that of the last point (Stellato et al. 2020)
_EQUALITY, SIGMA = 1e3, 1e-6


class Intervals(NamedTuple):
    r"""The program's constraints as :math:`l \le B x \le u`; ``B`` is :math:`C` and, for bounds, the identity.

    The upper and the lower bound of an unknown are one row here and two of :class:`Scaled`.
    """

    lower: jax.Array
    upper: jax.Array

    @classmethod
    def of(cls, data: Scaled) -> Intervals:
        """Return the intervals of a program."""
        first, side = data.matrix.shape[0], data.offset[data.n :]
        high = jnp.where(data.used, side, jnp.inf)
        lower = jnp.where(data.fixed[:first], side[:first], -jnp.inf)
        if not data.signs:
            return cls(lower, high)
        free = jnp.full(data.n, jnp.inf, side.dtype)
        ends = {sign: high[i : i + data.n] for sign, i in zip(data.signs, data.ends[:-1], strict=True)}
        low, top = -ends.get(-1, free), ends.get(1, free)
        # equal bounds are one row, the upper one
        low = jnp.where(data.fixed[data.ends[0] : data.ends[1]], top, low) if len(data.signs) == 2 else low
        return cls(jnp.concatenate([lower, low]), jnp.concatenate([high[:first], top]))

    def project(self, v: jax.Array) -> jax.Array:
        """Return the nearest point within the intervals."""
        return jnp.clip(v, self.lower, self.upper)

    def weights(self, rho: Scalar) -> jax.Array:
        """Return the weight of each row; one without bounds has none."""
        free = jnp.isinf(self.lower) & jnp.isinf(self.upper)
        return rho * jnp.where(free, 0, jnp.where(self.lower == self.upper, _EQUALITY, 1)).astype(rho.dtype)


def image(data: Scaled, x: jax.Array) -> jax.Array:
    """Return ``B x``."""
    rows = dot(data.matrix, x)
    return jnp.concatenate([rows, x]) if data.signs else rows


def pulled(data: Scaled, y: jax.Array) -> jax.Array:
    """Return the transposed product."""
    first = data.matrix.shape[0]
    force = dot(data.matrix.T, y[:first])
    return force + y[first:] if data.signs else force


def curved(data: Scaled, weights: jax.Array, x: jax.Array) -> jax.Array:
    r"""Return the product with :math:`Q + \sigma I + B^\top R B`."""
    return dot(data.quadratic, x) + SIGMA * x + pulled(data, weights * image(data, x))


def squares(data: Scaled, weights: jax.Array) -> jax.Array:
    """Return the diagonal of that matrix."""
    first = data.matrix.shape[0]
    own = diagonal(data.quadratic) + SIGMA + column_squares(data.matrix, weights[:first])
    return own + weights[first:] if data.signs else own


def of_rows(data: Scaled, y: jax.Array) -> jax.Array:
    """Return multipliers of the intervals as those of the rows of :class:`Scaled`, with the signs that these have."""
    first = data.matrix.shape[0]
    w = jnp.concatenate([y[:first], *(sign * y[first:] for sign in data.signs)])
    return jnp.where(data.fixed, w, jnp.where(data.live, jnp.maximum(w, 0), 0))


def of_intervals(data: Scaled, w: jax.Array) -> jax.Array:
    """Return multipliers of the rows of :class:`Scaled` as those of the intervals."""
    first = data.matrix.shape[0]
    sides = [sign * w[i : i + data.n] for sign, i in zip(data.signs, data.ends[:-1], strict=True)]
    return jnp.concatenate([w[:first], sum(sides)]) if sides else w[:first]  # pyright: ignore


class Iterate(NamedTuple):
    r"""A point of the splitting: the unknown, its image within the intervals, and their multipliers.

    ``before`` is the unknown before the relaxation, from which the next linear system starts.
    """

    x: jax.Array
    z: jax.Array
    y: jax.Array
    before: jax.Array


def advanced(data: Scaled, rows: Intervals, weights: jax.Array, alpha: float, solve: Any, at: Iterate) -> Iterate:
    r"""Return the point after one iteration, whose equations have the numbers of the solver's docstring."""
    gradient = -data.offset[: data.n]
    # (1)
    x = solve(SIGMA * at.x - gradient + pulled(data, weights * at.z - at.y), at.before)
    # (2)
    relaxed = alpha * image(data, x) + (1 - alpha) * at.z
    # (3)
    away = jnp.where(weights > 0, at.y / jnp.where(weights > 0, weights, 1), 0)
    z = rows.project(relaxed + away)
    # (4)
    y = at.y + weights * (relaxed - z)
    return Iterate(alpha * x + (1 - alpha) * at.x, z, y, x)


def residuals(data: Scaled, at: Iterate) -> tuple[Scalar, Scalar]:
    """Return the residuals of the constraints and of stationarity, each relative to the largest of all its terms."""
    top = lambda *vs: jnp.max(jnp.stack([jnp.max(jnp.abs(v), initial=0) for v in vs]))
    tiny = jnp.finfo(at.x.dtype).tiny
    rows, bend, force = image(data, at.x), dot(data.quadratic, at.x), pulled(data, at.y)
    primal = top(rows - at.z) / jnp.maximum(top(rows, at.z), tiny)
    gradient = data.offset[: data.n]
    return primal, top(bend - gradient + force) / jnp.maximum(top(bend, force, gradient), tiny)
