"""Which level of noise is best: fields learned briefly in 32 dimensions, divergences of densities in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

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


def plane(law: GaussianMixture) -> GaussianMixture:
    """The law of the first two coordinates."""
    return GaussianMixture(law.weights, law.means[:, :2], law.covariances[:, :2, :2])


def base(dimension: int) -> GaussianMixture:
    """A standard normal law."""
    return GaussianMixture([1.0], np.zeros((1, dimension)), [1.0])


@jax.jit
def divergence(law: GaussianMixture, other: Array, key: Array, at: Array) -> Array:
    r"""Kullback and Leibler's, from a mixture to the law of a sample, both blurred by one normal kernel.

    The mean of :math:`\log p - \log q + q / p - 1`, in which every term is zero or more, at points `at` of the mixture,
    blurred with `key`. The kernel has Scott's width for the mixture's own covariance, :math:`p` is known in closed
    form, and :math:`q` is the sample's kernel density estimate: the sample's noise alone is left in the figure.
    """
    n, d = other.shape
    kernel = law.covariance() * n ** (-2 / (d + 4))
    root = jnp.linalg.cholesky(kernel)
    x = at + jax.random.normal(key, at.shape, at.dtype) @ root.T
    scaled = lambda points: jax.scipy.linalg.solve_triangular(root, points.T, lower=True).T
    ours = scaled(other)
    near = lambda point: jax.nn.logsumexp(-0.5 * jnp.sum((ours - point) ** 2, axis=1))
    constant = jnp.log(n) + 0.5 * d * jnp.log(2 * jnp.pi) + jnp.sum(jnp.log(jnp.diagonal(root)))
    q = jax.lax.map(near, scaled(x), batch_size=64) - constant
    p = GaussianMixture(law.weights, law.means, law.covariances + kernel).log_prob(x)
    return jnp.mean(p - q + jnp.expm1(q - p))


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
    flat = plane(last)
    for i in range(keys):
        for_start, for_noise, for_floor, for_at, for_blur = jax.random.split(jax.random.fold_in(for_samples, i), 5)
        x0 = first.sample(for_start, points)
        # the same points for every level: what they add is in both figures of a ratio
        at = flat.sample(for_at, max(2 * points // 5, 10), stratified=True)
        apart = lambda x, at=at, key=for_blur: float(divergence(flat, x, key, at))
        floor.append(apart(flat.sample(for_floor, points)))
        for level, found in zip(levels, values, strict=True):
            found.append(apart(noisy(x0, jnp.asarray(level), for_noise) if level else quiet(x0, for_noise)))
    return Levels(seed, levels, values, floor)
