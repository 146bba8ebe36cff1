"""What is measured: eigenvalues of random matrices and of a network's batches, stable rates, and a learner of rates.

The networks are perceptrons on the digits of scikit-learn, all 1797 of them: nothing here is about generalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.data import Sample
from dini_zoo.kit.run import Run

from .. import classifiers
from .measurement import top_and_noise, tops
from .training import Learned, Rates, largest_rates, learned


@dataclass(frozen=True)
class Matrices:
    """Random matrices."""

    size: int = 400
    largest: float = 3.0
    smallest: float = -1.5
    sigma: float = 0.5
    batches: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    draws: int = 4


@dataclass(frozen=True)
class Hessian:
    """The Hessian of a perceptron at its first weights."""

    hidden: int = 16
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    draws: int = 40
    """Batches of each size."""
    lanczos: int = 40
    probes: int = 8
    """Random directions for the noise."""


@dataclass(frozen=True)
class Stability:
    """The largest stable rate."""

    hidden: tuple[int, ...] = (64, 64)
    steps: int = 300
    bound: float = 1.0
    """A run is stable whose loss on all data is finite and below this at its end."""
    runs: int = 4
    stable: int = 3
    """So many of the runs must be."""
    sgd: tuple[tuple[int, float], ...] = (
        (2, 0.105),
        (4, 0.177),
        (8, 0.297),
        (16, 0.5),
        (32, 0.841),
        (64, 1.19),
        (128, 1.41),
        (256, 1.68),
        (512, 1.68),
    )
    """Batches, and the rate in the middle of those that are tried."""
    adam: tuple[tuple[int, float], ...] = (
        (2, 0.0186),
        (4, 0.0263),
        (8, 0.0442),
        (16, 0.0442),
        (32, 0.0625),
        (64, 0.0743),
        (128, 0.105),
    )
    around: int = 3
    """Rates to each side, by factors of the square root of two."""


@dataclass(frozen=True)
class Learner:
    """Learning rate and momentum from curvature."""

    batches: tuple[int, ...] = (32, 128, 512)
    epochs: int = 20
    lanczos: int = 10
    safeties: tuple[tuple[int, float], ...] = ((32, 0.25), (32, 0.1), (128, 0.25), (128, 1.0), (512, 0.25))
    sgd: tuple[float, ...] = tuple(2.0**k for k in range(-6, 1))
    momenta: tuple[float, ...] = (0.0, 0.9)
    adam: tuple[float, ...] = tuple(2.0**k for k in range(-11, -3))
    default: tuple[float, float] = (2.0**-6, 0.9)
    """The rate and momentum of SGD to compare with, which are in the grid."""


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of weights and batches, of the Hessians and of the learner: the stable rates are of runs of their own."""
    matrices: Matrices = Matrices()
    hessian: Hessian = Hessian()
    stability: Stability = Stability()
    learner: Learner = Learner()

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            matrices=Matrices(size=40, batches=(16, 64), draws=2),
            hessian=Hessian(hidden=3, batches=(8, 32), draws=4, lanczos=6, probes=2),
            stability=Stability(hidden=(), steps=20, bound=2.2, runs=2, stable=1, sgd=((8, 0.3),), adam=((8, 0.04),)),
            learner=Learner(batches=(128,), epochs=2, lanczos=3, safeties=((128, 0.25),), momenta=(0.9,)),
        )


@dataclass(frozen=True)
class Curvature:
    """The Hessian of all data, and those of batches, at one network."""

    parameters: int
    largest: float
    directional: float
    """The noise along the first eigenvector."""
    isotropic: float
    """The noise along random directions."""
    tops: dict[int, list[float]]
    """The largest eigenvalues of batches, by their size."""


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    matrices: dict[int, list[tuple[float, float]]]
    """The largest and the smallest eigenvalue of each draw, by batch size."""
    curvatures: list[Curvature]
    """One for each seed."""
    sgd: Rates
    adam: Rates
    learned: Learned
    data: int
    """The number of images."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"random matrices": 5.0, "Hessians of batches": 15.0, "stable rates": 60.0, "learner": 50.0})
    sample = images()
    matrices = run.part("random matrices", lambda _: random_matrices(settings.matrices, run))
    curvatures = run.each("Hessians of batches", settings.seeds, lambda seed, _: curvature(settings, sample, run, seed))
    setup = settings.stability
    sgd, adam = run.part("stable rates", lambda phase: largest_rates(setup, standardized(sample), run, phase))
    found = run.part(
        "learner",
        lambda phase: learned(settings.learner, setup.hidden, standardized(sample), settings.seeds, run, phase),
    )
    return Result(settings, matrices, curvatures, sgd, adam, found, len(sample.X))


def images() -> Sample:
    """All of the digits."""
    parts = classifiers.digits(1500)
    return Sample(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def standardized(sample: Sample) -> Sample:
    """Columns without their means, over four."""
    X = 16 * np.asarray(sample.X)
    return Sample((X - X.mean(axis=0)) / 4, sample.Y)


def random_matrices(setup: Matrices, run: Run) -> dict[int, list[tuple[float, float]]]:
    """Two eigenvalues that are not zero, and the mean of so many matrices of Gaussian noise."""
    truth = np.zeros(setup.size)
    truth[:2] = setup.largest, setup.smallest
    found = {}
    for b in setup.batches:
        found[b] = []
        for draw in range(setup.draws):
            noise = run.random("matrices", b, draw).normal(size=(setup.size, setup.size))
            # off the diagonal the variance is that of one entry; the mean of b is as one over their root
            E = setup.sigma * (noise + noise.T) / np.sqrt(2 * b)
            values = np.linalg.eigvalsh(np.diag(truth) + E)
            found[b].append((float(values[-1]), float(values[0])))
    return found


def curvature(settings: Settings, sample: Sample, run: Run, seed: int) -> Curvature:
    """The spectrum's upper end for all data and for batches without replacement, and the noise of single examples."""
    setup = settings.hessian
    sizes = (64, setup.hidden, 10)
    model = classifiers.Perceptron(sizes, key=run.key("curvature", seed), activation=jnp.tanh, gain=1.0)
    data = jax.tree.map(jnp.asarray, sample)
    whole = top_and_noise(model, data, run.key("directions", seed), setup.lanczos, setup.probes)
    batches = {}
    random = run.random("hessian batches", seed)
    longest = max(setup.batches)
    for b in setup.batches:
        drawn = np.zeros((setup.draws, longest), int)
        drawn[:, :b] = [random.choice(len(sample.X), b, replace=False) for _ in range(setup.draws)]
        keys = jax.random.split(run.key("starts", seed, b), setup.draws)
        found = tops(model, data, jnp.asarray(drawn), jnp.arange(longest) < b, keys, setup.lanczos)
        batches[b] = np.asarray(found).tolist()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model))
    return Curvature(parameters, *map(float, whole), batches)
