r"""Diffusion heads: a token as the end of a reverse chain, and the law of its last step given all noise before it.

.. math::
    u_T = \xi_T, \qquad u_{t-1} = \mu_t(u_t, c) + S_t(u_t, c)\, \xi_{t-1} \quad (t = T, \dots, 2), \qquad
    x \mid \xi \sim N\big(\mu_1(u_1, c), S_1^2\big).

Of two heads that are given the same :math:`\xi = (\xi_T, \dots, \xi_1)`, the two Gaussians at the end are close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.diffusion.chains import Chain
from dini_zoo.kit.checking import at_least, positive, same_shape


class LastStep(NamedTuple):
    """The law of a token given the noise of all steps but the last."""

    mean: Float[Array, " d"]
    std: Float[Array, " d"]
    log_scale: Float[Array, ""] | None = None
    r""":math:`\sum_{t=2}^{T} \log \det S_t` of the steps before, which the published rule asks for."""


class Head(Protocol):
    """What draws a token."""

    @property
    def noise_shape(self) -> tuple[int, int]:
        """`(T, d)`: the steps, and the numbers in a token."""
        ...

    def last_step(self, noise: Float[Array, "T d"], context: Any) -> LastStep:
        r"""Its law given the noise :math:`\xi_T, \dots, \xi_1`, in rows. For the exact rule a pair of mean and standard
        deviations will do."""
        ...


class GaussianHead(eqx.Module):
    r"""Ancestral sampling of a chain with a data prediction, and noise in the last step too.

    The mean is that of the posterior with the predicted :math:`u_0`, the variance :math:`\tilde\beta_t`, with that of
    step 2 in the last one.

    Parameters
    ----------
    chain
        The levels, of two steps at least.
    predictor
        A function `(u, time, context)` of a point `(d,)`, one of `chain.times` and a token's context: the data
        prediction, or a pair of it and of :math:`v \in [0, 1]`, numbers or one for each of the point's, for learned
        variances :math:`\beta_t^v \tilde\beta_t^{1 - v}`.
    size
        Numbers in a token, :math:`d`.
    temperature
        Multiplies all :math:`S_t`.

    Raises
    ------
    ValueError
        For a chain of one step, which has no variance to take for the last one, and a temperature that is not positive:
        without noise in the last step tokens have no density, and there is no ratio of two.

    Examples
    --------
    >>> chain = Chain.of_betas(jnp.array([0.1, 0.3, 0.5]))
    >>> head = GaussianHead(chain, lambda u, t, c: c * jnp.ones_like(u), 2)
    >>> head.last_step(jnp.zeros((3, 2)), 0.7).mean.round(6)
    Array([0.7, 0.7], dtype=float32)
    """

    chain: Chain
    predictor: Callable[..., Any]
    size: int = eqx.field(static=True)
    temperature: Any

    def __init__(self, chain: Chain, predictor: Callable[..., Any], size: int, *, temperature: Any = 1.0):
        at_least("size", size, 1)
        if len(chain) < 2:
            raise ValueError(
                "A head needs two steps or more: the last one takes its noise from the one before it, and without "
                "noise there tokens have no density."
            )
        positive("temperature (tokens without noise in the last step have no density)", temperature)
        self.chain, self.predictor, self.size, self.temperature = chain, predictor, size, temperature

    @property
    def noise_shape(self) -> tuple[int, int]:
        """`(T, d)`."""
        return len(self.chain), self.size

    def last_step(self, noise: Float[Array, "T d"], context: Any) -> LastStep:
        r"""The law of a token given the noise :math:`\xi_T, \dots, \xi_1`, in rows, which no head has of its own."""
        same_shape("noise", noise, "the head's steps and size", self.noise_shape)
        steps = jnp.arange(len(self.chain) - 1, 0, -1)

        def step(carried: Any, given: Any) -> Any:
            u, log_scale = carried
            i, xi = given
            mean, std = self._step(u, i, context)
            return (mean + std * xi, log_scale + jnp.sum(jnp.log(std))), None

        start = (noise[0], jnp.zeros((), noise.dtype))
        (u, log_scale), _ = jax.lax.scan(step, start, (steps, noise[1:]))
        return LastStep(*self._step(u, 0, context), log_scale)

    def _step(self, u: Array, i: Any, context: Any) -> tuple[Array, Array]:
        """Mean and standard deviations of the step of index `i`."""
        said = self.predictor(u, self.chain.times[i], context)
        data, between = said if isinstance(said, tuple) else (said, None)
        same_shape("what the predictor says", data, "its point", u.shape)
        of_data, of_point = self.chain.posterior(i)
        log_std = jnp.log(self.chain.noise_std(i, 1.0, last=True))
        if between is not None:
            log_std = (1 - between) * log_std + between * 0.5 * jnp.log(self.chain.betas[i])
        std = jnp.broadcast_to(self.temperature * jnp.exp(log_std), u.shape)
        return (of_data * data + of_point * u).astype(u.dtype), std.astype(u.dtype)

    def sample(self, key: Array, context: Any) -> Float[Array, " d"]:
        """One token."""
        for_steps, for_last = jax.random.split(key)
        noise = jax.random.normal(for_steps, self.noise_shape)
        mean, std, _ = self.last_step(noise, context)
        return mean + std * jax.random.normal(for_last, mean.shape, mean.dtype)
