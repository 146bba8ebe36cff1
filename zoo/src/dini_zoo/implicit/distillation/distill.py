"""Descent on the images by hypergradients, and images to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dini_zoo.kit.checking import at_least, between, positive
from dini_zoo.kit.data import Sample

Images = Float[np.ndarray, "k p"]


class Descent(NamedTuple):
    """Images on their way, and what is learned from each."""

    theta: Float[np.ndarray, "n k p"]
    loss: Float[np.ndarray, " n"]
    """On the training data."""
    accuracy: Float[np.ndarray, " n"]
    """On the test data."""


def distill(
    theta: Images,
    hypergradient: Callable[[Images], Any],
    test: Sample,
    *,
    step_size: float,
    momentum: float,
    steps: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> Descent:
    r"""Take steps of the heavy-ball method.

    :math:`v \leftarrow \mu v - \eta \nabla` and :math:`\theta \leftarrow \theta + v`, with the `momentum` :math:`\mu`
    and the `step_size` :math:`\eta`. `hypergradient` takes the images to `((loss, solution), slope)`. The test sample
    is only looked at.
    """
    at_least("steps", steps, 0)
    positive("step_size", step_size)
    between("momentum", momentum, 0, 1)
    velocity = np.zeros_like(theta)
    course: list[tuple[Images, float, float]] = []
    for step in range(steps + 1):
        (loss, solution), slope = hypergradient(theta)
        course.append((theta, float(loss), accuracy(np.asarray(solution.x), test)))
        if step < steps:
            velocity = momentum * velocity - step_size * np.asarray(slope)
            theta = theta + velocity
            advance(1)
    return Descent(*map(np.array, zip(*course, strict=True)))


def accuracy(W: Float[np.ndarray, "p k"], sample: Sample) -> float:
    """The fraction of a sample's images that the weights recognize; NaN where a score is.

    Examples
    --------
    >>> accuracy(np.array([[1.0, -1.0]]), Sample(np.array([[2.0], [3.0]]), np.eye(2)))
    0.5
    """
    scores = sample.X @ W
    right = np.argmax(scores, axis=1) == np.argmax(sample.Y, axis=1)
    return float("nan") if np.isnan(scores).any() else float(np.mean(right))


def class_means(sample: Sample) -> Images:
    """The mean image of each class.

    Examples
    --------
    >>> print(class_means(Sample(np.array([[2.0], [4.0], [5.0]]), np.array([[1.0, 0], [1, 0], [0, 1]]))))
    [[3.]
     [5.]]
    """
    return np.asarray(sample.Y.T @ sample.X / sample.Y.sum(axis=0)[:, None])


def real_images(sample: Sample, seed: int) -> Images:
    """One image of each class, drawn at random."""
    random = np.random.RandomState(seed)
    return np.stack([sample.X[random.choice(np.flatnonzero(one))] for one in np.asarray(sample.Y).T])
