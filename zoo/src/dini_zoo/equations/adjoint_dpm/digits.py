"""Digits of a class: an embedding that is sought, noises that mislead a classifier, and what a gradient costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.diffusion.digits import PIXELS, dequantised, judge, load, schedule
from dini_zoo.diffusion.networks import ResidualNetwork
from dini_zoo.diffusion.processes import VPSDE
from dini_zoo.kit.measure import Program, take_turns
from dini_zoo.kit.modes import cosine, gradients
from dini_zoo.kit.training import Trainer

from .sampling import Predictor, sample_pf_ode
from .schedules import time_grid
from .steering import ascend_noise, clip_perturbation

CLASSES, EMBEDDING = 10, 32
START, TARGET = 3, 8


class Generator(eqx.Module):
    """A network for the noise in an image, given what it shows as a vector."""

    network: ResidualNetwork
    embeddings: Float[Array, "10 32"]

    def __init__(self, width: int, blocks: int, *, key: Array):
        one, other = jax.random.split(key)
        self.network = ResidualNetwork(PIXELS, width=width, blocks=blocks, condition=EMBEDDING, key=one)
        self.embeddings = jax.random.normal(other, (CLASSES, EMBEDDING))

    def loss(self, pixels: Int[Array, "n 64"], labels: Int[Array, " n"], key: Array) -> Array:
        """The mean squared error of the noise at times in (0, 1)."""
        for_levels, for_times, for_noise = jax.random.split(key, 3)
        x0 = dequantised(for_levels, pixels)
        t = jax.random.uniform(for_times, (len(x0),), x0.dtype, 1e-3, 1.0)
        x, noise = VPSDE().sample(for_noise, x0, t)
        return jnp.mean((self.network(x, t, self.embeddings[labels]) - noise) ** 2)


def predict(network: ResidualNetwork, x: Array, t: Any, condition: Array) -> Array:
    """The noise, with one condition for all images or one for each."""
    return network(x, t, jnp.broadcast_to(condition, (len(x), EMBEDDING)))


def constant(network: ResidualNetwork) -> Predictor:
    """With weights of which no derivative is taken."""
    return lambda _, x, t, condition: predict(network, x, t, condition)


class Models(NamedTuple):
    """What was trained."""

    generator: Generator
    classifier: eqx.nn.MLP
    accuracy: float
    """Of the classifier, on images that it was not trained with."""
    judge_accuracy: float
    """Of the second judge."""


def scores(classifier: eqx.nn.MLP, x: Float[Array, "n 64"], label: Any) -> Float[Array, " n"]:
    """The cross-entropy of each image to a label, or to one each."""
    logs = jax.nn.log_softmax(jax.vmap(classifier)(x))
    return -jnp.take_along_axis(logs, jnp.broadcast_to(jnp.asarray(label), (len(x),))[:, None], axis=1)[:, 0]


def train(
    key: Array, *, width: int, blocks: int, steps: int, classifier_steps: int, advance: Callable[[int], None]
) -> Models:
    """The generator and the classifier."""
    known, fresh = load()
    for_generator, for_training, for_classifier, for_fit = jax.random.split(key, 4)

    def loss(generator: Generator, batch: Any, key: Array) -> Array:
        return generator.loss(*batch, key)

    trainer = Trainer(loss, schedule(2e-3, steps), steps=steps, batch=128, average=0.99)
    data = (known.pixels, known.labels)
    course = trainer(Generator(width, blocks, key=for_generator), data, key=for_training, advance=advance)
    assert course.average is not None
    classifier = eqx.nn.MLP(PIXELS, CLASSES, 64, 1, jax.nn.relu, key=for_classifier)
    fit = Trainer(
        lambda model, batch, key: jnp.mean(scores(model, *batch)), optax.adam(1e-3), steps=classifier_steps, batch=128
    )
    images = (jnp.asarray(known.centered, jnp.float32), known.labels)
    classifier = fit(classifier, images, key=for_fit, advance=advance).model
    found = np.argmax(jax.vmap(classifier)(jnp.asarray(fresh.centered, jnp.float32)), axis=1)
    return Models(
        course.average,
        classifier,
        float(np.mean(found == fresh.labels)),
        float(judge().score(fresh.centered, fresh.labels)),
    )


def judged(classifier: eqx.nn.MLP, x: Array, labels: Any) -> tuple[float, float]:
    """The share of images that show their labels, by the classifier and by the second judge."""
    first = np.argmax(np.asarray(jax.vmap(classifier)(x)), axis=1)
    return float(np.mean(first == labels)), float(np.mean(judge().predict(np.asarray(x, float)) == labels))


@dataclass(frozen=True)
class Inversion:
    """An embedding of one class, moved until the classifier sees another."""

    accuracy: tuple[float, float]
    """The share of images that show their class, with all classes' own embeddings; of both judges, as below."""
    before: tuple[float, float]
    """The share that shows the target, with the class's embedding."""
    after: tuple[float, float]
    own: tuple[float, float]
    """With the target's own embedding."""
    losses: list[float]
    images: dict[str, np.ndarray]


def invert(
    models: Models, key: Array, *, steps: int, iterations: int, rate: float, batch: int, fresh: int, adjoint: Any
) -> Inversion:
    """Seek an embedding by Adam."""
    process = VPSDE()
    times = time_grid(process, steps)
    network, classifier = models.generator.network, models.classifier
    draw = lambda condition, noise: sample_pf_ode(
        constant(network), None, condition, noise, process, times, adjoint=adjoint
    )

    def loss(embedding: Array, _: Any, key: Array) -> Array:
        noise = jax.random.normal(key, (batch, PIXELS))
        return jnp.mean(scores(classifier, draw(embedding, noise), TARGET))

    for_fit, for_fresh = jax.random.split(key)
    start = models.generator.embeddings[START]
    course = Trainer(loss, optax.adam(rate), steps=iterations)(start, key=for_fit)
    noise = jax.random.normal(for_fresh, (fresh, PIXELS))
    drawn = jax.jit(draw)
    each = np.arange(fresh) % CLASSES
    table = models.generator.embeddings
    condition = lambda one: jnp.broadcast_to(one, (fresh, EMBEDDING))
    images = {"start": drawn(condition(start), noise), "found": drawn(condition(course.model), noise)}
    own = drawn(condition(table[TARGET]), noise)
    return Inversion(
        judged(classifier, drawn(table[each], noise), each),
        judged(classifier, images["start"], TARGET),
        judged(classifier, images["found"], TARGET),
        judged(classifier, own, TARGET),
        [float(value) for value in course.loss],
        {name: np.asarray(x[:12]) for name, x in images.items()},
    )


@dataclass(frozen=True)
class Attack:
    """The share of images that the judges take for another class than the one that was asked for."""

    none: tuple[float, float]
    random: tuple[float, float]
    attacked: tuple[float, float]
    largest: float
    """Change of a number of the noise."""
    images: dict[str, np.ndarray]


def attack(
    models: Models, key: Array, *, steps: int, iterations: int, rate: float, radius: float, samples: int, adjoint: Any
) -> Attack:
    """Mislead the classifier by the noise alone."""
    process = VPSDE()
    times = time_grid(process, steps)
    labels = np.arange(samples) % CLASSES
    condition = models.generator.embeddings[labels]
    predict = constant(models.generator.network)
    draw = lambda noise: sample_pf_ode(predict, None, condition, noise, process, times, adjoint=adjoint)
    for_noise, for_signs = jax.random.split(key)
    noise = jax.random.normal(for_noise, (samples, PIXELS))

    @jax.jit
    def ascend(noise: Array) -> Array:
        loss = lambda noise: scores(models.classifier, draw(noise), labels)
        return ascend_noise(loss, noise, steps=iterations, rate=rate, radius=radius).noise

    signs = jax.random.rademacher(for_signs, noise.shape, noise.dtype)
    found = {
        "none": noise,
        "random": clip_perturbation(noise + radius * signs, noise, radius),
        "attacked": ascend(noise),
    }
    drawn = jax.jit(draw)
    images = {name: drawn(one) for name, one in found.items()}
    missed = {name: tuple(1 - share for share in judged(models.classifier, x, labels)) for name, x in images.items()}
    largest = float(jnp.max(jnp.abs(found["attacked"] - noise)))
    return Attack(**missed, largest=largest, images={name: np.asarray(x[:12]) for name, x in images.items()})


@dataclass(frozen=True)
class Cost:
    """Of one gradient in noise, weights and embedding, with one number of steps; by adjoint."""

    steps: int
    cosines: dict[str, float]
    """Of the angle between the adjoint's and the sampler's exact derivative, by what it is taken in."""
    memory: dict[str, int]
    seconds: dict[str, float]
    compile_seconds: dict[str, float]


def costs(
    models: Models, key: Array, counts: tuple[int, ...], *, batch: int, rounds: int, advance: Callable[[int], None]
) -> list[Cost]:
    """Compare adjoints: all of them at the least and the greatest number of steps, else two."""
    process = VPSDE()
    at = {
        "noise": jax.random.normal(key, (batch, PIXELS)),
        "weights": models.generator.network,
        "embedding": models.generator.embeddings[START],
    }
    found = []
    for count in counts:
        times = time_grid(process, count)

        def value(at: Any, adjoint: str, times: Array = times) -> Array:
            x = sample_pf_ode(predict, at["weights"], at["embedding"], at["noise"], process, times, adjoint=adjoint)
            return jnp.mean(scores(models.classifier, x, TARGET))

        names = ("backsolve", "direct")
        if count in (min(counts), max(counts)):
            names = (*names, "checkpoint", "stored")
        programs: dict[str, Program] = gradients(value, {name: name for name in names}, at)
        slopes = {name: programs[name]() for name in ("backsolve", "direct")}
        times_taken = take_turns(list(programs.values()), rounds)
        found.append(
            Cost(
                count,
                {name: cosine(slopes["backsolve"][name], slopes["direct"][name]) for name in at},
                {name: program.memory for name, program in programs.items()},
                {name: min(own) for name, own in zip(programs, times_taken, strict=True)},
                {name: program.seconds for name, program in programs.items()},
            )
        )
        advance(1)
    return found
