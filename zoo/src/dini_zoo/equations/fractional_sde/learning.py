"""Whether a Hurst index is learned: noisy looks at exact fractional Brownian motion, of which all else is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.training import Trainer

from .approximation import fbm_covariance
from .equation import FractionalSDE
from .noise import FractionalNoise, MarkovNoise, gaussian_bridge_control

#: Times of the observations, and the horizon of the weights.
TIMES = 0.25 * np.arange(1, 9)
HORIZON = 2.0
KIND = "II"


@dataclass(frozen=True)
class Case:
    """A true index, the noise of observations, and the steps between them."""

    hurst: float
    std: float
    steps: int


CASES = (Case(0.3, 0.4, 32), Case(0.7, 0.25, 16))


def observed(case: Case, count: int, random: np.random.Generator) -> Float[np.ndarray, "n 8"]:
    """Sequences of exact fractional Brownian motion, with noise."""
    covariance = fbm_covariance(case.hurst, TIMES[:, None], TIMES, KIND) + case.std**2 * np.eye(len(TIMES))
    return random.normal(size=(count, len(TIMES))) @ np.linalg.cholesky(covariance).T


def expected_log_likelihood(case: Case, hurst: float) -> float:
    """Of one sequence, by the exact model of an index."""
    true, model = (
        fbm_covariance(h, TIMES[:, None], TIMES, KIND) + case.std**2 * np.eye(len(TIMES)) for h in (case.hurst, hurst)
    )
    return float(-0.5 * (np.linalg.slogdet(2 * np.pi * model)[1] + np.trace(np.linalg.solve(model, true))))


def log_likelihood(noise: MarkovNoise, std: float, observations: Float[Array, "n 8"]) -> Float[Array, ""]:
    """Of a sequence, in the mean, by the approximate noise: normal with the covariance of it. In double precision."""
    covariance = noise.covariance(TIMES[:, None], TIMES) + std**2 * jnp.eye(len(TIMES))
    root = jnp.linalg.cholesky(covariance)
    z = jax.scipy.linalg.solve_triangular(root, observations.T, lower=True)
    logs = jnp.sum(jnp.log(jnp.diagonal(root))) + 0.5 * len(TIMES) * jnp.log(2 * jnp.pi)
    return -logs - 0.5 * jnp.mean(jnp.sum(z**2, axis=0))


@dataclass(frozen=True)
class Likelihood:
    """The index of the greatest exact likelihood of the approximate noise."""

    hurst: float
    value: float
    status: str


def maximum_likelihood(observations: np.ndarray, std: float) -> Likelihood:
    """By quasi-Newton steps in the noise's parameter."""
    with jax.enable_x64(True):
        start = FractionalNoise(0.5, horizon=HORIZON)

        def loss(raw: Array, data: Array) -> Array:
            return -log_likelihood(eqx.tree_at(lambda noise: noise.raw, start, raw), std, data)

        found = dini.minimize(loss, start.raw, jnp.asarray(observations, jnp.float64))
        noise = eqx.tree_at(lambda noise: noise.raw, start, found.x)
        value = -float(loss(found.x, jnp.asarray(observations, jnp.float64)))
        return Likelihood(float(noise.hurst), value, str(found.status))


class Fit(eqx.Module):
    """Noise, and a control: the exact one of the next observation alone, plus a network that sees the one after."""

    noise: MarkovNoise
    network: eqx.nn.MLP
    free: Array
    """Whether the index is learned."""
    std: float = eqx.field(static=True)

    def __init__(self, noise: MarkovNoise, std: float, *, free: Any = True, key: Array):
        self.noise, self.std, self.free = noise, std, jnp.asarray(free)
        network = eqx.nn.MLP(5 + len(noise.speeds), 1, 64, 2, jax.nn.silu, key=key)
        last = lambda network: (network.layers[-1].weight, network.layers[-1].bias)
        self.network = eqx.tree_at(last, network, tuple(map(jnp.zeros_like, last(network))))

    def control(self, x: Array, y: Array, t: Any, observations: Float[Array, " 8"]) -> Array:
        """Towards the next observation."""
        times = jnp.asarray(TIMES, x.dtype)
        # at the time of an observation the next one is the one after
        i = jnp.minimum(jnp.searchsorted(times, t + 1e-3, side="right"), len(TIMES) - 1)
        after = observations[jnp.minimum(i + 1, len(TIMES) - 1)]
        tau = jnp.maximum(times[i] - t, 0.0)
        u = gaussian_bridge_control(self.noise, x, y, tau, observations[i], self.std)
        inputs = jnp.concatenate([u, tau[None], x, y[0], observations[i] - x, after - x])
        return u + self.network(inputs)

    def frozen(self) -> Fit:
        """With an index that is not learned, where it is not."""
        if not isinstance(self.noise, FractionalNoise):
            return self
        raw = jnp.where(self.free, self.noise.raw, jax.lax.stop_gradient(self.noise.raw))
        return eqx.tree_at(lambda fit: fit.noise.raw, self, raw)

    def elbo(self, observations: Float[Array, " 8"], key: Array, steps: int) -> Float[Array, ""]:
        """Of one sequence, by one path."""
        sde = FractionalSDE(lambda x, t: jnp.zeros_like(x), lambda x, t: jnp.ones_like(x), self.noise, self.control)
        ts = jnp.concatenate([jnp.zeros(1), jnp.asarray(TIMES)])
        o = observations.astype(ts.dtype)
        scale = self.std**2

        def log_p(x: Array) -> Array:
            return jnp.sum(-0.5 * (o - x[1:, 0]) ** 2 / scale - 0.5 * jnp.log(2 * jnp.pi * scale))

        return sde.elbo(key, jnp.zeros(1, ts.dtype), ts, log_p, steps=steps, context=o)


def mean_elbo(fit: Fit, observations: Float[Array, "n 8"], key: Array, steps: int) -> Float[Array, ""]:
    """In the mean over sequences, one path each."""
    keys = jax.random.split(key, len(observations))
    return jnp.mean(jax.vmap(lambda o, key: fit.elbo(o, key, steps))(observations, keys))


@dataclass(frozen=True)
class Learned:
    """What came of one case: a list has an entry for each seed."""

    case: Case
    exact: float
    """The expected log-likelihood of a sequence by the true model."""
    exact_half: float
    """And by that of index one half."""
    likelihood: Likelihood
    hursts: list[float]
    bounds: list[float]
    """Evidence bounds of a sequence, with the learned index."""
    half_bounds: list[float]
    """With one half, and the same training."""
    courses: np.ndarray
    """Indices in the course of training, a row for each seed."""
    seconds: float


def learn(
    case: Case,
    observations: Float[np.ndarray, "n 8"],
    keys: Array,
    *,
    steps: int,
    batch: int,
    paths: int,
    scale: float = 1.0,
    advance: Callable[[int], None] = lambda steps: None,
) -> Learned:
    """Train with a learned and with a fixed index, for each key, side by side; then evaluate on all sequences."""
    substeps = max(int(case.steps * scale), 12)

    def loss(fit: Fit, o: Array, key: Array) -> Array:
        return -mean_elbo(fit.frozen(), o, key, substeps)

    trainer = Trainer(
        loss,
        optax.adam(optax.cosine_decay_schedule(5e-3, steps)),
        steps=steps,
        batch=min(batch, len(observations)),
        watch=lambda fit: fit.noise.hurst,
    )
    count = len(keys)
    make = eqx.filter_vmap(lambda key, free: Fit(FractionalNoise(0.5, horizon=HORIZON), case.std, free=free, key=key))
    fits = make(jnp.concatenate([keys, keys]), jnp.arange(2 * count) < count)
    data = jnp.asarray(observations, jnp.result_type(float))
    for_training = jnp.concatenate([keys, keys])
    course = trainer.together(fits, data, keys=for_training, advance=advance)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(eqx.if_array(0), 0))
    def evaluate(fit: Fit, key: Array) -> Array:
        return jnp.mean(jax.lax.map(lambda key: mean_elbo(fit, data, key, substeps), jax.random.split(key, paths)))

    bounds = np.asarray(evaluate(course.model, jax.vmap(lambda key: jax.random.fold_in(key, 1))(for_training)))
    return Learned(
        case,
        expected_log_likelihood(case, case.hurst),
        expected_log_likelihood(case, 0.5),
        maximum_likelihood(observations, case.std),
        np.asarray(course.model.noise.hurst[:count]).tolist(),
        bounds[:count].tolist(),
        bounds[count:].tolist(),
        course.watched[:count],
        course.seconds,
    )
