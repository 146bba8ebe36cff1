"""The lower halves of digits, restored: a network for a table of 100 steps, and samplers with fewer calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...kit.training import Trainer
from ..digits import PIXELS, load, schedule
from ..distances import Moments, frechet_distance
from ..exponential import Rule, multistep_rule
from ..mean_reverting import MeanRevertingSDE, table
from ..networks import ResidualNetwork
from .method import mr_loss, run_rule, time_grid

STEPS = 100
HALF = PIXELS // 2
GRIDS = {"λ": "linear-lambda", "t": "uniform"}
#: By name: order and kind of the exponential rules.
RULES = {"ODE-1": (1, "ode"), "ODE-2": (2, "ode"), "SDE-1": (1, "sde"), "SDE-2": (2, "sde")}
EULERS = {"Euler-SDE": 2.0, "Euler-ODE": 1.0}
UNSTRIDED = "unstrided"


def process() -> MeanRevertingSDE:
    """The cosine table."""
    return table(0.5, STEPS, 0.005, "cosine")


def images(split: int) -> np.ndarray:
    """Of the training (0) or the test sample (1), in [0, 1]."""
    return (load()[split].pixels / 16).astype(np.float32)


def degraded(x: Any) -> Array:
    """The images with their lower half grey."""
    return jnp.where(jnp.arange(PIXELS) < HALF, x, 0.5)


def conditioned(network: ResidualNetwork) -> Callable[[Array, Array, Any], Array]:
    """A network as a model of points, means and times."""
    return lambda x, mu, t: network(x, jnp.asarray(t) / STEPS, mu)


@dataclass(frozen=True)
class Fitted:
    """A network that predicts noise, and its last loss."""

    network: ResidualNetwork
    loss: float


def train(key: Array, *, steps: int, width: int, blocks: int, advance: Callable[[int], None]) -> Fitted:
    """Learn to predict the noise at whole times of the table."""
    sde = process()
    for_weights, for_training = jax.random.split(key)

    def loss(network: ResidualNetwork, x0: Array, key: Array) -> Array:
        return mr_loss(conditioned(network), sde, x0, degraded(x0), key, whole_steps=True)

    network = ResidualNetwork(PIXELS, width=width, blocks=blocks, condition=PIXELS, key=for_weights)
    trainer = Trainer(loss, schedule(2e-3, steps), steps=steps, batch=128, average=0.998)
    course = trainer(network, images(0), key=for_training, advance=advance)
    assert course.average is not None
    return Fitted(course.average, float(course.loss[-max(steps // 10, 1) :].mean()))


def euler_rule(sde: MeanRevertingSDE, times: Array, share: float) -> Rule:
    r"""Euler's rule over :math:`A = -\log \alpha`, as an affine rule for the noise prediction.

    .. math:: y \leftarrow y + (y - c\, s_\infty^2 \hat\varepsilon / \sigma)\, \Delta A + s_\infty \sqrt{2 \Delta A}\, z

    with :math:`c` the `share`: 2 for the SDE, 1 for the flow, which has no noise.
    """
    A = -jnp.log(sde.alpha(times))
    change = A[:-1] - A[1:]
    pull = -share * sde.s_inf**2 / sde.sigma(times[:-1]) * change
    noise = sde.s_inf * jnp.sqrt(2 * change) if share == 2 else jnp.zeros_like(change)
    return Rule(1 + change, jnp.stack([pull, jnp.zeros_like(pull), jnp.zeros_like(pull)], axis=1), noise)


@dataclass(frozen=True)
class Restored:
    """Distances of restored halves from true ones, by method, grid and calls."""

    calls: tuple[int, ...]
    distances: dict[str, dict[str, list[float]]]
    """`distances[method][grid]`, one for each number of calls."""
    floor: float
    """Of the images to train with."""
    shown: dict[str, np.ndarray]
    """A few images: the truth, what is given, and restored ones by name."""


def distance(images: Any, truth: Any) -> float:
    """Fréchet's, of the lower halves' pixels."""
    return float(frechet_distance(*(Moments.of(jnp.asarray(one)[:, HALF:]) for one in (images, truth))))


def restore(
    network: ResidualNetwork,
    key: Array,
    *,
    calls: tuple[int, ...],
    copies: int,
    count: int,
    advance: Callable[[int], None],
) -> Restored:
    """Restore the test images with every method, grid and number of calls."""
    sde, truth = process(), images(1)[:count]
    mu = degraded(jnp.tile(truth, (copies, 1)))

    def sampler(solve: str) -> Callable[..., Array]:
        @jax.jit
        def sample(network: ResidualNetwork, key: Array, times: Array, rule: Rule) -> Array:
            first, rest = jax.random.split(key)
            y = sde.prior_around(first, mu) - mu
            return mu + run_rule(rest, y, mu, conditioned(network), sde, times, rule, "noise", solve)

        return sample

    by_data, by_noise = sampler("data"), sampler("noise")
    shown = {"truth": truth[:10], "given": np.asarray(mu[:10])}

    def measured(sample: Callable[..., Array], times: Array, rule: Rule, name: str) -> float:
        x = np.clip(np.asarray(sample(network, key, times, rule)), 0, 1)
        shown[name] = x[:10]
        return distance(x, truth)

    found: dict[str, dict[str, list[float]]] = {}
    for grid, kind_of_grid in GRIDS.items():
        for n in calls:
            times = time_grid(kind_of_grid, n, sde)
            alpha, sigma = sde.alpha(times), sde.sigma(times)
            for name, (order, kind) in RULES.items():
                rule = multistep_rule(alpha, sigma, order=order, kind=kind)
                value = measured(by_data, times, rule, f"{name}, {grid}, {n}")
                found.setdefault(name, {}).setdefault(grid, []).append(value)
            for name, share in EULERS.items():
                value = measured(by_noise, times, euler_rule(sde, times, share), f"{name}, {grid}, {n}")
                found.setdefault(name, {}).setdefault(grid, []).append(value)
            advance(1)
    unit = []
    for n in calls:
        # so many of the table's own steps, from the start, and no further: what the published comparison did
        times = jnp.arange(STEPS, STEPS - n - 1, -1).astype(float)
        rule = multistep_rule(sde.alpha(times), sde.sigma(times), order=1, kind="sde")
        unit.append(measured(by_data, times, rule, f"{UNSTRIDED}, {n}"))
    found[UNSTRIDED] = {"t": unit}
    keep = ("truth", "given", *(f"{name}, λ, {calls[min(1, len(calls) - 1)]}" for name in ("SDE-2", "Euler-SDE")))
    return Restored(calls, found, distance(images(0), truth), {one: shown[one] for one in keep})
