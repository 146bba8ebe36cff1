r"""Diffusions in discrete steps: the chain's variances, a subset of its steps, and its reverse.

A chain has levels :math:`\bar\alpha_0 > \bar\alpha_1 > \dots`, from data to noise, with
:math:`x_i = \sqrt{\bar\alpha_i}\, x_0 + \sqrt{1 - \bar\alpha_i}\, \varepsilon`.

References
----------
Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (arXiv 2006.11239). Song, Meng and Ermon,
"Denoising diffusion implicit models", ICLR 2021 (arXiv 2010.02502).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import decreasing, known, not_negative

from .processes import Field, Process


def _root(x: Array) -> Array:
    """The square root, 0 below 0, where the derivative is 0 too: the first level's is the constant 1."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


class Chain(eqx.Module):
    r"""The levels :math:`\bar\alpha` of a chain, and the times that a network is given at them.

    Raises `ValueError` unless the levels fall strictly within (0, 1], and there is a time for each.

    Examples
    --------
    >>> chain = Chain.of_betas(jnp.array([0.5, 0.2, 0.5]))
    >>> chain.respaced(jnp.array([0, 2])).betas
    Array([0.5, 0.6], dtype=float32)
    """

    alpha_bar: Float[Array, " T"]
    times: Array

    def __init__(self, alpha_bar: Any, times: Any = None):
        self.alpha_bar = jnp.asarray(alpha_bar)
        self.times = jnp.arange(len(self.alpha_bar)) if times is None else jnp.asarray(times)
        if known(alpha_bar) and not (self.alpha_bar[-1] > 0 and self.alpha_bar[0] <= 1):
            raise ValueError(f"alpha_bar must be within (0, 1]: given {np.asarray(alpha_bar)}.")
        decreasing("alpha_bar", alpha_bar)
        if self.times.shape != self.alpha_bar.shape:
            raise ValueError(f"There must be one time for each level: given {len(self.times)} and {len(self)}.")

    @classmethod
    def of_betas(cls, betas: Any) -> Chain:
        r"""From the variances of its steps: :math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`."""
        return cls(jnp.cumprod(1 - jnp.asarray(betas)))

    @classmethod
    def of_process(cls, process: Process, times: Any) -> Chain:
        r"""The levels :math:`\alpha^2` of a process that preserves the variance, at times that rise."""
        times = jnp.asarray(times)
        return cls(process.alpha(times) ** 2, times)

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @property
    def before(self) -> Float[Array, " T"]:
        """The level to which each step of the reverse leads: 1 for the first."""
        return jnp.concatenate([jnp.ones(1, self.alpha_bar.dtype), self.alpha_bar[:-1]])

    @property
    def betas(self) -> Float[Array, " T"]:
        r""":math:`\beta_i = 1 - \bar\alpha_i / \bar\alpha_{i-1}`."""
        return 1 - self.alpha_bar / self.before

    def respaced(self, steps: Any) -> Chain:
        """The chain of some of the steps, given by indices that rise; the network sees the original times.

        Raises `ValueError` for indices that are known and repeat, fall or are out of range.
        """
        steps = jnp.asarray(steps)
        if known(steps):
            given = np.asarray(steps)
            if not (np.all(np.diff(given) > 0) and given[0] >= 0 and given[-1] < len(self)):
                raise ValueError(f"steps must rise within 0 to {len(self) - 1}: given {given}.")
        return eqx.tree_at(lambda one: (one.alpha_bar, one.times), self, (self.alpha_bar[steps], self.times[steps]))

    def posterior_std(self, i: Any, eta: Any = 1.0) -> Array:
        r""":math:`\eta` times the standard deviation of :math:`x_{i-1}` given :math:`x_i` and :math:`x_0`."""
        level, before = self.alpha_bar[i], self.before[i]
        return eta * _root((1 - before) / (1 - level) * (1 - level / before))

    def reverse(self, x: Array, data: Array, i: Any, eta: Any = 1.0) -> tuple[Array, Array]:
        r"""Mean and standard deviation of :math:`x_{i-1}`, with :math:`x_0` predicted.

        .. math::
            \sqrt{\bar\alpha_{i-1}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{i-1} - s^2}\, \hat\varepsilon, \qquad
            s^2 = \eta^2 \frac{1 - \bar\alpha_{i-1}}{1 - \bar\alpha_i} (1 - \bar\alpha_i / \bar\alpha_{i-1}).

        :math:`\eta = 1` is ancestral sampling, :math:`\eta = 0` DDIM. The last step, of index 0, has no noise.
        """
        level, before, std = self.alpha_bar[i], self.before[i], self.posterior_std(i, eta)
        noise = (x - jnp.sqrt(level) * data) / jnp.sqrt(1 - level)
        return jnp.sqrt(before) * data + _root(1 - before - std**2) * noise, std


def chain_sample(key: Array | None, x: Float[Array, "n ..."], chain: Chain, data: Field, *, eta: Any = 0.0) -> Array:
    r"""Draw :math:`x_0` by the reverse of a chain, one call of `data(x, time)`, the data prediction, a step.

    Parameters
    ----------
    key
        Of the noise; `None` goes with `eta` zero.
    x
        Points at the chain's last level.
    eta
        0: DDIM, 1: ancestral sampling.
    """
    not_negative("eta", eta)
    if key is None and known(eta) and np.any(np.asarray(eta) != 0):
        raise ValueError(f"A sampler with noise needs a key: given none, and eta {eta}.")
    keys = jax.random.split(jax.random.key(0) if key is None else key, len(chain))

    def step(x: Array, given: Any) -> Any:
        i, key_i = given
        mean, std = chain.reverse(x, data(x, chain.times[i]), i, eta)
        noise = 0.0 if key is None else std * jax.random.normal(key_i, x.shape, x.dtype)
        return (mean + noise).astype(x.dtype), None

    return jax.lax.scan(step, x, (jnp.arange(len(chain))[::-1], keys))[0]
