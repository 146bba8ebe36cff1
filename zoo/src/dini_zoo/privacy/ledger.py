r"""A ledger of releases: what has left the trusted server, and what it cost in sum.

Accountants: `"gaussian"`, the exact curve, where all is plain normal noise; `"zcdp"`, where all has a
:math:`\rho` of zero-concentrated privacy; `"rdp"` and `"pld"`, those of the library dp-accounting (the extra
`privacy`), which know sampled batches. Composition is adaptive: what is released later may depend on what was released
before, but the number of releases and their multipliers must not depend on the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..kit.checking import at_least, not_negative, one_of
from .accounting import cdp_epsilon, gaussian_epsilon, probability

type Accountant = Literal["gaussian", "zcdp", "rdp", "pld"]
type Neighbors = Literal["replace_one", "add_or_remove_one"]

ACCOUNTANTS: tuple[Accountant, ...] = ("gaussian", "zcdp", "rdp", "pld")
#: Of Rényi's divergences of sampled batches.
ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512)
NEIGHBORS: tuple[Neighbors, ...] = ("replace_one", "add_or_remove_one")


@dataclass(frozen=True)
class GaussianRelease:
    """Normal noise on answers to the whole of the data."""

    name: str
    multiplier: float
    """:math:`z`: the noise's standard deviation over the sensitivity; of 0 nothing is private."""
    count: int = 1
    """How many of them."""

    def __post_init__(self) -> None:
        not_negative("multiplier", self.multiplier)
        at_least("count", self.count, 0)

    @property
    def rho(self) -> float:
        r""":math:`1 / (2 z^2)` for each."""
        if not self.count:
            return 0.0
        return self.count / (2 * self.multiplier**2) if self.multiplier else math.inf

    def event(self) -> Any:
        """As dp-accounting has it."""
        import dp_accounting

        return dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(self.multiplier), self.count)


@dataclass(frozen=True)
class ConcentratedRelease:
    r"""What is :math:`\rho`-zCDP, such as a choice by the exponential mechanism, which is :math:`\varepsilon^2 / 8`."""

    name: str
    each: float
    r""":math:`\rho` of one."""
    count: int = 1

    def __post_init__(self) -> None:
        not_negative("each", self.each)
        at_least("count", self.count, 0)

    @property
    def rho(self) -> float:
        """Of all of them."""
        return self.count * self.each

    def event(self) -> Any:
        """As dp-accounting has it."""
        import dp_accounting

        return dp_accounting.SelfComposedDpEvent(dp_accounting.ZCDpEvent(self.each), self.count)


@dataclass(frozen=True)
class SampledRelease:
    """Normal noise on answers to a batch that is redrawn each time, and kept secret.

    Among replaced records a batch of exactly `batch` of `population` records, without replacement; among added or
    removed ones a batch that each record enters with probability `batch / population`, by itself (Poisson).
    """

    name: str
    multiplier: float
    """The noise's standard deviation over the sensitivity of an answer to a batch."""
    batch: float
    population: int
    count: int = 1

    def __post_init__(self) -> None:
        not_negative("multiplier", self.multiplier)
        at_least("count", self.count, 0)
        at_least("population", self.population, 1)
        if not 0 < self.batch <= self.population:
            raise ValueError(f"batch must be above 0 and at most {self.population}: given {self.batch}.")

    def event(self, neighbors: Neighbors) -> Any:
        """As dp-accounting has it."""
        import dp_accounting

        inner = dp_accounting.GaussianDpEvent(self.multiplier)
        if neighbors == "replace_one":
            one = dp_accounting.SampledWithoutReplacementDpEvent(self.population, int(self.batch), inner)
        else:
            one = dp_accounting.PoissonSampledDpEvent(self.batch / self.population, inner)
        return dp_accounting.SelfComposedDpEvent(one, self.count)


type Release = GaussianRelease | ConcentratedRelease | SampledRelease


@dataclass(frozen=True)
class Ledger:
    """Releases, in any order.

    Examples
    --------
    >>> spent = Ledger().add(GaussianRelease("sums", 10.0, 4), GaussianRelease("a mean", 5.0))
    >>> round(spent.rho, 3), round(privacy_spent(spent, 1e-5), 3)
    (0.04, 1.061)
    """

    releases: tuple[Release, ...] = ()
    neighbors: Neighbors = "replace_one"
    """For which sensitivities hold: one record replaced by any other, or one more or less."""

    def __post_init__(self) -> None:
        one_of("neighbors", self.neighbors, NEIGHBORS)
        for release in self.releases:
            whole = isinstance(release, SampledRelease) and self.neighbors == "replace_one"
            if whole and release.batch != int(release.batch):
                raise ValueError(f"batch must be a whole number where records are replaced: given {release.batch}.")

    def add(self, *releases: Release) -> Ledger:
        """The ledger with further releases."""
        return replace(self, releases=(*self.releases, *releases))

    @property
    def rho(self) -> float:
        r"""The sum of zero-concentrated privacy. Raises `ValueError` where a release has none that is known."""
        for release in self.releases:
            if isinstance(release, SampledRelease):
                raise ValueError(
                    f"{release.name!r} is of sampled batches: its cost is no ρ; take the accountant 'rdp'."
                )
        return math.fsum(release.rho for release in self.releases if not isinstance(release, SampledRelease))

    def event(self) -> Any:
        """All of it as an event of dp-accounting."""
        import dp_accounting

        events = [
            release.event(self.neighbors) if isinstance(release, SampledRelease) else release.event()
            for release in self.releases
            if release.count
        ]
        return dp_accounting.ComposedDpEvent(events)


def privacy_spent(ledger: Ledger, delta: float, accountant: Accountant = "gaussian") -> float:
    r"""The :math:`\varepsilon` that a ledger's releases have together at `delta`.

    Parameters
    ----------
    ledger
        What was released.
    delta
        Between 0 and 1; below one over the number of records, if it is to promise anything.
    accountant
        `"gaussian"` is exact for plain normal noise. `"zcdp"` is for all but sampled batches. `"rdp"` is for
        everything. `"pld"` discretizes the law of the privacy loss, and is for all but a `ConcentratedRelease` and
        batches without replacement.

    Returns
    -------
    float
        :math:`\varepsilon`; 0 of an empty ledger, infinite where something has no noise.

    Raises
    ------
    ValueError
        For an accountant that does not know one of the releases, and a `delta` outside of (0, 1).
    ModuleNotFoundError
        Where dp-accounting is needed and not installed.
    """
    probability("delta", delta)
    one_of("accountant", accountant, ACCOUNTANTS)
    released = [release for release in ledger.releases if release.count]
    if not released:
        return 0.0
    if any(not isinstance(release, ConcentratedRelease) and release.multiplier == 0 for release in released):
        return math.inf
    if accountant == "gaussian":
        for release in ledger.releases:
            if not isinstance(release, GaussianRelease):
                raise ValueError(
                    f"The accountant 'gaussian' knows plain normal noise alone, and {release.name!r} is a "
                    f"{type(release).__name__}: take 'rdp'."
                )
        return gaussian_epsilon(math.sqrt(2 * ledger.rho), delta)
    if accountant == "zcdp":
        return cdp_epsilon(ledger.rho, delta)
    return _by_dp_accounting(ledger, delta, accountant)


def _by_dp_accounting(ledger: Ledger, delta: float, accountant: Accountant) -> float:
    import dp_accounting

    relation = getattr(dp_accounting.NeighboringRelation, ledger.neighbors.upper())
    if accountant == "rdp":
        from dp_accounting import rdp

        # of sampled batches: between whole orders there are an interpolation and a series that need not converge
        sampled = any(isinstance(release, SampledRelease) for release in ledger.releases)
        counted: Any = rdp.RdpAccountant(ORDERS if sampled else None, neighboring_relation=relation)
    else:
        from dp_accounting import pld

        for release in ledger.releases:
            if not isinstance(release, GaussianRelease) and ledger.neighbors == "replace_one":
                raise ValueError(f"The accountant 'pld' does not know {release.name!r}: take 'rdp'.")
        # with REPLACE_ONE this accountant takes multipliers of another unit, and doubles sensitivities: the law of the
        # loss of plain normal noise depends on our multiplier alone
        counted = pld.PLDAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    try:
        counted.compose(ledger.event())
    except dp_accounting.UnsupportedEventError as error:
        raise ValueError(f"The accountant {accountant!r} does not know one of the releases: {error}") from error
    return float(counted.get_epsilon(delta))
