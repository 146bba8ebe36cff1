r"""How evenly samples change on the way between two noises.

Of a walk through :math:`k + 2` images, its ends among them, :math:`d_1, \dots, d_{k+1}` are the distances of neighbors.
The interpolation standard deviation (ISTD) is their standard deviation, averaged over walks. It is in the units of the
images, and a sampler whose images are all alike makes it small: the mean of :math:`\mathrm{std}(d) / \mathrm{mean}(d)`
has no unit and is to be read beside it, and so is the samples' quality.

References
----------
Guo et al., "Smooth Diffusion", CVPR 2024 (arXiv 2312.04410), for ISTD. How walks are spaced, the images' scale and the
form of the standard deviation are not stated there: here arcs, what the sampler returns, and division by :math:`k + 1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.diffusion.latents import interpolate
from dini_zoo.kit.checking import at_least

type Sampler = Callable[[Array], Array]
"""Images `(m, ...)` of noises `(m, ...)`, one of each and no chance beside: DDIM, the decoder of an autoencoder."""


class Smoothness(NamedTuple):
    """What walks between noises are like."""

    std: Float[Array, ""]
    """ISTD, in the images' units."""
    variation: Float[Array, ""]
    """The mean of a walk's coefficient of variation; not a number where a walk has one image alone."""
    length: Float[Array, ""]
    """The mean of the sum of a walk's distances."""
    distances: Float[Array, "n s"]
    """Of neighbors, a row for each walk."""

    @classmethod
    def of(cls, distances: Float[Array, "n s"]) -> Smoothness:
        """Of distances."""
        std, mean = jnp.std(distances, axis=1), jnp.mean(distances, axis=1)
        return cls(jnp.mean(std), jnp.mean(std / mean), jnp.mean(jnp.sum(distances, axis=1)), distances)


def walk(
    sampler: Sampler, z0: Float[Array, "n ..."], z1: Float[Array, "n ..."], ratios: Any, kind: str = "slerp"
) -> Float[Array, "k n ..."]:
    """Images between those of two noises, by :func:`~dini_zoo.diffusion.latents.interpolate`.

    `ratios` are those of all walks `(k,)`, or each walk's own `(k, n)`.
    """
    ratios = jnp.asarray(ratios)
    if ratios.ndim == 1:
        z = interpolate(z0, z1, ratios, kind)
    else:
        one = lambda z0, z1, ratios: interpolate(z0[None], z1[None], ratios, kind)[:, 0]
        z = jax.vmap(one, in_axes=(0, 0, 1), out_axes=1)(z0, z1, ratios)
    images = sampler(z.reshape(-1, *z.shape[2:]))
    if len(images) != z.shape[0] * z.shape[1]:
        raise ValueError(f"sampler must return an image a noise, {z.shape[0] * z.shape[1]}: given {len(images)}.")
    return images.reshape(*z.shape[:2], *images.shape[1:])


def neighbor_distances(images: Float[Array, "k n ..."]) -> Float[Array, "n s"]:
    """Euclidean distances of neighbors along the first axis; a row for each walk."""
    at_least("the number of images in a walk", len(images), 2)
    steps = jnp.diff(images, axis=0)
    return jnp.sqrt(jnp.sum(steps**2, axis=tuple(range(2, steps.ndim)))).T


def interpolation_std(
    sampler: Sampler,
    key: Array,
    pairs: int,
    shape: tuple[int, ...],
    *,
    steps: int = 9,
    kind: str = "slerp",
) -> Smoothness:
    """ISTD and its companions, of walks between normal noises that are drawn.

    Parameters
    ----------
    sampler
        Images of noises. Give them the scale in which ISTD is to be.
    key
        Of the noises.
    pairs
        Walks.
    shape
        Of a single noise.
    steps
        Images between the two ends, in equal steps of the ratio.
    kind
        `"slerp"` or `"lerp"`.

    Raises
    ------
    ValueError
        For counts below one, another kind, and a sampler that does not return an image for each noise.

    Examples
    --------
    >>> found = interpolation_std(lambda z: 3 * z, jax.random.key(0), 5, (4,), kind="lerp")
    >>> found.distances.shape, bool(found.std < 1e-6)
    ((5, 10), True)
    """
    at_least("pairs", pairs, 1)
    at_least("steps", steps, 1)
    z0, z1 = jax.random.normal(key, (2, pairs, *shape))
    images = walk(sampler, z0, z1, jnp.linspace(0.0, 1.0, steps + 2), kind)
    return Smoothness.of(neighbor_distances(images))


def even_ratios(distances: Float[Array, "n s"]) -> Float[Array, "k n"]:
    """Ratios at which walks have equal steps, if they are straight between the images whose distances are given.

    These were at equal steps of the ratio. They make a walk even without another training: :func:`walk` again
    with these, for twice the samples.
    """
    count = distances.shape[1]
    along = jnp.pad(jnp.cumsum(distances, axis=1), ((0, 0), (1, 0)))
    ratios = jnp.linspace(0.0, 1.0, count + 1)
    return jax.vmap(lambda along: jnp.interp(ratios * along[-1], along, ratios), out_axes=1)(along)
