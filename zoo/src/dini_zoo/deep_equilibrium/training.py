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

from ..distillation.learning import cross_entropy
from ..svm.data import Sample, Split
from .equilibrium import Params, classify


def loss(
    params: Params, sample: Sample, mode: dini.Differentiation, solver: dini.Solver, *, on_failure: Any = "raise"
) -> tuple[Float[Array, ""], tuple[Array, dini.Solution]]:
    """The cross-entropy on a sample; the scores and the solution."""
    scores, solution = classify(params, sample.X, mode, solver, on_failure=on_failure)
    return cross_entropy(scores, sample.Y), (scores, solution)


class Course(NamedTuple):
    """What training came by, a number for each epoch; the first is that before training."""

    params: Params
    """At the end."""
    loss: Float[np.ndarray, " epochs"]
    """On the training data."""
    accuracy: Float[np.ndarray, " epochs"]
    """On the test data."""
    steps: Float[np.ndarray, " epochs"]
    """Of the solver, for all data together."""
    failures: int
    """Solves of a batch that did not reach the tolerance."""


class Epoch(NamedTuple):
    """What one pass through the data gives."""

    params: Params
    state: Any
    loss: Array
    accuracy: Array
    steps: Array
    failures: Array


def epoch(
    split: Split, mode: dini.Differentiation, solver: dini.Solver, batch: int, learning_rate: float
) -> Callable[[Params, Any, Array, Array], Epoch]:
    """One pass through the training data in an order, followed by a look at what has been learned.

    The arguments of the result are the parameters, the optimizer's state, the order of the data, and whether to learn
    or only to look.

    The model is looked at in the mode that trained it: one of five unrolled steps consists of five steps.
    """
    optimizer = optax.adam(learning_rate)
    both = np.concatenate([split.train.X, split.test.X])
    # a solve that stops early gives a gradient nevertheless; such solves are counted
    slope = jax.grad(lambda params, sample: loss(params, sample, mode, solver, on_failure="ignore"), has_aux=True)

    def step(carry: tuple[Params, Any], sample: Sample) -> tuple[tuple[Params, Any], Array]:
        gradient, (_, solution) = slope(carry[0], sample)
        updates, state = optimizer.update(gradient, carry[1])
        new = jax.tree.map(jnp.add, carry[0], updates)
        return (new, state), solution.status != dini.Status.CONVERGED

    def run_epoch(params: Params, state: Any, order: Array, learns: Array) -> Epoch:
        batches = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order.reshape(-1, batch)], split.train)
        (new, moved), failed = jax.lax.scan(step, (params, state), batches)
        params, state = jax.tree.map(lambda a, b: jnp.where(learns, a, b), (new, moved), (params, state))
        scores, solution = classify(params, both, mode, solver, on_failure="ignore")
        value = cross_entropy(scores[: len(split.train.X)], split.train.Y)
        right = jnp.argmax(scores[len(split.train.X) :], axis=1) == jnp.argmax(split.test.Y, axis=1)
        failures = jnp.where(learns, jnp.sum(failed), 0)
        return Epoch(params, state, value, jnp.mean(right.astype(value.dtype)), solution.stats.steps, failures)

    return run_epoch


def start(params: Params, learning_rate: float) -> Any:
    """The state of Adam before the first step."""
    return optax.adam(learning_rate).init(params)


def train(
    run: Callable[[Params, Any, Any, Any], Epoch], params: Params, state: Any, examples: int, epochs: int, seed: int
) -> Course:
    """Go through the data so many times, each in an order of its own; `run` is what `epoch` gives, compiled."""
    random = np.random.RandomState(seed)
    rows: list[tuple[float, float, float]] = []
    failures = 0
    for number in range(epochs + 1):
        now = run(params, state, random.permutation(examples), np.asarray(number > 0))
        params, state = now.params, now.state
        rows.append((float(now.loss), float(now.accuracy), float(now.steps)))
        failures += int(now.failures)
    losses, accuracy, steps = np.array(rows).T
    return Course(params, losses, accuracy, steps, failures)
