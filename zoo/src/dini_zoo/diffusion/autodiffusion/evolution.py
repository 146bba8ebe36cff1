"""An evolutionary search over candidates that can be compared and hashed: one loop on the host, for any space.

References
----------
Li, Li, Zheng, Wu, Xiao, Wang, Zheng, Pan, Chao and Ji, "AutoDiffusion: training-free optimization of time steps and
architectures for automated diffusion model acceleration", ICCV 2023 (arXiv 2309.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dini_zoo.kit.checking import at_least

#: How often as many tries as children are wanted are made to find one that was not seen.
TRIES = 10


class Space[C: Hashable](Protocol):
    """Candidates, in one form each: equal ones are equal objects."""

    @property
    def size(self) -> float:
        """How many there are."""
        ...

    def canonical(self, one: C) -> C:
        """One that a user gave, in its one form; `ValueError` where it is none of them."""
        ...

    def random(self, random: np.random.Generator) -> C:
        """Any of them."""
        ...

    def mutate(self, random: np.random.Generator, one: C, probability: float) -> C:
        """One like another, each of its genes changed with a probability."""
        ...

    def cross(self, random: np.random.Generator, one: C, other: C) -> C | None:
        """A mixture of two, or nothing where it would be none."""
        ...


@dataclass(frozen=True)
class Evolution[C: Hashable]:
    """What a search found."""

    best: C
    value: float
    archive: list[tuple[float, C]]
    """The best of all, in order."""
    history: list[float]
    """The least value so far, after each evaluation."""
    invalid: int
    """How many values were not finite: these count as infinite."""
    exhausted: bool
    """Whether no candidate was left that had not been seen."""

    @property
    def evaluations(self) -> int:
        """How many different candidates were valued."""
        return len(self.history)


def evolve[C: Hashable](
    random: np.random.Generator,
    space: Space[C],
    evaluate: Callable[[Sequence[C]], Sequence[float]],
    *,
    first: Sequence[C] = (),
    population: int = 50,
    parents: int = 10,
    mutants: int = 25,
    crossovers: int = 12,
    generations: int = 10,
    mutation: float = 0.25,
    first_mutation: float = 0.1,
    advance: Callable[[int], None] = lambda steps: None,
) -> Evolution[C]:
    """Search for the candidate of the least value; each is valued once.

    The first population is what is given, random candidates, and mutants of the first one given. Of every later one, so
    many are mutants and crossings of the best of all that were seen, and the rest are random.

    Parameters
    ----------
    random
        NumPy's generator: the search is a function of its state.
    space
        The candidates.
    evaluate
        Values of several candidates, less is better. What is not finite counts as infinite.
    first
        Candidates to start with, in any form.
    population, parents, mutants, crossovers, generations
        Candidates in a population, how many of the best have children, and how many of the children are of either kind.
        With `g` generations there are at most `(g + 1) * population` evaluations.
    mutation, first_mutation
        The probability with which a gene changes, and that in the first population.
    advance
        Is called with the number of new evaluations.

    Raises
    ------
    ValueError
        For counts out of range, a first candidate that is none of the space's, and where no value was finite.

    Examples
    --------
    >>> from dini_zoo.diffusion.autodiffusion import StepSpace
    >>> space = StepSpace(steps=30, count=2)
    >>> found = evolve(np.random.default_rng(0), space, lambda sets: [abs(a - 4) + abs(b - 11) for a, b in sets])
    >>> found.best
    (4, 11)
    """
    at_least("population", population, 2)
    at_least("parents", parents, 1)
    at_least("generations", generations, 0)
    if mutants < 0 or crossovers < 0 or mutants + crossovers > population:
        raise ValueError(
            "mutants and crossovers must be zero or more, and together at most the population of "
            f"{population}: given {mutants} and {crossovers}."
        )
    seen: dict[C, float] = {}
    history: list[float] = []
    invalid = 0

    def archive() -> list[tuple[float, C]]:
        return [(figure, one) for one, figure in sorted(seen.items(), key=lambda item: item[1])[:parents]]

    def unseen(make: Callable[[], C | None], count: int, chosen: list[C]) -> None:
        """Add so many new candidates, if they are found."""
        known = set(chosen)
        added = 0
        for _ in range(TRIES * count):
            if added >= count or len(seen) + len(chosen) >= space.size:
                return
            child = make()
            if child is not None and child not in seen and child not in known:
                chosen.append(child)
                known.add(child)
                added += 1

    def value(candidates: list[C]) -> None:
        nonlocal invalid
        values = [float(one) for one in evaluate(candidates)]
        for one, figure in zip(candidates, values, strict=True):
            invalid += not np.isfinite(figure)
            seen[one] = figure if np.isfinite(figure) else np.inf
            history.append(min(seen[one], history[-1] if history else np.inf))
        advance(len(candidates))

    start = list(dict.fromkeys(map(space.canonical, first)))[:population]
    if start:
        half = max((population - len(start)) // 2, 0)
        unseen(lambda: space.mutate(random, start[0], first_mutation), half, start)
    unseen(lambda: space.random(random), population - len(start), start)
    value(start)
    exhausted = False
    best: list[C] = []
    pick = lambda: best[random.integers(len(best))]
    for _ in range(generations):
        best[:] = [one for _, one in archive()]
        children: list[C] = []
        unseen(lambda: space.mutate(random, pick(), mutation), mutants, children)
        unseen(lambda: space.cross(random, pick(), pick()), crossovers, children)
        unseen(lambda: space.random(random), population - len(children), children)
        if not children:
            exhausted = True
            break
        value(children)
    found = archive()
    if not np.isfinite(found[0][0]):
        raise ValueError(
            f"No candidate had a finite value: {len(seen)} were valued. Look at one of them: {found[0][1]}."
        )
    return Evolution(found[0][1], found[0][0], found, history, invalid, exhausted or len(seen) >= space.size)
