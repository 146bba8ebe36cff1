"""The paper's claim on digits: few steps, searched, against every fixed spacing; layers; another sampler; the gradient.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Phase, Run

from ..digits import Recipe, trained
from . import digits
from .samplers import dpm_solver
from .schedules import spaced


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    training: int = 6000
    width: int = 256
    blocks: int = 6
    counts: tuple[int, ...] = (4, 6)
    """Numbers of steps."""
    generations: int = 6
    """Of the search of the first number of steps, on DDIM and on a second network."""
    other_generations: int = 4
    """Of the other searches of steps."""
    population: int = 50
    layer_generations: int = 5
    layer_population: int = 40
    off: tuple[int, ...] = (4, 8)
    """How many layers are left out of the last number of steps."""
    plug_in: bool = True
    """Whether steps are searched for another sampler."""
    transfer: bool = False
    """Whether the first search is repeated on a second network, which takes another training."""
    gradient_steps: int = 30
    """Quasi-Newton steps of the times learned by gradient."""
    samples: int = 1000
    """In a search of steps; in one of layers half as many."""
    fresh: int = 5000
    """In a figure that is reported."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            training=2,
            width=16,
            blocks=2,
            counts=(2,),
            generations=1,
            other_generations=1,
            population=4,
            layer_generations=1,
            layer_population=4,
            off=(1,),
            plug_in=False,
            gradient_steps=1,
            samples=80,
            fresh=100,
        )


@dataclass(frozen=True)
class Transfer:
    """The first network's steps on a second one."""

    own: digits.Search
    carried: float
    """The distance with the steps found on the first one, with fresh noise."""


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    searches: list[digits.Search]
    learned: digits.Learned
    layers: digits.Layers
    plugged: digits.Search | None
    """With DPM-Solver++."""
    borrowed: float | None
    """The distance with it on the steps that were found for DDIM."""
    transfer: Transfer | None
    images: dict[str, np.ndarray]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    first, last = settings.counts[0], settings.counts[-1]
    run.plan({"training, VP": 100, "steps": 150, "gradient": 20, "layers": 40, "plug-in": 50})
    recipe = Recipe(steps=settings.training, width=settings.width, blocks=settings.blocks, seed=settings.seed)
    network = trained(run, recipe).network
    sizes = {
        "search": settings.samples,
        "final": 2 * settings.samples,
        "report": settings.fresh,
        "again": settings.samples,
        "layers": settings.samples // 2,
    }
    judges = digits.Judges(network, run.key("judges"), sizes)
    options = {"generations": settings.other_generations, "population": settings.population}
    tries = settings.population * (settings.other_generations + 1)

    def steps(count: int, phase: Phase) -> digits.Search:
        chosen = options | ({"generations": settings.generations} if count == first else {})
        compare = count == first
        return digits.search(
            judges, count, run.random("steps", count), compare=compare, advance=phase.advance, **chosen
        )

    # the first number of steps is searched twice: by evolution, and by as many random sets
    both = 2 * settings.population * (settings.generations + 1) + tries * (len(settings.counts) - 1)
    searches = run.each("steps", settings.counts, steps, both // len(settings.counts))
    learned = run.part(
        "gradient",
        lambda _: digits.learn(
            network,
            run.key("judges"),
            first,
            samples=settings.samples,
            fresh=settings.fresh,
            max_steps=settings.gradient_steps,
        ),
    )
    layers = run.part(
        "layers",
        lambda phase: digits.search_layers(
            judges["layers"],
            judges["final"],
            searches[-1].steps,
            settings.blocks,
            settings.off,
            run.random("layers"),
            generations=settings.layer_generations,
            population=settings.layer_population,
            advance=phase.advance,
        ),
        last * settings.blocks + len(settings.off) * settings.layer_population * (settings.layer_generations + 1),
    )
    plugged = borrowed = None
    if settings.plug_in:
        other = digits.Judges(network, run.key("judges"), sizes, dpm_solver)
        plugged = run.part(
            "plug-in",
            lambda phase: digits.search(
                other, first, run.random("plug-in"), compare=False, advance=phase.advance, **options
            ),
            tries,
        )
        borrowed = other["report"](searches[0].steps)
    transfer = second_network(settings, run, searches[0], sizes) if settings.transfer else None
    z = jax.random.normal(run.key("images"), (20, digits.PIXELS))
    stride = spaced("stride", digits.chain(), first)
    images = {
        name: np.asarray(digits.drawn(network, jnp.asarray(steps), z))
        for name, steps in {"stride": stride, "searched": searches[0].steps}.items()
    }
    return Result(settings, searches, learned, layers, plugged, borrowed, transfer, images)


def second_network(settings: Settings, run: Run, first: digits.Search, sizes: dict[str, int]) -> Transfer:
    """Train once more with another seed, and search there too."""
    recipe = Recipe(steps=settings.training, width=settings.width, blocks=settings.blocks, seed=settings.seed + 1)
    judges = digits.Judges(trained(run, recipe).network, run.key("transfer"), sizes)
    options = {"generations": settings.generations, "population": settings.population}
    own = run.part(
        "transfer",
        lambda phase: digits.search(
            judges, first.count, run.random("transfer"), compare=False, advance=phase.advance, **options
        ),
        settings.population * (settings.generations + 1),
    )
    return Transfer(own, judges["report"](first.steps))
