"""A blob that bounces off walls with another speed each time: fractional noise against Brownian motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.training import Trainer

from .noise import FractionalNoise, MarkovNoise, white_noise
from .video import VideoSDE

SIDE, FRAMES, MARGIN, BLOB = 12, 20, 2.0, 1.2
#: Of the squared error in the bound.
WEIGHT = 25.0


def clips(random: np.random.Generator, count: int) -> Float[np.ndarray, "n 20 144"]:
    """Frames of a blob with speeds up to 1.2 pixels a frame in each direction."""
    low, high = MARGIN, SIDE - 1 - MARGIN
    place = random.uniform(low, high, size=(count, 2))
    speed = random.uniform(-1.2, 1.2, size=(count, 2))
    grid = np.arange(SIDE)
    frames = np.empty((count, FRAMES, SIDE, SIDE), np.float32)
    for i in range(FRAMES):
        one, other = (np.exp(-0.5 * ((grid - place[:, j, None]) / BLOB) ** 2) for j in (0, 1))
        frames[:, i] = one[:, :, None] * other[:, None, :]
        place = place + speed
        fresh = np.abs(random.uniform(-1.2, 1.2, size=speed.shape))
        speed = np.where(place < low, fresh, np.where(place > high, -fresh, speed))
        place = np.clip(place, low, high)
    return frames.reshape(count, FRAMES, SIDE * SIDE)


def loss(model: VideoSDE, batch: Array, key: Array) -> Array:
    """The weighted bound. The key's third number is the share of the divergence, in millionths."""
    share = key[2].astype(batch.dtype) / 1e6
    keys = jax.random.split(jax.random.wrap_key_data(key[:2]), len(batch))
    parts = jax.vmap(model.bound)(batch, keys)
    return jnp.mean(WEIGHT * parts.error + share * (parts.kl + parts.kl_start))


def step_keys(key: Array, steps: int) -> Array:
    """A key for each step, and the share of the divergence in it: from 0.01 to 1 over the first half."""
    shares = np.clip(np.linspace(0.01, 1.99, steps), 0.0, 1.0)
    data = jax.random.key_data(jax.random.split(key, steps))
    return jnp.concatenate([data, jnp.asarray(1e6 * shares, data.dtype)[:, None]], axis=1)


@dataclass(frozen=True)
class Outcome:
    """What a model of a noise came to, on clips that it was not trained with."""

    noise: str
    loss: float
    error: float
    """Squared, of a frame."""
    kl: float
    hurst: float | None
    mass: float
    """Of frames that are redrawn, over that of the data."""
    finite: bool
    seconds: float
    drawn: np.ndarray
    """Frames of a few new clips."""
    rebuilt: np.ndarray
    """A clip as the posterior has it."""


def noises() -> dict[str, MarkovNoise]:
    """What is compared."""
    return {"fractional": FractionalNoise(kind="I"), "Brownian": white_noise()}


def train(
    name: str,
    noise: MarkovNoise,
    data: Float[np.ndarray, "n 20 144"],
    test: Float[np.ndarray, "m 20 144"],
    key: Array,
    *,
    steps: int,
    width: int,
    batch: int = 32,
    advance: Callable[[int], None] = lambda steps: None,
) -> Outcome:
    """Train with one noise, and measure on other clips."""
    for_model, for_steps, for_test, for_draws = jax.random.split(key, 4)
    model = VideoSDE(noise, SIDE * SIDE, width=width, key=for_model)
    rates = optax.cosine_decay_schedule(2e-3, steps)
    trainer = Trainer(
        loss, optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rates)), steps=steps, batch=min(batch, len(data))
    )
    course = trainer(model, data, key=for_steps, step_keys=step_keys(for_steps, steps), advance=advance)
    return measure(name, course.model, test, for_test, for_draws, course.seconds)


def measure(
    name: str, model: VideoSDE, test: Float[np.ndarray, "m 20 144"], key: Array, for_draws: Array, seconds: float
) -> Outcome:
    """The bound on clips, and clips that are drawn."""

    @eqx.filter_jit
    def measured(model: VideoSDE, clips: Array, keys: Array, for_draws: Array) -> Any:
        return jax.vmap(model.bound)(clips, keys), jax.vmap(lambda key: model.draw(key, FRAMES))(for_draws)

    count = len(test)
    keys, draws = jax.random.split(key, count), jax.random.split(for_draws, count)
    parts, drawn = jax.tree.map(np.asarray, measured(model, jnp.asarray(test), keys, draws))
    kl = float(np.mean(parts.kl + parts.kl_start))
    error = float(np.mean(parts.error))
    hurst = float(model.noise.hurst) if isinstance(model.noise, FractionalNoise) else None
    return Outcome(
        name,
        WEIGHT * error + kl,
        error / FRAMES,
        kl,
        hurst,
        float(np.mean(drawn.sum(axis=-1)) / np.mean(test.sum(axis=-1))),
        bool(np.all(np.isfinite(drawn))),
        seconds,
        drawn[:3],
        parts.frames[0],
    )
