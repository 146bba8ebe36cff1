"""Samplers on laws that are known: densities and conditions of a mixture, predictors and correctors on normal data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..flows import log_likelihood
from ..mixtures import GaussianMixture, score_of
from ..predictor_corrector import (
    Langevin,
    Predictor,
    Step,
    ancestral,
    euler_maruyama,
    pc_sample,
    reverse_diffusion,
)
from ..processes import VESDE, VPSDE, Process, SubVPSDE
from .guidance import observe_mask

PREDICTORS: dict[str, Predictor] = {
    "reverse diffusion": reverse_diffusion,
    "ancestral": ancestral,
    "Euler": euler_maruyama,
}
#: The variance of the normal data.
VARIANCE = 0.25
SNR = 0.16


def mixture(variances: tuple[float, ...] = (0.05, 0.1, 0.2)) -> GaussianMixture:
    """Three components in the plane."""
    return GaussianMixture([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], variances)


@dataclass(frozen=True)
class Likelihood:
    """Mean logarithms of densities at points of the mixture."""

    process: str
    exact: float
    flow: float
    """By the probability flow with the exact divergence."""
    error: float
    """The mean absolute error of a point."""
    largest: float
    hutchinson: float
    """By 20 random vectors for the divergence."""


#: Whose densities are measured.
LIKELIHOODS: dict[str, Process] = {"VP": VPSDE(), "sub-VP": SubVPSDE(), "VE": VESDE(0.01, 10.0)}


def likelihoods(key: Array, names: tuple[str, ...], points: int, end: float = 1e-3) -> list[Likelihood]:
    """Of points of the mixture, diffused to time `end`, by the flow of each process."""
    data, found = mixture(), []
    for name in names:
        process = LIKELIHOODS[name]

        @jax.jit
        def both(key: Array, process: Process = process) -> tuple[Array, ...]:
            for_data, for_signs = jax.random.split(key)
            law = data.diffused(process.alpha(end), process.sigma(end))
            x, score = law.sample(for_data, points), score_of(data, process)
            options = {"end": end, "rtol": 1e-6, "atol": 1e-6}
            flow = log_likelihood(process, score, x, **options)
            return law.log_prob(x), flow, log_likelihood(process, score, x, key=for_signs, probes=20, **options)

        exact, flow, estimated = map(np.asarray, both(key))
        errors = np.abs(flow - exact)
        means = (float(one.mean()) for one in (errors, errors.max(), estimated))
        found.append(Likelihood(name, float(exact.mean()), float(flow.mean()), *means))
    return found


@dataclass(frozen=True)
class Sampler:
    """A sampler of normal data, its standard deviation's error as the recursion has it and as samples have it."""

    predictor: str
    """Or "corrector alone"."""
    steps: int
    corrected: bool
    expected: float
    """By the recursion of variances."""
    sampled: float
    deviations: float
    """How many standard errors lie between the two."""


def std_error(process: Process, predictor: Predictor | None, corrector: Langevin | None, steps: int) -> float:
    r"""The error of the standard deviation that a sampler leaves on normal data, for an infinite batch.

    Every step is affine in :math:`x`, so its variance :math:`u` has a recursion. The corrector's size is
    :math:`e = 2 a (r v / \sqrt u)^2` with the variance :math:`v` of the exact law.
    """
    times = np.append(np.linspace(1.0, 1e-5, steps), 0.0)
    u = float(process.prior_std) ** 2
    for i in range(steps):
        step = Step(times[i], times[i + 1], i, steps)
        v = VARIANCE * float(process.alpha(times[i])) ** 2 + float(process.sigma(times[i])) ** 2
        if corrector is not None:
            for _ in range(corrector.steps):
                e = 2 * float(corrector.scale(process, step)) * (corrector.snr * v) ** 2 / u
                u = (1 - e / v) ** 2 * u + 2 * e
        if predictor is not None:
            keep, gain, noise = map(float, predictor(process, step))
            u = (keep - gain / v) ** 2 * u + noise**2
    return float(np.sqrt(u) - np.sqrt(VARIANCE))


def on_normal_data(
    key: Array, predictors: tuple[str, ...], steps: tuple[int, ...], alone: tuple[int, ...], count: int
) -> list[Sampler]:
    """Predictors alone and with a corrector, and the corrector alone, of the exploding process."""
    process = VESDE(0.01, 10.0)
    score = lambda x, t: -x / (VARIANCE + process.sigma(t) ** 2)
    found = []

    def measure(name: str, predictor: Predictor | None, corrector: Langevin | None, n: int) -> None:
        sample = jax.jit(
            lambda key: jnp.std(
                pc_sample(
                    key,
                    process,
                    score,
                    (count, 1),
                    predictor=predictor,
                    corrector=corrector,
                    num_steps=n,
                    end=1e-5,
                    denoise=False,
                )
            )
        )
        std = float(sample(jax.random.fold_in(key, len(found))))
        expected = std_error(process, predictor, corrector, n)
        error = (expected + np.sqrt(VARIANCE)) / np.sqrt(2 * count)
        sampled = std - np.sqrt(VARIANCE)
        found.append(Sampler(name, n, corrector is not None, expected, float(sampled), abs(sampled - expected) / error))

    corrector = Langevin(SNR)
    for name in predictors:
        predictor = PREDICTORS[name]
        for n in sorted({*steps, *(2 * n for n in steps)}):
            measure(name, predictor, None, n)
        for n in steps:
            measure(name, predictor, corrector, n)
    for n in alone:
        measure("corrector alone", None, corrector, n)
    return found


@dataclass(frozen=True)
class Conditioned:
    """The second coordinate of a mixture's points, where the first one is known."""

    correctors: tuple[int, ...]
    mean: float
    """Exact."""
    std: float
    means: list[float]
    """Of what was drawn, for each number of corrector steps."""
    stds: list[float]
    drawn: np.ndarray
    """With the most corrector steps."""


def conditioned(key: Array, value: float, correctors: tuple[int, ...], steps: int, chains: int) -> Conditioned:
    """Draw from the mixture with its first coordinate known, with so many corrector steps."""
    data, process = mixture((0.3, 0.4, 0.5)), VPSDE()
    # both coordinates of a component are independent
    first = -0.5 * (value - data.means[:, 0]) ** 2 / data.variances[:, 0] - 0.5 * jnp.log(data.variances[:, 0])
    w = np.asarray(jax.nn.softmax(jnp.log(data.weights) + first))
    means, variances = np.asarray(data.means[:, 1]), np.asarray(data.variances[:, 1])
    mean = float(w @ means)
    std = float(np.sqrt(w @ (variances + means**2) - mean**2))
    project = observe_mask(process, jnp.array([True, False]), jnp.array([value, 0.0]))
    drawn = []
    for number in correctors:
        sample = jax.jit(
            lambda key, number=number: pc_sample(
                key,
                process,
                score_of(data, process),
                (chains, 2),
                predictor=euler_maruyama,
                corrector=Langevin(SNR, number) if number else None,
                num_steps=steps,
                project=project,
            )
        )
        drawn.append(np.asarray(sample(jax.random.fold_in(key, number)))[:, 1])
    return Conditioned(
        correctors, mean, std, [float(x.mean()) for x in drawn], [float(x.std()) for x in drawn], drawn[-1]
    )
