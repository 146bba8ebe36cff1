r"""Linear diffusion processes with known laws: variance preserving, sub-variance preserving, variance exploding.

.. math:: dx = f(t)\, x\, dt + g(t)\, dw, \qquad x_t \mid x_0 \sim N(\alpha_t x_0, \sigma_t^2 I), \qquad 0 \le t \le 1.

References
----------
Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, "Score-based generative modeling through stochastic differential
equations", ICLR 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import positive

#: What can be sampled: a function of a batch of points `(n, ...)` and of a time, a number or one for each point. Losses
#: call it with times `(n,)`, samplers with a number; `networks.Timed` makes what takes one of the two take both.
type Field = Callable[[Any, Any], Any]
#: One for a batch, or one for each point of it.
type Time = Float[Array, " n"] | Float[Array, ""] | float


def beside(value: Any, x: Array) -> Array:
    """A number, or one for each point of the batch `x`, with axes that broadcast against it."""
    value = jnp.asarray(value)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value


class Process(eqx.Module):
    r"""A process :math:`dx = f x\, dt + g\, dw` that is a pytree of its parameters.

    What differs is `alpha`, `sigma`, `rate`, `diffusion` and `time_of`; laws, samples and the reverse follow from them.
    Times are numbers, or arrays with one for each point of a batch.
    """

    @abstractmethod
    def alpha(self, t: Any) -> Array:
        r""":math:`\alpha_t`, what is left of the data."""

    @abstractmethod
    def sigma(self, t: Any) -> Array:
        r""":math:`\sigma_t`, the noise's standard deviation."""

    @abstractmethod
    def rate(self, t: Any) -> Array:
        """:math:`f(t)`."""

    @abstractmethod
    def diffusion(self, t: Any) -> Array:
        """:math:`g(t)`."""

    @abstractmethod
    def time_of(self, log_snr: Any) -> Array:
        r"""The time at which :math:`\lambda_t = \log(\alpha_t / \sigma_t)` is `log_snr`."""

    @property
    @abstractmethod
    def prior_std(self) -> Array:
        """The standard deviation of where the reverse process begins."""

    def log_snr(self, t: Any) -> Array:
        r""":math:`\lambda_t = \log(\alpha_t / \sigma_t)`, half the logarithm of the ratio of signal to noise."""
        return jnp.log(self.alpha(t)) - jnp.log(self.sigma(t))

    def marginal(self, x0: Float[Array, "n ..."], t: Time) -> tuple[Array, Array]:
        """Mean and standard deviation of :math:`x_t` given :math:`x_0`."""
        return beside(self.alpha(t), x0) * x0, beside(self.sigma(t), x0)

    def sample(self, key: Array, x0: Float[Array, "n ..."], t: Time) -> tuple[Array, Array]:
        """A draw of :math:`x_t` given :math:`x_0`, and the standard normal noise in it."""
        noise = jax.random.normal(key, x0.shape, x0.dtype)
        mean, std = self.marginal(x0, t)
        return mean + std * noise, noise

    def transition(self, x: Float[Array, "n ..."], s: Any, t: Any) -> tuple[Array, Array]:
        r"""Mean and standard deviation of :math:`x_t` given :math:`x_s`, for :math:`s \le t`.

        .. math:: x_t \mid x_s \sim N\big(r x_s, (\sigma_t^2 - r^2 \sigma_s^2) I\big), \qquad r = \alpha_t / \alpha_s.
        """
        ratio = self.alpha(t) / self.alpha(s)
        variance = jnp.maximum(self.sigma(t) ** 2 - (ratio * self.sigma(s)) ** 2, 0.0)
        return beside(ratio, x) * x, beside(jnp.sqrt(variance), x)

    def drift(self, x: Float[Array, "n ..."], t: Any) -> Array:
        """:math:`f(t) x`."""
        return beside(self.rate(t), x) * x

    def reverse(self, score: Field, *, ode: bool = False) -> Field:
        r"""The drift of the process in reverse, to be integrated from time 1 down.

        .. math:: f x - g^2 \nabla \log p_t(x)

        goes with noise :math:`g\, d\bar w`; with `ode`, half of the second term goes with none: the probability flow.
        """
        share = 0.5 if ode else 1.0

        def drift(x: Array, t: Any) -> Array:
            return self.drift(x, t) - share * beside(self.diffusion(t) ** 2, x) * score(x, t)

        return drift

    def prior_sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Where the reverse process begins: normal with standard deviation `prior_std`."""
        return self.prior_std * jax.random.normal(key, shape)

    def prior_logp(self, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        """The logarithm of that density, for each point."""
        z = x.reshape(len(x), -1) / self.prior_std
        return jnp.sum(-0.5 * z**2 - jnp.log(self.prior_std) - 0.5 * jnp.log(2 * jnp.pi), axis=1)


class _Preserving(Process):
    r"""What VP and sub-VP share: :math:`\beta(t) = b_0 + (b_1 - b_0) t` and its integral :math:`B`."""

    beta_min: Any = 0.1
    beta_max: Any = 20.0

    def __check_init__(self) -> None:
        positive("beta_min", self.beta_min)
        positive("beta_max - beta_min", self.beta_max - self.beta_min)

    def beta(self, t: Any) -> Array:
        r""":math:`\beta(t)`."""
        return self.beta_min + jnp.asarray(t) * (self.beta_max - self.beta_min)

    def beta_integral(self, t: Any) -> Array:
        r""":math:`B(t) = \int_0^t \beta`."""
        t = jnp.asarray(t)
        return self.beta_min * t + 0.5 * t**2 * (self.beta_max - self.beta_min)

    def _time(self, integral: Array) -> Array:
        """The time of a value of :math:`B`, in the form of the root of a quadratic that does not cancel."""
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * integral))

    def alpha(self, t: Any) -> Array:
        r""":math:`e^{-B/2}`."""
        return jnp.exp(-0.5 * self.beta_integral(t))

    def rate(self, t: Any) -> Array:
        r""":math:`-\beta / 2`."""
        return -0.5 * self.beta(t)

    @property
    def prior_std(self) -> Array:
        """1."""
        return jnp.asarray(1.0)


class VPSDE(_Preserving):
    r"""Variance preserving: :math:`f = -\beta/2`, :math:`g^2 = \beta`, :math:`\sigma^2 = 1 - e^{-B}`.

    :math:`\beta(t) = b_0 + (b_1 - b_0) t` with `beta_min` and `beta_max`, and :math:`B` is its integral. Raises
    `ValueError` unless :math:`0 < b_0 < b_1`.

    Examples
    --------
    >>> process = VPSDE()
    >>> print(f"{process.alpha(0.5):.4f} {process.alpha(0.5)**2 + process.sigma(0.5)**2:.4f}")
    0.2812 1.0000
    """

    def sigma(self, t: Any) -> Array:
        r""":math:`\sqrt{1 - e^{-B}}`."""
        return jnp.sqrt(-jnp.expm1(-self.beta_integral(t)))

    def diffusion(self, t: Any) -> Array:
        r""":math:`\sqrt\beta`."""
        return jnp.sqrt(self.beta(t))

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`B = \log(1 + e^{-2\lambda})`."""
        return self._time(jax.nn.softplus(-2 * jnp.asarray(log_snr)))


class SubVPSDE(_Preserving):
    r"""Sub-variance preserving: :math:`f = -\beta/2`, :math:`g^2 = \beta (1 - e^{-2B})`, :math:`\sigma = 1 - e^{-B}`.

    Parameters and errors are those of :class:`VPSDE`, whose variance it nowhere exceeds.
    """

    def sigma(self, t: Any) -> Array:
        r""":math:`1 - e^{-B}`."""
        return -jnp.expm1(-self.beta_integral(t))

    def diffusion(self, t: Any) -> Array:
        r""":math:`\sqrt{\beta (1 - e^{-2B})}`."""
        return jnp.sqrt(-self.beta(t) * jnp.expm1(-2 * self.beta_integral(t)))

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`u / (1 - u^2) = e^\lambda` with :math:`u = e^{-B/2}`."""
        inverse = jnp.exp(-jnp.asarray(log_snr))
        # u = 2 / (v + √(v² + 4)) with v = e^{-λ}, so that B = 2 asinh(v / 2)
        return self._time(2 * jnp.arcsinh(0.5 * inverse))


class VESDE(Process):
    r"""Variance exploding: :math:`f = 0`, :math:`\sigma_t = \sigma_{min} (\sigma_{max} / \sigma_{min})^t`.

    :math:`g^2 = d\sigma^2 / dt`. At time 0 the data have noise :math:`\sigma_{min}` already, so the law at `t` has the
    whole :math:`\sigma_t`. Raises `ValueError` unless :math:`0 < \sigma_{min} < \sigma_{max}`.
    """

    sigma_min: Any = 0.01
    sigma_max: Any = 50.0

    def __check_init__(self) -> None:
        positive("sigma_min", self.sigma_min)
        positive("sigma_max - sigma_min", self.sigma_max - self.sigma_min)

    @property
    def _growth(self) -> Array:
        return jnp.log(self.sigma_max) - jnp.log(self.sigma_min)

    def alpha(self, t: Any) -> Array:
        """1."""
        return jnp.ones_like(jnp.asarray(t, jnp.result_type(float)))

    def sigma(self, t: Any) -> Array:
        r""":math:`\sigma_{min} (\sigma_{max} / \sigma_{min})^t`."""
        return self.sigma_min * jnp.exp(self._growth * jnp.asarray(t))

    def rate(self, t: Any) -> Array:
        """0."""
        return jnp.zeros_like(jnp.asarray(t, jnp.result_type(float)))

    def diffusion(self, t: Any) -> Array:
        r""":math:`\sigma_t \sqrt{2 \log(\sigma_{max} / \sigma_{min})}`."""
        return self.sigma(t) * jnp.sqrt(2 * self._growth)

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`\sigma_t = e^{-\lambda}`."""
        return (-jnp.asarray(log_snr) - jnp.log(self.sigma_min)) / self._growth

    @property
    def prior_std(self) -> Array:
        r""":math:`\sigma_{max}`."""
        return jnp.asarray(self.sigma_max, jnp.result_type(float))
