"""Training of classifiers by several optimizers, or by one with several rates, and the friction on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.data import Sample
from dini_zoo.kit.training import Trainer

from ..classifiers import accuracy, loss
from .method import abs_sigmoid


@dataclass(frozen=True)
class Trained:
    """What one optimizer reached, seed by seed."""

    loss: Float[np.ndarray, " seeds"]
    """On all images trained on."""
    validation: Float[np.ndarray, " seeds"]
    """The loss on the images that choose."""
    accuracy: Float[np.ndarray, " seeds"]
    """On the test images."""
    friction: Float[np.ndarray, "seeds steps"]
    """The paper's, averaged over all coordinates, at each step: what it is, or would be if the optimizer had one."""


class FrictionState(NamedTuple):
    """The state of :func:`record_friction`."""

    count: Int[Array, ""]
    previous: optax.Updates
    friction: Float[Array, " steps"]


def record_friction(steps: int) -> optax.GradientTransformation:
    """Changes nothing, and keeps the mean friction of the gradients that pass at each of so many steps."""

    def init(params: optax.Params) -> FrictionState:
        return FrictionState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params), jnp.zeros(steps))

    def update(
        updates: optax.Updates, state: FrictionState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, FrictionState]:
        del params
        leaves = jax.tree.leaves(jax.tree.map(abs_sigmoid, state.previous, updates))
        mean = sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)
        return updates, FrictionState(state.count + 1, updates, state.friction.at[state.count].set(mean))

    return optax.GradientTransformation(init, update)


def orders(
    random: Callable[[int], np.random.Generator], seeds: tuple[int, ...], count: int, batch: int, epochs: int
) -> Int[np.ndarray, "seeds steps batch"]:
    """Which examples each step sees: passes through all of them, each in an order of its own, without an odd rest."""
    steps = count // batch

    def one(seed: int) -> np.ndarray:
        generator = random(seed)
        return np.concatenate([generator.permutation(count)[: steps * batch] for _ in range(epochs)])

    return np.stack([one(seed) for seed in seeds]).reshape(len(seeds), -1, batch)


class Classroom:
    """Models of all seeds, and the data and orders in which every optimizer trains them.

    Parameters
    ----------
    make
        A model from a key.
    keys
        A key for each seed.
    samples
        Images to train on, to choose by and to test on.
    order
        Which images each step sees, for each seed.
    """

    def __init__(
        self,
        make: Callable[[Array], Any],
        keys: Array,
        samples: tuple[Sample, Sample, Sample],
        order: Int[np.ndarray, "seeds steps batch"],
    ):
        self.models, self.keys = eqx.filter_vmap(make)(keys), keys
        self.samples = tuple(Sample(jnp.float32(sample.X), jnp.float32(sample.Y)) for sample in samples)
        self.order = order
        judge = lambda model, samples: (*(loss(model, one) for one in samples[:2]), accuracy(model, samples[2]))
        self._judge = eqx.filter_jit(eqx.filter_vmap(judge, in_axes=(eqx.if_array(0), None)))

    @property
    def steps(self) -> int:
        """Of a training."""
        return self.order.shape[1]

    def train(
        self,
        kind: Callable[..., optax.GradientTransformation],
        lanes: Sequence[tuple[float, float]],
        advance: Callable[[int], None] = lambda steps: None,
    ) -> list[Trained]:
        """Train every model with each learning rate and multiple of the loss in `lanes`, all side by side.

        `kind(rate)` is the optimizer.
        """
        count = len(lanes)
        rates, scales = (jnp.repeat(jnp.float32(column), len(self.keys)) for column in zip(*lanes, strict=True))
        # what a lane has of its own is in the optimizer's state
        optimizer = optax.chain(
            optax.inject_hyperparams(optax.scale)(1.0),
            record_friction(self.steps),
            optax.inject_hyperparams(lambda rate: kind(rate))(1.0),
        )
        trainer = Trainer(loss, optimizer, steps=self.steps, finite=False)
        spread = lambda leaf: jnp.tile(leaf, (count,) + (1,) * (leaf.ndim - 1)) if eqx.is_array(leaf) else leaf
        models = jax.tree.map(spread, self.models)
        state = trainer.initial(models)
        state[0].hyperparams["step_size"], state[2].hyperparams["rate"] = scales, rates
        course = trainer.together(
            models,
            self.samples[0],
            keys=jnp.tile(self.keys, count),
            order=np.tile(self.order, (count, 1, 1)),
            state=state,
            advance=advance,
        )
        figures = (*self._judge(course.model, self.samples), course.state[1].friction)
        parts = [np.split(np.asarray(figure), count) for figure in figures]
        return [Trained(*of) for of in zip(*parts, strict=True)]
