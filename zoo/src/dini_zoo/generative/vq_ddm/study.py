"""What is measured: codebooks before and after re-building, completions by both models, k-means by two libraries."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

import dini
from dini_zoo.kit.modes import distance
from dini_zoo.kit.run import Phase, Run

from . import stage_one, stage_two
from .kmeans import kmeans, kmeans_seeds
from .stage_one import Tokenized
from .stage_two import DIFFUSION, RASTER, Completed
from .transformer import Transformer


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of everything with the small codebook."""
    codes: int = 64
    """In the small codebook."""
    steps: int = 1200
    """Of the tokenizer with the small codebook."""
    large_seeds: tuple[int, ...] = (0,)
    """Of the large codebook; none leaves it out."""
    large_codes: int = 256
    """In the large codebook."""
    large_steps: int = 2500
    """Of the tokenizer with the large codebook."""
    tuning: int = 600
    """Steps after the codebook was re-built, and of the control."""
    features: int = 5000
    """To re-build a codebook from."""
    batch: int = 128
    """Images in a step."""
    levels: int = 50
    """Steps of the diffusion."""
    diffusion_steps: int = 1800
    """Of its training."""
    raster_steps: int = 1000
    """Of the autoregressive model's training."""
    width: int = 64
    """Of both transformers."""
    layers: int = 2
    """Of both transformers."""
    draws: int = 2
    """Of each completion."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            codes=8,
            steps=10,
            large_seeds=(),
            tuning=10,
            features=100,
            batch=16,
            levels=3,
            diffusion_steps=2,
            raster_steps=2,
            width=8,
            layers=1,
            draws=1,
        )


@dataclass(frozen=True)
class Comparison:
    """Lloyd's fixed point beside scikit-learn's from the same start, in double precision."""

    centers: float
    """The greatest difference of a coordinate, in standard deviations of the features."""
    inertia: float
    """Ours divided by scikit-learn's."""
    steps: int
    """Ours."""
    their_steps: int
    seconds: float
    their_seconds: float
    implicit: float
    """The relative error of a derivative of all centers, against central differences."""
    one_step: float


@dataclass(frozen=True)
class Result:
    """What was found, seed by seed."""

    settings: Settings
    small: list[Tokenized]
    large: list[Tokenized]
    completed: list[Completed]
    comparisons: list[Comparison]
    originals: np.ndarray
    """The first test images."""

    @property
    def reconstructions(self) -> np.ndarray:
        """Of the first test images, by the first seed's tokenizer."""
        first = self.small[0]
        return np.asarray(first.tokenizer.images(jnp.asarray(first.test[: len(self.originals)])))


#: Images on the picture.
SHOWN = 6
SMALL, LARGE = "small", "large"


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"tokenizers": 80, "networks": 80, "completion": 20, "k-means": 10})
    common = (settings.tuning, settings.features, settings.batch)
    trainers = {
        SMALL: stage_one.Trainers.of(stage_one.Recipe(settings.codes, settings.steps, *common)),
        LARGE: stage_one.Trainers.of(stage_one.Recipe(settings.large_codes, settings.large_steps, *common)),
    }
    # the longest first, two at a time
    items = [(LARGE, seed) for seed in settings.large_seeds] + [(SMALL, seed) for seed in settings.seeds]

    def tokenized(item: tuple[str, int], phase: Phase) -> Tokenized:
        kind, seed = item
        return stage_one.tokenize(trainers[kind], run.key("tokenizer", kind, seed), phase.advance)

    steps = sum(trainers[kind].steps for kind, _ in items) // len(items)
    found = run.each("tokenizers", items, tokenized, steps, pairs=True)
    large, small = found[: len(settings.large_seeds)], found[len(settings.large_seeds) :]
    recipe = stage_two.Recipe(
        settings.codes,
        settings.levels,
        settings.diffusion_steps,
        settings.raster_steps,
        settings.batch // 2,
        settings.width,
        settings.layers,
    )
    both = stage_two.Trainers.of(recipe)
    numbered = list(enumerate(settings.seeds))
    kinds = [(i, seed, kind) for i, seed in numbered for kind in (DIFFUSION, RASTER)]

    def train(item: tuple[int, int, str], phase: Phase) -> Transformer:
        i, seed, kind = item
        return both.train(kind, small[i].train, run.key(kind, seed), phase.advance)

    steps = (settings.diffusion_steps + settings.raster_steps) // 2
    trained = run.each("networks", kinds, train, steps, pairs=True)
    networks = [dict(zip((DIFFUSION, RASTER), trained[2 * i : 2 * i + 2], strict=True)) for i, _ in numbered]

    def complete(item: tuple[int, int], phase: Phase) -> Completed:
        i, seed = item
        return stage_two.complete(
            recipe,
            small[i].tokenizer,
            networks[i],
            small[i].test,
            run.key("completion", seed),
            draws=settings.draws,
            shown=SHOWN,
            advance=phase.advance,
        )

    completed = run.each("completion", numbered, complete, 2 * len(stage_two.MASKS))

    def compare(item: tuple[int, int], _: Phase) -> Comparison:
        i, seed = item
        return comparison(run.key("k-means", seed), small[i], settings)

    comparisons = run.each("k-means", numbered, compare)
    return Result(settings, small, large, completed, comparisons, stage_one.pixels()[1][:SHOWN])


def comparison(key: jax.Array, found: Tokenized, settings: Settings) -> Comparison:
    """k-means of a trained encoder's features by dini and by scikit-learn from one start, and its derivative."""
    with jax.enable_x64(True):
        for_features, for_start, for_directions = jax.random.split(key, 3)
        X = np.asarray(stage_one.random_features(for_features, found.before, settings.features), np.float64)
        start = kmeans_seeds(for_start, X, settings.codes)
        x, c = jnp.asarray(X), jnp.asarray(start)
        solve = jax.jit(kmeans)
        ours = jax.block_until_ready(solve(x, c))
        begin = time.perf_counter()
        jax.block_until_ready(solve(x, c).centers)
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        theirs = KMeans(settings.codes, init=start, n_init=1, tol=0.0, max_iter=500, algorithm="lloyd").fit(X)
        their_seconds = time.perf_counter() - begin
        # a random functional of the centers along a random direction of the features
        weights, v = (
            jax.random.normal(k, s) for k, s in zip(jax.random.split(for_directions), (c.shape, x.shape), strict=True)
        )
        errors = []
        h = 1e-7
        centers = lambda x: solve(x, c).centers
        difference = (jnp.vdot(weights, centers(x + h * v)) - jnp.vdot(weights, centers(x - h * v))) / (2 * h)
        for mode in (dini.Implicit(), dini.OneStep()):
            value = lambda x, mode=mode: jnp.vdot(weights, kmeans(x, c, differentiation=mode).centers)
            errors.append(distance(jnp.vdot(jax.jit(jax.grad(value))(x), v), difference))
        return Comparison(
            float(np.max(np.abs(np.asarray(ours.centers) - theirs.cluster_centers_)) / X.std()),
            float(ours.inertia / theirs.inertia_),
            int(ours.steps),
            int(theirs.n_iter_),
            seconds,
            their_seconds,
            *errors,
        )
