"""An autoregressive model of the rows of an image: a recurrent trunk, and a small network as predictor of the head."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.diffusion.chains import Chain
from dini_zoo.kit.checking import at_least

from .decoding import Model
from .heads import GaussianHead


class RowTrunk(eqx.Module):
    """A GRU that reads the tokens before each position; its gates have offsets that are learned for each position."""

    cell: eqx.nn.GRUCell
    length: int = eqx.field(static=True)

    def __init__(self, size: int, length: int, hidden: int, *, key: Array):
        at_least("hidden", hidden, 1)
        # the position as a unit vector beside the token: its columns of the weights are the offsets
        self.cell, self.length = eqx.nn.GRUCell(size + length, hidden, key=key), length

    def __call__(self, tokens: Float[Array, "L d"]) -> Float[Array, "L h"]:
        """The hidden states, each before its position's token."""
        if len(tokens) != self.length:
            raise ValueError(f"tokens must be a whole sequence of {self.length}: given {len(tokens)}.")
        before = jnp.concatenate([jnp.zeros_like(tokens[:1]), tokens[:-1]])
        given = jnp.concatenate([before, jnp.eye(self.length, dtype=tokens.dtype)], axis=1)

        def step(hidden: Array, row: Array) -> Any:
            hidden = self.cell(row, hidden)
            return hidden, hidden

        return jax.lax.scan(step, jnp.zeros(self.cell.hidden_size, tokens.dtype), given)[1]


class RowPredictor(eqx.Module):
    """Of a noisy token, a step of the chain and a context the data prediction: two residual blocks of one width."""

    point: eqx.nn.Linear
    context: eqx.nn.Linear
    step: Array
    blocks: tuple[tuple[eqx.nn.Linear, eqx.nn.Linear], ...]
    outlet: eqx.nn.Linear

    def __init__(self, size: int, steps: int, hidden: int, width: int, *, key: Array):
        at_least("width", width, 1)
        keys = jax.random.split(key, 8)
        self.point = eqx.nn.Linear(size, width, key=keys[0])
        self.context = eqx.nn.Linear(hidden, width, use_bias=False, key=keys[1])
        self.step = 0.1 * jax.random.normal(keys[2], (steps, width))
        self.blocks = tuple(
            (eqx.nn.Linear(width, width, key=keys[i]), eqx.nn.Linear(width, width, key=keys[i + 1])) for i in (3, 5)
        )
        self.outlet = eqx.nn.Linear(width, size, key=keys[7])

    def __call__(self, u: Float[Array, " d"], i: Any, context: Float[Array, " h"]) -> Float[Array, " d"]:
        """Of a single token."""
        h = self.point(u) + self.context(context) + self.step[i]
        for first, second in self.blocks:
            h = h + second(jax.nn.silu(first(jax.nn.silu(h))))
        return self.outlet(jax.nn.silu(h))


class RowModel(eqx.Module):
    """Trunk and predictor, as they are trained together."""

    trunk: RowTrunk
    predictor: RowPredictor

    def __init__(self, size: int, length: int, steps: int, *, hidden: int, width: int, key: Array):
        one, other = jax.random.split(key)
        self.trunk = RowTrunk(size, length, hidden, key=one)
        self.predictor = RowPredictor(size, steps, hidden, width, key=other)

    def model(self, chain: Chain) -> Model:
        """For decoding."""
        return Model(self.trunk, GaussianHead(chain, self.predictor, self.predictor.outlet.out_features))

    def products(self, steps: int) -> int:
        """Multiplications by weights that a token takes, with so many steps of the head."""
        weights = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf) and leaf.ndim == 2)
        head = weights((self.predictor.point, self.predictor.blocks, self.predictor.outlet))
        return weights(self.trunk) + weights(self.predictor.context) + steps * head


def loss(model: RowModel, chain: Chain, x: Float[Array, "n L d"], key: Array) -> Float[Array, ""]:
    """The mean squared error of the data prediction, each token at a step of its own."""
    for_steps, for_noise = jax.random.split(key)
    i = jax.random.randint(for_steps, x.shape[:2], 0, len(chain))
    noise = jax.random.normal(for_noise, x.shape, x.dtype)
    contexts = jax.vmap(model.trunk)(x)
    flat = lambda array: array.reshape(-1, *array.shape[2:])
    u = chain.noised(flat(x), flat(noise), flat(i))
    return jnp.mean((jax.vmap(model.predictor)(u, flat(i), flat(contexts)) - flat(x)) ** 2)
