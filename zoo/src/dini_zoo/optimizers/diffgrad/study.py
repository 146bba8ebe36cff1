"""What is measured: the paper's functions, optimizers on real images, and a network where the friction must act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.data import Sample
from dini_zoo.kit.run import Phase, Run

from ..classifiers import Perceptron, digits
from .functions import descend
from .method import abs_sigmoid, diffgrad
from .network import Convolutional
from .training import Classroom, Trained, orders
from .valley import Valley


def half(previous: Array, gradient: Array) -> float:
    """The friction of equal gradients, whatever they are: that of the paper's first program, by a fault."""
    del previous, gradient
    return 0.5


def leaf_mean(previous: Array, gradient: Array) -> Float[Array, ""]:
    """The paper's friction, averaged over the leaf: the learning rate changes, its ratio between coordinates not."""
    return jnp.mean(abs_sigmoid(previous, gradient))


DIFFGRAD, FROZEN, MEAN, NORMALIZED, ADAM = "diffGrad", "friction 1/2", "mean friction", "normalized", "Adam"
SGD = "SGD, momentum"

#: Optimizers by name, functions of the learning rate.
KINDS: dict[str, Callable[[Array], optax.GradientTransformation]] = {
    DIFFGRAD: diffgrad,
    ADAM: optax.adam,
    FROZEN: partial(diffgrad, friction=half),
    MEAN: partial(diffgrad, friction=leaf_mean),
    NORMALIZED: partial(diffgrad, normalize=True),
    "AMSGrad": optax.amsgrad,
    SGD: lambda rate: optax.sgd(10 * rate, momentum=0.9),
    "RMSProp": optax.rmsprop,
    "AdaDelta": lambda rate: optax.adadelta(1000 * rate, rho=0.9, eps=1e-6),
    "AdaGrad": lambda rate: optax.adagrad(10 * rate),
    "AdaGrad from 0": lambda rate: optax.adagrad(10 * rate, initial_accumulator_value=0.0),
}

#: On the perceptron: the learning rate in units of Adam's, and what the loss is multiplied by.
LANES = {
    DIFFGRAD: ((1.0, 1.0), (2.0, 1.0), (1.0, 1e2), (1.0, 1e4)),
    ADAM: ((0.5, 1.0), (1.0, 1.0)),
    FROZEN: ((1.0, 1e2),),
}


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the weights and of the order of the images."""
    updates: int = 299
    """On the functions of one variable."""
    epochs: int = 20
    hidden: tuple[int, ...] = (128, 64)
    """Units of the perceptron."""
    batch: int = 32
    rate: float = 1e-3
    """Adam's for the perceptron; those of the others are multiples of it."""
    optimizers: tuple[str, ...] = (
        DIFFGRAD,
        ADAM,
        FROZEN,
        NORMALIZED,
        "AMSGrad",
        SGD,
        "RMSProp",
        "AdaDelta",
        "AdaGrad",
        "AdaGrad from 0",
    )
    """Which train the perceptron."""
    channels: tuple[int, int] = (8, 16)
    """Of the convolutional network."""
    network_optimizers: tuple[str, ...] = (ADAM, SGD, DIFFGRAD, MEAN)
    """Which train it."""
    scales: tuple[float, ...] = (1.0, 30.0, 1000.0)
    """What its loss is multiplied by, for optimizers with a friction."""
    rates: tuple[float, ...] = (8e-3, 16e-3, 32e-3, 64e-3, 128e-3)
    """Of which the validation images choose one for each optimizer."""
    validation: int = 300
    """Images that choose, of the 1200 to train on."""
    valley_updates: int = 1500
    """At most, in the narrow valley."""
    valley_rates: tuple[float, float, int] = (-8.0, 0.0, 49)
    """Powers of two there: the first, the last, how many."""
    valley_share: float = 1e-4
    """Of the first excess, at which it is at its end."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0, 1),
            updates=20,
            epochs=1,
            batch=100,
            optimizers=(),
            channels=(2, 2),
            network_optimizers=(DIFFGRAD,),
            scales=(100.0,),
            rates=(1e-2,),
            valley_updates=20,
            valley_rates=(-4.0, 0.0, 3),
            valley_share=0.5,
        )


@dataclass(frozen=True)
class Look:
    """The convolutional network: what an optimizer reached with the loss times `scale`, rate by rate."""

    optimizer: str
    scale: float
    rates: tuple[float, ...]
    trained: list[Trained]

    @property
    def best(self) -> int:
        """The rate of least mean loss on the validation images, as an index."""
        return int(np.argmin([np.nan_to_num(np.mean(one.validation), nan=np.inf) for one in self.trained]))

    @property
    def chosen(self) -> Trained:
        """What that rate gives."""
        return self.trained[self.best]


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    points: dict[str, Float[np.ndarray, "updates+1 4"]]
    """The descents on the functions of one variable, by optimizer."""
    perceptron: dict[tuple[str, float, float], Trained]
    """By optimizer, its learning rate in units of Adam's, and what the loss is multiplied by."""
    looks: list[Look]
    condition: float
    """Of the narrow valley: the greatest curvature over the least."""
    valley: dict[tuple[str, float], Int[np.ndarray, " rates"]]
    """Updates to its end by learning rate, by optimizer and what the loss is multiplied by."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"functions": 0.5, "valley": 3, "perceptron": 50, "network": 70})
    points = run.part("functions", lambda phase: descents(settings.updates))
    condition, valley = run.part("valley", lambda phase: descents_of_a_valley(settings))
    train, test = digits(1200)
    keys = jnp.stack([run.key("weights", seed) for seed in settings.seeds])

    def order(count: int) -> np.ndarray:
        return orders(lambda seed: run.random("order", seed), settings.seeds, count, settings.batch, settings.epochs)

    sizes = (64, *settings.hidden, 10)
    room = Classroom(lambda key: Perceptron(sizes, key=key), keys, (train, train, test), order(len(train.X)))

    def compare(name: str, phase: Phase) -> list[Trained]:
        lanes = [(settings.rate * rate, scale) for rate, scale in lanes_of(name)]
        return room.train(KINDS[name], lanes, phase.advance)

    found = run.each("perceptron", settings.optimizers, compare, room.steps, pairs=True)
    perceptron = {
        (name, *lane): one
        for name, trained in zip(settings.optimizers, found, strict=True)
        for lane, one in zip(lanes_of(name), trained, strict=True)
    }

    cut = len(train.X) - settings.validation
    learn, choose = Sample(train.X[:cut], train.Y[:cut]), Sample(train.X[cut:], train.Y[cut:])
    seminar = Classroom(lambda key: Convolutional(settings.channels, key=key), keys, (learn, choose, test), order(cut))

    def look(name: str, phase: Phase) -> list[Look]:
        scales = settings.scales if name in (DIFFGRAD, MEAN) else (1.0,)
        lanes = [(rate, scale) for scale in scales for rate in settings.rates]
        trained = seminar.train(KINDS[name], lanes, phase.advance)
        width = len(settings.rates)
        return [
            Look(name, scale, settings.rates, trained[i * width : (i + 1) * width]) for i, scale in enumerate(scales)
        ]

    looks = run.each("network", settings.network_optimizers, look, seminar.steps, pairs=True)
    return Result(settings, points, perceptron, [one for several in looks for one in several], condition, valley)


def lanes_of(name: str) -> tuple[tuple[float, float], ...]:
    """How an optimizer trains the perceptron: learning rates in units of Adam's, and multiples of the loss."""
    return LANES.get(name, ((1.0, 1.0),))


def descents(updates: int) -> dict[str, Float[np.ndarray, "updates+1 4"]]:
    """The paper's descents from -1, in double precision: the second update of diffGrad on `F2` depends on it."""
    with jax.enable_x64(True):
        optimizers = {name: KINDS[name] for name in (ADAM, DIFFGRAD, FROZEN)}
        program = jax.jit(
            lambda: {name: descend(kind(0.1, b1=0.95), -1.0, updates) for name, kind in optimizers.items()}
        )
        return {name: np.asarray(points) for name, points in program().items()}


def descents_of_a_valley(settings: Settings) -> tuple[float, dict[tuple[str, float], Int[np.ndarray, " rates"]]]:
    """The valley's condition number, and the updates that optimizers need there."""
    rates = 2 ** np.linspace(*settings.valley_rates)
    limits = {"share": settings.valley_share, "limit": settings.valley_updates}
    with jax.enable_x64(True):
        valley = Valley.of_diabetes()
        pairs = [(ADAM, 1.0), (FROZEN, 1.0), *((DIFFGRAD, scale) for scale in settings.scales)]
        return valley.condition, {
            (name, scale): valley.updates_needed(KINDS[name], rates, scale, **limits) for name, scale in pairs
        }
