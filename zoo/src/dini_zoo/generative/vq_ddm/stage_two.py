"""The second stage's figures: a diffusion of codes and the autoregressive transformer, and what both complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from dini_zoo.diffusion.digits import load, network_judge
from dini_zoo.kit.training import Trainer

from .multinomial import MultinomialDiffusion, bits
from .schedules import cosine_alphas
from .tokenizer import GRID, POSITIONS, Tokenizer
from .transformer import Transformer, autoregressive_sample, sequence_nats

DIFFUSION, RASTER = "diffusion", "autoregressive"
BOTTOM, RIGHT, TOP = "bottom half", "right half", "top half"
_row, _column = np.divmod(np.arange(POSITIONS), GRID)
#: Which codes are known.
MASKS: dict[str, Bool[np.ndarray, " 16"]] = {
    BOTTOM: _row >= GRID // 2,
    RIGHT: _column >= GRID // 2,
    TOP: _row < GRID // 2,
}


@dataclass(frozen=True)
class Recipe:
    """How both networks are trained."""

    codes: int
    levels: int
    """Steps of the diffusion."""
    steps: int
    """Of its training."""
    raster_steps: int
    """Of the other's."""
    batch: int
    width: int
    layers: int
    cross_entropy: float = 0.05
    rate: float = 2e-3

    def diffusion(self) -> MultinomialDiffusion:
        """With the cosine as published."""
        return MultinomialDiffusion.of_alphas(cosine_alphas(self.levels, power=1.0), self.codes)


@dataclass(frozen=True)
class Trainers:
    """Compiled once for all seeds."""

    recipe: Recipe
    diffusion: Trainer[Transformer]
    raster: Trainer[Transformer]

    @classmethod
    def of(cls, recipe: Recipe) -> Trainers:
        """For a recipe; each rate falls by a cosine."""
        diffusion = recipe.diffusion()
        bound = lambda model, z, key: diffusion.loss(model, key, z, cross_entropy=recipe.cross_entropy)
        nats = lambda model, z, key: jnp.mean(sequence_nats(model(z), z))
        adam = lambda steps: optax.adam(optax.cosine_decay_schedule(recipe.rate, steps))
        return cls(
            recipe,
            Trainer(bound, adam(recipe.steps), steps=recipe.steps, batch=recipe.batch),
            Trainer(nats, adam(recipe.raster_steps), steps=recipe.raster_steps, batch=recipe.batch),
        )

    def train(self, kind: str, z: Int[np.ndarray, "n 16"], key: Array, advance: Callable[[int], None]) -> Transformer:
        """One of the two networks, on codes."""
        for_weights, for_training = jax.random.split(key)
        causal = kind == RASTER
        shape = {"width": self.recipe.width, "layers": self.recipe.layers}
        network = Transformer(self.recipe.codes, POSITIONS, causal=causal, **shape, key=for_weights)
        return (self.raster if causal else self.diffusion)(network, z, key=for_training, advance=advance).model


@dataclass(frozen=True)
class Completion:
    """What one model makes of what is known."""

    accuracy: float
    """The share of completed images that the judge takes for what the whole one shows; a mean over draws."""
    error: float
    """The mean squared error of a pixel of the whole image; a mean over draws."""
    shown: np.ndarray
    """The first images of the first draw."""


@dataclass(frozen=True)
class Completed:
    """Of one seed: completions by mask and model, and what both say of the test codes."""

    completions: dict[str, dict[str, Completion]]
    bits: dict[str, float]
    """A position: the diffusion's bound, the other's negative log-likelihood."""
    judged: float
    """The judge's accuracy on reconstructions of the test images."""
    kept: bool
    """Whether known codes came back as they were, in all draws."""


@eqx.filter_jit
def _drawn(diffusion: MultinomialDiffusion | None, network: Transformer, key: Array, z: Array, mask: Array) -> Array:
    if diffusion is None:
        return autoregressive_sample(network, key, z.shape, known=z, mask=mask)
    return diffusion.sample(network, key, z.shape, known=z, mask=mask)


@eqx.filter_jit
def _nats(diffusion: MultinomialDiffusion | None, network: Transformer, key: Array, z: Array) -> Array:
    return jnp.mean(sequence_nats(network(z), z) if diffusion is None else diffusion.bound(network, key, z))


def complete(
    recipe: Recipe,
    tokenizer: Tokenizer,
    networks: dict[str, Transformer],
    z: Int[np.ndarray, "n 16"],
    key: Array,
    *,
    draws: int,
    shown: int,
    advance: Callable[[int], None],
) -> Completed:
    """Complete the test images from half of their codes, with both models."""
    z = jnp.asarray(z)
    test, judge = load()[1], network_judge()
    images = eqx.filter_jit(Tokenizer.images)
    diffusions = {DIFFUSION: recipe.diffusion(), RASTER: None}
    share = lambda x: float(np.mean(judge.labels(x) == test.labels))
    completions: dict[str, dict[str, Completion]] = {}
    kept = True
    for i, (place, mask) in enumerate(MASKS.items()):
        completions[place] = {}
        for name, diffusion in diffusions.items():
            drawn = [
                _drawn(diffusion, networks[name], jax.random.fold_in(key, draws * i + j), z, jnp.asarray(mask))
                for j in range(draws)
            ]
            advance(1)
            kept &= all(bool(jnp.all(one[:, mask] == z[:, mask])) for one in drawn)
            found = [np.asarray(images(tokenizer, one)) for one in drawn]
            completions[place][name] = Completion(
                float(np.mean([share(x) for x in found])),
                float(np.mean([np.mean((x - test.unit) ** 2) for x in found])),
                found[0][:shown],
            )
    for_bound = jax.random.fold_in(key, draws * len(MASKS))
    accuracies = {
        name: float(bits(_nats(diffusion, networks[name], for_bound, z), POSITIONS))
        for name, diffusion in diffusions.items()
    }
    return Completed(completions, accuracies, share(images(tokenizer, z)), kept)
