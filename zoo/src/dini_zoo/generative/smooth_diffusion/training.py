"""Networks of the experiment: noise predictors of digits, and their adapters, with the regularizer and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from dini_zoo.diffusion import digits
from dini_zoo.diffusion.chain_sampling import chain_loss
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.networks import StepNetwork
from dini_zoo.kit import adapters
from dini_zoo.kit.training import Trainer

from .regularizer import VariationEMA, smooth_loss


class Budget(NamedTuple):
    """Of a training."""

    steps: int
    batch: int
    rate: float = 1e-3


def images() -> tuple[np.ndarray, np.ndarray]:
    """In [-1, 1], to train with and to test with."""
    train, test = digits.load()
    return tuple(2 * part.unit.astype(np.float32) - 1 for part in (train, test))


@dataclass(frozen=True)
class Tuned:
    """A network after its adapters were trained and merged, and the batches' variation norms in the last tenth."""

    network: StepNetwork
    norm: float
    spread: float
    """The standard deviation over the batch, relative to the mean."""


class Trainings:
    """Of a base and of adapters: one compiled program each, whatever the seed and the penalty's weight."""

    def __init__(self, chain: Chain, width: int, base: Budget, tuning: Budget, rank: int):
        self._width, self._rank, self._tail = width, rank, max(tuning.steps // 10, 1)
        self._data = images()[0]

        def loss(network: StepNetwork, x: Array, key: Array) -> Array:
            return chain_loss(network, chain, x, key)

        def tuned_loss(adapters_: Any, x: Array, key: Array, carried: Any) -> Any:
            # the base and the weight are carried from step to step as they are
            network, weight, state = carried
            model = adapters.apply(network, adapters_)
            value, (state, parts) = smooth_loss(model, chain, x, key, state, weight=weight)
            return value, ((network, weight, state), parts)

        self._base = Trainer(
            loss,
            optax.adam(optax.cosine_decay_schedule(base.rate, base.steps)),
            steps=base.steps,
            batch=base.batch,
            average=0.999,
        )
        self._tuned = Trainer(
            tuned_loss,
            optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(tuning.rate, weight_decay=1e-4)),
            steps=tuning.steps,
            batch=tuning.batch,
            carries=True,
            aux=True,
        )

    def base(self, key: Array, advance: Callable[[int], None]) -> StepNetwork:
        """A noise predictor, with the average of its weights."""
        for_weights, for_steps = jax.random.split(key)
        network = StepNetwork(digits.PIXELS, width=self._width, key=for_weights)
        course = self._base(network, self._data, key=for_steps, advance=advance)
        assert course.average is not None
        return course.average

    def tuned(self, base: StepNetwork, weight: float, key: Array, advance: Callable[[int], None]) -> Tuned:
        """From a base: the same key gives every weight the same adapters, batches, steps, noises and directions."""
        for_factors, for_steps = jax.random.split(key)
        made = adapters.init(for_factors, base, self._rank)
        start = (base, jnp.asarray(weight, jnp.float32), VariationEMA())
        course = self._tuned(made, self._data, key=for_steps, carried=start, advance=advance)
        mean, std = (np.mean(one[-self._tail :]) for one in (course.aux.mean, course.aux.std))
        return Tuned(adapters.merge(base, course.model), float(mean), float(std / mean))
