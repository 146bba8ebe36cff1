"""Neural vector fields, for one state or a batch of them, which is the last axis but one and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Affine(eqx.Module):
    r"""The map :math:`z \mapsto z W + b`, with Glorot's uniform weights and no offset at first.

    Parameters
    ----------
    inputs, outputs
        The numbers of features.
    key
        Of the weights.
    """

    W: Float[Array, "inputs outputs"]
    b: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, key: Array):
        bound = (6 / (inputs + outputs)) ** 0.5
        self.W = jax.random.uniform(key, (inputs, outputs), minval=-bound, maxval=bound)
        self.b = jnp.zeros(outputs)

    def __call__(self, z: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The images of points."""
        return z @ self.W + self.b


class NeuralField(eqx.Module):
    r"""A vector field :math:`f(z, t)`: layers with :math:`\tanh` between them, the time appended to each one's inputs.

    With one hidden layer it is :math:`[\tanh([z, t] W_1 + b_1), t] W_2 + b_2`. It is called as diffrax calls a field
    whose `args` are its parameters: `diffrax.ODETerm(lambda t, z, field: field(t, z))`.

    Parameters
    ----------
    sizes
        The numbers of features of the state, of each hidden layer, and of the state again.
    timed
        Whether the field knows the time; without it nothing is appended.
    key
        Of the weights.

    Examples
    --------
    >>> field = NeuralField((2, 8, 2), key=jax.random.key(0))
    >>> field(0.0, jnp.ones((5, 2))).shape
    (5, 2)
    """

    layers: tuple[Affine, ...]
    timed: bool = eqx.field(static=True)

    def __init__(self, sizes: Sequence[int], *, key: Array, timed: bool = True):
        if len(sizes) < 2 or sizes[0] != sizes[-1]:
            raise ValueError(f"sizes must begin and end with the state's number of features: given {tuple(sizes)}.")
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(sizes[:-1], sizes[1:], keys, strict=True)
        self.layers = tuple(Affine(inputs + timed, outputs, key=key) for inputs, outputs, key in pairs)
        self.timed = timed

    def __call__(self, t: Any, z: Float[Array, "*batch d"], args: Any = None) -> Float[Array, "*batch d"]:
        """The velocity at a state and a time; `args` is not used."""
        del args
        for i, layer in enumerate(self.layers):
            z = jnp.tanh(z) if i else z
            if self.timed:
                z = jnp.concatenate([z, jnp.broadcast_to(jnp.asarray(t, z.dtype), (*z.shape[:-1], 1))], axis=-1)
            z = layer(z)
        return z
