r"""Gaussian random fields on given points, by the leading terms of their Karhunen-Loève expansion.

.. math:: g = \sum_{i \le k} \sqrt{\lambda_i}\, \xi_i\, \phi_i, \qquad \xi \sim N(0, I), \quad C \phi_i = \lambda_i
\phi_i ,

where :math:`C` is the matrix of the covariance between the points. A medium of two phases is the field's sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, finite, positive


def squared_exponential(length: float) -> Callable[[np.ndarray], np.ndarray]:
    r""":math:`\exp(-d^2 / (2 \ell^2))`, a covariance of the distance: smooth."""
    positive("length", length)
    return lambda d: np.exp(-(d**2) / (2 * length**2))


def exponential(length: float) -> Callable[[np.ndarray], np.ndarray]:
    r""":math:`\exp(-d / \ell)`, a covariance of the distance: continuous, without a derivative."""
    positive("length", length)
    return lambda d: np.exp(-d / length)


class KarhunenLoeve(eqx.Module):
    """A Gaussian field of mean zero on `n` points: `modes` `(n, k)`, each times the root of its variance.

    Examples
    --------
    >>> field = KarhunenLoeve.of(jnp.linspace(0, 1, 20), squared_exponential(0.2), 10)
    >>> field.sample(jax.random.key(0), 3).shape, bool(field.explained > 0.99)
    ((3, 20), True)
    """

    modes: Float[Array, "n k"]
    explained: Float[Array, ""]
    """The share of the variance that these terms have."""

    @classmethod
    def of(cls, points: Any, covariance: Callable[[np.ndarray], np.ndarray], terms: int) -> Self:
        """The leading terms.

        Parameters
        ----------
        points
            `(n, d)`, or `(n,)` on a line.
        covariance
            Of the distance between two points, elementwise.
        terms
            How many, at most as many as there are points.

        Raises
        ------
        ValueError
            For points that are not finite, more terms than points, and a covariance that is none: one with a negative
            eigenvalue that is not rounding.
        """
        points = np.asarray(points, float)
        finite("points", points)
        points = points[:, None] if points.ndim == 1 else points
        at_least("terms", terms, 1)
        if terms > len(points):
            raise ValueError(f"terms must be at most the number of points, {len(points)}: given {terms}.")
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        values, vectors = np.linalg.eigh(covariance(distance))
        if values[0] < -1e-8 * values[-1]:
            raise ValueError(
                f"covariance must be positive semidefinite on the points: its least eigenvalue is {values[0]:.2g}, its "
                f"greatest {values[-1]:.2g}."
            )
        values = np.maximum(values, 0.0)
        modes = vectors[:, ::-1][:, :terms] * np.sqrt(values[::-1][:terms])
        return cls(jnp.asarray(modes), jnp.asarray(values[::-1][:terms].sum() / values.sum()))

    def field(self, xi: Float[Array, "*m k"]) -> Float[Array, "*m n"]:
        """The field of standard normal coefficients."""
        return xi @ self.modes.T

    def sample(self, key: Array, count: int) -> Float[Array, "count n"]:
        """So many draws."""
        modes = self.modes
        return self.field(jax.random.normal(key, (count, modes.shape[1]), modes.dtype))


def two_phase(field: Float[Array, "*n"], low: float, high: float) -> Float[Array, "*n"]:
    """A medium that is `high` where the field is positive, and `low` elsewhere; NaN where the field is."""
    medium = jnp.where(field > 0, jnp.asarray(high, field.dtype), jnp.asarray(low, field.dtype))
    return jnp.where(jnp.isnan(field), field, medium)


def cell_centers(shape: tuple[int, ...]) -> Float[Array, "n d"]:
    """The middles of equal cells of the unit cube, of which each axis has so many, the last one fastest."""
    axes = [(np.arange(n) + 0.5) / n for n in shape]
    return jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape)), float)


def at_cells(a: Float[Array, "*m n"], x: Float[Array, "*p d"], shape: tuple[int, ...]) -> Float[Array, "*m *p"]:
    """The value of the cell in which each point of the unit cube lies; a point between two is in the upper one."""
    if x.shape[-1] != len(shape) or a.shape[-1] != np.prod(shape):
        raise ValueError(
            f"shape must be that of the cells, as many as a has values, in the points' dimension: given {shape}, "
            f"{a.shape[-1]} values and points of {x.shape[-1]} coordinates."
        )
    count = jnp.asarray(shape)
    each = jnp.clip(jnp.floor(x * count.astype(x.dtype)).astype(count.dtype), 0, count - 1)
    which = jnp.ravel_multi_index(tuple(jnp.moveaxis(each, -1, 0)), shape, mode="clip")
    return a[..., which]
