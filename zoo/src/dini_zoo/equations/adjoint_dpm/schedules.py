r"""Two more processes that preserve the variance, the clock of the reparametrized flow, and grids of times.

The clock is :math:`\rho_t = \sigma_t / \alpha_t`, in which the probability flow of any linear process is
:math:`dy / d\rho = \varepsilon_\theta` with :math:`y = x / \alpha`.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.diffusion.processes import Process
from dini_zoo.kit.checking import at_least, holds, one_of, positive

type Spacing = Literal["logsnr", "time", "quadratic"]


class _Preserving(Process):
    r"""What follows from :math:`\log \alpha_t` where :math:`\alpha^2 + \sigma^2 = 1`."""

    def log_alpha(self, t: Any) -> Array:
        r""":math:`\log \alpha_t`."""
        raise NotImplementedError

    def alpha(self, t: Any) -> Array:
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Any) -> Array:
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))

    def diffusion(self, t: Any) -> Array:
        r""":math:`\sqrt{-2 f}`."""
        return jnp.sqrt(-2 * self.rate(t))

    @property
    def prior_std(self) -> Array:
        """1."""
        return jnp.asarray(1.0)


class CosineVP(_Preserving):
    r""":math:`\alpha_t = \cos \theta_t / \cos \theta_0` with :math:`\theta_t = \frac{\pi}{2} \frac{t + s}{1 + s}`.

    Its times end before 1, where nothing is left of the data: take 0.9946 at most. Raises `ValueError` unless `shift`,
    :math:`s`, is positive.

    References
    ----------
    Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021 (arXiv 2102.09672).

    Examples
    --------
    >>> process = CosineVP()
    >>> print(f"{process.alpha(0.5):.4f} {process.time_of(process.log_snr(0.5)):.4f}")
    0.7027 0.5000
    """

    shift: Any = 0.008

    def __check_init__(self) -> None:
        positive("shift", self.shift)

    def _angle(self, t: Any) -> Array:
        return 0.5 * jnp.pi * (jnp.asarray(t) + self.shift) / (1 + self.shift)

    def log_alpha(self, t: Any) -> Array:
        return jnp.log(jnp.cos(self._angle(t))) - jnp.log(jnp.cos(self._angle(0.0)))

    def sigma(self, t: Any) -> Array:
        # σ² = sin(θ - θ₀) sin(θ + θ₀) / cos² θ₀, which does not cancel near the data
        angle, first = self._angle(t), self._angle(0.0)
        away = 0.5 * jnp.pi * jnp.asarray(t) / (1 + self.shift)
        return jnp.sqrt(jnp.sin(away) * jnp.sin(angle + first)) / jnp.cos(first)

    def rate(self, t: Any) -> Array:
        return -jnp.tan(self._angle(t)) * 0.5 * jnp.pi / (1 + self.shift)

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`\tan^2 \theta = (\sin^2 \theta_0 + \rho^2) / \cos^2 \theta_0`."""
        first = self._angle(0.0)
        ratio = jnp.exp(-jnp.asarray(log_snr))
        angle = jnp.arctan2(jnp.sqrt(jnp.sin(first) ** 2 + ratio**2), jnp.cos(first))
        return (1 + self.shift) * angle / (0.5 * jnp.pi) - self.shift


class DiscreteVP(_Preserving):
    r"""A chain of `N` variances as a process in time: :math:`\log \alpha` is linear between its levels.

    Level `n`, from 0, is at the time :math:`(n + 1) / N`, and time 0 is that of the data. Of a network that was trained
    with levels take :meth:`level` as its time, a real number: rounded to a level, the network would jump in time.

    Raises `ValueError` unless the variances are a vector of numbers between 0 and 1.

    Examples
    --------
    >>> process = DiscreteVP(jnp.linspace(1e-4, 0.02, 1000))
    >>> print(f"{process.alpha(1.0):.5f} {process.level(0.5):.1f}")
    0.00635 499.0
    """

    knots: Float[Array, " N1"] = eqx.field(converter=jnp.asarray)
    r""":math:`\log \alpha` at time 0 and at each level."""

    def __init__(self, betas: Float[Array, " N"]):
        said = lambda: f"betas must be a vector of numbers between 0 and 1, one or more: given {betas}."
        if np.ndim(betas) != 1 or not np.size(betas):
            raise ValueError(said())
        holds(betas, lambda betas: (betas > 0) & (betas < 1), said)
        betas = jnp.asarray(betas)
        self.knots = jnp.append(jnp.zeros(1, betas.dtype), 0.5 * jnp.cumsum(jnp.log1p(-betas)))

    @property
    def times(self) -> Float[np.ndarray, " N1"]:
        """Of the knots."""
        return np.linspace(0.0, 1.0, len(self.knots))

    def log_alpha(self, t: Any) -> Array:
        return jnp.interp(jnp.asarray(t, self.knots.dtype), jnp.asarray(self.times, self.knots.dtype), self.knots)

    def rate(self, t: Any) -> Array:
        count = len(self.knots) - 1
        i = jnp.clip(jnp.floor(jnp.asarray(t) * count).astype(int), 0, count - 1)
        return jnp.diff(self.knots)[i] * count

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`-2 \log \alpha = \log(1 + \rho^2)`."""
        fall = 0.5 * jax.nn.softplus(-2 * jnp.asarray(log_snr, self.knots.dtype))
        return jnp.interp(fall, -self.knots, jnp.asarray(self.times, self.knots.dtype))

    def level(self, t: Any) -> Array:
        """The level of a time, a real number from 0 to `N - 1` (-1 of the data)."""
        return jnp.asarray(t) * (len(self.knots) - 1) - 1


def noise_ratio(process: Process, t: Any) -> Array:
    r""":math:`\rho_t = \sigma_t / \alpha_t`."""
    return process.sigma(t) / process.alpha(t)


def time_of_ratio(process: Process, ratio: Any) -> Array:
    r"""The time at which :math:`\sigma_t / \alpha_t` is `ratio`."""
    return process.time_of(-jnp.log(ratio))


def time_grid(
    process: Process, steps: int, *, first: float = 1e-3, last: float = 1.0, kind: Spacing = "logsnr"
) -> Float[Array, " N1"]:
    r"""Times from `last`, the noise, down to `first`, near the data, for so many steps.

    Parameters
    ----------
    kind
        What is spaced evenly: `"logsnr"`, the logarithm of :math:`\alpha / \sigma`; `"time"`; or `"quadratic"`, the
        root of the time. Even steps of :math:`\rho` itself are of no use: it goes over four orders of magnitude.

    Raises
    ------
    ValueError
        Without a step, for another `kind`, and unless `0 < first < last`.

    Examples
    --------
    >>> from dini_zoo.diffusion.processes import VPSDE
    >>> print(time_grid(VPSDE(), 4, kind="time"))
    [1.      0.75025 0.5005  0.25075 0.001  ]
    """
    at_least("steps", steps, 1)
    one_of("kind", kind, ("logsnr", "time", "quadratic"))
    positive("first", first)
    positive("last - first", last - first)
    if kind == "time":
        return jnp.linspace(last, first, steps + 1)
    if kind == "quadratic":
        inner = jnp.linspace(last**0.5, first**0.5, steps + 1)[1:-1] ** 2
    else:
        inner = process.time_of(jnp.linspace(process.log_snr(last), process.log_snr(first), steps + 1)[1:-1])
    # the ends are those that were asked for, to the last bit
    return jnp.concatenate([jnp.asarray([last], inner.dtype), inner, jnp.asarray([first], inner.dtype)])
