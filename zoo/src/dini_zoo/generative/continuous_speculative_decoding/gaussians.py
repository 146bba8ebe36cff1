r"""Two Gaussians with diagonal covariances: their ratio, their overlap, and the coupling that reflects.

With :math:`q = N(\mu_q, S_q^2)` and :math:`p = N(\mu_p, S_p^2)` the greatest probability with which draws of the two
can be equal is the overlap :math:`A = \int \min(q, p)`. For one covariance it is

.. math:: A = 2\, \Phi\big(-\tfrac12 |S^{-1} (\mu_q - \mu_p)|\big),

and a coupling that attains it keeps :math:`x \sim q` with probability :math:`\min(1, p(x) / q(x))`, and else reflects
it at the hyperplane halfway between the means.

References
----------
Bou-Rabee, Eberle and Zimmer, "Coupling and convergence for Hamiltonian Monte Carlo", Annals of Applied Probability 2020
(arXiv 1805.00452). Jacob, O'Leary and Atchadé, "Unbiased Markov chain Monte Carlo methods with couplings", JRSS B 2020.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from dini_zoo.kit.checking import floats, known, positive, same_shape


class Gaussian(eqx.Module):
    r""":math:`N(\mu, \mathrm{diag}(S^2))`, called with a point for the logarithm of its density.

    Raises `ValueError` unless mean and standard deviations are vectors of one length, and the latter positive.

    Examples
    --------
    >>> Gaussian(jnp.zeros(2), jnp.ones(2))(jnp.zeros(2)).round(3)
    Array(-1.838, dtype=float32)
    """

    mean: Float[Array, " d"]
    std: Float[Array, " d"]

    def __init__(self, mean: Any, std: Any):
        self.mean, self.std = floats(jnp.asarray(mean)), floats(jnp.asarray(std))
        if self.mean.ndim != 1:
            raise ValueError(
                f"mean must be a vector: given shape {self.mean.shape}; `jax.vmap` maps over more of them."
            )
        same_shape("std", self.std, "mean", self.mean.shape)
        positive("std", std)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The logarithm of the density."""
        return jnp.sum(-0.5 * ((x - self.mean) / self.std) ** 2 - jnp.log(self.std) - 0.5 * np.log(2 * np.pi))

    def sample(self, key: Array) -> Float[Array, " d"]:
        """One draw."""
        return self.mean + self.std * jax.random.normal(key, self.mean.shape, self.mean.dtype)


def log_ratio(q: Gaussian, p: Gaussian, x: Float[Array, " d"], relax: Any = 1.0) -> Float[Array, ""]:
    r""":math:`\log p(x) - \log q(x)`, the exponents divided by the square of `relax`.

    As a product of sum and difference: the squares themselves would cancel where the two are nearly equal.
    """
    z_q, z_p = (x - q.mean) / q.std, (x - p.mean) / p.std
    return jnp.sum(jnp.log(q.std / p.std) + 0.5 * (z_q - z_p) * (z_q + z_p) / relax**2)


def equal_scales(q: Gaussian, p: Gaussian) -> Array:
    """Whether the covariances are one, up to rounding."""
    tolerance = 8 * jnp.finfo(q.std.dtype).eps
    return jnp.all(jnp.abs(q.std - p.std) <= tolerance * jnp.maximum(q.std, p.std))


def reflected(q: Gaussian, p: Gaussian, x: Float[Array, " d"]) -> Float[Array, " d"]:
    r""":math:`\mu_p + S (I - 2 e e^\top) S^{-1} (x - \mu_q)` with the unit vector :math:`e` along
    :math:`S^{-1} (\mu_q - \mu_p)`.

    Of draws :math:`x \sim q` that were rejected it makes those of :math:`\max(0, p - q)`, if the covariances are one.

    Examples
    --------
    >>> law = lambda mean: Gaussian(jnp.array([mean, 0.0]), jnp.ones(2))
    >>> reflected(law(0.0), law(2.0), jnp.array([0.5, 0.3])).round(3).tolist()
    [1.5, 0.30000001192092896]
    """
    same_shape("the mean of p", p.mean, "that of q", q.mean.shape)
    away = (q.mean - p.mean) / q.std
    length = jnp.sum(away**2)
    z = (x - q.mean) / q.std
    # equal means reject nothing: what is returned does not count
    return p.mean + p.std * (z - 2 * away * jnp.sum(away * z) / jnp.where(length > 0, length, 1.0))


def overlap(q: Gaussian, p: Gaussian) -> Float[Array, ""]:
    r""":math:`\int \min(q, p)`: how often a draft of :math:`q` is accepted for :math:`p`.

    In closed form for one covariance in any dimension, and for any two Gaussians on a line.

    Raises
    ------
    ValueError
        For two covariances in more than one dimension, where no closed form is known; NaN where they are traced.

    Examples
    --------
    >>> line = lambda mean, std: Gaussian(jnp.array([mean]), jnp.array([std]))
    >>> overlap(line(0.0, 1.0), line(0.6, 0.8)).round(4)
    Array(0.7258, dtype=float32)
    """
    same_shape("the mean of p", p.mean, "that of q", q.mean.shape)
    if len(q.mean) == 1:
        return _overlap_on_a_line(q, p)
    equal = equal_scales(q, p)
    if known(equal) and not equal:
        raise ValueError(f"overlap needs equal standard deviations beyond one dimension: given {q.std} and {p.std}.")
    distance = jnp.linalg.norm((q.mean - p.mean) / q.std)
    return jnp.where(equal, 2 * norm.cdf(-0.5 * distance), jnp.nan)


def _overlap_on_a_line(q: Gaussian, p: Gaussian) -> Float[Array, ""]:
    r"""By the two points where the densities are equal.

    In units of the narrower one, the other is :math:`N(m, s^2)` with :math:`m \ge 0, s \ge 1`, and it is the smaller
    one between the roots of :math:`(s^2 - 1) y^2 + 2 m y - m^2 - 2 s^2 \log s`. The lower one goes to
    :math:`-\infty` as :math:`s \to 1`.
    """
    m, s = jnp.abs(p.mean - q.mean)[0] / q.std[0], p.std[0] / q.std[0]
    m, s = jnp.where(s < 1, m / s, m), jnp.where(s < 1, 1 / s, s)
    gap = (s - 1) * (s + 1)
    sum_ = m + s * jnp.sqrt(m**2 + 2 * gap * jnp.log(s))
    high = jnp.where(sum_ > 0, (m**2 + 2 * s**2 * jnp.log(s)) / jnp.where(sum_ > 0, sum_, 1.0), 0.0)
    low = jnp.where(gap > 0, -sum_ / jnp.where(gap > 0, gap, 1.0), -jnp.inf)
    inside = norm.cdf((high - m) / s) - norm.cdf((low - m) / s)
    return inside + norm.cdf(-high) + norm.cdf(low)
