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
    """What the experiment can be told."""

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
            draws=1,
        )


@dataclass(frozen=True)
class Meeting:
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
    """The relative error of a derivative of all centres, against central differences."""
    one_step: float


@dataclass(frozen=True)
class Result:
    """What was found, seed by seed."""

    settings: Settings
    small: list[Tokenized]
    large: list[Tokenized]
    completed: list[Completed]
    meetings: list[Meeting]
    originals: np.ndarray
    """The first test images."""

    @property
    def reconstructions(self) -> np.ndarray:
        """Of the first test images, by the first seed's tokenizer."""
        first = self.small[0]
        return np.asarray(first.tokenizer.images(jnp.asarray(first.test[: len(self.originals)])))


#: Images on the picture.
SHOWN = 6


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"tokenizers": 60, "large codebook": 40, "networks": 70, "completion": 30, "k-means": 5})

    def tokenized(name: str, codes: int, steps: int, seeds: tuple[int, ...]) -> list[Tokenized]:
        recipe = stage_one.Recipe(codes, steps, settings.tuning, settings.features, settings.batch)
        trainers = stage_one.Trainers.of(recipe)
        one = lambda seed, phase: stage_one.tokenize(trainers, run.key(name, seed), phase.advance)
        return run.each(name, seeds, one, trainers.steps)

    small = tokenized("tokenizers", settings.codes, settings.steps, settings.seeds)
    large = (
        tokenized("large codebook", settings.large_codes, settings.large_steps, settings.large_seeds)
        if settings.large_seeds
        else []
    )
    recipe = stage_two.Recipe(
        settings.codes,
        settings.levels,
        settings.diffusion_steps,
        settings.raster_steps,
        settings.batch // 2,
        settings.width,
    )
    trainers = stage_two.Trainers.of(recipe)

    def train(seed: tuple[int, int], phase: Phase) -> dict[str, Transformer]:
        at, name = seed
        return {
            kind: trainers.train(kind, small[at].train, run.key(kind, name), phase.advance)
            for kind in (DIFFUSION, RASTER)
        }

    numbered = list(enumerate(settings.seeds))
    networks = run.each("networks", numbered, train, settings.diffusion_steps + settings.raster_steps)

    def complete(seed: tuple[int, int], phase: Phase) -> Completed:
        at, name = seed
        return stage_two.complete(
            recipe,
            small[at].tokenizer,
            networks[at],
            small[at].test,
            run.key("completion", name),
            draws=settings.draws,
            shown=SHOWN,
            advance=phase.advance,
        )

    completed = run.each("completion", numbered, complete, 2 * len(stage_two.MASKS))

    def meet(seed: tuple[int, int], _: Phase) -> Meeting:
        at, name = seed
        return meeting(run.key("k-means", name), small[at], settings)

    meetings = run.each("k-means", numbered, meet)
    return Result(settings, small, large, completed, meetings, stage_one.pixels()[1][:SHOWN])


def meeting(key: jax.Array, found: Tokenized, settings: Settings) -> Meeting:
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
        return Meeting(
            float(np.max(np.abs(np.asarray(ours.centers) - theirs.cluster_centers_)) / X.std()),
            float(ours.inertia / theirs.inertia_),
            int(ours.steps),
            int(theirs.n_iter_),
            seconds,
            their_seconds,
            *errors,
        )
