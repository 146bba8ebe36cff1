"""What a network's samples are like, for one seed: walks between noises, quality, and images there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dini_zoo.diffusion.chain_sampling import chain_invert, chain_loss, chain_sample
from dini_zoo.diffusion.chains import Chain, spaced
from dini_zoo.diffusion.digits import PIXELS, NetworkJudge, network_judge
from dini_zoo.diffusion.distances import Moments, frechet_distance
from dini_zoo.diffusion.networks import StepNetwork

from .measures import Smoothness, even_ratios, interpolation_std, neighbor_distances, walk
from .training import images

#: Walks in the picture, and draws of the noise for each image in the loss.
SHOWN, DRAWS = 5, 20


def unit(x: Any) -> Any:
    """Images in [-1, 1] as images in [0, 1]."""
    return (x + 1) / 2


@dataclass(frozen=True)
class Walks:
    """Of walks between noises, images in [0, 1]."""

    std: float
    variation: float
    length: float
    profile: np.ndarray
    """Each walk's distances over their mean, the greatest first, averaged over walks."""

    @classmethod
    def of(cls, found: Smoothness) -> Walks:
        """As plain figures."""
        relative = found.distances / jnp.mean(found.distances, axis=1, keepdims=True)
        profile = jnp.mean(jnp.sort(relative, axis=1)[:, ::-1], axis=0)
        return cls(float(found.std), float(found.variation), float(found.length), np.asarray(profile))


@dataclass(frozen=True)
class FixedPoints:
    """Images there and back by fixed points, in double precision."""

    found: float
    """The share of images whose fixed points were all found, of which the errors are."""
    error: float | None
    """The mean squared error; `None` where there is no such image."""
    one_step: float | None
    """Of the same images, by one step a level."""


@dataclass(frozen=True)
class Inversion:
    """Mean squared errors of images in [-1, 1], there and back by DDIM."""

    seen: float
    """By one step a level, of images that were trained with."""
    unseen: float
    """Of images that were not."""
    fixed: FixedPoints | None
    """Of some of these."""


@dataclass(frozen=True)
class Judged:
    """One network's figures."""

    arcs: Walks
    lines: Walks
    """Along straight lines between the same noises."""
    even: Walks
    """Along arcs, with ratios chosen from the distances of a first walk."""
    distance: float
    """Fréchet's, of samples to the images to train with, in features of a classifier."""
    diversity: float
    """The mean distance of two samples."""
    loss: float
    """Of the noise, on the images to train with."""
    inversion: Inversion
    shown: np.ndarray
    """Images on the first walks, `(walks, images, pixels)`."""


@eqx.filter_jit
def sampled(network: StepNetwork, chain: Chain, z: Array) -> Array:
    """Images in [0, 1] of noises, by DDIM without clipping."""
    return unit(chain_sample(None, z, chain, network, predicts="noise"))


@eqx.filter_jit
def walked(
    network: StepNetwork, chain: Chain, key: Array, pairs: int
) -> tuple[Smoothness, Smoothness, Smoothness, Array]:
    """Arcs, lines, arcs respaced, and the images on the first arcs."""
    sampler = lambda z: unit(chain_sample(None, z, chain, network, predicts="noise"))
    arcs, lines = (interpolation_std(sampler, key, pairs, (PIXELS,), kind=kind) for kind in ("slerp", "lerp"))
    z0, z1 = jax.random.normal(key, (2, pairs, PIXELS))  # as interpolation_std draws them
    even = Smoothness.of(neighbor_distances(walk(sampler, z0, z1, even_ratios(arcs.distances))))
    shown = walk(sampler, z0[:SHOWN], z1[:SHOWN], jnp.linspace(0.0, 1.0, 11))
    return arcs, lines, even, shown.swapaxes(0, 1)


@eqx.filter_jit
def there_and_back(network: StepNetwork, chain: Chain, x: Array) -> Array:
    """The squared error of each image, by the usual inversion."""
    z = chain_invert(x, chain, network, predicts="noise")
    return jnp.mean((chain_sample(None, z, chain, network, predicts="noise") - x) ** 2, axis=1)


@eqx.filter_jit
def exactly_back(network: StepNetwork, chain: Chain, x: Array) -> Array:
    """As `there_and_back`, by fixed points, each image by itself: not a number where one of them was not found."""

    def error(x: Array) -> Array:
        z = chain_invert(x[None], chain, network, predicts="noise", method="fixed point", on_failure="nan")
        return jnp.mean((chain_sample(None, z, chain, network, predicts="noise") - x) ** 2)

    return jax.vmap(error)(x)


@eqx.filter_jit
def noise_error(network: StepNetwork, chain: Chain, x: Array, key: Array) -> Array:
    """The loss of a noise predictor, over several draws."""
    return jnp.mean(jax.lax.map(lambda key: chain_loss(network, chain, x, key), jax.random.split(key, DRAWS)))


@dataclass(frozen=True)
class Data:
    """What the samples' figures are to be read beside."""

    distance: float
    """Fréchet's, of one half of the images to train with to the other."""
    diversity: float
    """The mean distance of two of them."""


def features(judge: NetworkJudge, x: Any) -> Moments:
    """Of images in [0, 1], in double precision: distances are differences of large numbers."""
    with jax.enable_x64(True):
        return Moments.of(judge.features(jnp.asarray(np.asarray(x), float)))


def inversion(network: StepNetwork, few: Chain, count: int, exact: int) -> Inversion:
    """Of `count` images that were trained with, all others, and `exact` of these by fixed points."""
    seen, unseen = images()
    error = lambda x: float(jnp.mean(there_and_back(network, few, jnp.asarray(x))))
    fixed = fixed_points(network, few, unseen[:exact]) if exact else None
    return Inversion(error(seen[:count]), error(unseen), fixed)


def fixed_points(network: StepNetwork, few: Chain, x: np.ndarray) -> FixedPoints:
    """In double precision: what rounding adds grows on the way to the noise."""
    with jax.enable_x64(True):
        double = lambda leaf: jnp.asarray(leaf, float) if eqx.is_inexact_array(leaf) else leaf
        wide = jax.tree.map(double, (network, few, jnp.asarray(x, float)))
        fixed, usual = (np.asarray(one(*wide)) for one in (exactly_back, there_and_back))
    found = np.isfinite(fixed)
    mean = lambda errors: float(np.mean(errors[found])) if found.any() else None
    return FixedPoints(float(np.mean(found)), mean(fixed), mean(usual))


def judged(
    networks: Sequence[StepNetwork],
    chain: Chain,
    key: Array,
    *,
    seed: int,
    steps: int,
    pairs: int,
    samples: int,
    inversion_steps: int,
    inverted: int,
    exact: int,
) -> tuple[list[Judged], Data]:
    """All networks by the same noises, and by a classifier of the seed's own."""
    data = images()[0]
    judge = network_judge(seed)
    with jax.enable_x64(True):
        known = features(judge, unit(data))
    few, fewer = (chain.respaced(spaced(len(chain), n)) for n in (steps, inversion_steps))
    for_pairs, for_samples, for_loss = jax.random.split(key, 3)
    start = jax.random.normal(for_samples, (samples, PIXELS))

    def one(network: StepNetwork) -> Judged:
        arcs, lines, even, shown = walked(network, few, for_pairs, pairs)
        x = sampled(network, few, start)
        with jax.enable_x64(True):
            distance = float(frechet_distance(known, features(judge, x)))
        return Judged(
            arcs=Walks.of(arcs),
            lines=Walks.of(lines),
            even=Walks.of(even),
            distance=distance,
            diversity=float(jnp.mean(jnp.linalg.norm(x - jnp.roll(x, 1, axis=0), axis=1))),
            loss=float(noise_error(network, chain, jnp.asarray(data), for_loss)),
            inversion=inversion(network, fewer, inverted, exact),
            shown=np.asarray(shown),
        )

    halves = np.array_split(np.random.default_rng(seed).permutation(unit(data)), 2)
    with jax.enable_x64(True):
        between = float(frechet_distance(*(features(judge, half) for half in halves)))
    away = lambda x: float(np.mean(np.linalg.norm(x - np.roll(x, 1, axis=0), axis=1)))
    return [one(network) for network in networks], Data(between, away(unit(data)))
