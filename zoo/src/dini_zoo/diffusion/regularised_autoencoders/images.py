"""Digits in sixteen principal components: a denoising reconstruction, and chains by its score."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from sklearn import datasets
from sklearn.decomposition import PCA

from .losses import jacobian_asymmetry, score_from_reconstruction
from .networks import Residual
from .sampling import metropolis_hastings, path_log_ratio, random_walk

COMPONENTS = 16


def whitened() -> tuple[np.ndarray, np.ndarray, PCA]:
    """All images in principal components of variance one, what they show, and the map."""
    pixels, labels = datasets.load_digits(return_X_y=True)
    components = PCA(COMPONENTS, whiten=True, random_state=0)
    return components.fit_transform(pixels / 16).astype(np.float32), labels, components


@dataclass(frozen=True)
class Digits:
    """Where the chains end, beside the noisy data."""

    chains: int
    acceptance: float
    covariance: float
    """The relative error of the covariance."""
    floor: float
    """That of so many independent samples, about."""
    trace: float
    """The ratio of the traces."""
    mean: float
    """The error of the mean, over the root of the number of dimensions."""
    furthest: float
    invalid: int
    classes: list[float]
    """Shares of the classes of the nearest images."""
    asymmetry: float
    """The median of the Jacobian's, at data."""
    shown: np.ndarray
    """A few chains' ends as images, and below these what was made of them by the reconstruction."""


def walk(model: Residual, s: float, key: Array, *, chains: int, steps: int, size: float, x: np.ndarray) -> Digits:
    """Chains from normal points."""
    _, labels, components = whitened()
    for_start, for_chains = jax.random.split(key)

    @jax.jit
    def go(key: Array) -> tuple[Array, Array, Array, Array]:
        score = score_from_reconstruction(model, s)
        x0 = jax.random.normal(for_start, (chains, COMPONENTS))
        return metropolis_hastings(key, x0, lambda x, y: path_log_ratio(score, x, y), random_walk(size), steps=steps)

    found = go(for_chains)
    ends = np.asarray(found[0], float)
    target = np.cov(x.T) + s**2 * np.eye(COMPONENTS)
    ours = np.cov(ends.T)
    nearest = np.argmin(((ends[:, None] - x[None, :]) ** 2).sum(axis=2), axis=1)
    asymmetry = jax.jit(lambda x: jnp.median(jacobian_asymmetry(model, x)))(jnp.asarray(x[:200]))
    drawn = np.asarray(found[0][:10])
    both = np.concatenate([drawn, np.asarray(model(jnp.asarray(drawn)))])
    return Digits(
        chains,
        float(found[1]),
        float(np.linalg.norm(ours - target) / np.linalg.norm(target)),
        float(np.sqrt((COMPONENTS + 1) / chains)),
        float(np.trace(ours) / np.trace(target)),
        float(np.linalg.norm(ends.mean(axis=0) - x.mean(axis=0)) / np.sqrt(COMPONENTS)),
        float(found[3]),
        int(found[2]),
        [float(share) for share in np.bincount(labels[nearest], minlength=10) / chains],
        float(asymmetry),
        components.inverse_transform(both).reshape(-1, 8, 8),
    )
