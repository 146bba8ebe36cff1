r"""An autoencoder of small images with a codebook between its halves, and its training.

Both halves are multilayer perceptrons that are the same at each place of the grid of codes: the encoder sees a patch of
pixels, the decoder a neighborhood of entries. They are convolutions as products of matrices, which a compiled loop on a
CPU runs fast.
"""

from __future__ import annotations

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, not_negative, taken

from .quantization import Quantized, vector_quantize

#: Pixels and codes along a side; a patch is two codes wide, and a code stands for `SIDE // GRID` pixels a side.
SIDE, GRID, PATCH, REACH = 8, 4, 4, 3
PIXELS, POSITIONS = SIDE**2, GRID**2
_STRIDE = SIDE // GRID


class MLP(eqx.Module):
    """Linear layers with rectifiers between them, by He's initialization, for points of any batch."""

    weights: tuple[Array, ...]
    offsets: tuple[Array, ...]

    def __init__(self, *widths: int, key: Array):
        keys = jax.random.split(key, len(widths) - 1)
        pairs = list(itertools.pairwise(widths))
        self.weights = tuple(
            jnp.sqrt(2 / n) * jax.random.normal(key, (n, m)) for key, (n, m) in zip(keys, pairs, strict=True)
        )
        self.offsets = tuple(jnp.zeros(m) for _, m in pairs)

    def __call__(self, h: Float[Array, "... n"]) -> Float[Array, "... m"]:
        for weight, offset in zip(self.weights[:-1], self.offsets[:-1], strict=True):
            h = jax.nn.relu(h @ weight + offset)
        return h @ self.weights[-1] + self.offsets[-1]


def windows(x: Float[Array, "n s s c"], size: int, stride: int) -> Float[Array, "n g g k"]:
    """What is seen through a square window in steps of a stride, with a margin of zeros of one cell."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    count = (padded.shape[1] - size) // stride + 1
    reach = stride * (count - 1) + 1
    seen = [padded[:, i : i + reach : stride, j : j + reach : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(seen, axis=-1)


class Tokenizer(eqx.Module):
    """Images of 8×8 pixels in [0, 1] as 4×4 codes, and back.

    Parameters
    ----------
    codes
        Entries of the codebook, uniform within `±1 / codes` at first.
    size
        Numbers in an entry.
    widths
        Of the hidden layers of encoder and decoder.
    key
        Of the weights.

    Examples
    --------
    >>> tokenizer = Tokenizer(64, key=jax.random.key(0))
    >>> found = tokenizer.tokens(jnp.zeros((5, 64)))
    >>> found.shape, tokenizer.images(found).shape
    ((5, 16), (5, 64))
    """

    encoder: MLP
    decoder: MLP
    codebook: Float[Array, "K d"]

    def __init__(self, codes: int, size: int = 8, *, widths: tuple[int, int] = (64, 128), key: Array):
        at_least("codes", codes, 2)
        at_least("size", size, 1)
        one, other, third = jax.random.split(key, 3)
        inner, outer = widths
        self.encoder = MLP(PATCH**2, inner, inner, size, key=one)
        self.decoder = MLP(REACH**2 * size, outer, outer, _STRIDE**2, key=other)
        self.codebook = jax.random.uniform(third, (codes, size), minval=-1 / codes, maxval=1 / codes)

    def features(self, x: Float[Array, "n 64"]) -> Float[Array, "n 16 d"]:
        """What the encoder says of each place, row by row."""
        seen = windows(x.reshape(-1, SIDE, SIDE, 1), PATCH, _STRIDE)
        return self.encoder(seen).reshape(len(x), POSITIONS, -1)

    def decode(self, q: Float[Array, "n 16 d"]) -> Float[Array, "n 64"]:
        """Images of entries at each place."""
        blocks = jax.nn.sigmoid(self.decoder(windows(q.reshape(-1, GRID, GRID, q.shape[-1]), REACH, 1)))
        blocks = blocks.reshape(-1, GRID, GRID, _STRIDE, _STRIDE)
        return jnp.swapaxes(blocks, 2, 3).reshape(-1, PIXELS)

    def tokens(self, x: Float[Array, "n 64"]) -> Int[Array, "n 16"]:
        """The codes of images."""
        return vector_quantize(self.features(x), self.codebook).indices

    def images(self, tokens: Int[Array, "n 16"]) -> Float[Array, "n 64"]:
        """The images of codes; `ValueError` for numbers that are none, such as -1, and NaN where these are traced."""
        return self.decode(taken("tokens", self.codebook, tokens))

    def __call__(self, x: Float[Array, "n 64"]) -> tuple[Float[Array, "n 64"], Quantized]:
        """Reconstructions, and what the features became on the way."""
        found = vector_quantize(self.features(x), self.codebook)
        return self.decode(found.quantized), found


def tokenizer_loss(
    model: Tokenizer, x: Float[Array, "n 64"], key: Array | None = None, *, beta: float = 0.25, frozen: bool = False
) -> Float[Array, ""]:
    r"""Squared errors of the reconstruction, a sum over pixels, plus codebook loss plus :math:`\beta` times commitment.

    With `frozen` the encoder is a constant: only codebook and decoder learn.
    """
    del key
    not_negative("beta", beta)
    if frozen:
        still = jax.tree.map(jax.lax.stop_gradient, model.encoder)
        model = eqx.tree_at(lambda one: one.encoder, model, still)
    again, found = model(x)
    errors = jnp.mean(jnp.sum((x - again) ** 2, axis=-1))
    return errors + found.losses.codebook + beta * found.losses.commitment
