"""What decoding is compared with, at the same interface: the best of several, sequential Monte Carlo."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dini_zoo.kit.checking import at_least, positive

from ..kernels import Kernel, sample
from .decoding import Decoded, Invalid, checked, log_weights
from .values import Reward, Value


def best_of_n(key: Array, kernel: Kernel, reward: Reward, *, batch: int, n: int, invalid: Invalid = "raise") -> Decoded:
    """Of each `n` samples without guidance the one of the greatest reward.

    It calls the network as often as :func:`svdd_sample` with as many candidates and a :class:`PosteriorMean`.
    """
    at_least("n", n, 1)
    x = sample(key, kernel, batch * n)
    values, wrong = checked(reward(x).reshape(batch, n), invalid)
    best = jnp.arange(batch) * n + jnp.argmax(values, axis=1)
    return Decoded(x[best], jnp.max(values, axis=1), jnp.sum(wrong))


def smc_sample(
    key: Array, kernel: Kernel, value: Value, *, batch: int, temperature: Any, invalid: Invalid = "raise"
) -> Decoded:
    r"""Sequential Monte Carlo: one population, resampled in every step by :math:`e^{(v_{t-1} - v_t) / a}`.

    Parameters
    ----------
    key, kernel, value
        As in :func:`svdd_sample`.
    batch
        The particles. They end with common ancestors, and many of them equal.
    temperature
        :math:`a > 0`.
    """
    at_least("batch", batch, 1)
    positive("temperature", temperature)

    def resampled(key: Array, gain: Array) -> Array:
        return jax.random.categorical(key, log_weights(gain, temperature), shape=(batch,))

    def step(carried: Any, given: Any) -> Any:
        x, before, bad = carried
        t, (key, resample_key) = given
        x = kernel.draw(key, x, kernel.predict(x, t), t, 1)[:, 0]
        values, wrong = checked(value(x, t - 1), invalid)
        ancestors = resampled(resample_key, jnp.where(jnp.isfinite(before), values - before, values))
        return (x[ancestors], values[ancestors], bad + jnp.sum(wrong)), None

    first, start, rest = jax.random.split(key, 3)
    x = kernel.start(start, batch)
    values, wrong = checked(value(x, kernel.steps), invalid)
    ancestors = resampled(first, values)
    carried = (x[ancestors], values[ancestors], jnp.sum(wrong))
    given = (jnp.arange(kernel.steps, 0, -1), jax.random.split(rest, (kernel.steps, 2)))
    (x, values, bad), _ = jax.lax.scan(step, carried, given)
    return Decoded(x, values, bad)
