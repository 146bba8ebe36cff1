r"""Distances between samples: Fréchet's, sliced Wasserstein, energy, and a test of whether two laws differ.

References
----------
Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, "GANs trained by a two time-scale update rule converge to a local
Nash equilibrium", NeurIPS 2017. Székely and Rizzo, "Energy statistics", 2013.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least


class Moments(NamedTuple):
    """The mean and the covariance of features."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]

    @classmethod
    def of(cls, features: Float[Array, "n d"]) -> Moments:
        """Of a sample, the covariance with `n - 1`; `ValueError` for fewer than two."""
        at_least("the number of samples", len(features), 2)
        features = jnp.asarray(features)
        mean = jnp.mean(features, axis=0)
        away = features - mean
        return cls(mean, away.T @ away / (len(features) - 1))


def frechet_distance(one: Moments, other: Moments, *, root: Float[Array, "d d"] | None = None) -> Float[Array, ""]:
    r"""Fréchet's distance of two normal laws, which is their squared Wasserstein distance.

    .. math:: \|m_1 - m_2\|^2 + \mathrm{tr}\big(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\big)

    by symmetric eigenvalues. Of samples it is too large by about the trace over their number: compare equal numbers. It
    has a first derivative where directions that vary in one law vary in the other, be they fewer than all.

    `root` is the :func:`square_root` of the other's covariance, for many distances to one law: its eigenvectors are the
    most expensive part.
    """
    known = square_root(other.covariance) if root is None else root
    overlap = _overlap(one.covariance, other.covariance, jax.lax.stop_gradient(known))
    spread = jnp.trace(one.covariance + other.covariance) - 2 * overlap
    return jnp.sum((one.mean - other.mean) ** 2) + spread


def square_root(C: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric root of a covariance, by its eigenvalues; what is below zero counts as zero."""
    values, vectors = jnp.linalg.eigh(C)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T


@jax.custom_jvp
def _overlap(A: Float[Array, "d d"], B: Float[Array, "d d"], root: Float[Array, "d d"]) -> Float[Array, ""]:
    r""":math:`\mathrm{tr} (B^{1/2} A B^{1/2})^{1/2}`, symmetric in the two, with :math:`B^{1/2}` given.

    With its own derivative, :math:`\tfrac12 \langle B^{1/2} (B^{1/2} A B^{1/2})^{-1/2} B^{1/2}, dA \rangle` and the
    same for :math:`B`: that of eigenvectors divides by zero where eigenvalues are equal, as constant pixels' are.
    """
    return jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(root @ A @ root), 0.0)))


@_overlap.defjvp
def _(primals: Any, tangents: Any) -> Any:
    slope = jnp.zeros(())
    A, B, known = primals
    for C, root, dC in ((A, known, tangents[0]), (B, square_root(A), tangents[1])):
        values, vectors = jnp.linalg.eigh(root @ C @ root)
        kept = values > jnp.finfo(values.dtype).eps * len(values) * jnp.max(values)
        inverse = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
        arms = root @ vectors
        slope += 0.5 * jnp.sum(((arms * inverse) @ arms.T) * dC)
    return _overlap(*primals), slope


def sliced_wasserstein(
    key: Array, x: Float[Array, "n d"], y: Float[Array, "n d"], *, directions: int = 64
) -> Float[Array, ""]:
    r"""The sliced Wasserstein distance of two samples of one size.

    .. math:: \Big(\frac{1}{n L} \sum_{l=1}^{L} \sum_i (\theta_l^\top x_{(i)} - \theta_l^\top y_{(i)})^2\Big)^{1/2}

    over random unit vectors :math:`\theta_l`; `ValueError` for samples of different shapes.
    """
    if jnp.shape(x) != jnp.shape(y):
        raise ValueError(f"The two samples must have one shape: given {jnp.shape(x)} and {jnp.shape(y)}.")
    at_least("directions", directions, 1)
    theta = jax.random.normal(key, (directions, x.shape[1]))
    theta = theta / jnp.linalg.norm(theta, axis=1, keepdims=True)
    project = lambda points: jnp.sort(theta @ points.T, axis=1)
    return jnp.sqrt(jnp.mean((project(x) - project(y)) ** 2))


def _distances(x: Array, y: Array) -> Float[Array, "n m"]:
    """Euclidean distances of all pairs."""
    return jax.lax.map(lambda row: jnp.sqrt(jnp.sum((row - y) ** 2, axis=1)), x, batch_size=64)


def energy_distance(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, ""]:
    r""":math:`2 E|X - Y| - E|X - X'| - E|Y - Y'|`, zero for equal laws alone: an estimate without bias."""
    n, m = len(x), len(y)
    at_least("the number of samples", min(n, m), 2)
    within = jnp.sum(_distances(x, x)) / (n * (n - 1)) + jnp.sum(_distances(y, y)) / (m * (m - 1))
    return 2 * jnp.mean(_distances(x, y)) - within


def two_sample_test(
    key: Array, x: Float[Array, "n d"], y: Float[Array, "m d"], *, permutations: int = 199
) -> Float[Array, ""]:
    """The p-value of the hypothesis that two samples have one law: the energy distance's rank among permutations.

    It is exact: where the hypothesis holds, a value of at most `p` has a probability of at most `p`.
    """
    at_least("permutations", permutations, 1)
    n, m = len(x), len(y)
    at_least("the number of samples", min(n, m), 2)
    both = jnp.concatenate([x, y])
    D = _distances(both, both)
    total = jnp.sum(D)

    def statistic(first: Any) -> Array:
        toward = D @ first
        inside = first @ toward
        across = jnp.sum(toward) - inside
        outside = total - inside - 2 * across
        return 2 * across / (n * m) - inside / (n * (n - 1)) - outside / (m * (m - 1))

    labels = jnp.arange(n + m) < n
    own = statistic(labels.astype(D.dtype))
    keys = jax.random.split(key, permutations)
    others = jax.lax.map(lambda key: statistic(jax.random.permutation(key, labels).astype(D.dtype)), keys)
    return (1 + jnp.sum(others >= own)) / (1 + permutations)
