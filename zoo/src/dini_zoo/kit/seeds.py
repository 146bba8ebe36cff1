"""Figures of several seeds: their mean with an interval, and the differences of two methods seed by seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """The mean of a figure over repetitions, and the half width of its interval of 95 percent.

    Formatted as a number is: `f"{estimate:.3f}"` is `0.052 ± 0.008`. One repetition alone has no interval.

    Examples
    --------
    >>> print(Estimate.of([1.0, 2.0, 3.0]))
    2.00 ± 2.48
    >>> f"{Estimate.of([0.5]):.1%}"
    '50.0%'
    """

    mean: float
    width: float
    """Half of the interval's; NaN for one repetition."""
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float], *, scale: float = 1.0, normal: bool = False) -> Estimate:
        """The estimate of some values, each times `scale`.

        The interval is Student's, `t s / √n`. With `normal` it is 1.96 standard errors, as papers with many repetitions
        write it.
        """
        found = scale * np.asarray(list(values), float)
        if not found.size:
            raise ValueError("An estimate needs at least one value: given none.")
        n = len(found)
        factor = 1.96 if normal else float(stats.t.ppf(0.975, n - 1)) if n > 1 else np.nan
        width = factor * float(np.std(found, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
        return cls(float(found.mean()), float(width), tuple(map(float, found)))

    @property
    def median(self) -> float:
        """The median of the values."""
        return float(np.median(self.values))

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.width

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.mean + self.width

    def __format__(self, form: str) -> str:
        form = form or ".2f"
        return f"{self.mean:{form}}" if np.isnan(self.width) else f"{self.mean:{form}} ± {self.width:{form}}"

    def __str__(self) -> str:
        return format(self)

    @property
    def range(self) -> str:
        """The least and the greatest value, as text."""
        return f"{min(self.values):.3g} to {max(self.values):.3g}"


@dataclass(frozen=True)
class Paired:
    """One method's figures minus another's, seed by seed: what the seeds have in common drops out.

    Examples
    --------
    >>> found = Paired.of([0.8, 0.9, 0.7], [0.7, 0.7, 0.8])
    >>> found.wins, found.losses, f"{found:.2f}"
    (2, 1, '+0.07 ± 0.38')
    """

    difference: Estimate
    wins: int
    """How often the first is greater."""
    losses: int
    """How often it is less."""

    @classmethod
    def of(cls, one: Iterable[float], other: Iterable[float], *, scale: float = 1.0, normal: bool = False) -> Paired:
        """The differences of two lists of figures of the same seeds; raises `ValueError` if their lengths differ."""
        gains = [a - b for a, b in zip(one, other, strict=True)]
        difference = Estimate.of(gains, scale=scale, normal=normal)
        return cls(difference, sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0

    def __format__(self, form: str) -> str:
        return (
            f"{self.difference.mean:+{form or '.2f'}}"
            + format(self.difference, form)[len(f"{self.difference.mean:{form or '.2f'}}") :]
        )

    def __str__(self) -> str:
        return format(self)
