"""The optical network of the experiment: trained on images of dents, tried on others."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Trainer

from .optics import OpticalMLP, dents, linear_fit
from .settings import Settings


@dataclass(frozen=True)
class Seen:
    """Root mean square errors of colors on images that were not seen, over the range of all targets."""

    network: float
    linear: float
    zero: float
    true: np.ndarray
    """A test image, and the network's."""
    rendered: np.ndarray


def trained(settings: Settings, run: Run) -> list[Seen]:
    """A network for each seed."""

    def loss(model: OpticalMLP, batch: tuple, key: jax.Array) -> jax.Array:
        inputs, colors = batch
        return jnp.mean((model(inputs[:, :2], inputs[:, 2:]) - colors) ** 2)

    adam = optax.adam(optax.cosine_decay_schedule(5e-3, settings.training))
    trainer = Trainer(loss, adam, steps=settings.training, batch=settings.batch)

    def one(seed: int, phase: Phase) -> Seen:
        made = dents(run.random("dents", seed), settings.images, settings.pixels)
        held, pixels = max(settings.images // 4, 1), np.broadcast_to(made.pixels, (*made.normals.shape[:2], 2))
        inputs = np.concatenate([pixels, made.normals], axis=-1)
        flat = lambda a: a.reshape(-1, a.shape[-1])
        data = tuple(jnp.asarray(flat(a[held:]), jnp.float32) for a in (inputs, made.colors))
        key = run.key("training", seed)
        network = jax.tree.map(lambda a: a.astype(jnp.float32) if hasattr(a, "astype") else a, OpticalMLP(key))
        model = trainer(network, data, key=key, advance=phase.advance).model
        tried, truth = flat(inputs[:held]), flat(made.colors[:held])
        ours = np.asarray(model(*(jnp.asarray(a, jnp.float32) for a in (tried[:, :2], tried[:, 2:]))), float)
        fit = linear_fit(flat(inputs[held:]), flat(made.colors[held:]))
        line = np.column_stack([tried, np.ones(len(tried))]) @ fit
        spread = float(np.ptp(made.colors))
        error = lambda guess: float(np.sqrt(np.mean((guess - truth) ** 2)) / spread)
        shape = (held, settings.pixels, settings.pixels, 3)
        return Seen(error(ours), error(line), error(0 * truth), truth.reshape(shape)[0], ours.reshape(shape)[0])

    return run.each("optics", settings.seeds, one, settings.training)
