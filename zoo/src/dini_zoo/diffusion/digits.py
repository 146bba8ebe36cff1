"""The 8×8 digits of scikit-learn: the data, noise predictors trained on them, and a judge of what is drawn.

A training is a `Recipe`. `trained` keeps what it made: every experiment with the same recipe has the same network.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from sklearn import datasets, neural_network, svm

from ..kit.run import Phase, Run
from ..kit.training import Trainer
from .networks import ResidualNetwork
from .processes import VPSDE, Process, SubVPSDE

#: Grey levels of a pixel.
LEVELS = 17
PIXELS = 64
TRAIN = 1500


class Digits(NamedTuple):
    """Whole numbers from 0 to 16, and what they show."""

    pixels: Int[np.ndarray, "n 64"]
    labels: Int[np.ndarray, " n"]

    @property
    def centered(self) -> Float[np.ndarray, "n 64"]:
        """In [-1, 1], each level in the middle of its interval."""
        return (self.pixels + 0.5) / LEVELS * 2 - 1

    @property
    def unit(self) -> Float[np.ndarray, "n 64"]:
        """In [0, 1], black and white at the ends."""
        return self.pixels / (LEVELS - 1)


@functools.cache
def load() -> tuple[Digits, Digits]:
    """1500 images to train with and 297 to test with."""
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    whole = Digits(images.astype(np.int32)[order], labels[order])
    return Digits(*(part[:TRAIN] for part in whole)), Digits(*(part[TRAIN:] for part in whole))


def dequantised(key: Array, pixels: Int[Array, "n 64"]) -> Float[Array, "n 64"]:
    """Images in [-1, 1] as real numbers: each pixel anywhere in the interval of its level."""
    noise = jax.random.uniform(key, jnp.shape(pixels))
    return (jnp.asarray(pixels) + noise) / LEVELS * 2 - 1


def bits_per_pixel(log_p: Any) -> Any:
    """Bits a pixel of the whole numbers, from the logarithm of the density of dequantised images in [-1, 1]."""
    return -(log_p / PIXELS + np.log(2 / LEVELS)) / np.log(2)


@functools.cache
def judge() -> svm.SVC:
    """A classifier of clean images, fitted to those to train with: it tells what a drawn image shows."""
    train, _ = load()
    return svm.SVC(gamma="scale").fit(train.centered, train.labels)


class NetworkJudge(NamedTuple):
    """A classifier with one hidden layer, and what that layer sees in images: features for Fréchet's distance.

    The scale of a distance in these features depends on how the classifier was fitted: compare ratios.
    """

    classifier: neural_network.MLPClassifier

    def labels(self, x: Any) -> Int[np.ndarray, " n"]:
        """What images in [0, 1] show."""
        return self.classifier.predict(np.asarray(x, float))

    def features(self, x: Float[Array, "n 64"]) -> Float[Array, "n 64"]:
        """The hidden layer after its rectifiers, of images in [0, 1]; differentiable."""
        W, b = self.classifier.coefs_[0], self.classifier.intercepts_[0]
        return jax.nn.relu(x @ jnp.asarray(W, x.dtype) + jnp.asarray(b, x.dtype))


@functools.cache
def network_judge(seed: int = 0) -> NetworkJudge:
    """A network of 64 hidden units, fitted to the images to train with, in [0, 1]."""
    train, _ = load()
    classifier = neural_network.MLPClassifier((64,), max_iter=500, random_state=seed)
    return NetworkJudge(classifier.fit(train.unit, train.labels))


PROCESSES: dict[str, Callable[[], Process]] = {"VP": VPSDE, "sub-VP": SubVPSDE}


@dataclass(frozen=True)
class Recipe:
    """How a noise predictor is trained."""

    process: str = "VP"
    """Or sub-VP."""
    seed: int = 0
    width: int = 256
    blocks: int = 6
    steps: int = 6000
    batch: int = 128
    rate: float = 2e-3
    average: float = 0.998

    def network(self) -> ResidualNetwork:
        """As it is before training."""
        key = jax.random.fold_in(jax.random.key(self.seed), 0)
        return ResidualNetwork(PIXELS, width=self.width, blocks=self.blocks, key=key)


class Trained(NamedTuple):
    """A noise predictor, and how its training went."""

    network: ResidualNetwork
    """With the average of the weights."""
    loss: float
    """The mean over the last tenth of the steps, for each number of an image."""
    seconds: float


def schedule(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with gradients of norm one at most; its rate rises for 200 steps, or a tenth of a short training, and falls
    to zero by a cosine."""
    rates = optax.warmup_cosine_decay_schedule(0.0, rate, min(200, max(steps // 10, 1)), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates))


def noise_loss(
    predict: Callable[[Array, Array], Array], process: Process, x0: Array, key: Array, *, first: float = 1e-5
) -> Float[Array, ""]:
    r""":math:`E \|\varepsilon_\theta(x_t, t) - \varepsilon\|^2`, a mean over numbers, at times in `(first, 1)`."""
    for_times, for_noise = jax.random.split(key)
    t = jax.random.uniform(for_times, (len(x0),), x0.dtype, first, 1.0)
    x, noise = process.sample(for_noise, x0, t)
    return jnp.mean((predict(x, t) - noise) ** 2)


def train(recipe: Recipe, advance: Callable[[int], None] = lambda steps: None) -> Trained:
    """Train a noise predictor on the images to train with, dequantised again in every step."""
    process = PROCESSES[recipe.process]()

    def loss(network: ResidualNetwork, pixels: Array, key: Array) -> Array:
        for_levels, for_loss = jax.random.split(key)
        return noise_loss(network, process, dequantised(for_levels, pixels), for_loss)

    trainer = Trainer(
        loss, schedule(recipe.rate, recipe.steps), steps=recipe.steps, batch=recipe.batch, average=recipe.average
    )
    key = jax.random.fold_in(jax.random.key(recipe.seed), 1)
    course = trainer(recipe.network(), load()[0].pixels, key=key, advance=advance)
    assert course.average is not None
    return Trained(course.average, float(course.loss[-max(recipe.steps // 10, 1) :].mean()), course.seconds)


@functools.cache
def _source() -> str:
    """A digest of the code that a training depends on."""
    here = Path(__file__).parent
    files = (here / "digits.py", here / "networks.py", here / "processes.py", here.parent / "kit" / "training.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def trained(run: Run, recipe: Recipe) -> Trained:
    """The network of a recipe: trained once for all experiments, and then remembered."""

    def fun(phase: Phase) -> Trained:
        return train(recipe, phase.advance)

    name = f"training, {recipe.process}" + (f", seed {recipe.seed}" if recipe.seed else "")
    return run.shared(name, "diffusion-digits", recipe, fun, source=_source(), total=recipe.steps)
