r"""A small transformer of sequences of codes: given a step it denoises all positions; causal, it predicts the next one.

Each layer adds :math:`\mathrm{attention}(\mathrm{LN}(h))` and then :math:`W_2\, \mathrm{gelu}(W_1 \mathrm{LN}(h))`.

References
----------
Vaswani and others, "Attention is all you need", NeurIPS 2017 (arXiv 1706.03762).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.diffusion.networks import layer_norm, normal_init, step_features
from dini_zoo.kit.checking import at_least, inside

from .multinomial import Logits, known_codes


class Layer(eqx.Module):
    """Attention and a hidden layer of four times the width, each added to what it is given."""

    scales: Float[Array, "2 w"]
    offsets: Float[Array, "2 w"]
    mixing: Float[Array, "v w"]
    joining: Float[Array, "w w"]
    first: Float[Array, "u w"]
    first_offset: Float[Array, " u"]
    second: Float[Array, "w u"]
    second_offset: Float[Array, " w"]
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, *, key: Array):
        keys = jax.random.split(key, 4)
        self.scales, self.offsets = jnp.ones((2, width)), jnp.zeros((2, width))
        self.mixing, self.joining = normal_init(keys[0], 3 * width, width), normal_init(keys[1], width, width)
        self.first, self.first_offset = normal_init(keys[2], 4 * width, width), jnp.zeros(4 * width)
        self.second, self.second_offset = normal_init(keys[3], width, 4 * width), jnp.zeros(width)
        self.heads = heads

    def __call__(self, h: Float[Array, "n N w"], *, causal: bool) -> Float[Array, "n N w"]:
        inner = self.scales[0] * layer_norm(h) + self.offsets[0]
        split = (inner @ self.mixing.T).reshape(*h.shape[:-1], 3, self.heads, -1)
        query, key, value = (split[..., i, :, :] for i in range(3))
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=causal)
        h = h + mixed.reshape(h.shape) @ self.joining.T
        inner = self.scales[1] * layer_norm(h) + self.offsets[1]
        hidden = jax.nn.gelu(inner @ self.first.T + self.first_offset)
        return h + hidden @ self.second.T + self.second_offset


class Transformer(eqx.Module):
    """Logits of codes at each position.

    Parameters
    ----------
    codes
        :math:`K`.
    positions
        :math:`N`, with an embedding each.
    causal
        Whether a position's logits depend on the codes in front of it alone: then it is shown a start in place of the
        first, and each other one's predecessor.
    width, heads, layers
        Of its layers.
    key
        Of the weights.

    Examples
    --------
    >>> network = Transformer(64, 16, key=jax.random.key(0))
    >>> z = jnp.zeros((5, 16), int)
    >>> network(z, 3).shape, network(z, jnp.arange(5)).shape
    ((5, 16, 64), (5, 16, 64))
    """

    codes: Float[Array, "K1 w"]
    places: Float[Array, "N w"]
    modulation: tuple[Array, Array]
    layers: tuple[Layer, ...]
    last: tuple[Array, Array]
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        codes: int,
        positions: int,
        *,
        causal: bool = False,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        key: Array,
    ):
        at_least("codes", codes, 2)
        at_least("layers", layers, 1)
        if width % (2 * heads):
            raise ValueError(f"width must be divisible by twice the heads, {2 * heads}: given {width}.")
        keys = jax.random.split(key, layers + 4)
        # one more is the start
        self.codes = 0.02 * jax.random.normal(keys[0], (codes + 1, width))
        self.places = 0.02 * jax.random.normal(keys[1], (positions, width))
        self.modulation = (normal_init(keys[2], width, width), normal_init(keys[3], width, width))
        self.layers = tuple(Layer(width, heads, key=key) for key in keys[4:])
        self.last = (jnp.zeros((codes, width)), jnp.zeros(codes))
        self.causal = causal

    def __call__(self, z: Int[Array, "n N"], t: Any = None) -> Float[Array, "n N K"]:
        """The logits, at a step or one each; without one where it does not count.

        Raises `ValueError` for numbers that are no codes, such as -1; where they are traced, logits that depend on
        them are NaN.
        """
        if z.shape[-1] != len(self.places):
            raise ValueError(f"z must be sequences of {len(self.places)} codes: given shape {z.shape}.")
        lost = ~jnp.broadcast_to(inside("z", z, len(self.codes) - 1), z.shape)
        if self.causal:
            start = jnp.full_like(z[:, :1], len(self.codes) - 1)
            z = jnp.concatenate([start, z[:, :-1]], axis=1)
            lost = jnp.concatenate([jnp.zeros_like(lost[:, :1]), lost[:, :-1]], axis=1)
        h = jnp.where(lost[..., None], jnp.nan, self.codes[z]) + self.places
        if t is not None:
            first, second = self.modulation
            modulation = jax.nn.silu(step_features(t, first.shape[1]).astype(h.dtype) @ first.T) @ second.T
            h = h + (modulation[:, None] if modulation.ndim > 1 else modulation)
        for layer in self.layers:
            h = layer(h, causal=self.causal)
        weight, offset = self.last
        return layer_norm(h) @ weight.T + offset


def sequence_nats(logits: Float[Array, "n N K"], z: Int[Array, "n N"]) -> Float[Array, " n"]:
    """The negative logarithm of each sequence's probability, where logits are of each code given those before."""
    right = inside("z", z, logits.shape[-1])
    of_codes = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), z[..., None], axis=-1)[..., 0]
    return -jnp.sum(of_codes if right is True else jnp.where(right, of_codes, jnp.nan), axis=-1)


def autoregressive_sample(
    logits_fn: Logits,
    key: Array,
    shape: tuple[int, int],
    *,
    known: Int[Array, ...] | None = None,
    mask: Bool[Array, ...] | None = None,
) -> Int[Array, "n N"]:
    """Draw codes one after the other, from the first; those in the mask are kept as they are known.

    A code that is drawn sees what is known in front of it, and nothing of what is known behind it. Where logits are
    not finite the sequence is -1, which is no code, from there on.

    Parameters
    ----------
    logits_fn
        A function of codes and a step, here `None`, whose logits at a position depend on the codes before it.
    key, shape, known, mask
        As of :meth:`MultinomialDiffusion.sample`.

    Examples
    --------
    >>> network = Transformer(3, 4, causal=True, width=4, heads=1, layers=1, key=jax.random.key(0))
    >>> known, mask = jnp.full((1, 4), 2), jnp.array([True, False, False, False])
    >>> autoregressive_sample(network, jax.random.key(1), (2, 4), known=known[0], mask=mask)[:, 0]
    Array([2, 2], dtype=int32)
    """
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together: give both or neither.")
    held, codes = jnp.zeros(shape, bool), jnp.zeros(shape, int)
    if mask is not None:
        categories = jax.eval_shape(lambda z: logits_fn(z, None), codes).shape[-1]
        held, codes = known_codes(shape, known, mask, categories)

    def extend(z: Array, i: Array) -> tuple[Array, None]:
        logits = logits_fn(z, None)[:, i]
        drawn = jax.random.categorical(jax.random.fold_in(key, i), logits)
        lost = ~jnp.all(jnp.isfinite(logits), axis=-1) | jnp.any((z < 0) & (jnp.arange(shape[1]) < i), axis=-1)
        code = jnp.where(held[:, i], codes[:, i], jnp.where(lost, -1, drawn))
        return z.at[:, i].set(code.astype(z.dtype)), None

    z, _ = jax.lax.scan(extend, jnp.where(held, codes, 0), jnp.arange(shape[1]))
    return z
