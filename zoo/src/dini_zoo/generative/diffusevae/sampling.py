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

from dini_zoo.diffusion.chains import Chain, spaced
from dini_zoo.diffusion.digits import PIXELS, network_judge
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
#: Images in a row of the picture.
SHOWN = 12


@dataclass(frozen=True)
class Networks:
    """All that is trained with one seed."""

    vae: VAE
    plain: StepNetwork
    first: Refiner
    second: Refiner | None


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


def degraded(key: Array, x: Array, kind: str) -> Array:
    """Images with noise of a fifth of their range, or a mean in place of 2 × 2 pixels."""
    if kind == NOISY:
        return x + 0.2 * jax.random.normal(key, x.shape, x.dtype)
    means = x.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4), keepdims=True)
    return jnp.broadcast_to(means, (len(x), 4, 2, 4, 2)).reshape(x.shape)


@eqx.filter_jit
def refined(refiner: Refiner, chain: Chain, z: Array, xhat: Array, start: Array) -> Array:
    """Images in [0, 1] of codes and what is decoded of them, by DDIM: one program, wherever they come from."""
    decoded_already: Any = SimpleNamespace(decode=lambda _: xhat)
    return unit(refine(None, z, decoded_already, refiner, chain, start=start))


class Draws:
    """All methods at a number of steps, from one start, of the codes of each prior."""

    def __init__(self, networks: Networks, z: dict[str, Array], key: Array):
        self.networks, self.codes = networks, z
        self.decoded = {prior: networks.vae.decode(one) for prior, one in z.items()}
        self._degraded = {kind: degraded(key, self.decoded[MIXTURE], kind) for kind in (NOISY, COARSE)}

    def first(self, chain: Chain, start: Array, prior: str = MIXTURE) -> Array:
        """The first formulation."""
        return refined(self.networks.first, chain, self.codes[prior], self.decoded[prior], start)

    def all(self, chain: Chain, start: Array) -> dict[tuple[str, str], Array]:
        """By method and prior."""
        # without a code, the network is given zeros: in [-1, 1] the middle of the range
        nothing = jnp.full_like(start, 0.5)
        found = {(PLAIN, ""): refined(Refiner(self.networks.plain), chain, self.codes[MIXTURE], nothing, start)}
        found |= {(FIRST, prior): self.first(chain, start, prior) for prior in PRIORS}
        if self.networks.second is not None:
            for prior in (MIXTURE, NORMAL):
                one = self.codes[prior], self.decoded[prior]
                found[SECOND, prior] = refined(self.networks.second, chain, *one, start)
        for kind, xhat in self._degraded.items():
            found[f"{FIRST}, {kind}", MIXTURE] = refined(self.networks.first, chain, self.codes[MIXTURE], xhat, start)
        return found


def sample(
    networks: Networks, chain: Chain, key: Array, *, seed: int, count: int, components: int, counts: Sequence[int]
) -> Samples:
    """Draw, and judge by a classifier of the seed's own."""
    data, test = images()
    judge = network_judge(seed)
    reference = Reference.of(judge, data)
    for_codes, for_start, for_other, for_noise, for_rows = jax.random.split(key, 5)
    z = codes(for_codes, networks.vae, count, components)
    draws = Draws(networks, z, for_noise)
    start, other = (jax.random.normal(key, (count, PIXELS)) for key in (for_start, for_other))
    drawn = {n: draws.all(chain.respaced(spaced(len(chain), n)), start) for n in counts}
    at = middle(counts)
    few = chain.respaced(spaced(len(chain), at))
    label = lambda start: judge.labels(draws.first(few, start))
    labels = judge.labels(drawn[at][FIRST, MIXTURE])
    # one start for all: its neighbor has another code
    alike = label(jnp.broadcast_to(start[:1], start.shape))
    halves = np.array_split(np.random.default_rng(seed).permutation(len(data)), 2)
    return Samples(
        scores=[Score(VAE_ALONE, prior, None, reference.quality(x)) for prior, x in draws.decoded.items()]
        + [Score(*name, n, reference.quality(x)) for n in counts for name, x in drawn[n].items()],
        halves=Reference.of(judge, data[halves[0]]).quality(data[halves[1]]),
        variance=reference.quality(data).variance,
        same_code=float(np.mean(labels == label(other))),
        same_noise=float(np.mean(alike == np.roll(alike, 1))),
        rows=rows(networks, few, for_rows, test)
        | {name: np.asarray(drawn[at][name, prior])[:SHOWN] for name, prior in ((PLAIN, ""), (FIRST, MIXTURE))}
        | {VAE_ALONE: np.asarray(draws.decoded[MIXTURE])[:SHOWN]},
    )


def middle(counts: Sequence[int]) -> int:
    """Ten steps, or the first count that there is."""
    return 10 if 10 in counts else counts[0]


def rows(networks: Networks, few: Chain, key: Array, test: np.ndarray) -> dict[str, np.ndarray]:
    """Images to test with, decoded and refined; and a walk between the codes of the first two with one noise."""
    x = jnp.asarray(test[:SHOWN])
    z, _ = networks.vae.encode(x)
    walk = z[0] + jnp.linspace(0.0, 1.0, SHOWN)[:, None] * (z[1] - z[0])
    z = jnp.concatenate([z, walk])
    xhat = networks.vae.decode(z)
    start = jax.random.normal(key, (SHOWN, PIXELS))
    start = jnp.concatenate([start, jnp.broadcast_to(start[:1], start.shape)])
    found = refined(networks.first, few, z, xhat, start)
    parts = {"images": x, "decoded": xhat[:SHOWN], "refined": found[:SHOWN], "walk": found[SHOWN:]}
    return {name: np.asarray(one) for name, one in parts.items()}


@dataclass(frozen=True)
class Inversion:
    """Roots of mean squared errors of images in [-1, 1], from their codes and the noise that inversion finds.

    The images are among those to test with. Where the steps are far apart, the map of a fixed point need not contract,
    and the solver says so: the errors are those of the images whose fixed points were all found, by both methods.
    """

    steps: int
    one_step: float
    fixed_point: float
    scale: float
    """Of the noise that the fixed points give: 1 would be a draw of the start."""
    found: float
    """The share of images whose fixed points were found."""


def invert(networks: Networks, chain: Chain, *, counts: Sequence[int], count: int) -> list[Inversion]:
    """There and back in both ways, in double precision: what rounding adds grows on the way to the noise."""

    @eqx.filter_jit
    def errors(refiner: Refiner, vae: VAE, few: Chain, x: Array) -> Array:
        def ends(x: Array, how: dict[str, Any]) -> tuple[Array, Array]:
            z = vae.encode(unit(x[None]))[0]
            start = recover(x[None], z, vae, refiner, few, **how)
            return start[0], refine(None, z, vae, refiner, few, start=start, clip=None)[0]

        _, rough = jax.vmap(lambda x: ends(x, {"method": "one step"}))(x)
        starts, back = jax.vmap(lambda x: ends(x, {"on_failure": "nan"}))(x)
        found = jnp.all(jnp.isfinite(starts), axis=1)
        mean = lambda square: jnp.sqrt(jnp.mean(square, where=found[:, None]))
        return jnp.stack([*map(mean, ((rough - x) ** 2, (back - x) ** 2, starts**2)), jnp.mean(found)])

    with jax.enable_x64(True):
        double = lambda leaf: jnp.asarray(leaf, float) if eqx.is_inexact_array(leaf) else leaf
        refiner, vae, chain = jax.tree.map(double, (networks.first, networks.vae, chain))
        x = centered(jnp.asarray(images()[1][:count], float))
        few = lambda n: chain.respaced(spaced(len(chain), n))
        return [Inversion(n, *map(float, errors(refiner, vae, few(n), x))) for n in counts]


def reconstruction(networks: Networks) -> float:
    """The root of the mean squared error of decoded means, of images that were not trained with, in [-1, 1]."""
    x = jnp.asarray(images()[1])
    return float(jnp.sqrt(jnp.mean((decoded(networks.vae, networks.vae.encode(x)[0]) - centered(x)) ** 2)))
