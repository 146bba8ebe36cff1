"""Training of graph networks on stacks of padded graphs, and how far their predictions are from the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .data import Labeled


class Course(NamedTuple):
    """A model that was trained, and how."""

    model: Any
    loss: Float[np.ndarray, " steps"]
    """On the batch of each step, before it."""
    seconds: float
    """What the steps took."""


def predict(model: Any, graphs: Any) -> Float[Array, "B n"]:
    """The predicted value of each node. Each graph of the stack is solved for by itself."""
    return jax.vmap(model)(graphs)[..., 0]


def squared_loss(model: Any, examples: Labeled) -> Float[Array, ""]:
    """The mean squared error over all nodes of the stack."""
    gap = predict(model, examples.graph) - examples.target
    return jnp.sum(gap**2) / jnp.sum(examples.graph.n_node)


class Trainer:
    """Adam on batches of a pool, with a learning rate that falls to zero along a cosine.

    Steps are compiled in chunks, once for all models of one architecture.

    Parameters
    ----------
    pool
        Examples of one size, stacked.
    batch, steps, chunk
        Graphs a step, steps in all, and steps in one compiled loop; `chunk` divides `steps`.
    learning_rate
        At the first step.
    """

    def __init__(self, pool: Labeled, batch: int, steps: int, chunk: int, learning_rate: float):
        count = len(pool.target)
        if not 0 < batch <= count:
            raise ValueError(f"batch must be from 1 to {count}, the graphs of the pool: given {batch}.")
        if chunk < 1 or steps < chunk or steps % chunk:
            raise ValueError(f"steps must be a multiple of chunk: given {steps} and {chunk}.")
        self.pool, self.batch, self.steps, self.chunk = jax.device_put(pool), batch, steps, chunk
        self.optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
        self._compiled: Any = None

    def __call__(self, model: Any, seed: int, done: Callable[[int], None] = lambda steps: None) -> Course:
        """Train a model; `done` is told after each chunk how many steps it had."""
        params, static = eqx.partition(model, eqx.is_inexact_array)
        state = self.optimizer.init(params)
        batches = self._batches(seed)
        if self._compiled is None:
            run = jax.jit(lambda *carried: self._run(static, *carried))
            self._compiled = run.lower(params, state, self.pool, batches[: self.chunk]).compile()
        losses, start = [], time.perf_counter()
        for i in range(0, self.steps, self.chunk):
            params, state, found = self._compiled(params, state, self.pool, batches[i : i + self.chunk])
            losses.append(np.asarray(found))
            done(self.chunk)
        return Course(eqx.combine(params, static), np.concatenate(losses), time.perf_counter() - start)

    def _run(self, static: Any, params: Any, state: Any, pool: Labeled, batches: Array) -> tuple[Any, Any, Array]:
        slope = jax.value_and_grad(lambda params, examples: squared_loss(eqx.combine(params, static), examples))

        def step(carried: Any, indices: Array) -> Any:
            params, state = carried
            value, gradient = slope(params, jax.tree.map(lambda leaf: leaf[indices], pool))
            updates, state = self.optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        (params, state), values = jax.lax.scan(step, (params, state), batches)
        return params, state, values

    def _batches(self, seed: int) -> np.ndarray:
        """Indices of each step's graphs: pass after pass through the pool, each in an order of its own."""
        random, count = np.random.default_rng(seed), len(self.pool.target)
        whole = count - count % self.batch
        passes = -(-self.steps * self.batch // whole)
        order = np.concatenate([random.permutation(count)[:whole] for _ in range(passes)])
        return order[: self.steps * self.batch].reshape(self.steps, self.batch)


def on_nodes(predicted: Any, examples: Labeled) -> tuple[np.ndarray, np.ndarray]:
    """The predicted and the true values of all nodes, without the padding, in double precision."""
    target = np.asarray(examples.target)
    real = np.arange(target.shape[1]) < np.sum(examples.graph.n_node, axis=1, keepdims=True)
    return np.asarray(predicted)[real].astype(float), target[real].astype(float)


def root_mean_square(predicted: Any, examples: Labeled) -> float:
    """The root of the mean squared error over all nodes."""
    ours, truth = on_nodes(predicted, examples)
    return float(np.sqrt(np.mean((ours - truth) ** 2)))


def relative_error(predicted: Any, examples: Labeled) -> float:
    """The mean of `|predicted - true| / |true|` over all nodes."""
    ours, truth = on_nodes(predicted, examples)
    return float(np.mean(np.abs(ours - truth) / np.abs(truth)))
