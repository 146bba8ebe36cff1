r"""Processes that revert to a mean that is given with each point: a degraded image, a coarse field.

.. math:: dx = \theta(t) (\mu - x)\, dt + s_\infty \sqrt{2 \theta(t)}\, dw, \qquad
          x_t = \alpha_t x_0 + (1 - \alpha_t) \mu + \sigma_t \varepsilon,

with :math:`A(t) = \int_0^t \theta`, :math:`\alpha_t = e^{-A(t)}` and :math:`\sigma_t = s_\infty \sqrt{1 - \alpha_t^2}`.
What is left, :math:`y = x - \mu`, is a linear diffusion, so the samplers of this field work on it.

References
----------
Luo, Gustafsson, Zhao, Sjölund and Schön, "Image restoration with mean-reverting stochastic differential equations",
ICML 2023 (arXiv 2301.11699).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, known, one_of, positive, same_shape

from .processes import Field, Process

type Curve = Callable[[Any], Any]


class MeanRevertingSDE(Process):
    r"""The process of :math:`y = x - \mu`, and with `..._around` that of :math:`x`.

    Parameters
    ----------
    theta_integral
        :math:`A`, rising from :math:`A(0) \ge 0`.
    theta
        Its derivative :math:`\theta`, positive.
    s_inf
        :math:`s_\infty`, the standard deviation that the process ends with; the noise follows from it and
        :math:`\theta`.
    horizon
        The last time.
    inverse
        The time of a value of :math:`A`; if it is not given, dini finds it as a root within the horizon.

    Raises
    ------
    ValueError
        For :math:`s_\infty` or a horizon that is not positive, and an :math:`A` that does not rise.

    Examples
    --------
    >>> process = constant(s_inf=0.5, end=0.01)
    >>> mean, std = process.marginal_around(jnp.ones((1, 2)), jnp.zeros((1, 2)), 1.0)
    >>> print(f"{mean[0, 0]:.2f} {std:.2f}")
    0.01 0.50
    """

    theta_integral: Curve
    theta: Curve
    s_inf: Any
    horizon: float = eqx.field(static=True, default=1.0)
    inverse: Curve | None = None

    def __check_init__(self) -> None:
        positive("s_inf", self.s_inf)
        positive("horizon", self.horizon)
        with jax.ensure_compile_time_eval():
            first, last = self.theta_integral(0.0), self.theta_integral(self.horizon)
        if known(first) and known(last) and not 0 <= float(first) < float(last):
            raise ValueError(
                f"theta_integral must rise from zero or more: given {first} at time 0 and {last} at {self.horizon:g}."
            )

    def alpha(self, t: Any) -> Array:
        r""":math:`e^{-A}`."""
        return jnp.exp(-self.theta_integral(jnp.asarray(t)))

    def sigma(self, t: Any) -> Array:
        r""":math:`s_\infty \sqrt{1 - e^{-2A}}`."""
        return self.s_inf * jnp.sqrt(-jnp.expm1(-2 * self.theta_integral(jnp.asarray(t))))

    def rate(self, t: Any) -> Array:
        r""":math:`-\theta`."""
        return -self.theta(jnp.asarray(t))

    def diffusion(self, t: Any) -> Array:
        r""":math:`s_\infty \sqrt{2 \theta}`."""
        return self.s_inf * jnp.sqrt(2 * self.theta(jnp.asarray(t)))

    @property
    def prior_std(self) -> Array:
        r""":math:`s_\infty`."""
        return jnp.asarray(self.s_inf, jnp.result_type(float))

    def time_of(self, log_snr: Any) -> Array:
        r"""From :math:`A = \tfrac12 \log(1 + e^{-2 \lambda} / s_\infty^2)`."""
        integral = 0.5 * jax.nn.softplus(-2 * (jnp.asarray(log_snr) + jnp.log(self.s_inf)))
        if self.inverse is not None:
            return self.inverse(integral)
        gap = lambda t, integral: self.theta_integral(t) - integral
        # a little wider than the horizon: rounding may put a root just outside of it
        solver = dini.Chandrupatla(-1e-5 * self.horizon, (1 + 1e-5) * self.horizon)
        return dini.root(gap, jnp.full_like(integral, 0.5 * self.horizon), integral, solver=solver).x

    def marginal_around(self, x0: Float[Array, "n ..."], mu: Float[Array, "n ..."], t: Any) -> tuple[Array, Array]:
        """Mean and standard deviation of :math:`x_t` given :math:`x_0`."""
        same_shape("mu", mu, "x0", jnp.shape(x0))
        mean, std = self.marginal(x0 - mu, t)
        return mu + mean, std

    def sample_around(self, key: Array, x0: Array, mu: Array, t: Any) -> tuple[Array, Array]:
        """A draw of :math:`x_t`, and the noise in it."""
        same_shape("mu", mu, "x0", jnp.shape(x0))
        y, noise = self.sample(key, x0 - mu, t)
        return mu + y, noise

    def prior_around(self, key: Array, mu: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        r"""Where restoration begins: :math:`\mu` with noise of deviation :math:`s_\infty`."""
        return mu + self.s_inf * jax.random.normal(key, mu.shape, mu.dtype)

    def reverse_around(self, score: Field, mu: Float[Array, "n ..."], *, ode: bool = False) -> Field:
        r"""The drift of :math:`x` in reverse, from the score of its own law; see :meth:`Process.reverse`."""
        y_drift = self.reverse(lambda y, t: score(y + mu, t), ode=ode)
        return lambda x, t: y_drift(x - mu, t)


def _scaled(shape: Curve, integral: Curve, s_inf: Any, end: float, horizon: float, inverse: Any) -> MeanRevertingSDE:
    """A schedule of a given shape with :math:`\\alpha` of `end` at the horizon."""
    positive("1 - end", 1 - end)
    positive("end", end)
    whole = float(-np.log(end) / integral(1.0))
    return MeanRevertingSDE(
        lambda t: whole * integral(t / horizon),
        lambda t: whole / horizon * shape(t / horizon),
        s_inf,
        horizon,
        None if inverse is None else (lambda A: horizon * inverse(A / whole)),
    )


def constant(s_inf: Any, end: float = 0.005, horizon: float = 1.0) -> MeanRevertingSDE:
    r"""Constant :math:`\theta`, with :math:`\alpha` of `end` at the horizon."""
    return _scaled(lambda u: 1.0 + 0.0 * u, lambda u: 1.0 * u, s_inf, end, horizon, lambda A: A)


def linear(s_inf: Any, end: float = 0.005, horizon: float = 1.0, ratio: float = 200.0) -> MeanRevertingSDE:
    r""":math:`\theta` that rises on a line, to `ratio` times its first value."""
    positive("ratio - 1", ratio - 1)
    rise = 0.5 * (ratio - 1)
    # the root of a quadratic in the form that does not cancel
    inverse = lambda A: 2 * A / (1 + jnp.sqrt(1 + 4 * rise * A))
    return _scaled(lambda u: 1 + 2 * rise * u, lambda u: u + rise * u**2, s_inf, end, horizon, inverse)


def cosine(s_inf: Any, end: float = 0.005, horizon: float = 1.0) -> MeanRevertingSDE:
    r""":math:`\theta \propto \sin^2(\tfrac\pi2 (u + 0.008) / 1.008)` with :math:`u` the share of the horizon."""
    angle = lambda u: jnp.pi * (u + 0.008) / 1.008
    integral = lambda u: 0.5 * u - 1.008 / (2 * jnp.pi) * (jnp.sin(angle(u)) - jnp.sin(angle(0.0)))
    return _scaled(lambda u: jnp.sin(0.5 * angle(u)) ** 2, integral, s_inf, end, horizon, None)


def table(
    s_inf: Any, steps: int = 100, end: float = 0.005, shape: Literal["constant", "linear", "cosine"] = "cosine"
) -> MeanRevertingSDE:
    r"""A schedule of whole steps 0 to `steps`, between which :math:`A` is a line.

    :math:`A_i = -\log(end) \sum_{j \le i} \theta_j / \sum_j \theta_j`, so there is noise at time 0 already: a small
    one, which is where restoration ends. The shapes are those of the published code.
    """
    at_least("steps", steps, 1)
    one_of("shape", shape, ("constant", "linear", "cosine"))
    i = np.arange(steps + 1)
    if shape == "constant":
        theta = np.ones(steps + 1)
    elif shape == "linear":
        theta = np.linspace(1e-4, 0.02, steps + 1)
    else:
        c = np.cos(((np.arange(steps + 3) / (steps + 2)) + 0.008) / 1.008 * np.pi / 2) ** 2
        theta = 1 - c[1 : steps + 2] / c[0]
    A = -np.log(end) * np.cumsum(theta) / theta.sum()
    slopes = np.diff(A)

    def rate(t: Any) -> Array:
        return jnp.asarray(slopes)[jnp.clip(jnp.floor(jnp.asarray(t)).astype(int), 0, steps - 1)]

    return MeanRevertingSDE(
        lambda t: jnp.interp(jnp.asarray(t, jnp.result_type(float)), i, A),
        rate,
        s_inf,
        float(steps),
        lambda value: jnp.interp(value, A, i),
    )
