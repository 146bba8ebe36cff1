r"""Graphs distinguished by learned functions of their nodes, by way of the homology of the lower star.

Nodes are of three kinds, known by two noisy features. Each graph has a cycle of six nodes: of the kind A or the kind B
alone (class 1), or of three nodes of each (class 0); and a cycle of four nodes of the kind C. A cycle enters with its
last node in each parameter, so by one function a mixed cycle enters with the later of the two kinds, as a cycle of that
kind alone does: no function of one parameter can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.training import Trainer

from .filtrations import graph_batch
from .measures import signed_measure
from .vectorizations import gaussian_vectorize

PLANTED, OTHER, NOISE = 6, 4, 0.15
NODES = PLANTED + OTHER
#: Graphs that make one complex: fewer calls, and the engine's time grows faster than their number.
TOGETHER = 8


def _cycle(first: int, count: int) -> list[tuple[int, int]]:
    return [(first + i, first + (i + 1) % count) for i in range(count)]


EDGES = np.array(_cycle(0, PLANTED) + _cycle(PLANTED, OTHER))


class Graphs(NamedTuple):
    """Features of the nodes, and classes."""

    features: np.ndarray
    labels: np.ndarray


def sampled(random: np.random.RandomState, count: int) -> Graphs:
    """Graphs of both classes with equal odds."""
    kinds = np.concatenate([np.eye(2), np.zeros((1, 2))])
    labels = random.randint(0, 2, count)
    found = []
    for label in labels:
        half = PLANTED // 2
        planted = np.full(PLANTED, random.randint(2)) if label else random.permutation([0] * half + [1] * half)
        clean = kinds[np.concatenate([planted, np.full(OTHER, 2)])]
        found.append(clean + NOISE * random.randn(NODES, 2))
    return Graphs(np.array(found), labels.astype(float))


class Classifier(eqx.Module):
    """A network from features to functions, bumps of the signed measure, and a logistic head."""

    hidden: Array
    hidden_bias: Array
    out: Array
    out_bias: Array
    centers: Array
    log_width: Array
    head: Array
    head_bias: Array

    @classmethod
    def create(cls, key: Array, parameters: int, hidden: int = 16) -> Self:
        """With a last layer of three times the usual size: functions must differ at the start."""
        first, second, third = jax.random.split(key, 3)
        if parameters == 2:
            ticks = jnp.linspace(-1.5, 1.5, 5)
            centers = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        else:
            centers = jnp.linspace(-1.5, 1.5, 25)[:, None]
        return cls(
            jax.random.normal(first, (2, hidden)) * np.sqrt(1 / 2),
            jnp.zeros(hidden),
            jax.random.normal(second, (hidden, parameters)) * np.sqrt(9 / hidden),
            jnp.zeros(parameters),
            centers,
            jnp.log(jnp.array(0.5 if parameters == 2 else 0.25)),
            0.1 * jax.random.normal(third, (25,)),
            jnp.zeros(()),
        )

    def functions(self, features: Float[Array, "*b 2"]) -> Float[Array, "*b p"]:
        """The values of nodes."""
        return jnp.tanh(features @ self.hidden + self.hidden_bias) @ self.out + self.out_bias

    def __call__(self, features: Float[Array, "b n 2"], *, direct: bool) -> Float[Array, " b"]:
        """The logits of some graphs, through the engine or from the cycles' births."""
        values = self.functions(features)
        vectors = self.vectors_of(births(values)) if direct else self.measured(values)
        return vectors @ self.head + self.head_bias

    def vectors_of(self, points: Float[Array, "b m p"]) -> Float[Array, "b c"]:
        """The bumps of points of weight one."""
        squares = jnp.sum((points[:, :, None] - self.centers) ** 2, axis=-1)
        return jnp.sum(jnp.exp(-squares / (2 * jnp.exp(2 * self.log_width))), axis=1)

    def measured(self, values: Float[Array, "b n p"]) -> Float[Array, "b c"]:
        """The bumps of the Hilbert measures of some graphs, several to a call of the engine."""
        together = min(TOGETHER, len(values))
        groups = values.reshape(-1, together, *values.shape[1:])

        def one(values: Array) -> Array:
            measure = signed_measure(graph_batch(values, EDGES), 1, max_points=4 * together, engine="multipers")
            graph = measure.owners[:, 0] // NODES
            return gaussian_vectorize(measure, self.centers, jnp.exp(self.log_width), segments=graph, count=together)

        return jax.vmap(one)(groups).reshape(len(values), -1)


def births(values: Float[Array, "b n p"]) -> Float[Array, "b 2 p"]:
    """When both cycles of each graph enter: with the last of their nodes in each parameter."""
    return jnp.stack([jnp.max(values[:, :PLANTED], axis=1), jnp.max(values[:, PLANTED:], axis=1)], axis=1)


def entropy(logits: Float[Array, " b"], labels: Float[Array, " b"]) -> Float[Array, ""]:
    """The mean cross-entropy."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))


@dataclass(frozen=True)
class Learned:
    """What some starts on one set of graphs came to."""

    seed: int
    """Of the graphs."""
    parameters: int
    losses: np.ndarray
    """On the batch of each step, a row for each start."""
    training: np.ndarray
    """The loss on all training graphs, at the end, of each start."""
    accuracy: np.ndarray
    """On the test graphs, of each start."""
    births: np.ndarray
    """Where the planted cycles of the test graphs enter, by the start that is kept."""
    labels: np.ndarray

    @property
    def kept(self) -> int:
        """The start with the smallest training loss."""
        return int(np.argmin(self.training))


class Learner:
    """Trains several starts side by side, by the engine for two parameters and from births for one."""

    def __init__(self, parameters: int, steps: int, batch: int, rate: float):
        self.parameters, self.direct = parameters, parameters == 1

        def loss(model: Classifier, graphs: Graphs, key: Any) -> Array:
            return entropy(model(graphs.features, direct=self.direct), graphs.labels)

        self._trainer = Trainer(loss, optax.adam(rate), steps=steps, batch=batch)

        def make(key: Array) -> Classifier:
            return Classifier.create(key, parameters)

        def judge(model: Classifier, train: Graphs, test: Graphs) -> Any:
            """The training loss, the accuracy on test graphs, and where their planted cycles enter."""
            logits = model(jnp.concatenate([train.features, test.features]), direct=self.direct)
            fitted, unseen = logits[: len(train.labels)], logits[len(train.labels) :]
            entered = births(model.functions(test.features))[:, 0]
            return entropy(fitted, train.labels), jnp.mean((unseen > 0) == (test.labels > 0.5)), entered

        self._make = eqx.filter_jit(eqx.filter_vmap(make))
        self._judge = eqx.filter_jit(eqx.filter_vmap(judge, in_axes=(eqx.if_array(0), None, None)))

    def __call__(
        self, seed: int, keys: Array, train: Graphs, test: Graphs, advance: Callable[[int], None] = lambda _: None
    ) -> Learned:
        """Train a start for each key; `seed` is the graphs', for the record."""
        course = self._trainer.together(self._make(keys), train, keys=keys, advance=advance)
        training, accuracy, entered = map(np.asarray, self._judge(course.model, train, test))
        best = entered[int(np.argmin(training))]
        return Learned(seed, self.parameters, course.loss, training, accuracy, best, test.labels)
