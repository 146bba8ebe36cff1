"""The paper's claims at a size for two cores: exact laws in the plane, and networks for 8×8 digits.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import jax

from dini_zoo.kit.run import Run

from ..digits import Recipe, trained
from . import exact, images


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    mixtures: tuple[str, ...] = ("VP", "sub-VP", "VE")
    """Processes by which densities of a mixture are measured."""
    points: int = 400
    """Of the mixture."""
    predictors: tuple[str, ...] = tuple(exact.PREDICTORS)
    predictor_steps: tuple[int, ...] = (50, 100)
    """Of each predictor, and twice as many; of a predictor with a corrector as many."""
    corrector_steps: tuple[int, ...] = (50, 100, 200)
    """Of a corrector alone."""
    samples: int = 200_000
    """Of normal data, for each of these."""
    correctors: tuple[int, ...] = (0, 1, 4)
    """Corrector steps, where a coordinate is known."""
    chains: int = 4000
    chain_steps: int = 1000
    networks: tuple[str, ...] = ("VP", "sub-VP")
    """Processes for which one is trained; VP is needed for what follows densities."""
    training: int = 6000
    """Steps of each network's training."""
    width: int = 256
    blocks: int = 6
    """Of each network; its classifier has half as many."""
    likelihood_steps: int = 60
    test_images: int = 297
    classifier_training: int = 2000
    scales: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Of the classifier's gradient."""
    each: int = 100
    """Images of each class."""
    image_steps: int = 200
    """Of the samplers of images."""
    fill_correctors: tuple[int, ...] = (0, 1)
    fills: int = 3
    """How often each half is filled in."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            mixtures=(),
            predictors=("ancestral",),
            predictor_steps=(3,),
            corrector_steps=(),
            samples=100,
            correctors=(1,),
            chains=50,
            chain_steps=25,
            networks=("VP",),
            training=2,
            width=16,
            blocks=1,
            likelihood_steps=4,
            test_images=20,
            classifier_training=2,
            scales=(0.0, 1.0),
            each=2,
            image_steps=25,
            fill_correctors=(1,),
            fills=1,
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    likelihoods: list[exact.Likelihood]
    samplers: list[exact.Sampler]
    conditioned: exact.Conditioned
    losses: dict[str, float]
    """Of each training, at its end."""
    bits: images.Bits
    classes: images.Classes
    filled: images.Filled


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan(
        {
            "exact laws": 25,
            "training, VP": 100,
            "training, sub-VP": 100,
            "likelihoods": 30,
            "classifier": 15,
            "classes": 20,
            "filling in": 25,
        }
    )
    likelihoods, samplers, known = run.part("exact laws", lambda _: exact_laws(settings, run))
    recipe = Recipe(steps=settings.training, width=settings.width, blocks=settings.blocks, seed=settings.seed)
    networks = {name: trained(run, replace(recipe, process=name)) for name in settings.networks}
    models = {name: one.network for name, one in networks.items()}
    key = run.key
    bits = run.part(
        "likelihoods",
        lambda _: images.bits(models, key("bits"), steps=settings.likelihood_steps, count=settings.test_images),
    )
    classifier = run.part(
        "classifier",
        lambda phase: images.classifier(
            settings.classifier_training,
            key("classifier"),
            phase.advance,
            width=settings.width,
            blocks=-(-settings.blocks // 2),
        ),
        settings.classifier_training,
    )
    steps = settings.image_steps
    classes = run.part(
        "classes",
        lambda _: images.classes(
            models["VP"], classifier, settings.scales, key("classes"), steps=steps, each=settings.each
        ),
    )
    keys = jax.random.split(key("filling in"), settings.fills)
    filled = run.part(
        "filling in",
        lambda _: images.fill_in(models["VP"], settings.fill_correctors, keys, steps=steps, count=settings.test_images),
    )
    losses = {name: one.loss for name, one in networks.items()}
    return Result(settings, likelihoods, samplers, known, losses, bits, classes, filled)


def exact_laws(settings: Settings, run: Run) -> tuple[list[exact.Likelihood], list[exact.Sampler], exact.Conditioned]:
    """What needs no network, in double precision."""
    with jax.enable_x64(True):
        likelihoods = exact.likelihoods(run.key("likelihoods"), settings.mixtures, settings.points)
        steps = settings.predictor_steps, settings.corrector_steps
        samplers = exact.on_normal_data(run.key("normal data"), settings.predictors, *steps, settings.samples)
        key = run.key("known coordinate")
        return (
            likelihoods,
            samplers,
            exact.conditioned(key, 0.6, settings.correctors, settings.chain_steps, settings.chains),
        )
