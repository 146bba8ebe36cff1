r"""Mixtures of Gaussians: densities, scores, posterior means and samples in closed form, at every time of a process.

With data from :math:`\sum_k w_k N(m_k, C_k)` the law of :math:`\alpha x_0 + \sigma z` is the mixture of
:math:`N(\alpha m_k, \alpha^2 C_k + \sigma^2 I)`. So every sampler can be tested with no network.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, positive

from .processes import Field, Process


class GaussianMixture(eqx.Module):
    r"""A mixture :math:`\sum_k w_k N(m_k, V_k \mathrm{diag}(v_k) V_k^\top)`.

    Parameters
    ----------
    weights
        :math:`w`, positive, of sum one.
    means
        In rows.
    covariances
        A variance, or a vector of them, or a matrix, for each component: an array with 1, 2 or 3 axes.

    Raises
    ------
    ValueError
        For shapes that do not fit, weights that are not positive or do not sum to one, and covariances that are not
        positive definite.

    Examples
    --------
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> mixture.score(jnp.zeros((1, 1)))
    Array([[0.]], dtype=float32)
    """

    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    variances: Float[Array, "k d"]
    vectors: Float[Array, "k d d"] | None
    """The eigenvectors of each covariance, in columns; none where all covariances are diagonal."""

    def __init__(self, weights: Any, means: Any, covariances: Any):
        real = jnp.result_type(float)
        self.weights, self.means = jnp.asarray(weights, real), jnp.asarray(means, real)
        covariances = jnp.asarray(covariances, real)
        k, d = self.means.shape if self.means.ndim == 2 else (-1, -1)
        shapes = ((k,), (k, d), (k, d, d))
        if self.weights.shape != (k,) or covariances.shape not in shapes:
            raise ValueError(
                "A mixture needs weights (k,), means (k, d) and covariances (k,), (k, d) or (k, d, d): given shapes "
                f"{self.weights.shape}, {self.means.shape} and {covariances.shape}."
            )
        positive("weights", weights)
        if known(weights) and abs(float(np.sum(np.asarray(weights, float))) - 1) > 1e-5:
            raise ValueError(f"weights must sum to one: given {weights}.")
        if covariances.ndim < 3:
            positive("covariances", covariances)
            flat = covariances[:, None] if covariances.ndim == 1 else covariances
            self.variances, self.vectors = jnp.broadcast_to(flat, (k, d)), None
        else:
            self.variances, self.vectors = jnp.linalg.eigh(covariances)
            positive("covariances", self.variances)

    @property
    def covariances(self) -> Float[Array, "k d d"]:
        """As matrices."""
        vectors = self._vectors
        return (vectors * self.variances[:, None, :]) @ vectors.mT

    @property
    def _vectors(self) -> Float[Array, "k d d"]:
        k, d = self.means.shape
        return jnp.broadcast_to(jnp.eye(d), (k, d, d)) if self.vectors is None else self.vectors

    def _with(self, weights: Any, means: Any, variances: Any) -> GaussianMixture:
        return eqx.tree_at(lambda one: (one.weights, one.means, one.variances), self, (weights, means, variances))

    def diffused(self, alpha: Any, sigma: Any, shift: Any = 0.0) -> GaussianMixture:
        r"""The law of :math:`\alpha x_0 + \sigma z` plus a shift."""
        return self._with(self.weights, alpha * self.means + shift, alpha**2 * self.variances + sigma**2)

    def tilted(self, slope: Float[Array, " d"]) -> GaussianMixture:
        r"""The law whose density is proportional to :math:`p(x) e^{c^\top x}`.

        Its weights are :math:`w_k e^{c^\top m_k + c^\top C_k c / 2}`, its means :math:`m_k + C_k c`.
        """
        turned = jnp.einsum("kij,i->kj", self._vectors, slope)
        shift = jnp.einsum("kij,kj->ki", self._vectors, self.variances * turned)
        log_weights = jnp.log(self.weights) + self.means @ slope + 0.5 * jnp.sum(self.variances * turned**2, axis=1)
        return self._with(jax.nn.softmax(log_weights), self.means + shift, self.variances)

    def mean(self) -> Float[Array, " d"]:
        """Of the whole mixture."""
        return self.weights @ self.means

    def covariance(self) -> Float[Array, "d d"]:
        """Of the whole mixture."""
        away = self.means - self.mean()
        return jnp.einsum("k,kij->ij", self.weights, self.covariances + away[:, :, None] * away[:, None, :])

    def _components(self, x: Float[Array, "... d"]) -> tuple[Array, Array]:
        """Of each point: log weighted densities `(..., k)`, and offsets in the eigenvectors `(..., k, d)`."""
        away = x[..., None, :] - self.means
        if self.vectors is not None:
            away = jnp.einsum("...ki,kij->...kj", away, self.vectors)
        normal = -0.5 * away**2 / self.variances - 0.5 * jnp.log(2 * jnp.pi * self.variances)
        return jnp.log(self.weights) + jnp.sum(normal, axis=-1), away

    def log_prob(self, x: Float[Array, "... d"]) -> Float[Array, ...]:
        r""":math:`\log p(x)`."""
        return jax.nn.logsumexp(self._components(x)[0], axis=-1)

    def responsibilities(self, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
        """The probability that a point came from each component."""
        return jax.nn.softmax(self._components(x)[0], axis=-1)

    def score(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        r""":math:`\nabla \log p(x)`."""
        logs, away = self._components(x)
        pulls = -away / self.variances
        if self.vectors is not None:
            pulls = jnp.einsum("...kj,kij->...ki", pulls, self.vectors)
        return jnp.sum(jax.nn.softmax(logs, axis=-1)[..., None] * pulls, axis=-2)

    def sample(self, key: Array, n: int, *, stratified: bool = False) -> Float[Array, "n d"]:
        """So many draws: independent, or `stratified`, with as many of each component as its weight says."""
        which, normal = jax.random.split(key)
        if stratified:
            k = jnp.searchsorted(jnp.cumsum(self.weights), (jnp.arange(n) + 0.5) / n)
            k = jnp.minimum(k, len(self.weights) - 1)
        else:
            k = jax.random.categorical(which, jnp.log(self.weights), shape=(n,))
        z = jnp.sqrt(self.variances[k]) * jax.random.normal(normal, (n, self.means.shape[1]))
        return self.means[k] + (z if self.vectors is None else jnp.einsum("nj,nij->ni", z, self.vectors[k]))

    def nearest(self, x: Float[Array, "... d"]) -> Array:
        """The index of the component whose mean is nearest."""
        return jnp.argmin(jnp.sum((x[..., None, :] - self.means) ** 2, axis=-1), axis=-1)

    def posterior(self, x: Float[Array, "... d"], alpha: Any, sigma: Any) -> tuple[Array, Array, Array]:
        r"""The law of :math:`x_0` given :math:`\alpha x_0 + \sigma z = x`, of isotropic components alone.

        Returns weights `(..., k)`, means `(..., k, d)` and variances `(k, d)`.
        """
        if self.vectors is not None:
            raise ValueError("posterior needs components with diagonal covariances: these are full matrices.")
        whole = alpha**2 * self.variances + sigma**2
        away = x[..., None, :] - alpha * self.means
        weights = self.diffused(alpha, sigma).responsibilities(x)
        return weights, self.means + alpha * self.variances / whole * away, self.variances * sigma**2 / whole


def score_of(mixture: GaussianMixture, process: Process) -> Field:
    """The exact score of the process whose data are the mixture: a function of a batch and one time for all of it."""
    return lambda x, t: mixture.diffused(process.alpha(t), process.sigma(t)).score(x)
