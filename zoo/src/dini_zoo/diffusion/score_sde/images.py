"""Digits: densities in bits, classes by a classifier's gradient, and halves of images filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ...kit.training import Trainer
from ..digits import LEVELS, PIXELS, PROCESSES, bits_per_pixel, dequantised, judge, load
from ..flows import log_likelihood
from ..networks import ResidualNetwork
from ..predictions import converted
from ..predictor_corrector import Langevin, euler_maruyama, pc_sample
from ..processes import VPSDE, Field, Process
from .guidance import guided_score, observe_mask

#: Where samplers and likelihoods end.
END = 1e-3


def score(network: ResidualNetwork, process: Process) -> Field:
    """Of a network that predicts noise."""
    return converted(network, process, "noise", "score")


@dataclass(frozen=True)
class Bits:
    """Bits a pixel of the test images, dequantised once, and their standard errors."""

    flows: dict[str, float]
    """Of each process."""
    errors: dict[str, float]
    gaussian: float
    """Of a normal law with the covariance of the dequantised images to train with."""


def bits(networks: dict[str, ResidualNetwork], key: Array, *, steps: int, count: int) -> Bits:
    """Densities by the probability flow, with one random vector for each image's divergence."""
    train, test = load()
    for_test, for_train, for_signs = jax.random.split(key, 3)
    x = dequantised(for_test, test.pixels[:count])
    times = END + (1 - END) * (jnp.arange(steps + 1) / steps) ** 2
    found: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name, network in networks.items():
        process = PROCESSES[name]()

        @jax.jit
        def density(network: ResidualNetwork, x: Array, process: Process = process) -> Array:
            return log_likelihood(process, score(network, process), x, key=for_signs, end=END, steps=times)

        each = bits_per_pixel(np.asarray(density(network, x), float))
        found[name], errors[name] = float(each.mean()), float(each.std() / np.sqrt(len(each)))
    fitted = np.asarray(dequantised(for_train, train.pixels), float)
    mean, covariance = fitted.mean(axis=0), np.cov(fitted.T)
    away = np.asarray(x, float) - mean
    mahalanobis = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    normal = -0.5 * (mahalanobis + np.linalg.slogdet(covariance)[1] + PIXELS * np.log(2 * np.pi))
    return Bits(found, errors, float(bits_per_pixel(normal).mean()))


def classifier(steps: int, key: Array, advance: Callable[[int], None], *, width: int, blocks: int) -> ResidualNetwork:
    """Tells what noisy images of the variance preserving process show; trained on those to train with."""
    train, process = load()[0], VPSDE()
    for_weights, for_training = jax.random.split(key)

    def loss(network: ResidualNetwork, batch: tuple[Array, Array], key: Array) -> Array:
        pixels, labels = batch
        for_levels, for_times, for_noise = jax.random.split(key, 3)
        x0 = dequantised(for_levels, pixels)
        t = jax.random.uniform(for_times, (len(x0),), x0.dtype, END, 1.0)
        logits = network(process.sample(for_noise, x0, t)[0], t)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    network = ResidualNetwork(PIXELS, width=width, blocks=blocks, outputs=10, key=for_weights)
    trainer = Trainer(loss, optax.adam(1e-3), steps=steps, batch=128)
    return trainer(network, (train.pixels, train.labels), key=for_training, advance=advance).model


@dataclass(frozen=True)
class Classes:
    """What the judge says of images that were drawn with a class asked for."""

    scales: tuple[float, ...]
    agreements: list[float]
    images: dict[float, np.ndarray]
    """Four of each class, for each scale, in [-1, 1]."""


def classes(
    network: ResidualNetwork,
    classifier: ResidualNetwork,
    scales: tuple[float, ...],
    key: Array,
    *,
    steps: int,
    each: int,
) -> Classes:
    """Draw images of every class, with several scales of the classifier's gradient."""
    process, labels = VPSDE(), jnp.repeat(jnp.arange(10), each)

    @jax.jit
    def sample(network: ResidualNetwork, classifier: ResidualNetwork, scale: Array, key: Array) -> Array:
        def class_score(x: Array, t: Any) -> Array:
            return -optax.softmax_cross_entropy_with_integer_labels(classifier(x, t), labels)

        guided = guided_score(score(network, process), class_score, scale)
        return pc_sample(
            key, process, guided, (len(labels), PIXELS), predictor=euler_maruyama, num_steps=steps, end=END
        )

    agreements, images = [], {}
    for scale in scales:
        x = np.asarray(sample(network, classifier, jnp.asarray(scale), key))
        agreements.append(float(np.mean(judge().predict(x) == np.asarray(labels))))
        images[scale] = x.reshape(10, each, PIXELS)[:, :4].reshape(-1, PIXELS)
    return Classes(scales, agreements, images)


@dataclass(frozen=True)
class Filled:
    """The judge's accuracy on test images whose lower half was filled in."""

    correctors: tuple[int, ...]
    accuracies: list[list[float]]
    """For each number of corrector steps, of each key."""
    mean_image: float
    """With the lower half of the mean image in its place."""
    unconditional: float
    """With the lower half of an unconditional sample."""
    whole: float
    """Of the images themselves."""
    truth: np.ndarray
    """A few images."""
    images: np.ndarray
    """And what was made of them, with the most corrector steps."""


def fill_in(network: ResidualNetwork, correctors: tuple[int, ...], keys: Array, *, steps: int, count: int) -> Filled:
    """The lower halves of test images, from the upper ones."""
    process, (train, test) = VPSDE(), load()
    truth, labels = test.centered[:count].astype(np.float32), test.labels[:count]
    mask = jnp.broadcast_to(jnp.arange(PIXELS) < PIXELS // 2, truth.shape)
    options = {"predictor": euler_maruyama, "num_steps": steps, "end": END}
    accuracy = lambda images: float(np.mean(judge().predict(images) == labels))
    accuracies, last = [], truth
    for number in correctors:

        @jax.jit
        def sample(network: ResidualNetwork, key: Array, number: int = number) -> Array:
            return pc_sample(
                key,
                process,
                score(network, process),
                truth.shape,
                corrector=Langevin(0.16, number) if number else None,
                project=observe_mask(process, mask, truth),
                **options,
            )

        drawn = [np.asarray(sample(network, key)) for key in keys]
        accuracies.append([accuracy(np.where(mask, truth, x)) for x in drawn])
        last = drawn[0]
    free = jax.jit(lambda network, key: pc_sample(key, process, score(network, process), truth.shape, **options))
    unconditional = np.asarray(free(network, keys[0]))
    mean = np.broadcast_to(train.centered.mean(axis=0), truth.shape)
    shown = slice(0, 20)
    return Filled(
        correctors,
        accuracies,
        accuracy(np.where(mask, truth, mean)),
        accuracy(np.where(mask, truth, unconditional)),
        accuracy(truth),
        truth[shown],
        np.where(mask, truth, last)[shown],
    )


def grey(x: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as `(n, 8, 8)` in [0, 1], whole levels."""
    return np.clip(np.floor((x + 1) / 2 * LEVELS), 0, LEVELS - 1).reshape(-1, 8, 8) / (LEVELS - 1)
