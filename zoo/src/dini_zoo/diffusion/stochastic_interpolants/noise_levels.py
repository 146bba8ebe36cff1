"""Which level of noise is best: fields learned briefly in 32 dimensions, divergences of densities in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import gaussian_kde

from ..interpolants import linear
from ..mixtures import GaussianMixture
from .sampling import sample_sde
from .transport import learned, train


def target(seed: int, dimension: int) -> GaussianMixture:
    """Five modes of equal weight with random means and covariances."""
    random = np.random.default_rng(seed)
    means = 4 * random.normal(size=(5, dimension))
    W = random.normal(size=(5, dimension, dimension))
    return GaussianMixture(np.full(5, 0.2), means, W.mT @ W / dimension + np.eye(dimension))


def base(dimension: int) -> GaussianMixture:
    """A standard normal law."""
    return GaussianMixture([1.0], np.zeros((1, dimension)), [1.0])


def divergence(truth: np.ndarray, other: np.ndarray, at: np.ndarray) -> float:
    r"""Kullback and Leibler's, of kernel density estimates of two samples in the plane, at points of the first law.

    The mean of :math:`\log p - \log q + q / p - 1`, in which every term is zero or more.
    """
    p, q = gaussian_kde(truth.T).logpdf(at.T), gaussian_kde(other.T).logpdf(at.T)
    return float(np.mean(p - q + np.expm1(q - p)))


@dataclass(frozen=True)
class Levels:
    """Divergences of one network's samples."""

    seed: int
    levels: tuple[float, ...]
    values: list[list[float]]
    """For each level, of each key."""
    floor: list[float]
    """Of exact samples, for each key."""


def measure(
    seed: int,
    key: Array,
    *,
    dimension: int,
    training: int,
    batch: int,
    width: int,
    levels: tuple[float, ...],
    keys: int,
    points: int,
    steps: int,
    advance: Callable[[int], None],
) -> Levels:
    """Train one network briefly, and sample with the same noise at every level."""
    interpolant, first, last = linear(), base(dimension), target(seed, dimension)
    for_training, for_samples = jax.random.split(key)
    network = train(interpolant, first, last, for_training, steps=training, batch=batch, width=width, advance=advance)
    fields = learned(interpolant, network)

    def sample(x: Array, eps: Any, key: Array) -> Array:
        return sample_sde(key, fields, x, eps, steps=steps)

    quiet = jax.jit(lambda x, key: sample(x, 0.0, key)[:, :2])
    noisy = jax.jit(lambda x, eps, key: sample(x, eps, key)[:, :2])
    values: list[list[float]] = [[] for _ in levels]
    floor = []
    for i in range(keys):
        for_start, for_noise, *rest = jax.random.split(jax.random.fold_in(for_samples, i), 5)
        x0 = first.sample(for_start, points)
        truth, again, at = (
            np.asarray(last.sample(key, n)[:, :2], float)
            for key, n in zip(rest, (points, points, max(2 * points // 5, 10)), strict=True)
        )
        floor.append(divergence(truth, again, at))
        for level, found in zip(levels, values, strict=True):
            x = noisy(x0, jnp.asarray(level), for_noise) if level else quiet(x0, for_noise)
            found.append(divergence(truth, np.asarray(x, float), at))
    return Levels(seed, levels, values, floor)
