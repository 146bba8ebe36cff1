"""Small classifiers of real images, on which the methods of this field are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn import datasets, model_selection

from ..kit.data import Sample
from ..kit.losses import cross_entropy


class Perceptron(eqx.Module):
    r"""Layers :math:`h \mapsto \phi(W h + b)`, the last one without :math:`\phi`.

    The weights are normal with variance `gain` over the number of inputs (He et al. 2015: a gain of 2 for ReLU), the
    biases zero.

    Parameters
    ----------
    sizes
        The numbers of inputs, of the units of each hidden layer, and of outputs.
    key
        Of the weights.
    activation
        :math:`\phi`.
    gain
        The variance of a weight times its layer's number of inputs.

    Examples
    --------
    >>> import jax
    >>> Perceptron((64, 32, 10), key=jax.random.key(0))(jax.numpy.zeros(64)).shape
    (10,)
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        key: Array,
        activation: Callable[[Array], Array] = jax.nn.relu,
        gain: float = 2.0,
    ):
        keys = jax.random.split(key, len(sizes) - 1)
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.weights = tuple(
            jnp.sqrt(gain / shape[1]) * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)
        )
        self.biases = tuple(jnp.zeros(out) for out, _ in shapes)
        self.activation = activation

    def __call__(self, x: Float[Array, " p"]) -> Float[Array, " k"]:
        """The scores of one input."""
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(W @ x + b)
        return self.weights[-1] @ x + self.biases[-1]


def digits(train: int, *, seed: int = 0, stratify: bool = True) -> tuple[Sample, Sample]:
    """The 1797 images of scikit-learn in [0, 1], 8×8 each, divided by its `train_test_split`: to train, and to test.

    With `stratify`, every digit has the same share of both.
    """
    images, labels = datasets.load_digits(return_X_y=True)
    parts = model_selection.train_test_split(
        images / 16, labels, train_size=train, random_state=seed, stratify=labels if stratify else None
    )
    return Sample(parts[0], np.eye(10)[parts[2]]), Sample(parts[1], np.eye(10)[parts[3]])


def loss(model: Callable[[Array], Array], batch: Sample, key: Any = None) -> Float[Array, ""]:
    """The mean cross-entropy, in the form that :class:`dini_zoo.kit.training.Trainer` asks for."""
    return cross_entropy(jax.vmap(model)(batch.X), batch.Y)


def accuracy(model: Callable[[Array], Array], sample: Sample) -> Float[Array, ""]:
    """The share of images whose largest score is that of their class."""
    scores = jax.vmap(model)(jnp.asarray(sample.X))
    return jnp.mean(jnp.argmax(scores, axis=1) == jnp.argmax(jnp.asarray(sample.Y), axis=1))
