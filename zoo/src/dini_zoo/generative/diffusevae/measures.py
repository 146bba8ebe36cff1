"""How far samples are from data: in features of a classifier, in edges, and in pixels.

Features of a classifier do not punish blur; edges, the Laplacian of an image, do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.diffusion.digits import NetworkJudge
from dini_zoo.diffusion.distances import Moments, frechet_distance


def laplacian(x: Float[Array, "n 64"]) -> Float[Array, "n 36"]:
    """The sum of the four neighbors less four times the pixel, at the 6 × 6 pixels that have four."""
    x = jnp.reshape(x, (-1, 8, 8))
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return (around - 4 * x[:, 1:-1, 1:-1]).reshape(-1, 36)


@dataclass(frozen=True)
class Quality:
    """Fréchet's distances of samples to data, and the variance of the samples' Laplacian."""

    features: float
    edges: float
    pixels: float
    variance: float


@dataclass(frozen=True)
class Reference:
    """Data in [0, 1], as they are judged by."""

    judge: NetworkJudge
    features: Moments
    edges: Moments
    pixels: Moments

    @classmethod
    def of(cls, judge: NetworkJudge, x: Any) -> Self:
        """Of images in [0, 1]."""
        with jax.enable_x64(True):
            x = jnp.asarray(np.asarray(x), float)
            return cls(judge, Moments.of(judge.features(x)), Moments.of(laplacian(x)), Moments.of(x))

    def quality(self, x: Any) -> Quality:
        """Of images in [0, 1], in double precision: distances are differences of large numbers."""
        with jax.enable_x64(True):
            x = jnp.asarray(np.asarray(x), float)
            edges = laplacian(x)
            away = lambda one, other: float(frechet_distance(one, Moments.of(other)))
            return Quality(
                features=away(self.features, self.judge.features(x)),
                edges=away(self.edges, edges),
                pixels=away(self.pixels, x),
                variance=float(jnp.var(edges)),
            )
