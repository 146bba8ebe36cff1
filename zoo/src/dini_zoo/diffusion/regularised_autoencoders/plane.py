"""A mixture in the plane: how well a trained reconstruction tells its score, and what Metropolis makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ...kit.seeds import Estimate
from ...kit.training import Trainer
from ..distances import sliced_wasserstein
from ..mixtures import GaussianMixture
from .losses import dae_loss, rcae_loss, score_from_reconstruction
from .networks import Residual
from .sampling import RULES, metropolis_hastings, path_log_ratio, random_walk

#: What objectives are called.
DAE, RCAE = "denoising", "contractive"


def mixture() -> GaussianMixture:
    """The data."""
    return GaussianMixture([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], [0.1, 0.2, 0.4])


def train(
    objective: str,
    s: float,
    keys: Array,
    draw: Callable[[Array, int], Array],
    size: int,
    *,
    steps: int,
    batch: int,
    width: int,
    advance: Callable[[int], None],
) -> list[Residual]:
    """Train a residual network for each key, side by side, on new points `draw(key, n)` in every step."""

    def loss(model: Residual, _: Any, key: Array) -> Array:
        for_points, for_noise = jax.random.split(key)
        x = draw(for_points, batch)
        return dae_loss(model, x, s, for_noise) if objective == DAE else rcae_loss(model, x, s)

    for_weights, for_training = jax.vmap(jax.random.split, out_axes=1)(keys)
    trainer = Trainer(loss, optax.adam(optax.cosine_decay_schedule(3e-3, steps)), steps=steps)
    models = eqx.filter_vmap(lambda key: Residual(size, width=width, key=key))(for_weights)
    course = trainer.together(models, keys=for_training, advance=advance)
    return [course.lane(i).model for i in range(len(keys))]


@dataclass(frozen=True)
class Fit:
    """Relative errors of trained scores on clean points, over the trainings."""

    objective: str
    scale: float
    clean: Estimate
    """To the score of the data."""
    smoothed: Estimate
    """To that of the noisy data."""
    between: float
    """Of the one from the other."""


def relative(one: Array, other: Array) -> Array:
    """Of two fields at points, weighed by where the points are."""
    return jnp.sqrt(jnp.sum((one - other) ** 2) / jnp.sum(other**2))


@eqx.filter_jit
def _errors(model: Residual, s: Any, x: Array) -> tuple[Array, Array, Array]:
    ours = score_from_reconstruction(model, s)(x)
    clean, smoothed = mixture().score(x), mixture().diffused(1.0, s).score(x)
    return relative(ours, clean), relative(ours, smoothed), relative(smoothed, clean)


def judge(models: list[Residual], objective: str, s: float, key: Array, points: int) -> Fit:
    """On fresh points."""
    x = mixture().sample(key, points)
    clean, smoothed, between = np.array([_errors(model, jnp.float32(s), x) for model in models], float).T
    return Fit(objective, s, Estimate.of(clean), Estimate.of(smoothed), float(between[0]))


def kernel_estimate(key: Array, points: int, s: float) -> float:
    """The error, to the score of the data with noise, of a kernel density estimate with Scott's bandwidth."""
    for_fit, for_test = jax.random.split(key)
    data, x = mixture().sample(for_fit, points), mixture().sample(for_test, points)
    covariance = np.cov(np.asarray(data, float).T) * points ** (-2 / 6)
    precision = jnp.asarray(np.linalg.inv(covariance), x.dtype)

    def score(point: Array) -> Array:
        away = data - point
        pulls = away @ precision
        return jax.nn.softmax(-0.5 * jnp.sum(away * pulls, axis=1)) @ pulls

    ours = jax.jit(lambda x: jax.lax.map(score, x, batch_size=100))(x)
    return float(relative(ours, mixture().diffused(1.0, s).score(x)))


@dataclass(frozen=True)
class Walk:
    """Where Metropolis chains end."""

    rule: str
    """Or exact: with the density itself."""
    step: float
    distance: float
    """Sliced Wasserstein, to samples of the noisy data's law."""
    acceptance: float
    shares: list[float]
    """Of the nearest means."""
    furthest: float
    invalid: int
    points: np.ndarray
    """A few, for the picture."""


def walks(
    model: Residual, s: float, key: Array, *, rules: tuple[str, ...], sizes: tuple[float, ...], chains: int, steps: int
) -> tuple[list[Walk], float, list[float]]:
    """Chains by each rule and with the exact density; the distance of two exact samples, and their shares."""
    law = mixture().diffused(1.0, s)
    for_truth, for_again, for_slices, for_start, for_chains = jax.random.split(key, 5)
    truth = law.sample(for_truth, chains)
    x0 = 1.5 * jax.random.normal(for_start, truth.shape)
    share = lambda x: [float(one) for one in np.bincount(np.asarray(law.nearest(x)), minlength=3) / len(x)]

    @eqx.filter_jit
    def walk(model: Residual, key: Array, size: Array, rule: str) -> Any:
        if rule == "exact":
            ratio = lambda x, y: law.log_prob(y) - law.log_prob(x)
        else:
            score = score_from_reconstruction(model, s)
            ratio = lambda x, y: path_log_ratio(score, x, y, rule)
        found = metropolis_hastings(key, x0, ratio, random_walk(size), steps=steps)
        return found, sliced_wasserstein(for_slices, found.x, truth)

    found = []
    for size in sizes:
        for rule in ("exact", *rules):
            chain, distance = walk(model, for_chains, jnp.float32(size), rule)
            x = np.asarray(chain.x)
            figures = (float(distance), float(chain.acceptance), share(chain.x), float(chain.furthest))
            found.append(Walk(rule, size, *figures, int(chain.invalid), x[:600]))
    floor = float(sliced_wasserstein(for_slices, law.sample(for_again, chains), truth))
    return found, floor, share(truth)


__all__ = ["DAE", "RCAE", "RULES", "Fit", "Walk", "judge", "kernel_estimate", "mixture", "train", "walks"]
