"""Self-distillation of a small network on digits with wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ...kit.data import Sample, Split
from ...kit.training import Trainer
from ..classifiers import Perceptron
from .loop import BestOnValidation, distill
from .mixing import distillation_targets


def probabilities(model: Perceptron, X: Any) -> Float[Array, "m k"]:
    """What the network says of each class."""
    return jax.nn.softmax(jax.vmap(model)(jnp.asarray(X)))


def loss(model: Perceptron, batch: Sample, key: Any = None) -> Float[Array, ""]:
    """Squared errors of the probabilities, summed over classes, mean over the batch; and a little weight decay."""
    decay = sum(jnp.sum(leaf**2) for leaf in (*model.weights, *model.biases))
    return jnp.mean(jnp.sum((probabilities(model, batch.X) - batch.Y) ** 2, axis=1)) + 1e-4 * decay


@dataclass(frozen=True)
class Seed:
    """Test accuracies of one seed."""

    alpha: float
    """The estimated share of the ground truth, before it is clipped."""
    teacher: float
    estimated: float
    """Of the student with the estimated share."""
    grid: list[float]
    """Of students with given shares."""


class Training:
    """Trains networks of one size, compiled once."""

    def __init__(self, train: int, *, epochs: int, hidden: int = 64, batch: int = 32, rate: float = 2e-3):
        self._count, self._batch, self._epochs, self._hidden = train, batch, epochs, hidden
        self._trainer = Trainer(loss, optax.adam(rate), steps=epochs * (train // batch))
        self._predict, self._order = jax.jit(probabilities), jax.jit(self._batches)

    def __call__(self, X: Any, targets: Any, key: Array) -> Callable[[Any], Array]:
        """Train from scratch; the key gives weights and order."""
        init, orders, steps = jax.random.split(key, 3)
        model = Perceptron((X.shape[1], self._hidden, targets.shape[1]), key=init)
        model = self._trainer(model, Sample(X, targets), key=steps, order=self._order(orders)).model
        return lambda X: self._predict(model, X)

    def _batches(self, key: Array) -> Array:
        """Whole batches of each pass in an order of its own; what is left of a pass is left out."""
        whole = self._count // self._batch * self._batch
        draw = lambda key: jax.random.permutation(key, self._count)[:whole]
        return jax.vmap(draw)(jax.random.split(key, self._epochs)).reshape(-1, self._batch)


def compare(
    split: Split, training: Training, shares: tuple[float, ...], key: Array, advance: Callable[[int], None]
) -> Seed:
    """Train a teacher, a student with the estimated share, and one with each of the given shares."""
    X, Y = split.train

    def train(targets: Array, key: Array) -> Callable[[Any], Array]:
        predict = training(X, targets, key)
        advance(1)
        return predict

    def accuracy(predict: Callable[[Any], Array]) -> float:
        return float(np.mean(np.argmax(np.asarray(predict(split.test.X)), axis=1) == split.test.labels))

    rule = BestOnValidation(split.validation.X, jnp.asarray(split.validation.Y))
    teacher, student = distill(train, X, jnp.asarray(Y), rule, steps=2, key=key)
    assert student.student is not None
    unclipped = BestOnValidation(rule.X, rule.Y, clip=None)(teacher.predict, student.student)
    said, own = teacher.predict(X), jax.random.fold_in(key, 1)
    grid = [student.student if share == 0 else train(distillation_targets(Y, said, share), own) for share in shares]
    return Seed(unclipped, accuracy(teacher.predict), accuracy(student.predict), [accuracy(one) for one in grid])
