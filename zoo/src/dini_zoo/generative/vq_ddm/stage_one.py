"""The first stage's figures: a tokenizer, its codebook re-built, and both trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.diffusion.digits import load
from dini_zoo.kit.training import Trainer

from .kmeans import Clusters, rebuild_codebook
from .quantization import codebook_usage, perplexity
from .tokenizer import Tokenizer, tokenizer_loss

BEFORE, REBUILT, REFIT, CONTROL = "before", "re-built", "ReFiT", "control"


@dataclass(frozen=True)
class Recipe:
    """How a tokenizer is trained."""

    codes: int
    steps: int
    tuning: int
    """Steps after the codebook was re-built, and of the control without."""
    features: int
    """To re-build from."""
    batch: int
    size: int = 8
    rate: float = 2e-3
    tuning_rate: float = 1e-3


@dataclass(frozen=True)
class State:
    """A tokenizer's figures at one point of the way."""

    usage: float
    """The share of codes that occur ten times or more in the images to train with."""
    perplexity: float
    error: float
    """The mean squared error of a pixel of the test images."""


@dataclass(frozen=True)
class Tokenized:
    """The tokenizer that was re-built and tuned, what it was before, and codes of all images."""

    tokenizer: Tokenizer
    before: Tokenizer
    clusters: Clusters
    states: dict[str, State]
    train: Int[np.ndarray, "n 16"]
    test: Int[np.ndarray, "m 16"]


@dataclass(frozen=True)
class Trainers:
    """Compiled once for all seeds."""

    recipe: Recipe
    first: Trainer[Tokenizer]
    tuning: Trainer[Tokenizer]

    @classmethod
    def of(cls, recipe: Recipe) -> Trainers:
        """For a recipe."""
        frozen = lambda model, x, key: tokenizer_loss(model, x, key, frozen=True)
        return cls(
            recipe,
            Trainer(tokenizer_loss, optax.adam(recipe.rate), steps=recipe.steps, batch=recipe.batch),
            Trainer(frozen, optax.adam(recipe.tuning_rate), steps=recipe.tuning, batch=recipe.batch),
        )

    @property
    def steps(self) -> int:
        """Of all trainings of a seed."""
        return self.recipe.steps + 2 * self.recipe.tuning


def pixels() -> tuple[Float[np.ndarray, "n 64"], Float[np.ndarray, "m 64"]]:
    """Images to train and to test with, in [0, 1]."""
    return tuple(part.unit.astype(np.float32) for part in load())


@eqx.filter_jit
def _measured(model: Tokenizer, x: Array, test: Array) -> tuple[Array, Array, Array]:
    return model.tokens(x), model.tokens(test), jnp.mean((model(test)[0] - test) ** 2)


def state(model: Tokenizer) -> tuple[State, np.ndarray, np.ndarray]:
    """A tokenizer's figures, and the codes of images to train and to test with."""
    train, test, error = _measured(model, *map(jnp.asarray, pixels()))
    codes = len(model.codebook)
    found = State(float(codebook_usage(train, codes)), float(perplexity(train, codes)), float(error))
    return found, np.asarray(train), np.asarray(test)


def random_features(key: Array, model: Tokenizer, count: int) -> Float[Array, "P d"]:
    """Features at random places of random images to train with; the same pair may be drawn twice."""
    for_image, for_place = jax.random.split(key)
    h = eqx.filter_jit(Tokenizer.features)(model, jnp.asarray(pixels()[0]))
    i = jax.random.randint(for_image, (count,), 0, h.shape[0])
    return h[i, jax.random.randint(for_place, (count,), 0, h.shape[1])]


def tokenize(trainers: Trainers, key: Array, advance: Callable[[int], None]) -> Tokenized:
    """Train a tokenizer, re-build its codebook, and train on with it and, as a control, without."""
    recipe, (x, _) = trainers.recipe, pixels()
    keys = jax.random.split(key, 5)
    before = trainers.first(Tokenizer(recipe.codes, recipe.size, key=keys[0]), x, key=keys[1], advance=advance).model
    clusters = rebuild_codebook(keys[2], random_features(keys[3], before, recipe.features), recipe.codes)
    rebuilt = eqx.tree_at(lambda one: one.codebook, before, clusters.centers)
    # the same examples in the same order for both
    tuned, control = (trainers.tuning(one, x, key=keys[4], advance=advance).model for one in (rebuilt, before))
    models = {BEFORE: before, REBUILT: rebuilt, REFIT: tuned, CONTROL: control}
    found = {name: state(model) for name, model in models.items()}
    _, train, test = found[REFIT]
    return Tokenized(tuned, before, clusters, {name: one[0] for name, one in found.items()}, train, test)
