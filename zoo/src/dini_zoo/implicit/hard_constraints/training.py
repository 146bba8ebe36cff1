"""A neural operator with a constraint as its last layer, trained without solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.training import Trainer

from .constraint import Constrained, Constraint, Info, Terms
from .fourier import FourierOperator


class Equation(Protocol):
    """What training needs of a differential equation."""

    def inputs(self, initial: Array) -> Array:
        """What a network sees, on the mesh."""
        ...

    def terms(self, basis: Array, initial: Array) -> Terms:
        """What a constraint needs of a network's functions."""
        ...

    def loss(self, u: Array, initial: Array) -> Array:
        """How badly a prediction satisfies the equation."""
        ...


class ConstrainedOperator(eqx.Module):
    """A network whose functions are combined by a constraint: takes an initial condition to a prediction."""

    network: FourierOperator
    equation: Any = eqx.field(static=True)
    """An `Equation`."""
    constraint: Constraint = eqx.field(static=True)

    def __call__(self, initial: Array, key: Array) -> Constrained:
        """The prediction; the key draws the points at which the constraint is imposed."""
        return self.constraint(self.terms(initial), key)

    @property
    def parameters(self) -> Any:
        """The network's arrays."""
        return eqx.filter(self.network, eqx.is_array)

    def at(self, parameters: Any) -> ConstrainedOperator:
        """The same with other arrays in the network."""
        static = eqx.filter(self.network, eqx.is_array, inverse=True)
        return replace(self, network=eqx.combine(parameters, static))

    def terms(self, initial: Array) -> Terms:
        """What the constraint is given."""
        return self.equation.terms(self.network(self.equation.inputs(initial)), initial)


def loss(model: ConstrainedOperator, initials: Array, key: Array) -> tuple[Float[Array, ""], Info | None]:
    """The mean of the equation's loss over a batch of initial conditions, each with a sample of its own."""

    def one(initial: Array, key: Array) -> tuple[Array, Info | None]:
        found = model(initial, key)
        return model.equation.loss(found.u, initial), found.info

    losses, info = jax.vmap(one)(initials, jax.random.split(key, len(initials)))
    return jnp.mean(losses), info


@dataclass(frozen=True)
class Training:
    """Adam with clipped gradients, whose learning rate is halved again and again down to a lower bound."""

    steps: int = 480
    batch: int = 4
    learning_rate: float = 3e-3
    halve_every: int = 96
    floor: float = 1e-4
    clip: float = 1.0
    chunk: int = 24
    """Steps in one call of the compiled program."""

    def __post_init__(self) -> None:
        if self.steps % self.chunk:
            raise ValueError(f"Training's steps must be a multiple of its chunk, {self.chunk}: given {self.steps}.")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        rate = optax.exponential_decay(self.learning_rate, self.halve_every, 0.5, staircase=True, end_value=self.floor)
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(rate))


class Course(NamedTuple):
    """What training came by."""

    model: ConstrainedOperator
    loss: Float[np.ndarray, " steps"]
    iterations: Float[np.ndarray, " steps"]
    """Of the constraint's solver, the mean over the solves of a step; zero where nothing is solved."""
    early: float
    """The fraction of solves that stopped before their tolerance."""


def trainer(training: Training) -> Trainer[ConstrainedOperator]:
    """The steps of training, for any model: one trainer for all seeds."""

    def value(model: ConstrainedOperator, batch: Array, key: Array) -> tuple[Array, Array]:
        worth, info = loss(model, batch, key)
        if info is None:
            return worth, jnp.zeros(2)
        return worth, jnp.stack([jnp.mean(info.steps.astype(float)), jnp.mean((info.status != 0).astype(float))])

    return Trainer(
        value, training.optimizer, steps=training.steps, every=training.chunk, batch=training.batch, aux=True
    )


def train(
    trainer: Trainer[ConstrainedOperator],
    model: ConstrainedOperator,
    initials: Float[np.ndarray, "n ..."],
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> Course:
    """Train a model on initial conditions alone. `advance` is called after every few steps."""
    random, steps, batch = np.random.RandomState(seed), trainer.steps, trainer.batch or len(initials)
    passes = -(-steps * batch // len(initials))
    order = np.concatenate([random.permutation(len(initials)) for _ in range(passes)])[: steps * batch]
    key = jax.random.key(seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(steps))
    course = trainer(model, initials, key=key, order=order.reshape(steps, batch), step_keys=keys, advance=advance)
    iterations, early = course.aux.T
    return Course(course.model, course.loss, iterations, float(early.mean()))
