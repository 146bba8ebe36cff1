"""Training of graph networks on stacks of padded graphs, and how far their predictions are from the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, same_shape
from dini_zoo.kit.training import Course, Trainer

from .data import Labeled


def predict(model: Any, graphs: Any) -> Float[Array, "B n"]:
    """The predicted value of each node. Each graph of the stack is solved for by itself."""
    return jax.vmap(model)(graphs)[..., 0]


def squared_loss(model: Any, examples: Labeled) -> Float[Array, ""]:
    """The mean squared error over all nodes of the stack."""
    found = predict(model, examples.graph)
    same_shape("What the model returns for nodes", found, "the targets", jnp.shape(examples.target))
    gap = found - examples.target
    return jnp.sum(gap**2) / jnp.sum(examples.graph.n_node)


def trainer(*, batch: int, steps: int, chunk: int, learning_rate: float) -> Trainer[Any]:
    """Adam on batches of stacked graphs, with a learning rate that falls to zero along a cosine.

    Parameters
    ----------
    batch, steps, chunk
        Graphs a step, steps in all, and steps in one compiled loop; `chunk` divides `steps`.
    learning_rate
        At the first step.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    loss = lambda model, examples, key: squared_loss(model, examples)
    return Trainer(loss, optimizer, steps=steps, every=chunk, batch=batch)


def train(
    trainer: Trainer[Any], model: Any, pool: Labeled, seed: int, advance: Callable[[int], None] = lambda steps: None
) -> Course[Any]:
    """Train a model on a pool of graphs of one size, pass after pass, each in an order of its own."""
    order = batches(len(pool.target), trainer.batch or 1, trainer.steps, seed)
    return trainer(model, pool, key=jax.random.key(seed), order=order, advance=advance)


def batches(count: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Indices of each step's graphs: pass after pass through the pool, of which a part of a batch is left out."""
    at_least("steps", steps, 1)
    if not 0 < batch <= count:
        raise ValueError(f"batch must be from 1 to {count}, the graphs of the pool: given {batch}.")
    random, whole = np.random.default_rng(seed), count - count % batch
    passes = -(-steps * batch // whole)
    order = np.concatenate([random.permutation(count)[:whole] for _ in range(passes)])
    return order[: steps * batch].reshape(steps, batch)


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
