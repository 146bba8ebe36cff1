"""The field's network as a model to be searched: fixed spacings, evolved steps and layers, learned times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..chains import Chain
from ..digits import PIXELS, dequantised, load
from ..distances import Moments, frechet_distance, square_root
from ..networks import ResidualNetwork
from ..predictions import convert
from ..processes import VPSDE
from .gradient import learn_times
from .samplers import SampleDistance, Sampler, ddim
from .schedules import SPACINGS, spaced
from .spaces import LayerSpace, StepSpace, search_schedule

STEPS = 1000
CLIP = 1.05


class DigitModel(eqx.Module):
    """The data prediction of a network that predicts noise, clipped."""

    network: ResidualNetwork

    def __call__(self, x: Array, t: Any, gates: Any = None) -> Array:
        """Of points at a time, with gates for the blocks."""
        process = VPSDE()
        noise = self.network(x, t, gates=gates)
        data = convert(noise, x, process.alpha(t), process.sigma(t), "noise", "data")
        return jnp.clip(data, -CLIP, CLIP)


def chain() -> Chain:
    """A thousand times, of the process that the network was trained with."""
    return Chain.of_process(VPSDE(), (jnp.arange(STEPS) + 1) / STEPS)


def truth(key: Array) -> Moments:
    """Of all images, made real numbers once."""
    pixels = np.concatenate([part.pixels for part in load()])
    return Moments.of(dequantised(key, pixels))


class Judges:
    """Distances of one network with one sampler: for the search, for the final, for the report, and once more."""

    def __init__(self, network: ResidualNetwork, key: Array, sizes: dict[str, int], sampler: Sampler = ddim):
        for_truth, *keys = jax.random.split(key, 1 + len(sizes))
        moments = truth(for_truth)
        self.by = {
            name: SampleDistance(
                chain(), DigitModel(network), jax.random.normal(key, (n, PIXELS)), moments, sampler=sampler
            )
            for key, (name, n) in zip(keys, sizes.items(), strict=True)
        }

    def __getitem__(self, name: str) -> SampleDistance:
        return self.by[name]


@dataclass(frozen=True)
class Search:
    """Sets of so many steps, and their distances."""

    count: int
    spacings: dict[str, float]
    """Of the rules, with fresh noise."""
    random: float | None
    """The least of as many random sets as the search has tried, with the search's noise."""
    steps: tuple[int, ...]
    searched: float
    """Of the set found, with the search's noise."""
    reported: float
    """And with fresh noise, and more samples."""
    again: float
    """With the search's number of samples, and other noise."""
    history: list[float]
    invalid: int


def search(
    judges: Judges,
    count: int,
    random: np.random.Generator,
    *,
    generations: int,
    population: int,
    compare: bool,
    advance: Callable[[int], None],
) -> Search:
    """Evolve sets of steps, from DDIM's stride on."""
    space, levels = StepSpace(STEPS, count), chain()
    settings = {"generations": generations, "population": population, "advance": advance}
    if population < 40:
        settings |= {"mutants": population // 2, "crossovers": population // 4}
    first = [spaced("stride", levels, count)]
    found = search_schedule(random, space, judges["search"], final=judges["final"], first=first, **settings)
    tries = found.evolution.evaluations
    best = None
    if compare:
        best = min(judges["search"](space.random(random)) for _ in range(tries))
        advance(tries)
    return Search(
        count,
        {name: judges["report"](spaced(name, levels, count)) for name in SPACINGS},
        best,
        found.best,
        found.value,
        judges["report"](found.best),
        judges["again"](found.best),
        found.evolution.history,
        found.evolution.invalid,
    )


@dataclass(frozen=True)
class Learned:
    """Times by the gradient."""

    start: str
    times: list[float]
    started: float
    value: float
    """With the search's noise, before and after."""
    reported: float
    steps: int
    status: str


def learn(network: ResidualNetwork, key: Array, count: int, *, samples: int, fresh: int, max_steps: int) -> Learned:
    """From the quadratic spacing, by quasi-Newton steps through the sampler."""
    for_truth, for_noise, for_fresh = jax.random.split(key, 3)
    moments, model, process = truth(for_truth), DigitModel(network), VPSDE()
    root = square_root(moments.covariance)

    def distance(times: Array, z: Array) -> Array:
        x = ddim(Chain.of_process(process, times), z, model)
        return frechet_distance(Moments.of(x), moments, root=root)

    z = jax.random.normal(for_noise, (samples, PIXELS))
    start = (jnp.asarray(spaced("quadratic", chain(), count)) + 1) / STEPS
    # the last time may not be that of all noise itself: it would have no room to move
    start = jnp.minimum(start, 1 - 1 / STEPS)
    found = learn_times(lambda times: distance(times, z), start, max_steps=max_steps)
    reported = jax.jit(distance)(found.times, jax.random.normal(for_fresh, (fresh, PIXELS)))
    return Learned(
        "quadratic",
        [float(t) for t in found.times],
        found.start,
        found.value,
        float(reported),
        found.steps,
        str(found.status),
    )


@dataclass(frozen=True)
class Layers:
    """Layers left out of a fixed set of steps."""

    steps: tuple[int, ...]
    blocks: int
    full: float
    """Of the whole network, with the number of samples of the figures below."""
    single: np.ndarray
    """What leaving one out adds, with the search's noise, by step and block."""
    off: tuple[int, ...]
    random: list[float]
    """The least of 25 random masks, with the search's noise."""
    searched: list[float]
    """Of the evolved mask, with the search's noise."""
    evolved: list[float]
    """And with more samples."""
    greedy: list[float]
    """Of the mask of those that cost least one by one, with more samples."""
    gates: list[np.ndarray]
    """The evolved masks."""


def search_layers(
    judge: SampleDistance,
    larger: SampleDistance,
    steps: tuple[int, ...],
    blocks: int,
    off: tuple[int, ...],
    random: np.random.Generator,
    *,
    generations: int,
    population: int,
    advance: Callable[[int], None],
) -> Layers:
    """Evolve masks with exactly so many layers left out."""
    K = len(steps)
    ones = np.ones((K, blocks), np.float32)
    whole = judge(steps, ones)
    single = np.empty(K * blocks)
    for i in range(K * blocks):
        single[i] = judge(steps, LayerSpace(K, blocks, 1).gates((i,))) - whole
    advance(K * blocks)
    order = np.argsort(single)
    found = Layers(steps, blocks, larger(steps, ones), single.reshape(K, blocks), off, [], [], [], [], [])
    for count in off:
        space = LayerSpace(K, blocks, count)
        distance = lambda one, space=space: judge(steps, space.gates(one))
        tries = min(25, population)
        mutants, crossovers = population * 25 // 40, population * 12 // 40
        best = search_schedule(
            random,
            space,
            distance,
            generations=generations,
            population=population,
            mutants=mutants,
            crossovers=crossovers,
            advance=advance,
        )
        found.random.append(min(distance(space.random(random)) for _ in range(tries)))
        found.searched.append(best.value)
        found.evolved.append(larger(steps, space.gates(best.best)))
        found.greedy.append(larger(steps, space.gates(tuple(sorted(order[:count].tolist())))))
        found.gates.append(space.gates(best.best))
    return found


@eqx.filter_jit
def drawn(network: ResidualNetwork, steps: Array, z: Array) -> Array:
    """Images on a set of steps."""
    return ddim(chain().respaced(steps), z, DigitModel(network))
