"""What is searched: sets of steps, masks of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from dini_zoo.kit.checking import at_least, between

from .evolution import Evolution, Space, evolve

type Steps = tuple[int, ...]
#: Indices of layers that are left out, counted through all steps: step times layers plus layer.
type Off = tuple[int, ...]


@dataclass(frozen=True)
class StepSpace:
    """Sets of `count` different steps of `steps`, as tuples that rise; `ValueError` unless 1 ≤ count ≤ steps.

    A step that changes becomes any other one, as in the paper; half of the time one at most `reach` away, which finds
    the last few places of an optimum. If it is not given, `reach` is 3, or three hundredths of the steps where that is
    more; with 0 all of the changes are the paper's.
    """

    steps: int
    count: int
    reach: int | None = None

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("count", self.count, 1)
        if self.reach is not None:
            at_least("reach", self.reach, 0)
        if self.count > self.steps:
            raise ValueError(f"count must be at most steps, {self.steps}: given {self.count}.")

    @property
    def size(self) -> float:
        """How many sets there are."""
        return comb(self.steps, self.count)

    def canonical(self, one: Any) -> Steps:
        """A set in any order, as a tuple that rises; `ValueError` for steps that repeat, lack or are out of range."""
        found = tuple(sorted(int(step) for step in one))
        if len(set(found)) != self.count or len(found) != self.count or not 0 <= found[0] <= found[-1] < self.steps:
            raise ValueError(f"A candidate is {self.count} different numbers from 0 to {self.steps - 1}: given {one}.")
        return found

    def random(self, random: np.random.Generator) -> Steps:
        """Any set."""
        return tuple(sorted(random.choice(self.steps, self.count, replace=False).tolist()))

    def mutate(self, random: np.random.Generator, one: Steps, probability: float) -> Steps:
        """Each step becomes one that is not used, with a probability."""
        between("probability", probability, 0, 1)
        if self.count == self.steps:
            return one
        found = list(one)
        reach = max(3, round(0.03 * self.steps)) if self.reach is None else self.reach
        for i in range(self.count):
            if random.random() < probability:
                free = np.setdiff1d(np.arange(self.steps), found)
                if reach and random.random() < 0.5:
                    near = free[np.abs(free - found[i]) <= reach]
                    free = near if len(near) else free
                found[i] = int(random.choice(free))
        return tuple(sorted(found))

    def cross(self, random: np.random.Generator, one: Steps, other: Steps) -> Steps | None:
        """Each position from either; nothing where a step would repeat."""
        mine = random.random(self.count) < 0.5
        found = tuple(sorted(np.where(mine, one, other).tolist()))
        return found if len(set(found)) == self.count else None


@dataclass(frozen=True)
class LayerSpace:
    """Which layers are left out, `off` of `steps` times `layers`; `ValueError` unless one is left out and one stays.

    A candidate is a tuple of indices that rise, `step * layers + layer`. :meth:`gates` makes it an array of ones and
    zeros.
    """

    steps: int
    layers: int
    off: int

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("layers", self.layers, 1)
        if not 0 < self.off < self.steps * self.layers:
            raise ValueError(f"off must be from 1 to {self.steps * self.layers - 1}: given {self.off}.")

    @property
    def size(self) -> float:
        """How many masks there are."""
        return comb(self.steps * self.layers, self.off)

    @property
    def _places(self) -> StepSpace:
        # layers beside each other are no more alike than others
        return StepSpace(self.steps * self.layers, self.off, reach=0)

    def gates(self, one: Off) -> np.ndarray:
        """1 where a layer stays, `(steps, layers)`."""
        found = np.ones(self.steps * self.layers, np.float32)
        found[list(one)] = 0.0
        return found.reshape(self.steps, self.layers)

    def canonical(self, one: Any) -> Off:
        """A mask in any order, as a tuple that rises; `ValueError` for one that is none of these."""
        return self._places.canonical(one)

    def random(self, random: np.random.Generator) -> Off:
        """Any mask."""
        return self._places.random(random)

    def mutate(self, random: np.random.Generator, one: Off, probability: float) -> Off:
        """Each layer that is left out comes back with a probability, and another one goes."""
        return self._places.mutate(random, one, probability)

    def cross(self, random: np.random.Generator, one: Off, other: Off) -> Off:
        """So many of those that either leaves out."""
        union = sorted(set(one) | set(other))
        return tuple(sorted(random.choice(union, self.off, replace=False).tolist()))


@dataclass(frozen=True)
class SearchResult:
    """The best candidate of a search."""

    best: Any
    value: float
    """As the search saw it."""
    finals: list[tuple[float, Any]]
    """The finalists, in the order of their figures from fresh samples; empty where there was no final."""
    evolution: Evolution[Any]


def search_schedule(
    random: np.random.Generator,
    space: Space[Any],
    evaluate: Callable[[Any], float],
    *,
    final: Callable[[Any], float] | None = None,
    finalists: int = 10,
    first: Sequence[Any] = (),
    **settings: Any,
) -> SearchResult:
    """Evolve candidates, and have the best of them evaluated again by fresh samples.

    The least of many noisy figures is too small. A final with other noise and more samples chooses without that error.

    Parameters
    ----------
    random, space, first
        As in :func:`evolve`.
    evaluate
        The figure of a candidate, with the same noise for all of them.
    final
        The same with fresh noise, for the `finalists` best.
    settings
        Others of :func:`evolve`.
    """
    at_least("finalists", finalists, 1)
    settings.setdefault("parents", max(finalists, 10))
    found = evolve(random, space, lambda many: [evaluate(one) for one in many], first=first, **settings)
    if final is None:
        return SearchResult(found.best, found.value, [], found)
    judged = sorted(((final(one), one) for _, one in found.archive[:finalists]), key=lambda pair: pair[0])
    value = dict((one, figure) for figure, one in found.archive)[judged[0][1]]
    return SearchResult(judged[0][1], value, judged, found)
