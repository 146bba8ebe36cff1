"""The paper's claims on 8 × 8 digits: few steps, two formulations, priors of codes; and the noise behind an image.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax.numpy as jnp

from dini_zoo.diffusion.chains import Chain, linear_betas
from dini_zoo.kit.run import Phase, Run

from .sampling import Inversion, Networks, Samples, invert, reconstruction, sample
from .training import KINDS, Budget, Diffusions, autoencoders


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    latent: int = 8
    """Numbers in a code."""
    beta: float = 0.1
    """The divergence's weight in the autoencoder's loss."""
    vae_training: int = 6000
    """Steps of the autoencoder's training, and below of each diffusion's."""
    training: int = 10_000
    batch: int = 128
    width: int = 256
    z_cond: bool = False
    """Whether the refiners are given the code beside the decoded image, added to their features of the step."""
    components: int = 30
    """Of the mixture of codes."""
    samples: int = 2000
    counts: tuple[int, ...] = (2, 4, 5, 10, 50)
    """Steps of DDIM, each a number that a whole stride of 1000 steps gives."""
    inversions: tuple[int, ...] = (10, 50, 100)
    """Steps of the inversion; with none there is none."""
    inverted: int = 100
    """Images that are inverted."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            vae_training=2,
            training=2,
            batch=16,
            width=8,
            components=2,
            samples=80,
            counts=(2,),
            inversions=(),
        )


@dataclass(frozen=True)
class Result:
    """What was found, seed by seed."""

    settings: Settings
    samples: list[Samples]
    inversions: list[list[Inversion]]
    reconstruction: list[float]
    """Errors of the autoencoder alone, of images to test with."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"autoencoders": 10, "diffusions": 110, "samples": 30, "inversions": 20})
    chain = Chain.of_betas(linear_betas(1000).astype("float32"))
    seeds, batch = settings.seeds, settings.batch
    keys = jnp.stack([run.key("autoencoder", seed) for seed in seeds])
    vaes = run.part(
        "autoencoders",
        lambda phase: autoencoders(
            keys, settings.latent, settings.beta, Budget(settings.vae_training, batch), phase.advance
        ),
        settings.vae_training,
    )
    code = settings.latent if settings.z_cond else 0
    diffusions = Diffusions(chain, settings.width, Budget(settings.training, batch, average=0.999), code)

    def train(which: tuple[int, str], phase: Phase) -> object:
        i, kind = which
        return diffusions.train(kind, vaes[i], run.key("diffusion", seeds[i]), phase.advance)

    all_kinds = [(i, kind) for i in range(len(seeds)) for kind in KINDS]
    trained = run.each("diffusions", all_kinds, train, settings.training, pairs=True)
    networks = [Networks(vae, *trained[len(KINDS) * i :][: len(KINDS)]) for i, vae in enumerate(vaes)]

    def judged(i: int, _: Phase) -> Samples:
        return sample(
            networks[i],
            chain,
            run.key("samples", seeds[i]),
            seed=seeds[i],
            count=settings.samples,
            components=settings.components,
            counts=settings.counts,
        )

    samples = run.each("samples", range(len(seeds)), judged)
    inversions = run.each(
        "inversions",
        networks,
        lambda one, _: invert(one, chain, counts=settings.inversions, count=settings.inverted),
    )
    return Result(settings, samples, inversions, [reconstruction(one) for one in networks])
