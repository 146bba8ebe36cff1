r"""DP-SGD with Poisson's batches: the baseline that a user would try first.

Each record enters a round's batch with probability :math:`q`, by itself, and

.. math:: v_r = \frac{1}{q n} \Bigl(\sum_{z \in I_r} \operatorname{clip}\bigl(g(x_{r-1}, z), C\bigr)
    + N(0, (C z)^2 I)\Bigr).

Neighbors here differ in one record more or less, for which :math:`C` is the sum's sensitivity: this is a weaker promise
than that of one replaced record at the same :math:`\varepsilon`. A round looks at all records, so that no batch has to
be cut to a size: it costs as much as one of gradient descent.

References
----------
Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar and Zhang, "Deep learning with differential privacy", CCS 2016
(arXiv 1607.00133).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from scipy import optimize

from dini_zoo.kit.checking import at_least, marked, not_negative, one_length, positive, scalar

from ..accounting import budget, gaussian_mu
from ..ledger import Ledger, SampledRelease, privacy_spent
from .clipping import Vectors, weighted_sum
from .estimator import noisy
from .loops import Descent, Public, add, descend, nothing


def _rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1: given {rate}.")


def poisson_ledger(multiplier: float, *, rate: float, records: int, rounds: int) -> Ledger:
    """What so many rounds release, for neighbors of one record more or less.

    Examples
    --------
    >>> poisson_ledger(1.1, rate=0.1, records=1000, rounds=50).releases[0]
    SampledRelease(name='batches', multiplier=1.1, batch=100.0, population=1000, count=50)
    """
    _rate(rate)
    at_least("rounds", rounds, 1)
    return Ledger(neighbors="add_or_remove_one").add(
        SampledRelease("batches", multiplier, rate * records, records, rounds)
    )


def calibrate_poisson(
    epsilon: float, delta: float, *, rate: float, rounds: int, tolerance: float = 1e-3, accountant: Any = "rdp"
) -> float:
    r"""The noise multiplier :math:`z` of so many rounds for a budget, by an accountant of dp-accounting.

    The root is found to a relative `tolerance`, and rounded to the private side. Raises `ValueError` for a budget, a
    rate or a number of rounds that there is not.

    Examples
    --------
    >>> print(f"{calibrate_poisson(1.0, 1e-5, rate=0.1, rounds=10, tolerance=0.05):.1f}")
    1.9
    """
    budget(epsilon, delta)
    _rate(rate)
    positive("tolerance", tolerance)
    at_least("rounds", rounds, 1)
    spent = lambda log: privacy_spent(
        poisson_ledger(math.exp(log), rate=rate, records=1_000_000, rounds=rounds), delta, accountant
    )
    excess = lambda log: spent(log) - epsilon
    # as much as would do if all records were in all batches, and a little for an accountant that is not exact
    high = math.log(math.sqrt(rounds) / gaussian_mu(epsilon, delta)) + 0.3
    low = high - 1
    while excess(low) <= 0:
        low, high = low - 1, low
    found = optimize.brentq(excess, low, high, xtol=tolerance / 4)
    while excess(found) > 0:
        found += tolerance / 2
    return math.exp(found)


def dp_sgd(
    fun: Vectors,
    optimizer: optax.GradientTransformation,
    params: Any,
    data: Any,
    key: Array,
    *,
    rounds: int,
    rate: float,
    clip: Any,
    multiplier: Any = 0.0,
    public: Public = nothing,
    observe: Public | None = None,
    microbatch: int | None = None,
) -> Descent:
    r"""DP-SGD: so many rounds of an optimizer that is given noisy means of Poisson's batches.

    Parameters
    ----------
    fun, optimizer, params, public, observe
        As in `diff2_gd`.
    data
        A tree of arrays with an axis of all records in front; their number :math:`n` is taken as public.
    key
        Secret, the caller's, for nothing else: the noise and the batches are from it.
    rounds, rate
        :math:`R` and :math:`q`.
    clip
        :math:`C`.
    multiplier
        :math:`z`, of `calibrate_poisson`; without it nothing is private.
    microbatch
        So many records at a time.

    Raises
    ------
    ValueError
        For a rate outside of (0, 1], a `clip` that is not positive and finite, a negative multiplier, and no rounds.

    Examples
    --------
    >>> data = jnp.array([1.0, 3.0])
    >>> found = dp_sgd(
    ...     lambda x, z: x - z, optax.sgd(0.5), 0.0, data, jax.random.key(0), rounds=20, rate=1.0, clip=5.0
    ... )
    >>> print(found.params.round(3))
    2.0
    """
    n = one_length("data", data)
    _rate(rate)
    scalar("multiplier", multiplier)
    right = positive("clip", clip)
    not_negative("multiplier", multiplier)
    noise, draw = jax.random.split(key)
    weights = np.full(n, 1 / (rate * n))

    def one(loop: Any, r: Any) -> Any:
        params, inner = loop
        mine, normal = jax.random.split(jax.random.fold_in(noise, r))
        taken = jax.random.bernoulli(mine, rate, (n,))
        found = weighted_sum(lambda z: fun(params, z), data, weights * taken, clip, microbatch)
        mean = noisy("multiplier", found.mean, normal, clip, multiplier, 1 / (rate * n))
        estimate = jax.tree.map(lambda leaf, x: leaf.astype(x.dtype), marked(mean, right), params)
        updates, inner = optimizer.update(add(estimate, public(params)), inner, params)
        return optax.apply_updates(params, updates), inner, found.clipped

    params = jax.tree.map(jnp.asarray, params)
    return descend(one, params, optimizer.init(params), draw, rounds, observe, jnp.arange(rounds))
