"""Digits that compress well: the reward is a file's size, which no gradient leads to."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..chains import Chain
from ..digits import LEVELS, PIXELS, load
from ..distances import Moments, frechet_distance
from ..kernels import GaussianReverse, sample
from ..networks import ResidualNetwork
from ..predictions import converted
from ..processes import VPSDE
from .baselines import best_of_n, smc_sample
from .decoding import svdd_sample
from .values import PosteriorMean, host_reward


def levels_of(x: np.ndarray) -> np.ndarray:
    """Whole grey levels of images in [-1, 1]."""
    return np.clip(np.floor((x + 1) / 2 * LEVELS), 0, LEVELS - 1).astype(np.uint8)


def saved_bytes(x: np.ndarray) -> np.ndarray:
    """How many bytes less than the raw image its compressed file has: one number each."""
    return np.array([PIXELS - len(zlib.compress(image.tobytes(), 9)) for image in levels_of(x)], np.float32)


@dataclass(frozen=True)
class Images:
    """What a sampler drew."""

    method: str
    rewards: np.ndarray
    distance: float
    """Fréchet's, to the images to train with."""
    distinct: int
    shown: np.ndarray
    """A few, in whole grey levels."""


def decode(
    network: ResidualNetwork, key: Array, *, batch: int, candidates: int, temperature: float, steps: int
) -> list[Images]:
    """Draw digits with and without the reward."""
    process = VPSDE()
    levels = Chain.of_process(process, (jnp.arange(steps) + 1) / steps)
    clean = converted(network, process, "noise", "data")
    model = GaussianReverse(levels, lambda x, t: jnp.clip(clean(x, t), -1.05, 1.05), (PIXELS,))
    reward = host_reward(saved_bytes)
    value = PosteriorMean(model, reward)
    truth = Moments.of(jnp.asarray(load()[0].centered, jnp.float32))
    options = {"batch": batch, "temperature": temperature}
    programs = {
        "no guidance": lambda key: sample(key, model, batch),
        f"best of {candidates}": lambda key: best_of_n(key, model, reward, batch=batch, n=candidates).x,
        "SMC": lambda key: smc_sample(key, model, value, **options).x,
        "SVDD": lambda key: svdd_sample(key, model, value, candidates=candidates, **options).x,
    }
    found = []
    for name, program in programs.items():
        x = np.asarray(jax.jit(program)(key))
        pixels = levels_of(x)
        distance = float(frechet_distance(Moments.of(jnp.asarray(x)), truth))
        distinct = len(np.unique(pixels, axis=0))
        found.append(Images(name, saved_bytes(x), distance, distinct, pixels[:20]))
    return found
