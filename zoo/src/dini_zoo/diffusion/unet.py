r"""A small U-Net of images: blocks at several scales that take the time, with connections across each scale.

Its convolutions are products of matrices with neighborhoods of 3×3 pixels: within `jax.lax.scan` on a CPU, where all
trainings and samplers here run, XLA's convolutions are ten times slower.

References
----------
Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", 2015 (arXiv
1505.04597). Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (arXiv 2006.11239).
"""

from __future__ import annotations

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least

from .networks import layer_norm, normal_init, step_features


def neighborhoods(h: Float[Array, "n H W C"]) -> Float[Array, "n H W K"]:
    """Of each pixel, the channels of the 3×3 around it, zero beyond the border: 9 C numbers, row by row."""
    height, width = h.shape[1:3]
    padded = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


def halved(h: Float[Array, "n H W C"]) -> Float[Array, "n H2 W2 C4"]:
    """Each 2×2 pixels as one with four times the channels."""
    n, height, width, channels = h.shape
    parts = h.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, height // 2, width // 2, 4 * channels)


def doubled(h: Float[Array, "n H W C"]) -> Float[Array, "n H2 W2 C4"]:
    """The inverse of :func:`halved`."""
    n, height, width, channels = h.shape
    parts = h.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, 2 * height, 2 * width, channels // 4)


class Affine(eqx.Module):
    """A linear map of the channels of each pixel, with an offset."""

    weight: Array
    offset: Array

    def __init__(self, inputs: int, outputs: int, *, key: Array | None = None):
        self.weight = jnp.zeros((outputs, inputs)) if key is None else normal_init(key, outputs, inputs)
        self.offset = jnp.zeros(outputs)

    def __call__(self, h: Array) -> Array:
        """Of the last axis."""
        return h @ self.weight.T + self.offset


class Block(eqx.Module):
    """Two convolutions of 3×3 pixels and an identity; the conditioning is added between them. The second is zero at
    first."""

    first: Affine
    conditions: Affine
    second: Affine
    across: Affine | None

    def __init__(self, inputs: int, outputs: int, conditions: int, *, key: Array):
        one, two, three = jax.random.split(key, 3)
        self.first, self.conditions = Affine(9 * inputs, outputs, key=one), Affine(conditions, outputs, key=two)
        self.second = Affine(9 * outputs, outputs)
        self.across = None if inputs == outputs else Affine(inputs, outputs, key=three)

    def __call__(self, h: Array, conditions: Float[Array, "#n f"]) -> Array:
        """Of a batch of images."""
        inner = self.first(neighborhoods(jax.nn.silu(layer_norm(h)))) + self.conditions(conditions)[:, None, None, :]
        inner = self.second(neighborhoods(jax.nn.silu(layer_norm(inner))))
        return inner + (h if self.across is None else self.across(h))


class UNet(eqx.Module):
    r"""A U-Net of images `(n, H, W, C)` and a time.

    Parameters
    ----------
    channels
        Of an image, :math:`C`.
    widths
        Channels at each scale, of which each has half the pixels of the one before a side: the sides of images are
        multiples of :math:`2^{s - 1}`.
    blocks
        At each scale, on the way down and on the way up.
    outputs
        Channels of the result; `channels` if it is not given.
    condition
        Channels of an image that is given beside the point, such as a reconstruction.
    context
        Size of a vector that is given with the time, such as a class.
    features
        Sines and cosines of the time: :func:`..networks.step_features`, of times from 0 to some thousand.
    scale
        By which times are multiplied first: 1000 for times from 0 to 1.
    key
        Of the weights. The last layer is zero at first, and so is what the network says.

    Raises
    ------
    ValueError
        For images whose sides cannot be halved so often, and conditions that do not fit.

    Examples
    --------
    >>> network = UNet(1, widths=(8, 16), condition=1, key=jax.random.key(0))
    >>> images = jnp.zeros((5, 8, 8, 1))
    >>> network(images, 10, images).shape, network(images, jnp.arange(5), images).shape
    ((5, 8, 8, 1), (5, 8, 8, 1))
    """

    inlet: Affine
    conditions: Affine
    down: tuple[tuple[Block, ...], ...]
    smaller: tuple[Affine, ...]
    up: tuple[tuple[Block, ...], ...]
    larger: tuple[Affine, ...]
    outlet: Affine
    condition: int = eqx.field(static=True)
    context: int = eqx.field(static=True)
    features: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        *,
        widths: tuple[int, ...] = (32, 64),
        blocks: int = 1,
        outputs: int | None = None,
        condition: int = 0,
        context: int = 0,
        features: int = 32,
        scale: float = 1.0,
        key: Array,
    ):
        at_least("the number of widths", len(widths), 1)
        at_least("blocks", blocks, 1)
        keys = iter(jax.random.split(key, 2 + len(widths) * (2 * blocks + 2)))
        conditions = 4 * widths[0]
        self.inlet = Affine(9 * (channels + condition), widths[0], key=next(keys))
        self.conditions = Affine(features + context, conditions, key=next(keys))
        steps = tuple(itertools.pairwise(widths))
        self.down = tuple(tuple(Block(w, w, conditions, key=next(keys)) for _ in range(blocks)) for w in widths)
        self.smaller = tuple(Affine(4 * w, wider, key=next(keys)) for w, wider in steps)
        self.larger = tuple(Affine(wider, 4 * w, key=next(keys)) for w, wider in steps)
        # the first block of a scale on the way up sees what the way down left
        self.up = tuple(
            tuple(Block(2 * w if i == 0 else w, w, conditions, key=next(keys)) for i in range(blocks))
            for w in widths[:-1]
        )
        self.outlet = Affine(9 * widths[0], channels if outputs is None else outputs)
        self.condition, self.context, self.features, self.scale = condition, context, features, scale

    def __call__(
        self,
        x: Float[Array, "n H W C"],
        t: Any,
        condition: Float[Array, "n H W c"] | None = None,
        context: Float[Array, "n k"] | None = None,
    ) -> Float[Array, "n H W o"]:
        """What the network says of images at a time or at one each; a condition that is not given is zero."""
        factor = 2 ** len(self.smaller)
        if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"Images must be (n, H, W, C) with H and W multiples of {factor}: given {x.shape}.")
        beside = jnp.zeros((*x.shape[:3], self.condition), x.dtype) if condition is None else condition
        conditions = jnp.zeros((len(x), self.context), x.dtype) if context is None else context
        if beside.shape != (*x.shape[:3], self.condition) or conditions.shape != (len(x), self.context):
            raise ValueError(
                f"condition must be {(*x.shape[:3], self.condition)} and context {(len(x), self.context)}: given "
                f"{beside.shape} and {conditions.shape}."
            )
        time = step_features(self.scale * jnp.asarray(t), self.features).astype(x.dtype)
        conditions = jnp.concatenate([jnp.broadcast_to(time, (len(x), self.features)), conditions], axis=-1)
        conditions = jax.nn.silu(self.conditions(conditions))
        h, seen = self.inlet(neighborhoods(jnp.concatenate([x, beside], axis=-1))), []
        for i, scale in enumerate(self.down):
            for block in scale:
                h = block(h, conditions)
            if i < len(self.smaller):
                seen.append(h)
                h = self.smaller[i](halved(h))
        for i in reversed(range(len(self.up))):
            h = jnp.concatenate([doubled(self.larger[i](h)), seen[i]], axis=-1)
            for block in self.up[i]:
                h = block(h, conditions)
        return self.outlet(neighborhoods(jax.nn.silu(layer_norm(h))))
