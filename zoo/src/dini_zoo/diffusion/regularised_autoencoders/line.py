"""A mixture on a line, where both optima are known: how far their scores are from the true one, by the scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ..mixtures import GaussianMixture
from .losses import score_from_reconstruction
from .optima import linear_reconstruction, rcae_on_grid, score_matching_loss

GRID = (-5.0, 5.0, 8001)
#: Among which one is chosen.
SCALES = (0.02, 2.0)


def mixture() -> GaussianMixture:
    """The data."""
    return GaussianMixture([0.6, 0.4], [[-1.0], [1.2]], [0.16, 0.36])


def contractive(s: Any, points: int = GRID[2]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The grid, and the reconstruction of the contractive objective on it."""
    grid = jnp.linspace(GRID[0], GRID[1], points)
    return grid, rcae_on_grid(lambda x: mixture().log_prob(x[:, None]), grid, s)


def denoising(x: Float[Array, " n"], s: Any) -> Float[Array, " n"]:
    """The reconstruction of the denoising objective, in closed form."""
    return x + s**2 * mixture().diffused(1.0, s).score(x[:, None])[:, 0]


@dataclass(frozen=True)
class Line:
    """Relative errors of the scores, weighed by the density; reconstructions at 0 and 1/2."""

    scales: tuple[float, ...]
    contractive: list[float]
    denoising: list[float]
    at_zero: list[float]
    at_half: list[float]
    denoising_at_zero: list[float]


def _relative(ours: Array, true: Array, weight: Array) -> float:
    """The error of a score, weighed by the density."""
    return float(jnp.sqrt(jnp.sum(weight * (ours - true) ** 2) / jnp.sum(weight * true**2)))


def errors(scales: tuple[float, ...]) -> Line:
    """By scales."""
    found = Line(scales, [], [], [], [], [])
    for s in scales:
        x, r = contractive(s)
        true, weight = mixture().score(x[:, None])[:, 0], jnp.exp(mixture().log_prob(x[:, None]))
        other = denoising(x, s)
        found.contractive.append(_relative((r - x) / s**2, true, weight))
        found.denoising.append(_relative((other - x) / s**2, true, weight))
        middle = len(x) // 2
        found.at_zero.append(float(r[middle]))
        found.at_half.append(float(r[middle + round(0.5 * (len(x) - 1) / (GRID[1] - GRID[0]))]))
        found.denoising_at_zero.append(float(other[middle]))
    return found


def features(centers: Float[Array, " m"], width: Any) -> Any:
    """A line, which is what a score is where there are no data, and bumps of one width."""
    return lambda x: jnp.concatenate([jnp.ones(1), x, jnp.exp(-0.5 * ((x - centers) / width) ** 2)])


@dataclass(frozen=True)
class Bandwidth:
    """The scale that the loss of score matching chooses on data that were not fitted."""

    scale: float
    slope: float
    """The loss's derivative in the logarithm of the scale at the start, through the linear solve."""
    difference: float
    """The same by central differences."""
    start_error: float
    error: float
    """Relative errors of the score, before and after, between the least and the greatest point."""
    truth: float
    """The error with the scale that a search along the true errors finds best."""


def bandwidth(key: Array, points: int, start: float = 0.8, bumps: int = 24) -> Bandwidth:
    """Fit bumps to a few points, and choose the scale by the derivative of the loss on others."""
    for_fit, for_choice, for_test = jax.random.split(key, 3)
    x, others = mixture().sample(for_fit, points), mixture().sample(for_choice, points)
    test = mixture().sample(for_test, 4000)
    phi = features(jnp.linspace(-3.0, 3.5, bumps), 0.4)

    def fitted(log_s: Any, x: Array) -> Any:
        s = jnp.exp(log_s)
        return score_from_reconstruction(linear_reconstruction(phi, x, s), s)

    def loss(log_s: Any, x: Array, others: Array) -> Array:
        return score_matching_loss(fitted(log_s, x), others)

    @jax.jit
    def error(log_s: Any) -> Array:
        true = mixture().score(test)
        # beyond the data nothing holds the bumps, and one point there would outweigh all others
        inside = (test >= x.min()) & (test <= x.max())
        gap = jnp.where(inside, fitted(log_s, x)(test) - true, 0.0)
        return jnp.sqrt(jnp.sum(gap**2) / jnp.sum(jnp.where(inside, true, 0.0) ** 2))

    first = jnp.log(jnp.asarray(start))
    low, high = jnp.log(SCALES[0]), jnp.log(SCALES[1])
    best = dini.minimize(loss, first, x, others, constraint=dini.sets.Box(low, high)).x
    slope = jax.jit(jax.grad(loss))(first, x, others)
    value, step = jax.jit(loss), 1e-4
    difference = (value(first + step, x, others) - value(first - step, x, others)) / (2 * step)
    grid = np.asarray(jax.jit(jax.vmap(error))(jnp.linspace(low, high, 60)))
    return Bandwidth(
        float(jnp.exp(best)),
        float(slope),
        float(difference),
        float(error(first)),
        float(error(best)),
        float(grid.min()),
    )
