"""JAXopt's perturbed optimizers, by :class:`dini.perturbed.Perturbed`, with JAXopt's noise: one key, one draw.

Values are JAXopt's to rounding. Derivatives are of every order, in the input and in ``sigma``, and have less variance:
the mean of the other samples is subtracted from each, whatever ``control_variate``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dini.perturbed import Perturbed

from ._known import shows

__all__ = ["Gumbel", "Normal", "make_perturbed_argmax", "make_perturbed_fun", "make_perturbed_max"]

_ARGMAX = "argmax = lambda x: jax.nn.one_hot(jnp.argmax(x), x.shape[0])"
_AT = "x, key = jnp.array([0.0, 1.0, -1.0]), jax.random.key(0)"


class Normal:
    """Standard normal noise."""

    def sample(self, seed: Any, sample_shape: tuple[int, ...]) -> jax.Array:
        """Return noise of a shape."""
        return jax.random.normal(seed, sample_shape)

    def log_prob(self, inputs: jax.Array) -> jax.Array:
        """Return the logarithm of the density, up to a constant."""
        return -0.5 * inputs**2


class Gumbel:
    r"""Standard Gumbel noise, whose mean is Euler's constant :math:`\gamma`."""

    def sample(self, seed: Any, sample_shape: tuple[int, ...]) -> jax.Array:
        """Return noise of a shape."""
        return jax.random.gumbel(seed, sample_shape)

    def log_prob(self, inputs: jax.Array) -> jax.Array:
        """Return the logarithm of the density."""
        return -inputs - jnp.exp(-inputs)


_GUMBEL = Gumbel()


@shows(
    "True",
    "step = lambda x: jnp.where(x > 0, 1.0, 0.0)",
    "smooth = perturbations.make_perturbed_fun(step, 10_000, 1.0, perturbations.Normal())",
    "abs(jax.grad(smooth)(0.0, jax.random.key(0)) - 0.3989) < 0.02",
)
def make_perturbed_fun(
    fun: Callable[..., Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    control_variate: bool = False,
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of ``fun`` at :math:`x + \sigma Z`, for a function with any output.

    There are at least two samples ``Z`` of ``noise``, which is :class:`Gumbel`, :class:`Normal`, or an object with
    their two methods. ``control_variate`` has no effect: there always is one.
    """
    del control_variate
    averaged = Perturbed(fun, sigma, num_samples, noise, antithetic=False)
    return lambda inputs, rng: averaged(rng, inputs)


@shows(
    "True",
    _ARGMAX,
    "soft = perturbations.make_perturbed_argmax(argmax, num_samples=10_000, sigma=1.0)",
    _AT,
    "abs(jax.jacobian(soft)(x, key) - jax.jacobian(jax.nn.softmax)(x)).max() < 0.05",
)
def make_perturbed_argmax(
    argmax_fun: Callable[..., Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    control_variate: bool = False,
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of ``argmax_fun``, from an array to its like, at :math:`x + \sigma Z`.

    The parameters are those of :func:`make_perturbed_fun`.
    """
    return make_perturbed_fun(argmax_fun, num_samples, sigma, noise, control_variate)


@shows(
    "True",
    _ARGMAX,
    "top = perturbations.make_perturbed_max(argmax, num_samples=10_000, sigma=1.0)",
    _AT,
    "abs(top(x, key) - jax.nn.logsumexp(x) - jnp.euler_gamma) < 0.05",
)
def make_perturbed_max(
    argmax_fun: Callable[..., Any], num_samples: int = 1000, sigma: Any = 0.1, noise: Any = _GUMBEL
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of :math:`\langle y(u), u \rangle`, :math:`u = x + \sigma Z`.

    ``argmax_fun`` is ``y``. Its gradient is :func:`make_perturbed_argmax`, of the same parameters.
    """
    averaged = Perturbed(argmax_fun, sigma, num_samples, noise, antithetic=False)
    return lambda inputs, rng: averaged.max(rng, inputs)
