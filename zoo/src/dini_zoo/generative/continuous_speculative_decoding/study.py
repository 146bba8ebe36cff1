"""Whether speculative decoding keeps the target's law: of single tokens and of sequences with closed forms, of digits.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import numpy as np

from dini_zoo.kit.checking import some_of
from dini_zoo.kit.run import Phase, Run

from . import images, pair, sequences, tokens
from .gaussians import Gaussian, overlap
from .images import Images, Networks
from .sequences import KINDS, Case
from .tokens import Tokens

PARTS = ("pair", "tokens", "sequences", "digits")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    parts: tuple[str, ...] = PARTS
    """What is done."""
    draws: int = 1_000_000
    """Of the pair of Gaussians by the exact rule; a fifth of them by others."""
    tokens: int = 200_000
    """Single tokens."""
    sequences: int = 20_000
    """A case; a tenth of them without shared noise."""
    length: int = 32
    """Tokens in a sequence."""
    compared: int = 1000
    """Sequences whose energy distance is tested."""
    kinds: tuple[str, ...] = KINDS
    """Ways to decode sequences."""
    gammas: tuple[int, ...] = (1, 2, 4, 8)
    """Draft lengths of sequences."""
    gamma: int = 4
    """The draft length that prefilling, biased rules and digits are tried with."""
    training: int = 2000
    """Steps of a network's training on digits."""
    target: tuple[int, int] = (128, 128)
    """Widths of the target's trunk and head, and below of the draft's."""
    draft: tuple[int, int] = (32, 48)
    larger: tuple[int, int] = (64, 96)
    """Another draft, for the first seed."""
    images: int = 2000
    """In a set."""
    image_gammas: tuple[int, ...] = (1, 2, 4, 7)
    """Draft lengths of digits."""

    def __post_init__(self) -> None:
        some_of("parts", self.parts, PARTS)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            parts=("sequences",),
            draws=500,
            tokens=100,
            sequences=40,
            length=6,
            compared=20,
            kinds=("reflection",),
            gammas=(2,),
            gamma=2,
            training=2,
            target=(8, 8),
            draft=(4, 4),
            larger=(4, 6),
            images=20,
            image_gammas=(2,),
        )


@dataclass(frozen=True)
class Coupling:
    """The closed form beside dini's transport, on a grid."""

    law: np.ndarray
    grid: np.ndarray
    plan: np.ndarray
    """The transport."""
    difference: float
    """The greatest between the two plans, over the greatest entry."""
    overlap: float
    """What stays where it is, by the transport."""
    closed: float
    """The same of the laws that are not cut into pieces, in closed form."""


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    pairs: list[pair.Tried] | None
    coupling: Coupling | None
    tokens: list[Tokens] | None
    sequences: list[list[Case]] | None
    images: list[Images] | None


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"pair": 5, "tokens": 15, "sequences": 70, "training digits": 75, "digits": 50})
    done = lambda name: name in settings.parts
    pairs, coupling = pairs_of(settings, run) if done("pair") else (None, None)
    of_tokens = of_sequences = of_images = None
    if done("tokens"):
        program = tokens.program()
        key = lambda seed: run.key("tokens", seed)
        of_tokens = run.each(
            "tokens", settings.seeds, lambda seed, _: tokens.drawn(program, key(seed), settings.tokens)
        )
    if done("sequences"):
        of_sequences = sequences_of(settings, run)
    if done("digits"):
        of_images = digits_of(settings, run)
    return Result(settings, pairs, coupling, of_tokens, of_sequences, of_images)


def pairs_of(settings: Settings, run: Run) -> tuple[list[pair.Tried], Coupling]:
    """Rules on one pair of Gaussians, and the coupling on a grid."""

    def fun(_: Phase) -> tuple[list[pair.Tried], Coupling]:
        program, draws = pair.program(), settings.draws // 5
        rules = ((1.0, 1.0, 5), (2.0, 1.0, 1), (4.0, 1.0, 1), (1.0, 42.0, 1))
        found = [
            pair.tried(program, run.key("pair", i), sigma, relax, draws, times)
            for i, (sigma, relax, times) in enumerate(rules)
        ]
        distance = 1.2
        law, grid = pair.on_a_grid(distance, 37)
        plan, ours = pair.transport_plan(law, grid), pair.reflection_plan(law, grid)
        with jax.enable_x64(True):
            q, p = (Gaussian(np.array([mean]), np.ones(1)) for mean in (0.0, distance))
            closed = float(overlap(q, p))
        apart = float(np.abs(plan - ours).max() / ours.max())
        return found, Coupling(law, grid, plan, apart, float(np.trace(plan)), closed)

    return run.part("pair", fun)


def sequences_of(settings: Settings, run: Run) -> list[list[Case]]:
    """Cases by seed."""
    programs = sequences.programs(settings.kinds, settings.gammas, settings.gamma, settings.length)

    def fun(seed: int, phase: Phase) -> list[Case]:
        random_key = run.key("sequences", seed)
        return sequences.decoded(
            programs, random_key, n=settings.sequences, length=settings.length, compared=settings.compared, phase=phase
        )

    return run.each("sequences", settings.seeds, fun, len(programs), pairs=True)


def digits_of(settings: Settings, run: Run) -> list[Images]:
    """Networks and their samples by seed."""
    recipe = images.Recipe(settings.training, settings.target, settings.draft, settings.larger)
    trainers = images.trainers(recipe)

    def train(seed: int, phase: Phase) -> Networks:
        larger = seed == settings.seeds[0]
        return images.train(recipe, trainers, run.key("training", seed), larger=larger, advance=phase.advance)

    networks = run.each("training digits", settings.seeds, train, 2 * settings.training, pairs=True)
    programs = images.programs(settings.image_gammas, settings.gamma)

    def draw(numbered: tuple[int, Networks], phase: Phase) -> Images:
        seed, found = numbered
        return images.drawn(programs, found, run.key("digits", seed), n=settings.images, gamma=settings.gamma)

    return run.each("digits", zip(settings.seeds, networks, strict=True), draw)
