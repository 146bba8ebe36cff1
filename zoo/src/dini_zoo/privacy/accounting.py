r"""What releases cost in privacy: the exact curve of Gaussian noise, zero-concentrated and Rényi privacy, and a ledger.

A mechanism is :math:`(\varepsilon, \delta)`-private if :math:`P(M(D) \in S) \le e^\varepsilon P(M(D') \in S) + \delta`
for all events :math:`S` and all neighbors :math:`D, D'`. Everything here counts in *noise multipliers*
:math:`z = \sigma / \Delta`: the standard deviation of normal noise over the sensitivity :math:`\Delta`, the most by
which two neighbors' answers differ in the Euclidean norm. What neighbors are is defined where :math:`\Delta` is proved,
and once in the `Ledger` of `ledger.py`. Nothing here looks at data.

Several normal mechanisms with :math:`z_1, z_2, \dots`, each chosen in view of earlier outcomes, are together no worse
than a single one with :math:`1 / z^2 = \sum_i 1 / z_i^2`; with :math:`\mu = 1 / z` its exact curve is

.. math::

    \delta(\varepsilon) = \Phi\Bigl(\frac{\mu}{2} - \frac{\varepsilon}{\mu}\Bigr)
        - e^{\varepsilon}\, \Phi\Bigl(-\frac{\mu}{2} - \frac{\varepsilon}{\mu}\Bigr).

References
----------
Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018 (arXiv 1805.06530). Dong, Roth
and Su, "Gaussian differential privacy", JRSS B 2022 (arXiv 1905.02383). Bun and Steinke, "Concentrated differential
privacy", TCC 2016 (arXiv 1605.02065). Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy",
NeurIPS 2020 (arXiv 2004.00010), for the conversion. Mironov, "Rényi differential privacy", CSF 2017 (arXiv 1702.07476).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import erfcx, ndtr

from ..kit.checking import not_negative, positive


def budget(epsilon: float, delta: float) -> None:
    """Raise `ValueError` unless epsilon is positive and finite and delta strictly between 0 and 1."""
    positive("epsilon", epsilon)
    probability("delta", delta)


def probability(name: str, value: float) -> None:
    """Raise `ValueError` unless a number is strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, both excluded: given {value}.")


# the exact curve


def gaussian_delta(mu: float, epsilon: float) -> float:
    r""":math:`\delta(\varepsilon)` of normal noise with :math:`\mu = \Delta / \sigma`.

    Raises `ValueError` for a negative `mu` or `epsilon`, and what is not finite.

    Examples
    --------
    >>> round(gaussian_delta(1.0, 1.0), 7)
    0.1269367
    """
    not_negative("mu", mu)
    not_negative("epsilon", epsilon)
    if mu == 0:
        return 0.0
    a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    # b² = a² + 2 ε, so that e^ε Φ(b) has the factor exp(-a² / 2), too: neither term overflows, and little cancels
    scale = 0.5 * math.exp(-0.5 * a * a) if abs(a) < 40 else 0.0
    second = scale * float(erfcx(-b / math.sqrt(2)))
    first = float(ndtr(a)) if a > 0 else scale * float(erfcx(-a / math.sqrt(2)))
    return max(first - second, 0.0)


def gaussian_epsilon(mu: float, delta: float) -> float:
    r"""The least :math:`\varepsilon \ge 0` with :math:`\delta(\varepsilon) \le \delta`, of normal noise with `mu`.

    It is rounded up: the figure returned keeps the promise. Raises `ValueError` for a negative `mu`, and a `delta` that
    is not between 0 and 1.

    Examples
    --------
    >>> round(gaussian_epsilon(1.0, 1e-5), 4)
    4.3772
    """
    not_negative("mu", mu)
    probability("delta", delta)
    holds = lambda epsilon: gaussian_delta(mu, epsilon) <= delta
    return 0.0 if holds(0.0) else _smallest(holds, max(mu, 1e-300))


def gaussian_mu(epsilon: float, delta: float) -> float:
    r"""The greatest :math:`\mu = \Delta / \sigma` whose normal noise is :math:`(\varepsilon, \delta)`-private.

    It is rounded down. Raises `ValueError` for an `epsilon` that is not positive or a `delta` outside of (0, 1).

    Examples
    --------
    >>> round(1 / gaussian_mu(1.0, 1e-5), 4)
    3.7306
    """
    budget(epsilon, delta)
    return 1 / _smallest(lambda z: gaussian_delta(1 / z, epsilon) <= delta, 1.0)


def _smallest(holds: Callable[[float], bool], start: float) -> float:
    """The least positive number from which on something holds, to all digits, on the side where it does."""
    low = high = start
    while not holds(high):
        high *= 2
    while low > 1e-290 and holds(low):
        low /= 2
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high
        low, high = (low, middle) if holds(middle) else (middle, high)


# zero-concentrated privacy


def gaussian_sigma(rho: float, sensitivity: float) -> float:
    r"""The standard deviation :math:`\Delta / \sqrt{2 \rho}` of normal noise that costs `rho`.

    Raises `ValueError` where one of the two is not positive.
    """
    positive("rho", rho)
    positive("sensitivity", sensitivity)
    return sensitivity / math.sqrt(2 * rho)


def cdp_delta(rho: float, epsilon: float) -> float:
    r"""The least :math:`\delta` that :math:`\rho`-zCDP implies at `epsilon`, over all orders of Rényi's divergence:

    .. math:: \min_{\alpha > 1} \frac{\exp\bigl((\alpha - 1)(\alpha \rho - \varepsilon)
        + \alpha \log(1 - 1/\alpha)\bigr)}{\alpha - 1}.

    Raises `ValueError` for a negative `rho` or `epsilon`.
    """
    not_negative("rho", rho)
    not_negative("epsilon", epsilon)
    if rho == 0:
        return 0.0
    # u = α - 1: the logarithm's derivative (2 u + 1) ρ - ε + log(u / (1 + u)) rises with u
    slope = lambda u: (2 * u + 1) * rho - epsilon - math.log1p(1 / u)
    u = _smallest(lambda u: slope(u) >= 0, 1.0)
    exponent = u * ((u + 1) * rho - epsilon) - (u + 1) * math.log1p(1 / u) - math.log(u)
    return min(math.exp(min(exponent, 0.0)), 1.0)


def cdp_rho(epsilon: float, delta: float) -> float:
    r"""The greatest :math:`\rho` whose zCDP implies :math:`(\varepsilon, \delta)`-privacy, rounded down.

    Raises `ValueError` for an `epsilon` that is not positive or a `delta` outside of (0, 1).

    Examples
    --------
    >>> round(cdp_rho(1.0, 1e-6), 8)
    0.02435597
    """
    budget(epsilon, delta)
    return 1 / _smallest(lambda inverse: cdp_delta(1 / inverse, epsilon) <= delta, 1.0)


def cdp_epsilon(rho: float, delta: float) -> float:
    r"""The least :math:`\varepsilon` that :math:`\rho`-zCDP implies at `delta`, rounded up.

    Raises `ValueError` for a negative `rho` or a `delta` outside of (0, 1).
    """
    not_negative("rho", rho)
    probability("delta", delta)
    holds = lambda epsilon: cdp_delta(rho, epsilon) <= delta
    return 0.0 if holds(0.0) else _smallest(holds, max(rho, 1e-300))


# Rényi privacy


def renyi_epsilon(orders: Sequence[float], divergences: Sequence[float], delta: float) -> float:
    r"""The least :math:`\varepsilon` that bounds of Rényi's divergences imply:

    .. math:: \min_\alpha\; D_\alpha + \log(1 - 1/\alpha) - \frac{\log(\alpha \delta)}{\alpha - 1}.

    Parameters
    ----------
    orders
        :math:`\alpha`, each above one.
    divergences
        :math:`D_\alpha`, one for each order; they add up over releases.
    delta
        Between 0 and 1.

    Raises
    ------
    ValueError
        For another number of divergences than orders, an order of one or less, a negative divergence or one that is not
        a number, and a `delta` outside of (0, 1).
    """
    probability("delta", delta)
    alpha, bounds = np.asarray(orders, float), np.asarray(divergences, float)
    if alpha.shape != bounds.shape or alpha.ndim != 1 or not alpha.size:
        raise ValueError(
            f"divergences must be one for each of the orders: given {bounds.shape} for orders of {alpha.shape}."
        )
    if not np.all(alpha > 1):
        raise ValueError(f"orders must be above 1: given {alpha.min()}.")
    if not np.all(bounds >= 0):
        raise ValueError(f"divergences must be zero or more: given {bounds.min()}.")
    found = bounds + np.log1p(-1 / alpha) - (np.log(delta) + np.log(alpha)) / (alpha - 1)
    return float(max(np.min(found), 0.0))
