"""Between two mixtures in the plane: a network learns velocity and noise, and samples with several levels of noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ...kit.training import Trainer
from ..distances import sliced_wasserstein
from ..interpolants import GaussianMixtureFields, LinearInterpolant, linear
from ..mixtures import GaussianMixture
from ..networks import PointNetwork
from .fields import Fields
from .losses import joint_loss
from .sampling import sample_sde


def start() -> GaussianMixture:
    """Two components."""
    return GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.25, 0.25])


def end() -> GaussianMixture:
    """Three components."""
    return GaussianMixture([0.4, 0.3, 0.3], [[0.0, 2.5], [-2.0, -1.5], [2.0, -1.5]], [0.2, 0.3, 0.15])


def learned(interpolant: LinearInterpolant, network: PointNetwork) -> Fields:
    """The fields of a network that says velocity and noise."""
    return Fields.of_velocity(interpolant, lambda x, t: network(x, t)[0], lambda x, t: network(x, t)[1])


def train(
    interpolant: LinearInterpolant,
    start: GaussianMixture,
    end: GaussianMixture,
    key: Array,
    *,
    steps: int,
    batch: int,
    width: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> PointNetwork:
    """Learn velocity and noise from fresh, independent pairs of points."""
    for_weights, for_training = jax.random.split(key)

    def loss(network: PointNetwork, _: Any, key: Array) -> Array:
        one, other, rest = jax.random.split(key, 3)
        return joint_loss(network, interpolant, start.sample(one, batch), end.sample(other, batch), rest)

    network = PointNetwork(start.means.shape[1], width=width, layers=3, outputs=2, key=for_weights)
    rates = optax.cosine_decay_schedule(2e-3, steps)
    return Trainer(loss, optax.adam(rates), steps=steps)(network, key=for_training, advance=advance).model


@dataclass(frozen=True)
class Transport:
    """What the learned fields are worth."""

    times: tuple[float, ...]
    velocity_errors: list[float]
    """Relative, on points of the interpolant at each time."""
    score_errors: list[float]
    levels: tuple[float, ...]
    """Of noise."""
    exact: list[list[float]]
    """Distances of samples by the exact fields from samples of the end, for each level and key."""
    learned: list[list[float]]
    floor: list[float]
    """Of two samples of the end."""
    fractions: list[np.ndarray]
    """The share of learned samples near each component, for each level."""
    samples: dict[float, np.ndarray]
    """A few, for the first and the last level."""
    paths: np.ndarray
    """A few learned paths of the first level, times in front."""


def transport(
    network: PointNetwork,
    key: Array,
    *,
    times: tuple[float, ...],
    levels: tuple[float, ...],
    points: int,
    keys: int,
    steps: int,
) -> Transport:
    """Measure a network that was trained with :func:`train` on the linear interpolant."""
    interpolant, first, last = linear(), start(), end()
    fields = GaussianMixtureFields(interpolant, first, last)
    truth, ours = Fields(fields.velocity, fields.score), learned(interpolant, network)

    @jax.jit
    def errors(network: PointNetwork, t: Array, key: Array) -> tuple[Array, Array]:
        one, other, noise = jax.random.split(key, 3)
        x0, x1 = first.sample(one, 20_000), last.sample(other, 20_000)
        x = interpolant.sample(t, x0, x1, jax.random.normal(noise, x0.shape))
        ours = learned(interpolant, network)
        relative = lambda a, b: jnp.sqrt(jnp.sum((a - b) ** 2) / jnp.sum(b**2))
        exact_velocity, exact_score = fields.both(x, t)
        assert ours.score is not None
        return relative(ours.velocity(x, t), exact_velocity), relative(ours.score(x, t), exact_score)

    found = [errors(network, jnp.asarray(t), jax.random.fold_in(key, i)) for i, t in enumerate(times)]

    for_start, for_end, for_other, for_noise, for_directions = jax.random.split(jax.random.fold_in(key, 99), 5)
    # as many points of each component as its weight says: what differs is what the fields do
    draw = jax.vmap(lambda law, key: law.sample(key, points, stratified=True), in_axes=(None, 0))
    x0 = draw(first, jax.random.split(for_start, keys)).reshape(-1, 2)
    targets = [draw(last, jax.random.split(key, keys)) for key in (for_end, for_other)]
    distance = jax.jit(jax.vmap(sliced_wasserstein))
    directions = jax.random.split(for_directions, keys)
    to_end = lambda x: [float(one) for one in distance(directions, x.reshape(keys, points, 2), targets[0])]

    def few(path: Array) -> tuple[Array, Array]:
        """The points of the last time, and some 60 of the paths at some 40 times."""
        return path[-1], path[:: max(steps // 40, 1), :: max(len(x0) // 60, 1)]

    def drawn(fields: Fields) -> list[tuple[Array, Array]]:
        """At each level."""
        quiet = jax.jit(lambda x: few(sample_sde(for_noise, fields, x, 0.0, steps=steps, path=True)))
        noisy = jax.jit(lambda x, eps: few(sample_sde(for_noise, fields, x, eps, steps=steps, path=True)))
        return [noisy(x0, jnp.asarray(level)) if level else quiet(x0) for level in levels]

    found_by_us = drawn(ours)
    own = [x for x, _ in found_by_us]
    fractions = [np.bincount(np.asarray(last.nearest(x)), minlength=3) / len(x) for x in own]
    shown = {level: np.asarray(x[:: max(len(x) // 1500, 1)]) for level, x in zip(levels, own, strict=True)}
    return Transport(
        times,
        [float(one) for one, _ in found],
        [float(one) for _, one in found],
        levels,
        [to_end(x) for x, _ in drawn(truth)],
        list(map(to_end, own)),
        to_end(targets[1]),
        fractions,
        {level: shown[level] for level in dict.fromkeys((levels[0], levels[-1]))},
        np.asarray(found_by_us[0][1]),
    )
