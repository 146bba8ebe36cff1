r"""Measure-valued derivatives: densities whose derivative is a weighted difference of two densities.

.. math:: \partial_\theta \, p_\theta(v) = c \, (p^+(v) - p^-(v)), \qquad
   \partial_\theta \, E[k(v)] = c \, (E[k(v^+)] - E[k(v^-)])

The draws of a pair are coupled, to have less variance. Where one of the two is the distribution itself, the choice's
own value serves. Of a choice with several elements each moves alone.

References
----------
Mohamed, Rosca, Figurnov, Mnih, "Monte Carlo Gradient Estimation in Machine Learning", JMLR 2020 (section 6).
Heidergott, Vazquez-Abad, Pflug, Farenhorst-Yuan, "Gradient estimation for discrete-event systems by measure-valued
differentiation", ACM TOMACS 2010.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Phantom(NamedTuple):
    """The derivative in one parameter, element by element of the value."""

    theta: Array
    """The parameter, of the value's shape."""
    weight: Array
    """The factor c."""
    plus: Array
    """Draws that count with a plus."""
    minus: Array | None
    """Draws that count with a minus; `None` is the choice's own value."""


def bernoulli(key: Array, value: Array, probs: Array) -> list[Phantom]:
    r""":math:`E[k] = p k(1) + (1 - p) k(0)` has the derivative :math:`k(1) - k(0)`: the other value is needed alone."""
    theta = jnp.broadcast_to(probs, value.shape)
    return [Phantom(theta, (1 - 2 * value).astype(theta.dtype), 1 - value, None)]


def poisson(key: Array, value: Array, rate: Array) -> list[Phantom]:
    r""":math:`\partial_\lambda p_\lambda(v) = p_\lambda(v - 1) - p_\lambda(v)`: one more, or not."""
    theta = jnp.broadcast_to(rate, value.shape)
    return [Phantom(theta, jnp.ones_like(theta), value + 1, None)]


def geometric(key: Array, value: Array, probs: Array) -> list[Phantom]:
    r""":math:`\partial_p \, p (1-p)^v = (p(v) - p^-(v)) / p`, where :math:`v^- - 1` is the sum of two such choices."""
    theta = jnp.broadcast_to(probs, value.shape)
    another = jax.random.geometric(key, theta).astype(value.dtype) - 1
    return [Phantom(theta, -1 / theta, value + another + 1, None)]


def exponential(key: Array, value: Array, rate: Array) -> list[Phantom]:
    r""":math:`\partial_\lambda \, \lambda e^{-\lambda x} = (p(x) - p^-(x)) / \lambda`, the second of the sum of two."""
    theta = jnp.broadcast_to(rate, value.shape)
    return [Phantom(theta, -1 / theta, value + jax.random.exponential(key, value.shape, value.dtype) / theta, None)]


def normal(key: Array, value: Array, loc: Array, scale: Array) -> list[Phantom]:
    r"""The location by :math:`\mu \pm \sigma W`, the scale by :math:`\mu + \sigma M` and :math:`\mu + \sigma M U`.

    :math:`W` is Rayleigh's, :math:`c = 1 / (\sigma \sqrt{2 \pi})`; :math:`M` is Maxwell's with a random sign and
    :math:`U` uniform, so that :math:`M U` is normal, :math:`c = 1 / \sigma`.
    """
    mu, sigma = jnp.broadcast_to(loc, value.shape), jnp.broadcast_to(scale, value.shape)
    first, second, third, fourth = jax.random.split(key, 4)
    shape, kind = value.shape, value.dtype
    w = jnp.sqrt(2 * jax.random.exponential(first, shape, kind))
    norm = jnp.sqrt(jnp.sum(jax.random.normal(second, (3, *shape), kind) ** 2, axis=0))
    m = norm * jax.random.rademacher(third, shape, kind)
    u = jax.random.uniform(fourth, shape, kind)
    return [
        Phantom(mu, 1 / (sigma * np.sqrt(2 * np.pi)), mu + sigma * w, mu - sigma * w),
        Phantom(sigma, 1 / sigma, mu + sigma * m, mu + sigma * m * u),
    ]
