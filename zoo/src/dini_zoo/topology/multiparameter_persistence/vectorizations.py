r"""Vectors of signed measures, and losses: what is linear in the measure, :math:`\sum_j w_j \phi(p_j)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, positive

from .complexes import Filtration
from .engines import Engine
from .measures import Invariant, SignedMeasure, same_columns, signed_measure


def linear_functional(measure: SignedMeasure, phi: Callable[[Array], Array]) -> Array:
    r"""The integral :math:`\int \phi\, d\mu = \sum_j w_j \phi(p_j)`, zero for the empty measure.

    Parameters
    ----------
    phi
        From a point, a vector of its coordinates, to a number or an array. Points with an infinite coordinate, which a
        rank invariant's measure has, are left out: `measure.capped` brings them to a bound.
    """
    kept = measure.mask & jnp.all(~jnp.isinf(measure.points), axis=1)
    values = jax.vmap(phi)(jnp.where(kept[:, None], measure.points, 0))
    by_point = lambda array: array.reshape(array.shape + (1,) * (values.ndim - 1))
    # a function that is not finite at zero must not spoil what is padded
    return jnp.sum(by_point(measure.weights) * jnp.where(by_point(kept), values, 0), axis=0)


def gaussian_vectorize(
    measure: SignedMeasure,
    centers: Float[Array, "c n"],
    width: Any,
    *,
    segments: Int[Array, " M"] | None = None,
    count: int | None = None,
) -> Float[Array, " c"] | Float[Array, "count c"]:
    r"""The convolution with a Gaussian at some points, :math:`\sum_j w_j e^{-|p_j - c|^2 / 2 s^2}`.

    Parameters
    ----------
    centers
        Where; with a grid this is an image of the measure.
    width
        The deviation ``s``, one number or one for each coordinate.
    segments, count
        The part of each point, and of how many: a row for each part. `measure.owners[:, 0] // n` for a batch of graphs
        of ``n`` nodes.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration
    >>> measure = signed_measure(graph_filtration(jnp.array([0.0, 1.0]), jnp.array([[0, 1]])), invariant="euler")
    >>> print(gaussian_vectorize(measure, jnp.array([[0.0], [9.0]]), 0.5).round(3))
    [1. 0.]
    """
    positive("width", width)
    centers = jnp.asarray(centers, measure.points.dtype)
    same_columns(measure, "centers", centers)
    if (segments is None) != (count is None):
        raise ValueError("segments and count must be given together: given one of them.")
    kept = measure.mask & jnp.all(~jnp.isinf(measure.points), axis=1)
    points = jnp.where(kept[:, None], measure.points, 0)
    squares = jnp.sum(((points[:, None] - centers) / width) ** 2, axis=-1)
    bumps = jnp.where(kept, measure.weights, 0)[:, None] * jnp.exp(-squares / 2)
    if segments is None:
        return jnp.sum(bumps, axis=0)
    return jax.ops.segment_sum(bumps, jnp.where(kept, segments, 0), num_segments=count)


@dataclass(frozen=True)
class TopologicalLoss:
    """A loss on parameters by way of a filtration and its signed measure, `sum_j w_j phi(p_j)`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> square = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> from dini_zoo.topology.multiparameter_persistence import rips_lower_star
    >>> loss = TopologicalLoss(rips_lower_star, lambda p: p[0], degree=1, engine="numpy", max_points=4)
    >>> print(round(float(loss(square)), 3))  # born at 1, filled in at the square root of 2
    -0.414
    """

    filtration: Callable[..., Filtration]
    """From the parameters."""
    phi: Callable[[Array], Array]
    """Of a point."""
    degree: int | None
    invariant: Invariant = "hilbert"
    max_points: int = 256
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        if self.degree is not None:
            at_least("degree", self.degree, 0)
        at_least("max_points", self.max_points, 1)

    def measure(self, *args: Any) -> SignedMeasure:
        """The signed measure at some parameters."""
        options = {"max_points": self.max_points, "engine": self.engine}
        return signed_measure(self.filtration(*args), self.degree, self.invariant, **options)

    def __call__(self, *args: Any) -> Array:
        """The loss."""
        return linear_functional(self.measure(*args), self.phi)
