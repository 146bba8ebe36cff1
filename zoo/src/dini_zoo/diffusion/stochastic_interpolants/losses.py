r"""Least-squares losses whose unique minimizers are the fields of an interpolant.

With :math:`x_t = I(t, x_0, x_1) + \gamma(t) z` and :math:`t` uniform in [0, 1],

.. math::
    L_b &= E\big[\tfrac12 |\hat b|^2 - (\dot I + \dot\gamma z) \cdot \hat b\big], &
    L_v &= E\big[\tfrac12 |\hat v|^2 - \dot I \cdot \hat v\big], \\
    L_s &= E\big[\tfrac12 |\hat s|^2 + \gamma^{-1} z \cdot \hat s\big], &
    L_\eta &= E\big[\tfrac12 |\hat\eta|^2 - z \cdot \hat\eta\big].

Antithetic: each is averaged over :math:`z` and :math:`-z` with the same ends and time. Near the ends
:math:`\dot\gamma` and :math:`1 / \gamma` may be infinite; the two points are then so near that what is multiplied by
them cancels.

References
----------
Albergo, Boffi and Vanden-Eijnden, "Stochastic interpolants: a unifying framework for flows and diffusions", 2023 (arXiv
2303.08797).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import same_shape

from ..interpolants import Interpolant
from ..processes import Field, beside

#: Times are drawn within this distance of the ends.
MARGIN = 1e-4


def _loss(
    model: Field,
    interpolant: Interpolant,
    x0: Array,
    x1: Array,
    key: Array,
    antithetic: bool,
    target: Callable[[Array, Array, Array, Array], Array],
) -> Float[Array, ""]:
    """The mean over a batch of :math:`|m|^2 / 2 - y \\cdot m`, with the target `y(t, x0, x1, z)`."""
    same_shape("x1", x1, "x0", jnp.shape(x0))
    for_times, for_noise = jax.random.split(key)
    n = len(x0)
    t = MARGIN + (1 - 2 * MARGIN) * (jnp.arange(n) + jax.random.uniform(for_times, (n,), x0.dtype)) / n
    z = jax.random.normal(for_noise, x0.shape, x0.dtype)

    def half(z: Array) -> Array:
        said = model(interpolant.sample(t, x0, x1, z), t)
        return jnp.sum((0.5 * said**2 - target(t, x0, x1, z) * said).reshape(n, -1), axis=1)

    return jnp.mean(0.5 * (half(z) + half(-z)) if antithetic else half(z))


def _moved_noise(interpolant: Interpolant, t: Array, z: Array) -> Array:
    r""":math:`\dot\gamma z`, zero where there is no noise."""
    gamma, product = interpolant.gamma_at(t)
    safe = jnp.where(gamma > 0, gamma, 1.0)
    return beside(jnp.where(gamma > 0, product / safe, 0.0), z) * z


def velocity_loss(
    model: Field,
    interpolant: Interpolant,
    x0: Float[Array, "n ..."],
    x1: Float[Array, "n ..."],
    key: Array,
    *,
    antithetic: bool = True,
) -> Float[Array, ""]:
    r"""The loss of :math:`b = E[\dot I + \dot\gamma z \mid x_t]`, the velocity.

    Parameters
    ----------
    model
        `model(x, t)` of points `(n, ...)` and times `(n,)`.
    interpolant
        Linear or custom.
    x0, x1
        Pairs of ends. Their coupling is the user's: drawn with two keys they are independent.
    key
        Of the times, one in each of `n` equal parts of [0, 1], and the noise.
    antithetic
        Whether to average over the noise and its negative; needed where :math:`\dot\gamma` is infinite at the ends.

    Raises
    ------
    ValueError
        For ends of different shapes.
    """

    def target(t: Array, x0: Array, x1: Array, z: Array) -> Array:
        return interpolant.mean_dot(t, x0, x1) + _moved_noise(interpolant, t, z)

    return _loss(model, interpolant, x0, x1, key, antithetic, target)


def drift_loss(
    model: Field, interpolant: Interpolant, x0: Array, x1: Array, key: Array, *, antithetic: bool = True
) -> Float[Array, ""]:
    r"""The loss of :math:`v = E[\dot I \mid x_t]`, the part of the velocity without noise; see `velocity_loss`."""
    target = lambda t, x0, x1, z: interpolant.mean_dot(t, x0, x1)
    return _loss(model, interpolant, x0, x1, key, antithetic, target)


def score_loss(
    model: Field, interpolant: Interpolant, x0: Array, x1: Array, key: Array, *, antithetic: bool = True
) -> Float[Array, ""]:
    r"""The loss of :math:`s = -E[z \mid x_t] / \gamma`, the score; see `velocity_loss`.

    Raises `ValueError` for an interpolant without noise, which has no score.
    """
    _has_noise(interpolant, "score")
    target = lambda t, x0, x1, z: -z / beside(interpolant.gamma_at(t)[0], z)
    return _loss(model, interpolant, x0, x1, key, antithetic, target)


def denoiser_loss(
    model: Field, interpolant: Interpolant, x0: Array, x1: Array, key: Array, *, antithetic: bool = True
) -> Float[Array, ""]:
    r"""The loss of :math:`\eta = E[z \mid x_t]`, the noise; see `velocity_loss`.

    Of a one-sided interpolant the noise is :math:`x_0`, :math:`\eta = E[x_0 \mid x_t]`, which `Fields.of_noise` takes.
    Raises `ValueError` for an interpolant without noise.
    """
    _has_noise(interpolant, "denoiser")
    return _loss(model, interpolant, x0, x1, key, antithetic, lambda t, x0, x1, z: _noise(interpolant, x0, z))


def _noise(interpolant: Interpolant, x0: Array, z: Array) -> Array:
    """What a denoiser tells of."""
    return x0 if getattr(interpolant, "one_sided", False) else z


def _has_noise(interpolant: Interpolant, what: str) -> None:
    if what == "denoiser" and getattr(interpolant, "one_sided", False):
        return
    with jax.ensure_compile_time_eval():
        if not bool(interpolant.gamma_squared(jnp.asarray(0.4)) > 0):
            raise ValueError(
                f"An interpolant with gamma = 0 has no {what}: given one. Take a gamma, or the velocity alone; "
                "a one-sided one has a denoiser."
            )


def joint_loss(
    model: Callable[[Array, Array], tuple[Array, Array]],
    interpolant: Interpolant,
    x0: Array,
    x1: Array,
    key: Array,
) -> Float[Array, ""]:
    r""":math:`L_b + L_\eta`, antithetic, of one network that returns the velocity and the noise."""
    _has_noise(interpolant, "denoiser")

    def target(t: Array, x0: Array, x1: Array, z: Array) -> Array:
        velocity = interpolant.mean_dot(t, x0, x1) + _moved_noise(interpolant, t, z)
        return jnp.concatenate([velocity, _noise(interpolant, x0, z)], axis=-1)

    def both(x: Array, t: Any) -> Array:
        return jnp.concatenate(model(x, t), axis=-1)

    return _loss(both, interpolant, x0, x1, key, True, target)
