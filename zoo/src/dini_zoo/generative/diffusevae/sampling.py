"""What trained networks draw, for one seed: every method at every number of steps, and what code and noise decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dini_zoo.diffusion.chain_sampling import chain_sample
from dini_zoo.diffusion.chains import Chain, spaced
from dini_zoo.diffusion.digits import network_judge
from dini_zoo.diffusion.networks import StepNetwork

from ..autoencoders import VAE, sample_code
from .measures import Quality, Reference
from .priors import fit_latent_mixture
from .refiner import Refiner, centered, decoded, recover, refine, unit
from .training import FIRST, PLAIN, SECOND, images

MIXTURE, NORMAL, CODES = "mixture", "N(0, I)", "images' codes"
PRIORS = (MIXTURE, NORMAL, CODES)
NOISY, COARSE = "noisy", "coarse"
VAE_ALONE = "VAE alone"


@dataclass(frozen=True)
class Networks:
    """All that is trained with one seed."""

    vae: VAE
    plain: StepNetwork
    first: Refiner
    second: Refiner


@dataclass(frozen=True)
class Score:
    """A method's quality."""

    method: str
    prior: str
    steps: int | None
    """`None` where nothing is refined."""
    quality: Quality


@dataclass(frozen=True)
class Samples:
    """What one seed's networks draw."""

    scores: list[Score]
    halves: Quality
    """Of a random half of the data, to the other half."""
    variance: float
    """Of the data's Laplacian."""
    same_code: float
    """The share of pairs with one code and two noises that the judge calls the same digit."""
    same_noise: float
    """Of pairs with one noise and two codes."""
    rows: dict[str, np.ndarray]
    """Images in [0, 1] to look at."""


def codes(key: Array, vae: VAE, count: int, components: int) -> dict[str, Array]:
    """As many codes of each prior."""
    x = jnp.asarray(images()[0])
    for_fit, for_mixture, for_normal, for_which, for_code = jax.random.split(key, 5)
    fitted = fit_latent_mixture(sample_code(for_fit, *vae.encode(x)), components)
    some = x[jax.random.randint(for_which, (count,), 0, len(x))]
    mixed = fitted.sample(for_mixture, count)
    return {
        MIXTURE: mixed,
        NORMAL: jax.random.normal(for_normal, mixed.shape, mixed.dtype),
        CODES: sample_code(for_code, *vae.encode(some)),
    }


def degraded(key: Array, vae: VAE, kind: str) -> Any:
    """An autoencoder whose images have noise of a fifth of their range, or a mean in place of 2 × 2 pixels."""

    def decode(z: Array) -> Array:
        x = vae.decode(z)
        if kind == NOISY:
            return x + 0.2 * jax.random.normal(key, x.shape, x.dtype)
        means = x.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4), keepdims=True)
        return jnp.broadcast_to(means, (len(x), 4, 2, 4, 2)).reshape(x.shape)

    return SimpleNamespace(encode=vae.encode, decode=decode)


@eqx.filter_jit
def draw(networks: Any, chain: Chain, z: dict[str, Array], key: Array) -> dict[tuple[str, str], Array]:
    """Images in [0, 1] of every method by DDIM, all from one start."""
    vae, plain, first, second = networks
    start = jax.random.normal(key, (len(z[MIXTURE]), 64))
    by = lambda refiner, prior, vae=vae: refine(None, z[prior], vae, refiner, chain, start=start)
    alone = chain_sample(None, start, chain, plain, predicts="noise", clip=(-1.0, 1.0))
    found = {(PLAIN, ""): alone, (SECOND, MIXTURE): by(second, MIXTURE), (SECOND, NORMAL): by(second, NORMAL)}
    found |= {(FIRST, prior): by(first, prior) for prior in PRIORS}
    found |= {(f"{FIRST}, {kind}", MIXTURE): by(first, MIXTURE, degraded(key, vae, kind)) for kind in (NOISY, COARSE)}
    return {name: unit(x) for name, x in found.items()}


def sample(
    networks: Networks, chain: Chain, key: Array, *, seed: int, count: int, components: int, counts: Sequence[int]
) -> Samples:
    """Draw, and judge by a classifier of the seed's own."""
    data, test = images()
    judge = network_judge(seed)
    reference = Reference.of(judge, data)
    for_codes, for_start, for_pairs, for_rows = jax.random.split(key, 4)
    vae = networks.vae
    z = codes(for_codes, vae, count, components)
    scores = [Score(VAE_ALONE, prior, None, reference.quality(vae.decode(z[prior]))) for prior in PRIORS]
    given = (vae, networks.plain, networks.first, networks.second)
    drawn = {}
    for n in counts:
        drawn[n] = draw(given, chain.respaced(spaced(len(chain), n)), z, for_start)
        scores += [Score(*name, n, reference.quality(x)) for name, x in drawn[n].items()]
    order = np.random.default_rng(seed).permutation(len(data))
    one, other = (data[half] for half in np.array_split(order, 2))
    at = middle(counts)
    again = draw(given, chain.respaced(spaced(len(chain), at)), z, for_pairs)[FIRST, MIXTURE]
    labels = judge.labels(drawn[at][FIRST, MIXTURE])
    turned = {**z, MIXTURE: jnp.roll(z[MIXTURE], 1, axis=0)}
    others = draw(given, chain.respaced(spaced(len(chain), at)), turned, for_start)[FIRST, MIXTURE]
    few = chain.respaced(spaced(len(chain), at))
    return Samples(
        scores=scores,
        halves=Reference.of(judge, one).quality(other),
        variance=reference.quality(data).variance,
        same_code=float(np.mean(labels == judge.labels(again))),
        same_noise=float(np.mean(labels == judge.labels(others))),
        rows=rows(networks, few, for_rows, test)
        | {name: np.asarray(drawn[at][name, prior])[:20] for name, prior in ((PLAIN, ""), (FIRST, MIXTURE))}
        | {VAE_ALONE: np.asarray(vae.decode(z[MIXTURE]))[:20]},
    )


def middle(counts: Sequence[int]) -> int:
    """Ten steps, or the first count that there is."""
    return 10 if 10 in counts else counts[0]


def rows(networks: Networks, few: Chain, key: Array, test: np.ndarray) -> dict[str, np.ndarray]:
    """Images to test with, decoded and refined; and a walk between the codes of the first two with one noise."""
    x = jnp.asarray(test[:10])
    z, _ = networks.vae.encode(x)
    walk = z[0] + jnp.linspace(0.0, 1.0, 10)[:, None] * (z[1] - z[0])
    draw = lambda z, shared: unit(refine(key, z, networks.vae, networks.first, few, shared=shared))
    found = {
        "images": x,
        "decoded": networks.vae.decode(z),
        "refined": draw(z, False),
        "walk": draw(walk, True),
    }
    return {name: np.asarray(one) for name, one in found.items()}


@dataclass(frozen=True)
class Inversion:
    """Images that were not trained with, from their codes and the noise that inversion finds: mean squared errors' roots.

    Numbers in [-1, 1].
    """

    steps: int
    one_step: float
    fixed_point: float
    scale: float
    """Of the noise that the fixed points give: 1 would be a draw of the start."""


def invert(networks: Networks, chain: Chain, *, counts: Sequence[int], count: int) -> list[Inversion]:
    """There and back in both ways."""
    x = centered(jnp.asarray(images()[1][:count]))
    vae, refiner = networks.vae, networks.first
    z, _ = vae.encode(unit(x))

    @eqx.filter_jit
    def errors(refiner: Refiner, vae: VAE, few: Chain, x: Array, z: Array) -> Array:
        found = []
        for method in ("one step", "fixed point"):
            start = recover(x, z, vae, refiner, few, method=method)
            back = refine(None, z, vae, refiner, few, start=start, clip=None)
            found.append(jnp.sqrt(jnp.mean((back - x) ** 2)))
        return jnp.stack([*found, jnp.sqrt(jnp.mean(start**2))])

    few = lambda n: chain.respaced(spaced(len(chain), n))
    return [Inversion(n, *map(float, errors(refiner, vae, few(n), x, z))) for n in counts]


def reconstruction(networks: Networks) -> float:
    """The root of the mean squared error of decoded means, of images that were not trained with, in [-1, 1]."""
    x = jnp.asarray(images()[1])
    return float(jnp.sqrt(jnp.mean((decoded(networks.vae, networks.vae.encode(x)[0]) - centered(x)) ** 2)))
