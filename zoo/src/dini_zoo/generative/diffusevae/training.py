"""Networks of the experiment: autoencoders of digits, refiners in both formulations, a diffusion without a code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array

from dini_zoo.diffusion import digits
from dini_zoo.diffusion.chain_sampling import chain_loss
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.networks import StepNetwork
from dini_zoo.kit.training import Trainer

from ..autoencoders import VAE, vae_loss
from .refiner import Refiner, centered, refiner_loss

PLAIN, FIRST, SECOND = "DDIM", "form. 1", "form. 2"
KINDS = (PLAIN, FIRST, SECOND)


class Budget(NamedTuple):
    """Of a training; the same for every diffusion."""

    steps: int
    batch: int
    rate: float = 1e-3
    average: float | None = None


def lane(models: Any, i: int) -> Any:
    """One of several models side by side."""
    return jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, models)


def images() -> tuple[np.ndarray, np.ndarray]:
    """In [0, 1], to train with and to test with."""
    train, test = digits.load()
    return train.unit.astype(np.float32), test.unit.astype(np.float32)


def autoencoders(keys: Array, latent: int, beta: float, budget: Budget, advance: Callable[[int], None]) -> Any:
    """One for each key, side by side."""
    make = lambda key: VAE(digits.PIXELS, latent, key=jax.random.fold_in(key, 0))
    trainer = Trainer(
        lambda vae, x, key: vae_loss(vae, x, key, beta=beta),
        optax.adam(budget.rate),
        steps=budget.steps,
        batch=budget.batch,
    )
    course = trainer.together(eqx.filter_vmap(make)(keys), images()[0], keys=keys, advance=advance)
    return [lane(course.model, i) for i in range(len(keys))]


class Diffusions:
    """Trainings of diffusions on one chain: one compiled program for each kind, whatever the seed.

    With a `code`, the numbers in one, refiners are given the code as well.
    """

    def __init__(self, chain: Chain, width: int, budget: Budget, code: int = 0):
        self._width, self._code, self._data = width, code, centered(images()[0])

        def plain(network: StepNetwork, x: Array, key: Array) -> Array:
            return chain_loss(network, chain, x, key)

        def refined(refiner: Refiner, x: Array, key: Array, vae: VAE) -> Any:
            # the autoencoder is carried from step to step as it is: of each seed another one
            return refiner_loss(refiner, vae, chain, x, key), vae

        make = lambda kind: Trainer(
            plain if kind == PLAIN else refined,
            optax.adam(optax.cosine_decay_schedule(budget.rate, budget.steps)),
            steps=budget.steps,
            batch=budget.batch,
            average=budget.average,
            carries=kind != PLAIN,
        )
        self._trainers = {kind: make(kind) for kind in KINDS}

    def train(self, kind: str, vae: VAE, key: Array, advance: Callable[[int], None]) -> Any:
        """One of them; the same key gives every kind the same weights to start from."""
        for_weights, for_steps = jax.random.split(key)
        code = 0 if kind == PLAIN else self._code
        network = StepNetwork(digits.PIXELS, condition=digits.PIXELS, code=code, width=self._width, key=for_weights)
        if kind == PLAIN:
            course = self._trainers[kind](network, self._data, key=for_steps, advance=advance)
        else:
            refiner = Refiner(network, formulation=1 if kind == FIRST else 2, z_cond=code > 0)
            course = self._trainers[kind](refiner, self._data, key=for_steps, carried=vae, advance=advance)
        assert course.average is not None
        return course.average
