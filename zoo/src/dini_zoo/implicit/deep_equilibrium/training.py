"""Training of the equilibrium classifier by Adam."""

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

from ..losses import cross_entropy
from .equilibrium import Params, classify


def loss(
    params: Params, sample: Sample, mode: dini.Differentiation, solver: dini.Solver, *, on_failure: Any = "raise"
) -> tuple[Float[Array, ""], tuple[Array, dini.Solution]]:
    """The cross-entropy on a sample; the scores and the solution."""
    scores, solution = classify(params, sample.X, mode, solver, on_failure=on_failure)
    return cross_entropy(scores, sample.Y), (scores, solution)


class Course(NamedTuple):
    """What training came by, a number for each epoch; the first is that before training."""

    path: list[Params]
    loss: Float[np.ndarray, " epochs"]
    """On the training data."""
    accuracy: Float[np.ndarray, " epochs"]
    """On the test data."""
    steps: Float[np.ndarray, " epochs"]
    """Of the solver, for all data together."""
    failures: int
    """Solves of a batch that did not reach the tolerance."""

    @property
    def params(self) -> Params:
        """The parameters at the end."""
        return self.path[-1]


class Epoch(NamedTuple):
    """What one pass through the data gives."""

    params: Params
    state: Any
    failures: Array


def epoch(
    sample: Sample, mode: dini.Differentiation, solver: dini.Solver, batch: int, learning_rate: float
) -> Callable[[Params, Any, Array], Epoch]:
    """One pass through the data: a function of the parameters, the optimizer's state and the order of the data."""
    optimizer = optax.adam(learning_rate)
    # a solve that stops early gives a gradient nevertheless; such solves are counted
    slope = jax.grad(lambda params, sample: loss(params, sample, mode, solver, on_failure="ignore"), has_aux=True)

    def step(carry: tuple[Params, Any], sample: Sample) -> tuple[tuple[Params, Any], Array]:
        gradient, (_, solution) = slope(carry[0], sample)
        updates, state = optimizer.update(gradient, carry[1])
        return (jax.tree.map(jnp.add, carry[0], updates), state), solution.status != dini.Status.CONVERGED

    def run(params: Params, state: Any, order: Array) -> Epoch:
        batches = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order.reshape(-1, batch)], sample)
        (params, state), failed = jax.lax.scan(step, (params, state), batches)
        return Epoch(params, state, jnp.sum(failed))

    return run


class Look(NamedTuple):
    """What has been learned."""

    loss: Array
    accuracy: Array
    steps: Array


def look(split: Split, mode: dini.Differentiation, solver: dini.Solver) -> Callable[[Params], Look]:
    """The loss on the training data and the accuracy on the test data: a function of the parameters."""
    both, cut = np.concatenate([split.train.X, split.test.X]), len(split.train.X)

    def run(params: Params) -> Look:
        scores, solution = classify(params, both, mode, solver, on_failure="ignore")
        right = jnp.argmax(scores[cut:], axis=1) == jnp.argmax(split.test.Y, axis=1)
        value = cross_entropy(scores[:cut], split.train.Y)
        return Look(value, jnp.mean(right.astype(value.dtype)), solution.stats.steps)

    return run


def start(params: Params, learning_rate: float) -> Any:
    """The state of Adam before the first step."""
    return optax.adam(learning_rate).init(params)


def train(
    run_epoch: Callable[[Params, Any, Any], Epoch],
    look: Callable[[Params], Look],
    params: Params,
    state: Any,
    examples: int,
    epochs: int,
    seed: int,
) -> Course:
    """Go through the data so many times, each in an order of its own. The functions may be compiled ones."""
    random = np.random.RandomState(seed)
    path, looks, failures = [params], [look(params)], 0
    for _ in range(epochs):
        now = run_epoch(params, state, random.permutation(examples))
        params, state = now.params, now.state
        path.append(params)
        looks.append(look(params))
        failures += int(now.failures)
    losses, accuracy, steps = (np.array([float(figure) for figure in figures]) for figures in zip(*looks, strict=True))
    return Course(path, losses, accuracy, steps, failures)
