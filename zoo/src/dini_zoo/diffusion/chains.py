r"""Diffusions in discrete steps: the chain's variances, a subset of its steps, and the law of its reverse.

A chain has levels :math:`\bar\alpha_0 > \bar\alpha_1 > \dots`, from data to noise, with
:math:`x_i = \sqrt{\bar\alpha_i}\, x_0 + \sqrt{1 - \bar\alpha_i}\, \varepsilon`. Indices count from 0, the first step of
noise; the level before it is the data's, 1.

References
----------
Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (arXiv 2006.11239). Song, Meng and Ermon,
"Denoising diffusion implicit models", ICLR 2021 (arXiv 2010.02502).
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, decreasing, holds, known, one_of, same_shape, taken

from .processes import VPSDE, Process, beside


def linear_betas(steps: int, first: float = 1e-4, last: float = 0.02) -> Float[np.ndarray, " T"]:
    r""":math:`\beta` in equal steps from `first` to `last`, in double precision."""
    at_least("steps", steps, 1)
    return np.linspace(first, last, steps)


def scaled_linear_betas(steps: int, first: float = 0.00085, last: float = 0.012) -> Float[np.ndarray, " T"]:
    r""":math:`\sqrt\beta` in equal steps: less noise at the end than :func:`linear_betas`, as latents ask for it."""
    at_least("steps", steps, 1)
    return np.linspace(first**0.5, last**0.5, steps) ** 2


def cosine_betas(steps: int, offset: float = 0.008, highest: float = 0.999) -> Float[np.ndarray, " T"]:
    r"""Of levels :math:`\bar\alpha(u) \propto \cos^2\big(\tfrac\pi2 (u + s) / (1 + s)\big)`, and not above `highest`.

    Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021 (arXiv 2102.09672).
    """
    at_least("steps", steps, 1)
    level = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - level[1:] / level[:-1], highest)


def spaced(length: int, count: int, kind: Literal["uniform", "quad"] = "uniform") -> Int[np.ndarray, " n"]:
    r"""Indices of some steps of a chain, which rise from 0.

    Parameters
    ----------
    length
        Of the chain, :math:`T`.
    count
        Steps, :math:`n`.
    kind
        `"uniform"`: :math:`0, s, 2s, \dots` with the least whole stride that gives as many,
        :math:`s = \lceil T / n \rceil`. There is one where :math:`\lceil T / s \rceil = n`: always up to
        :math:`n = \sqrt T`, and for each divisor of :math:`T`. `"quad"`:
        :math:`\lfloor u^2 \rfloor` with :math:`u` in equal steps from 0 to :math:`\sqrt{0.8\, T}`, closer at the data.
        Near the data these may repeat; each is taken once, so there may be fewer than `count`: see the result's length.

    Raises
    ------
    ValueError
        For a count that is not from 1 to `length`, one that no whole stride gives, and another kind.

    Examples
    --------
    >>> print(spaced(1000, 7))
    [  0 143 286 429 572 715 858]
    >>> print(spaced(1000, 10, "quad"))
    [  0   9  39  88 158 246 355 483 632 800]
    """
    one_of("kind", kind, ("uniform", "quad"))
    if not 1 <= count <= length:
        raise ValueError(f"count must be from 1 to {length}, the steps of the chain: given {count}.")
    if kind == "quad":
        # the last square is rounded first: 28.28...² is 799.99... or 800
        return np.unique(np.floor(np.round(np.linspace(0, np.sqrt(0.8 * length), count) ** 2, 9)).astype(int))
    # a stride below T / n gives more than n steps
    stride = -(-length // count)
    steps = np.arange(0, length, stride)
    if len(steps) != count:
        more = len(range(0, length, stride - 1))
        raise ValueError(
            f"count must be a number of steps that a whole stride gives: given {count} of {length}, where the stride "
            f"{stride} gives {len(steps)} steps, and {stride - 1} gives {more}."
        )
    return steps


def root(x: Array) -> Array:
    """The square root, 0 below 0, where the derivative is 0 too: the first level's is the constant 1."""
    return jnp.where(x <= 0, 0.0, jnp.sqrt(jnp.where(x <= 0, 1.0, x)))


class Chain(eqx.Module):
    r"""The levels :math:`\bar\alpha` of a chain, and the times that a network is given at them.

    Raises `ValueError` unless the levels fall strictly within (0, 1), and there is a time for each.

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
        if self.alpha_bar.ndim != 1 or not len(self.alpha_bar):
            raise ValueError(f"alpha_bar must be a vector, a level or more: given shape {self.alpha_bar.shape}.")
        self.times = jnp.arange(len(self.alpha_bar)) if times is None else jnp.asarray(times)
        holds(
            # as it was rounded: near 1 that makes a difference
            np.asarray(alpha_bar).astype(self.alpha_bar.dtype) if known(alpha_bar) else self.alpha_bar,
            lambda level: (level[-1] > 0) & (level[0] < 1),
            lambda: (
                "alpha_bar must be within (0, 1), the data's level 1 not among them: given "
                f"{np.asarray(alpha_bar)} ({self.alpha_bar.dtype})."
            ),
        )
        decreasing("alpha_bar", alpha_bar)
        if self.times.shape != self.alpha_bar.shape:
            raise ValueError(f"There must be one time for each level: given {len(self.times)} and {len(self)}.")

    @classmethod
    def of_betas(cls, betas: Float[Array, " T"]) -> Chain:
        r"""From the variances of its steps: :math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`.

        Known variances are multiplied in double precision.
        """
        if not known(betas):
            return cls(jnp.cumprod(1 - betas))
        return cls(np.cumprod(1 - np.asarray(betas, float)).astype(jnp.asarray(betas).dtype))

    @classmethod
    def of_process(cls, process: Process, times: Any) -> Chain:
        r"""The levels :math:`\alpha^2` of a process that preserves the variance, at times that rise.

        Raises `ValueError` for a process with :math:`\alpha^2 + \sigma^2 \ne 1`, which has no such chain.
        """
        times = jnp.asarray(times)
        level = process.alpha(times) ** 2
        if not isinstance(process, VPSDE):
            whole = level + process.sigma(times) ** 2
            if not known(whole) or np.any(np.abs(np.asarray(whole) - 1) > 1e-4):
                raise ValueError(
                    f"{type(process).__name__} does not preserve the variance: alpha² + sigma² must be 1 at all times, "
                    f"given {whole if known(whole) else 'what is not known yet'}. Take VPSDE, or a sampler of "
                    "processes such as pc_sample."
                )
        return cls(level, times)

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

    # the forward chain

    def noised(self, x0: Float[Array, "n ..."], noise: Float[Array, "n ..."], i: Any, shift: Any = 0.0) -> Array:
        r""":math:`\sqrt{\bar\alpha_i}\, x_0 + \sqrt{1 - \bar\alpha_i}\, \varepsilon` plus a shift.

        `i` is an index, or one for each point; one that is traced, and none, gives NaN. With a shift :math:`c` the
        chain goes from :math:`x_0` to
        :math:`N(c, I)`, by steps :math:`\sqrt{\alpha_i} x_{i-1} + (1 - \sqrt{\alpha_i}) c + \sqrt{\beta_i} n` and a
        first one that adds the whole of :math:`c`.
        """
        same_shape("noise", noise, "x0", jnp.shape(x0))
        level = taken("i", self.alpha_bar, i)
        return beside(jnp.sqrt(level), x0) * x0 + beside(jnp.sqrt(1 - level), x0) * noise + shift

    # the reverse

    def posterior(self, i: Any) -> tuple[Array, Array]:
        r"""The factors of :math:`x_0` and :math:`x_i` in the mean of :math:`x_{i-1}` given both.

        .. math::
            \frac{\sqrt{\bar\alpha_{i-1}}\, \beta_i}{1 - \bar\alpha_i}, \qquad
            \frac{\sqrt{\alpha_i}\, (1 - \bar\alpha_{i-1})}{1 - \bar\alpha_i}, \qquad \alpha_i = 1 - \beta_i.

        With a shift, what the second one lacks of 1 is the factor of the shift.
        """
        level, before = taken("i", self.alpha_bar, i), taken("i", self.before, i)
        ratio = level / before
        return jnp.sqrt(before) * (1 - ratio) / (1 - level), jnp.sqrt(ratio) * (1 - before) / (1 - level)

    def posterior_std(self, i: Any, eta: Any = 1.0) -> Array:
        r""":math:`\eta` times the standard deviation of :math:`x_{i-1}` given :math:`x_i` and :math:`x_0`.

        Its square at :math:`\eta = 1` is :math:`\tilde\beta_i`, the small variance.
        """
        level, before = taken("i", self.alpha_bar, i), taken("i", self.before, i)
        return eta * root((1 - before) / (1 - level) * (1 - level / before))

    def noise_std(self, i: Any, eta: Any = 1.0, *, large: bool = False, last: bool = False) -> Array:
        r""":math:`\eta` times the standard deviation of the noise that a step of the reverse adds.

        Parameters
        ----------
        large
            :math:`\sqrt{\beta_i}` in place of :math:`\sqrt{\tilde\beta_i}`.
        last
            Whether the step of index 0, which leads to the data, adds noise too: that of :math:`\tilde\beta_1`. It
            needs a chain of two steps, `ValueError` else.
        """
        i = jnp.asarray(i)
        std = eta * root(taken("i", self.betas, i)) if large else self.posterior_std(i, eta)
        if last and len(self) < 2:
            raise ValueError("Noise in the last step is that of the step before it: the chain has one step alone.")
        return jnp.where(i == 0, self.posterior_std(1, eta) if last else 0.0, std)

    def reverse(
        self, x: Array, data: Array, i: Any, eta: Any = 1.0, *, noise: Array | None = None
    ) -> tuple[Array, Array]:
        r"""Mean and standard deviation of :math:`x_{i-1}`, with :math:`x_0` predicted.

        .. math::
            \sqrt{\bar\alpha_{i-1}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{i-1} - s^2}\, \hat\varepsilon, \qquad
            s^2 = \eta^2 \frac{1 - \bar\alpha_{i-1}}{1 - \bar\alpha_i} (1 - \bar\alpha_i / \bar\alpha_{i-1}).

        :math:`\eta = 1` is ancestral sampling, :math:`\eta = 0` DDIM. The last step, of index 0, has no noise.
        :math:`\hat\varepsilon` is what :math:`\hat x_0` leaves of :math:`x_i`, if no `noise` is given.
        """
        level, before, std = taken("i", self.alpha_bar, i), taken("i", self.before, i), self.posterior_std(i, eta)
        if noise is None:
            noise = (x - jnp.sqrt(level) * data) / jnp.sqrt(1 - level)
        return jnp.sqrt(before) * data + root(1 - before - std**2) * noise, std
