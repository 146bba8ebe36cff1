"""The paper's claims at a size for two cores: the tilted law is known of short words and in a plane, not of networks.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax

from dini_zoo.kit.checking import some_of
from dini_zoo.kit.run import Run

from ..digits import Recipe, trained
from . import compression, learned, plane, words

PARTS = ("short words", "plane", "long words", "digits")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    parts: tuple[str, ...] = PARTS
    """What is done."""
    word_counts: tuple[int, ...] = (1, 4, 10, 30, 100)
    """Candidates for short words, all of whose values are known."""
    word_chains: int = 40_000
    greedy: int = 10
    """Candidates with temperature 0, particles, and candidates for long words and digits."""
    plane_counts: tuple[int, ...] = (1, 2, 5, 10, 20)
    plane_chains: int = 4000
    keys: int = 3
    """How often the plane and long words are decoded."""
    sequences: int = 20_000
    """Long words to train with."""
    training: int = 3000
    """Steps of the denoiser's training, and below of the value's."""
    value_training: int = 1500
    rollouts: int = 4000
    width: int = 256
    batch: int = 300
    """Long words that are drawn."""
    temperatures: tuple[float, ...] = (0.0, 0.05, 0.3)
    methods: tuple[str, ...] = learned.METHODS
    """That decode long words."""
    values: tuple[str, ...] = learned.VALUES
    """The reward of the prediction, and a fitted value, of long words."""
    digit_training: int = 6000
    digit_width: int = 256
    digit_steps: int = 50
    digits: int = 200
    digit_temperature: float = 0.5
    """In bytes."""

    def __post_init__(self) -> None:
        some_of("parts", self.parts, PARTS)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            parts=("short words", "long words"),
            word_counts=(2,),
            word_chains=200,
            greedy=2,
            plane_counts=(1, 2),
            plane_chains=50,
            keys=1,
            sequences=64,
            training=2,
            value_training=2,
            rollouts=16,
            width=8,
            batch=10,
            temperatures=(0.3,),
            methods=("SVDD",),
            values=("PM",),
            digit_training=2,
            digit_width=16,
            digit_steps=4,
            digits=8,
        )


@dataclass(frozen=True)
class Long:
    """Long words."""

    bound: float
    """Of the denoiser, on the negative log-likelihood."""
    entropy: float
    outcomes: list[learned.Outcome]


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    words: words.Words | None
    plane: plane.Plane | None
    long: Long | None
    images: list[compression.Images] | None


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"short words": 40, "plane": 20, "training": 15, "long words": 20, "training, VP": 100, "digits": 15})
    parts = {"short words": short_words, "plane": flat, "long words": long_words, "digits": digits}
    return Result(settings, *(fun(settings, run) if name in settings.parts else None for name, fun in parts.items()))


def short_words(settings: Settings, run: Run) -> words.Words:
    """All is known."""
    counts, chains = settings.word_counts, settings.word_chains
    fun = lambda _: words.decode(run.key("words"), counts=counts, greedy=settings.greedy, chains=chains)
    return run.part("short words", fun)


def flat(settings: Settings, run: Run) -> plane.Plane:
    """All is known as well."""
    counts, chains = settings.plane_counts, settings.plane_chains
    return run.part("plane", lambda _: plane.decode(run.key("plane"), counts=counts, chains=chains, keys=settings.keys))


def long_words(settings: Settings, run: Run) -> Long:
    """With two networks."""
    models = run.part(
        "training",
        lambda phase: learned.train(
            run.key("long words"),
            run.random("long words"),
            words=settings.sequences,
            steps=settings.training,
            paths=settings.rollouts,
            value_steps=settings.value_training if "MC" in settings.values else 0,
            width=settings.width,
            advance=phase.advance,
        ),
        settings.training + settings.value_training,
    )
    keys = jax.random.split(run.key("decoding"), settings.keys)
    outcomes = run.part(
        "long words",
        lambda _: learned.decode(
            models,
            keys,
            batch=settings.batch,
            candidates=settings.greedy,
            temperatures=settings.temperatures,
            methods=settings.methods,
            kinds=settings.values,
        ),
    )
    return Long(models.bound, models.entropy, outcomes)


def digits(settings: Settings, run: Run) -> list[compression.Images]:
    """With the field's network."""
    recipe = Recipe(steps=settings.digit_training, width=settings.digit_width, seed=settings.seed)
    network = trained(run, recipe).network
    return run.part(
        "digits",
        lambda _: compression.decode(
            network,
            run.key("digits"),
            batch=settings.digits,
            candidates=settings.greedy,
            temperature=settings.digit_temperature,
            steps=settings.digit_steps,
        ),
    )
