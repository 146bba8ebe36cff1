r"""Four families of operators, of which each generation of the search uses one, and the weights by which it is drawn.

The problem is a bandit with `k` arms, the families for which the domain has columns. Family `i` is drawn with
probability

.. math:: p_i = (1 - \gamma) \frac{w_i}{\sum_j w_j} + \frac{\gamma}{k},

and its weight is multiplied by :math:`\exp(\eta\, x / p_i)`, where the reward `x` is one if its best candidate improved
the table and zero if not. The division by :math:`p_i` makes the sum of a family's terms an unbiased estimate of the
number of its successes if it were used always. The weights therefore say which family did best since the start: where
another one becomes better later, they follow as slowly as that sum does.

References
----------
Auer, Cesa-Bianchi, Freund and Schapire, "The nonstochastic multiarmed bandit problem", SIAM Journal on Computing 2002,
for the weights (Exp3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, between, not_negative, within

from .domains import Domain


@dataclass(frozen=True)
class Bandit:
    """Candidates of one family for each generation, drawn by weights that rise with the family's successes.

    The families, in this order, without those for which the domain has no column:

    * `"mutate"`: one cell gets a value that is uniform over the column's domain. The column is drawn with a probability
      that is proportional to the logarithm of its size; a real column counts as one of `quantiles` categories.
    * `"crossover"`: one or two categorical cells, with equal probability, get the values of another row. Where there is
      a single categorical column, it is one.
    * `"swap"`: two rows exchange their values of one column. This changes no marginal of one column.
    * `"quantiles"`: one real cell gets a value that is uniform between two adjacent ones of `quantiles` quantiles of
      the column in the current table, the smallest and the largest value among them.

    Raises
    ------
    ValueError
        Where there are no candidates or fewer than two quantiles, `rate` is negative or not finite, or `exploration` is
        not between 0 and 1.

    Examples
    --------
    The first arm of two succeeds, at a probability of one half:

    >>> import jax.numpy as jnp
    >>> bandit = Bandit(rate=0.5)
    >>> logs = bandit.rewarded(jnp.log(jnp.array([0.5, 0.5])), 0, 1.0)
    >>> print((jnp.exp(logs[0] - logs[1]) / jnp.e).round(4), bandit.probabilities(logs).round(4))
    1.0 [0.7195 0.2805]
    """

    candidates: int = 100
    """In each generation."""
    rate: float = 0.1
    r""":math:`\eta`."""
    exploration: float = 0.05
    r""":math:`\gamma`, the share of generations whose family is drawn uniformly."""
    quantiles: int = 32
    """Of each real column of the current table."""

    def __post_init__(self) -> None:
        at_least("candidates", self.candidates, 1)
        at_least("quantiles", self.quantiles, 2)
        not_negative("rate", self.rate)
        between("exploration", self.exploration, 0, 1)

    def families(self, domain: Domain) -> tuple[str, ...]:
        """Those for which a domain has columns.

        Examples
        --------
        >>> from dini_zoo.privacy.private_gsd import Categorical, Domain
        >>> Bandit().families(Domain.of({"married": Categorical(2)}))
        ('mutate', 'crossover', 'swap')
        """
        there = {"mutate": True, "crossover": domain.categorical, "swap": True, "quantiles": domain.real}
        return tuple(name for name, columns in there.items() if columns)

    def start(self, domain: Domain) -> Float[Array, " k"]:
        """The logarithms of equal weights, one for each family of a domain."""
        k = len(self.families(domain))
        return jnp.full(k, -jnp.log(k))

    def probabilities(self, logs: Float[Array, " k"]) -> Float[Array, " k"]:
        r""":math:`p` of weights, which are given by their logarithms."""
        return (1 - self.exploration) * jax.nn.softmax(logs) + self.exploration / len(logs)

    def rewarded(
        self, logs: Float[Array, " k"], arm: Int[Array, ""] | int, reward: Float[Array, ""] | float
    ) -> Float[Array, " k"]:
        r"""The logarithms of the weights after a generation.

        Logarithms hold what a weight of single precision cannot: a family whose weight has become zero would stay there
        whatever its successes.

        Parameters
        ----------
        logs
            Logarithms of the weights before.
        arm
            The number of the family that was drawn.
        reward
            `x`, from 0 to 1.

        Returns
        -------
        array
            Logarithms of weights that add up to one. They are NaN where `arm` or `reward` is traced and wrong.

        Raises
        ------
        ValueError
            Where `arm` is the number of no family, or `reward` is not from 0 to 1.
        """
        within("arm", arm, len(logs))
        between("reward", reward, 0, 1)
        # with neither weight nor exploration the arm cannot have been drawn
        chance = jnp.maximum(self.probabilities(logs)[arm], jnp.finfo(logs.dtype).tiny)
        # beyond this, all of the weight is that arm's
        gain = jnp.minimum(self.rate * reward / chance, jnp.finfo(logs.dtype).max ** 0.5)
        return jax.nn.log_softmax(logs.at[arm].add(gain))


type Changes = tuple[Int[Array, "p 2"], Float[Array, "p 2 d"]]
"""Of each candidate the numbers of two rows, and what these become. A number beyond the last row stands for none."""
type Family = Callable[[Float[Array, "5 p"], Float[Array, "N d"]], Changes]

#: The number of a row that is none, whatever the number of rows.
_NONE = np.iinfo(np.int32).max


def uniform(key: jax.Array, bandit: Bandit, rows: Float[Array, "N d"]) -> Float[Array, "5 p"]:
    """What a family makes its candidates of: five numbers for each, in single precision at least."""
    return jax.random.uniform(key, (5, bandit.candidates), jnp.promote_types(rows.dtype, jnp.float32))


def operators(bandit: Bandit, domain: Domain) -> tuple[Family, ...]:
    """The families of a domain, as functions of uniform numbers, five for each candidate, and of rows."""
    sizes, i = np.array(domain.sizes), jnp.arange(bandit.candidates)

    def index(u: jax.Array, count: int | jax.Array) -> jax.Array:
        # u times a count may round up to the count itself
        return jnp.minimum((u * count).astype(jnp.int32), count - 1)

    def alone(at: jax.Array, row: jax.Array) -> Changes:
        return jnp.stack([at, jnp.full_like(at, _NONE)], axis=1), jnp.stack([row, row], axis=1)

    def mutate(u: jax.Array, rows: jax.Array) -> Changes:
        at = index(u[0], len(rows))
        # the logarithm of one category is zero: such a column is not drawn, unless there are no others
        below = np.cumsum(np.log(np.where(sizes > 0, sizes, bandit.quantiles)))
        column = jnp.searchsorted(below / below[-1] if below[-1] else np.ones_like(below), u[1], side="right")
        column = jnp.minimum(column, len(sizes) - 1)
        size = jnp.asarray(sizes)[column]
        value = jnp.where(size > 0, index(u[2], jnp.maximum(size, 1)), u[2])
        return alone(at, rows[at].at[i, column].set(value.astype(rows.dtype)))

    def crossover(u: jax.Array, rows: jax.Array) -> Changes:
        c = len(domain.categorical)
        at, donor, first = index(u[0], len(rows)), index(u[1], len(rows)), index(u[2], c)
        second = (first + 1 + index(u[3], max(c - 1, 1))) % c
        new = rows[at]
        for column in (jnp.array(domain.categorical)[one] for one in (first, jnp.where(u[4] < 0.5, first, second))):
            new = new.at[i, column].set(rows[donor, column])
        return alone(at, new)

    def swap(u: jax.Array, rows: jax.Array) -> Changes:
        n, d = rows.shape
        at, column = index(u[0], n), index(u[1], d)
        if n == 1:
            return alone(at, rows[at])
        both = jnp.stack([at, (at + 1 + index(u[2], n - 1)) % n], axis=1)
        values = rows[both[:, ::-1], column[:, None]]
        return both, rows[both].at[i[:, None], jnp.arange(2), column[:, None]].set(values)

    def quantiles(u: jax.Array, rows: jax.Array) -> Changes:
        real = jnp.array(domain.real)
        at, which, gap = index(u[0], len(rows)), index(u[1], len(domain.real)), index(u[2], bandit.quantiles - 1)
        edges = jnp.quantile(rows[:, real], jnp.linspace(0, 1, bandit.quantiles, dtype=u.dtype), axis=0)
        low, high = edges[gap, which], edges[gap + 1, which]
        value = jnp.clip(low + (high - low) * u[3], low, high)
        return alone(at, rows[at].at[i, real[which]].set(value.astype(rows.dtype)))

    all_of_them = {"mutate": mutate, "crossover": crossover, "swap": swap, "quantiles": quantiles}
    return tuple(all_of_them[name] for name in bandit.families(domain))
