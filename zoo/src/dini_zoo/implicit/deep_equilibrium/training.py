"""Training of the equilibrium classifier by Adam, in one of dini's modes of differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.data import Sample, Split
from dini_zoo.kit.training import Trainer

from ...kit.losses import cross_entropy
from .equilibrium import Params, classify


def loss(
    params: Params, sample: Sample, mode: dini.Differentiation, solver: dini.Solver, *, on_failure: Any = "raise"
) -> tuple[Float[Array, ""], tuple[Array, dini.Solution]]:
    """The cross-entropy on a sample; the scores and the solution."""
    scores, solution = classify(params, sample.X, mode, solver, on_failure=on_failure)
    return cross_entropy(scores, sample.Y), (scores, solution)


class Course(NamedTuple):
    """What training came by, a number for each epoch; the first is that before training."""

    path: Params
    """The parameters, each array with an axis for the epochs in front."""
    loss: Float[np.ndarray, " epochs"]
    """On the training data."""
    accuracy: Float[np.ndarray, " epochs"]
    """On the test data."""
    steps: Float[np.ndarray, " epochs"]
    """Of the solver, for all data together."""
    failures: int
    """Solves of a batch that did not reach the tolerance."""

    def at(self, epoch: int) -> Params:
        """The parameters after so many epochs; -1 for the end."""
        return Params(*(leaf[epoch] for leaf in self.path))


class Look(NamedTuple):
    """What has been learned."""

    params: Params
    loss: Array
    accuracy: Array
    steps: Array


def look(split: Split, mode: dini.Differentiation, solver: dini.Solver) -> Callable[[Params], Look]:
    """The loss on the training data and the accuracy on the test data: a compiled function of the parameters."""
    both, cut = np.concatenate([split.train.X, split.test.X]), len(split.train.X)

    @jax.jit
    def run(params: Params) -> Look:
        scores, solution = classify(params, both, mode, solver, on_failure="ignore")
        right = jnp.argmax(scores[cut:], axis=1) == jnp.argmax(split.test.Y, axis=1)
        value = cross_entropy(scores[:cut], split.train.Y)
        return Look(params, value, jnp.mean(right.astype(value.dtype)), solution.stats.steps)

    return run


def trainer(
    mode: dini.Differentiation,
    solver: dini.Solver,
    see: Callable[[Params], Look],
    *,
    examples: int,
    batch: int,
    epochs: int,
    learning_rate: float,
) -> Trainer[Params]:
    """Adam, through all examples in each epoch; `see` is asked after each."""
    if examples % batch:
        raise ValueError(f"batch must divide the number of examples, {examples}: given {batch}.")

    def value(params: Params, sample: Sample, key: Array) -> tuple[Array, Array]:
        # a solve that stops early gives a gradient nevertheless; such solves are counted
        found, (_, solution) = loss(params, sample, mode, solver, on_failure="ignore")
        return found, solution.status != dini.Status.CONVERGED

    each = examples // batch
    return Trainer(value, optax.adam(learning_rate), steps=epochs * each, every=each, batch=batch, watch=see, aux=True)


def train(
    trainer: Trainer[Params], params: Params, sample: Sample, seed: int, advance: Callable[[int], None]
) -> Course:
    """Go through the data epoch after epoch, each in an order of its own."""
    random, count = np.random.RandomState(seed), len(sample.X)
    epochs = trainer.steps // trainer.every
    order = np.concatenate([random.permutation(count) for _ in range(epochs)]).reshape(trainer.steps, -1)
    course = trainer(params, sample, key=jax.random.key(seed), order=order, advance=advance)
    seen: Look = course.watched
    # the loss of a step is that of its batch; what is kept is that of all data, epoch by epoch
    return Course(seen.params, seen.loss, seen.accuracy, seen.steps.astype(float), int(course.aux.sum()))
