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

__all__ = ["Gumbel", "Normal", "make_perturbed_argmax", "make_perturbed_fun", "make_perturbed_max"]


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


def make_perturbed_argmax(
    argmax_fun: Callable[..., Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    control_variate: bool = False,
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of ``argmax_fun`` at :math:`x + \sigma Z`, a differentiable function of ``x``.

    Parameters
    ----------
    argmax_fun
        From an array to an array of its shape.
    num_samples
        How many, at least two.
    sigma
        :math:`\sigma > 0`.
    noise
        :class:`Gumbel`, :class:`Normal`, or an object with their two methods.
    control_variate
        No effect: there always is one.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_jaxopt import perturbations
    >>> argmax = lambda x: jax.nn.one_hot(jnp.argmax(x), x.shape[0])
    >>> soft = perturbations.make_perturbed_argmax(argmax, num_samples=10_000, sigma=1.0)
    >>> x, key = jnp.array([0.0, 1.0, -1.0]), jax.random.key(0)
    >>> print(abs(soft(x, key) - jax.nn.softmax(x)).max() < 0.02)
    True
    >>> print(abs(jax.jacobian(soft)(x, key) - jax.jacobian(jax.nn.softmax)(x)).max() < 0.05)
    True
    """
    return make_perturbed_fun(argmax_fun, num_samples, sigma, noise, control_variate)


def make_perturbed_max(
    argmax_fun: Callable[..., Any], num_samples: int = 1000, sigma: Any = 0.1, noise: Any = _GUMBEL
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of :math:`\langle y(x + \sigma Z), x + \sigma Z \rangle`.

    ``argmax_fun`` is ``y``.
    Its gradient is :func:`make_perturbed_argmax`, of the same parameters.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_jaxopt import perturbations
    >>> argmax = lambda x: jax.nn.one_hot(jnp.argmax(x), x.shape[0])
    >>> top = perturbations.make_perturbed_max(argmax, num_samples=10_000, sigma=1.0)
    >>> x, key = jnp.array([0.0, 1.0, -1.0]), jax.random.key(0)
    >>> print(abs(top(x, key) - jax.nn.logsumexp(x) - jnp.euler_gamma) < 0.05)
    True
    """
    averaged = _perturbed(argmax_fun, num_samples, sigma, noise)
    return lambda inputs, rng: averaged.max(rng, inputs)


def make_perturbed_fun(
    fun: Callable[..., Any],
    num_samples: int = 1000,
    sigma: Any = 0.1,
    noise: Any = _GUMBEL,
    control_variate: bool = False,
) -> Callable[..., Any]:
    r"""Return ``(x, key) ->`` the mean of ``fun`` at :math:`x + \sigma Z`, for a function with any output.

    The parameters are those of :func:`make_perturbed_argmax`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_jaxopt import perturbations
    >>> step = lambda x: jnp.where(x > 0, 1.0, 0.0)
    >>> smooth = perturbations.make_perturbed_fun(step, 10_000, 1.0, perturbations.Normal())
    >>> print(abs(jax.grad(smooth)(0.0, jax.random.key(0)) - 0.3989) < 0.02)
    True
    """
    del control_variate
    averaged = _perturbed(fun, num_samples, sigma, noise)
    return lambda inputs, rng: averaged(rng, inputs)


def _perturbed(fun: Callable[..., Any], num_samples: int, sigma: Any, noise: Any) -> Perturbed:
    return Perturbed(fun, sigma, num_samples, noise, antithetic=False)
