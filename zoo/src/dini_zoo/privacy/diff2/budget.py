r"""How much noise a budget asks for: the closed form of gradients and of differences, and the exact one.

A restart's noise has the standard deviation :math:`C_1 s_1` in each coordinate, a difference's
:math:`C_{2,r} s_2`. With :math:`N = P \min_p n_p` their sensitivities are :math:`2 C / N` (see `clipping.py`), so their
noise multipliers :math:`z_i = s_i N / 2` do not depend on the radii: a radius may follow what was released before.

*Closed form.* One release costs the Rényi divergence :math:`2 \alpha / (N s)^2` at the order
:math:`\alpha = 1 + \lceil 2 \log(1/\delta) / \varepsilon \rceil`, where half of :math:`\varepsilon` is left for all of
them. Restarts get the share :math:`1/u` of it, differences the rest:

.. math:: s_1^2 = \frac{4 u\, \alpha R}{T N^2 \varepsilon}, \qquad
    s_2^2 = \frac{4 u\, \alpha R}{(u - 1) N^2 \varepsilon}, \qquad
    s_1^2 = \frac{4 \alpha R}{N^2 \varepsilon} \text{ for } T = 1.

*Exact.* The :math:`\lceil R/T \rceil` restarts and the other differences compose to one normal mechanism; both
:math:`s_i` are multiplied by the one factor with which its exact curve passes through :math:`(\varepsilon, \delta)`.

What is not in any budget: the choice of radii, interval, rounds and learning rate, if the data had a say in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from scipy import optimize

from dini_zoo.kit.checking import at_least, not_negative, one_of, positive

from ..accounting import budget, cdp_rho, gaussian_delta, gaussian_mu, probability
from ..ledger import GaussianRelease, Ledger, SampledRelease, privacy_spent
from .clipping import check_sizes

type Calibration = Literal["closed_form", "exact"]


class Noise(NamedTuple):
    """The standard deviations of the noise, each for a radius of one."""

    restart: float
    """:math:`s_1`, of a mean of gradients."""
    difference: float
    """:math:`s_2`, of a mean of differences."""


NONE = Noise(0.0, 0.0)


def restarts(rounds: int, restart_every: int) -> int:
    r""":math:`\lceil R / T \rceil`. Raises `ValueError` unless :math:`1 \le T \le R`."""
    at_least("rounds", rounds, 1)
    if not 1 <= restart_every <= rounds:
        raise ValueError(f"restart_every must be from 1 to {rounds}, the rounds: given {restart_every}.")
    return -(-rounds // restart_every)


def spent(noise: Noise, rounds: int, restart_every: int, sizes: Sequence[int]) -> Ledger:
    """The ledger of so many rounds, for neighbors that differ in one replaced record.

    Parameters
    ----------
    noise
        For radii of one.
    rounds, restart_every
        :math:`R` and :math:`T`.
    sizes
        :math:`n_p`, the records of each client, `Clients.sizes`; `(n,)` of a single one.

    Raises
    ------
    ValueError
        For negative noise, no rounds, an interval beyond them, and sizes that are none.

    Examples
    --------
    >>> round(spent(Noise(0.01, 0.1), 10, 5, (1000, 1000)).rho, 6)
    0.0104
    """
    first = restarts(rounds, restart_every)
    return counted(noise, first, rounds - first, effective(sizes))


def effective(sizes: Sequence[int]) -> int:
    r""":math:`P \min_p n_p`, and not the sum of all records: the smallest client's record weighs most."""
    sizes = check_sizes(sizes)
    return len(sizes) * min(sizes)


def counted(noise: Noise, restarted: int, differences: int, n_min_total: int) -> Ledger:
    not_negative("noise", tuple(noise))
    at_least("n_min_total", n_min_total, 1)
    return Ledger().add(
        GaussianRelease("restarts", float(noise.restart) * n_min_total / 2, restarted),
        GaussianRelease("differences", float(noise.difference) * n_min_total / 2, differences),
    )


def calibrate(
    epsilon: float,
    delta: float,
    *,
    rounds: int,
    restart_every: int,
    sizes: Sequence[int],
    split: float = 1.25,
    method: Calibration = "closed_form",
) -> Noise:
    r"""The noise with which all that leaves the server in :math:`R` rounds is :math:`(\varepsilon, \delta)`-private.

    Neighbors differ in one record of one client, replaced by any other.

    Parameters
    ----------
    epsilon, delta
        The budget.
    rounds, restart_every
        :math:`R` and :math:`T`; with :math:`T = 1` there are no differences.
    sizes
        :math:`n_p`, the records of each client, `Clients.sizes`; `(n,)` of a single one.
    split
        :math:`u > 1`: restarts have the share :math:`1/u` of the budget. It counts where there are both kinds.
    method
        `"closed_form"` is the paper's, which keeps more than it promises; `"exact"` takes the least noise with the same
        ratio.

    Returns
    -------
    Noise
        :math:`s_1` and :math:`s_2`; the latter is zero for :math:`T = 1`, where nothing uses it.

    Raises
    ------
    ValueError
        For an `epsilon` that is not positive, a `delta` outside of (0, 1), an interval that is not from 1 to `rounds`,
        a `split` of one or less; and for the closed form where it breaks its promise: it counts :math:`R/T` restarts,
        and with an interval that does not divide the rounds there is one more.

    References
    ----------
    Murata and Suzuki, "DIFF2: differential private optimization via gradient differences for nonconvex distributed
    learning", ICML 2023 (arXiv 2302.03884).

    Examples
    --------
    >>> options = {"rounds": 3000, "restart_every": 300, "sizes": (20_000,)}
    >>> print(*(f"{s:.8f}" for s in calibrate(1.0, 1e-5, **options)))
    0.00176777 0.06123724
    >>> print(*(f"{s:.8f}" for s in calibrate(1.0, 1e-5, method="exact", **options)))
    0.00131854 0.04567549
    """
    budget(epsilon, delta)
    first = restarts(rounds, restart_every)
    n_min_total = effective(sizes)
    one_of("method", method, ("closed_form", "exact"))
    if not (split > 1 and math.isfinite(split)):
        raise ValueError(f"split must be above 1 and finite: given {split}.")
    alpha = 1 + math.ceil(2 * math.log(1 / delta) / epsilon)
    unit = 4 * alpha * rounds / (n_min_total**2 * epsilon)
    if restart_every == 1:
        noise = Noise(math.sqrt(unit), 0.0)
    else:
        noise = Noise(math.sqrt(unit * split / restart_every), math.sqrt(unit * split / (split - 1)))
    mu = math.sqrt(2 * counted(noise, first, rounds - first, n_min_total).rho)
    if method == "exact":
        factor = mu / gaussian_mu(epsilon, delta)
        return Noise(noise.restart * factor, noise.difference * factor)
    if gaussian_delta(mu, epsilon) > delta:
        raise ValueError(
            f"The closed form is for a restart_every that divides the rounds: with {restart_every} of {rounds} its "
            f"noise has a delta of {gaussian_delta(mu, epsilon):.1e} at epsilon = {epsilon}. Take method='exact'."
        )
    return noise


class LocalNoise(NamedTuple):
    """The noise of the routine with local steps, for radii of one."""

    restart: float
    difference: float
    local: float
    """:math:`s_3`, of a mean over a batch of one client."""


def local_spent(
    noise: LocalNoise,
    *,
    rounds: int,
    restart_every: int,
    sizes: Sequence[int],
    batch: int,
    steps: int,
    visits: int,
) -> Ledger:
    r"""The ledger of the routine with local steps, for the record whose client is visited most often.

    A round's first local step uses what the server released; each of the other :math:`K - 1` releases the mean of
    clipped differences over a secret batch of :math:`b` of the client's records, redrawn without replacement.
    Replacing one record changes that mean by at most :math:`2 C / b`, so the multiplier is :math:`z_3 = s_3 b / 2`.

    Parameters
    ----------
    noise
        For radii of one.
    rounds, restart_every, sizes
        As in `spent`. In the smallest client a record is in a batch most often.
    batch
        :math:`b`.
    steps
        :math:`K`.
    visits
        In how many rounds the most visited client is chosen; this must not depend on the data.

    Examples
    --------
    >>> noise = LocalNoise(0.01, 0.1, 1.0)
    >>> local_spent(noise, rounds=4, restart_every=2, sizes=(9, 9), batch=3, steps=5, visits=2).releases[-1]
    SampledRelease(name='local steps', multiplier=1.5, batch=3, population=9, count=8)
    """
    at_least("steps", steps, 1)
    at_least("batch", batch, 1)
    smallest = min(check_sizes(sizes))
    if batch > smallest:
        raise ValueError(f"batch must be at most {smallest}, the records of the smallest client: given {batch}.")
    if not 0 <= visits <= rounds:
        raise ValueError(f"visits must be from 0 to {rounds}, the rounds: given {visits}.")
    whole = spent(Noise(noise.restart, noise.difference), rounds, restart_every, sizes)
    multiplier = float(noise.local) * batch / 2
    return whole.add(SampledRelease("local steps", multiplier, batch, smallest, visits * (steps - 1)))


def calibrate_local(
    epsilon: float,
    delta: float,
    *,
    rounds: int,
    restart_every: int,
    sizes: Sequence[int],
    batch: int,
    steps: int,
    visits: int,
    share: float = 1 / 3,
    tolerance: float = 1e-3,
) -> LocalNoise:
    r"""The noise of the routine with local steps for a budget, by the Rényi accountant of dp-accounting.

    Local steps have the `share` of the budget in :math:`\rho`, restarts and differences the rest in equal parts: their
    noise is that of :math:`(1 - \text{share}) \rho(\varepsilon, \delta)`. The local noise is then the least with which
    all of it together has at most :math:`\varepsilon`, found by bisection.

    Parameters
    ----------
    epsilon, delta
        The budget.
    rounds, restart_every, sizes, batch, steps, visits
        As in `local_spent`.
    share
        Between 0 and 1.
    tolerance
        Relative, of the local noise; what is returned is on the private side.

    Raises
    ------
    ValueError
        For what `local_spent` and `calibrate` refuse, and a share outside of (0, 1).

    Examples
    --------
    >>> options = {"rounds": 4, "restart_every": 2, "sizes": (900, 900), "batch": 30, "steps": 2, "visits": 2}
    >>> noise = calibrate_local(1.0, 1e-5, tolerance=0.05, **options)
    >>> privacy_spent(local_spent(noise, **options), 1e-5, "rdp") <= 1.0
    True
    """
    budget(epsilon, delta)
    probability("share", share)
    positive("tolerance", tolerance)
    first = restarts(rounds, restart_every)
    rho = (1 - share) * cdp_rho(epsilon, delta)
    others = rounds - first
    parts = (rho / 2, rho / 2) if others else (rho, 0.0)
    # a multiplier z costs 1 / (2 z²): so many of them have the part of ρ
    scale = lambda count, part: 2 / effective(sizes) * math.sqrt(count / (2 * part)) if count else 0.0
    noise = Noise(scale(first, parts[0]), scale(others, parts[1]))
    options = {"rounds": rounds, "restart_every": restart_every, "sizes": sizes, "batch": batch}
    options |= {"steps": steps, "visits": visits}
    of = lambda local: LocalNoise(*noise, local)
    if visits * (steps - 1) == 0:
        local_spent(of(0.0), **options)
        return of(0.0)
    excess = lambda log: privacy_spent(local_spent(of(math.exp(log)), **options), delta, "rdp") - epsilon
    # as much as would do without the secrecy of batches; an accountant of few orders may ask for a little more
    high = math.log(2 / batch * math.sqrt(visits * (steps - 1) / (2 * share * cdp_rho(epsilon, delta))))
    while excess(high) > 0:
        high += 0.1
    low = high - 1
    while excess(low) <= 0:
        low, high = low - 1, low
    found = optimize.brentq(excess, low, high, xtol=tolerance / 4)
    while excess(found) > 0:
        found += tolerance / 2
    return of(math.exp(found))
