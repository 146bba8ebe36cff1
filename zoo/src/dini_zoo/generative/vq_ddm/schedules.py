r"""How fast codes are forgotten, and which steps a training looks at.

References
----------
Hoogeboom, Nielsen, Jaini, Forré and Welling, "Argmax flows and multinomial diffusion", NeurIPS 2021
(arXiv 2102.05379). Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021
(arXiv 2102.09672), for the cosine and for steps drawn by importance.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, not_negative, positive, within


def cosine_alphas(steps: int, s: float = 0.008, power: float = 0.5) -> Float[np.ndarray, " T"]:
    r"""The chance to keep a code in each step, :math:`\alpha_t^p` of a cosine.

    .. math::
        \alpha_t = \mathrm{clip}\Big(\frac{f((t + 1) / T)}{f(t / T)}, 10^{-3}, 1\Big), \qquad
        f(u) = \cos^2\Big(\frac{u + s}{1 + s} \cdot \frac{\pi}{2}\Big), \quad t = 0, \dots, T - 1.

    Parameters
    ----------
    steps
        :math:`T`.
    s
        Keeps the first steps from being too small.
    power
        :math:`p`: 1 is the cosine as it was published; with 1/2, as in the published code, a product is the root of
        that one's.

    Examples
    --------
    >>> print(cosine_alphas(10).prod().round(7), cosine_alphas(10, power=1.0).prod().round(9))
    0.0049083 2.4092e-05
    """
    at_least("steps", steps, 1)
    not_negative("s", s)
    positive("power", power)
    level = np.cos((np.linspace(0.0, 1.0, steps + 1) + s) / (1 + s) * np.pi / 2) ** 2
    return np.clip(level[1:] / level[:-1], 1e-3, 1.0) ** power


class ImportanceTimeSampler(eqx.Module):
    r"""Draws the steps of a loss in proportion to the size of its terms, :math:`p_t \propto \sqrt{E[L_t^2]}`.

    Uniform until each step was drawn more than ten times. The mean square is a moving average with weight 1/10 for
    what is new; the first step, whose term is a likelihood and no divergence, takes the second one's chance. It is a
    pytree, the state that a training carries from step to step.

    Examples
    --------
    >>> times = ImportanceTimeSampler.initial(4)
    >>> for _ in range(11):
    ...     times = times.updated(jnp.arange(4), jnp.array([9.0, 1.0, 1.0, 2.0]))
    >>> print(times.probabilities.round(3))
    [0.2 0.2 0.2 0.4]
    """

    squares: Float[Array, " T"]
    """The moving average of squared terms."""
    counts: Int[Array, " T"]
    """How often each step was drawn."""

    @classmethod
    def initial(cls, steps: int) -> ImportanceTimeSampler:
        """Before anything was drawn."""
        at_least("steps", steps, 1)
        return cls(jnp.zeros(steps), jnp.zeros(steps, jnp.int32))

    @property
    def probabilities(self) -> Float[Array, " T"]:
        """With which each step is drawn; none is zero, or its term would be missing from the loss."""
        sizes = jnp.sqrt(self.squares)
        if len(sizes) > 1:
            sizes = sizes.at[0].set(sizes[1])
        uniform = jnp.full_like(sizes, 1 / len(sizes))
        total = jnp.sum(sizes)
        ready = jnp.all(self.counts > 10) & (total > 0)
        weights = sizes / jnp.where(total > 0, total, 1.0)
        # a thousandth of the draws is uniform
        return jnp.where(ready, 0.999 * weights + 0.001 * uniform, uniform)

    def sample(self, key: Array, count: int) -> Drawn:
        """So many steps, and their probabilities."""
        p = self.probabilities
        t = jax.random.categorical(key, jnp.log(p), shape=(count,))
        return Drawn(t, p[t])

    def updated(self, t: Int[Array, " n"], terms: Float[Array, " n"]) -> ImportanceTimeSampler:
        """After terms at steps; of several at one step the mean square counts. Terms that are not finite do not."""
        within("t", t, len(self.squares))
        t, terms = jnp.asarray(t), jax.lax.stop_gradient(jnp.asarray(terms, self.squares.dtype))
        fine = jnp.isfinite(terms)
        drawn = jnp.zeros_like(self.counts).at[t].add(fine.astype(self.counts.dtype))
        sums = jnp.zeros_like(self.squares).at[t].add(jnp.where(fine, terms, 0.0) ** 2)
        moved = 0.1 * sums / jnp.maximum(drawn, 1) + 0.9 * self.squares
        return ImportanceTimeSampler(jnp.where(drawn > 0, moved, self.squares), self.counts + drawn)


class Drawn(NamedTuple):
    """Steps for a batch, and the probability of each."""

    t: Int[Array, " n"]
    probability: Float[Array, " n"]
