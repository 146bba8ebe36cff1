"""A mixture in the plane and a linear reward: the tilted law and the soft value have closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..chains import Chain
from ..distances import sliced_wasserstein
from ..kernels import GaussianReverse, sample
from ..mixtures import GaussianMixture
from ..processes import Field
from .decoding import svdd_sample
from .guided import Guided
from .values import PosteriorMean, Value

#: The reward's slope, and the temperature.
SLOPE, TEMPERATURE = (-1.0, 0.5), 0.5
STEPS = 60


def mixture() -> GaussianMixture:
    """The data."""
    return GaussianMixture([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], [0.05, 0.1, 0.2])


def chain(steps: int = STEPS) -> Chain:
    """Linear variances of a thousand steps, fewer and larger."""
    return Chain.of_betas(np.minimum(np.linspace(1e-4, 0.02, steps) * 1000 / steps, 0.9))


def exact_data(data: GaussianMixture, levels: Chain) -> Field:
    """The exact data prediction."""

    def predict(x: Array, i: Any) -> Array:
        alpha_bar = levels.alpha_bar[i]
        weights, means, _ = data.posterior(x, jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar))
        return jnp.einsum("...k,...kd->...d", weights, means)

    return predict


def kernel(levels: Chain) -> GaussianReverse:
    """Ancestral sampling with the exact prediction; in the last step, which has no noise, half of a first step's."""
    last = 0.5 * float(jnp.sqrt(levels.betas[0]))
    return GaussianReverse(levels, exact_data(mixture(), levels), (2,), last_std=last)


def reward(x: Float[Array, "... 2"]) -> Float[Array, ...]:
    """Linear."""
    return x @ jnp.asarray(SLOPE, x.dtype)


def soft_value(data: GaussianMixture, levels: Chain, slope: Any, temperature: float) -> Value:
    r"""Of the exact diffusion: :math:`a \log \sum_k g_k \exp(c^\top m_k / a + v_k |c|^2 / (2 a^2))`."""

    def value(x: Array, t: Any) -> Array:
        c = jnp.asarray(slope, x.dtype) / temperature
        alpha_bar = levels.alpha_bar[jnp.maximum(t - 1, 0)]
        weights, means, variances = data.posterior(x, jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar))
        logs = jnp.log(weights) + means @ c + 0.5 * variances @ c**2
        soft = temperature * jax.nn.logsumexp(logs, axis=-1)
        return jnp.where(t == 0, temperature * x @ c, soft)

    return value


@dataclass(frozen=True)
class Plane:
    """Sliced Wasserstein distances to the tilted law, and mean rewards: of each key, by candidates."""

    counts: tuple[int, ...]
    chains: int
    distances: list[list[float]]
    rewards: list[list[float]]
    greedy: list[float]
    """Rewards with temperature 0 and the most candidates."""
    guided: tuple[float, float]
    """Distance and reward of gradient guidance alone, for the first key."""
    proposed: tuple[float, float]
    """The same of guidance as a proposal, with the most candidates."""
    floor: float
    tilted: float
    """The mean reward of the tilted law."""
    log_mean: float
    r""":math:`a \log E e^{r / a}`."""
    points: dict[str, np.ndarray]
    """A few of each, for the picture."""


def decode(key: Array, *, counts: tuple[int, ...], chains: int, keys: int) -> Plane:
    """Decode with the soft value, by numbers of candidates."""
    data, levels = mixture(), chain()
    model = kernel(levels)
    value = soft_value(data, levels, SLOPE, TEMPERATURE)
    c = jnp.asarray(SLOPE) / TEMPERATURE
    tilted = data.tilted(c)
    for_exact, for_floor, for_slices, *for_draws = jax.random.split(key, 3 + keys)
    exact, again = (tilted.sample(one, chains) for one in (for_exact, for_floor))

    @jax.jit
    def figures(x: Array) -> tuple[Array, Array]:
        return sliced_wasserstein(for_slices, x, exact), jnp.mean(reward(x))

    def drawn(key: Array, temperature: Any, count: int, proposal: Guided | None = None) -> Array:
        options = {"batch": chains, "candidates": count, "temperature": temperature, "proposal": proposal}
        return svdd_sample(key, model, value, **options).x

    program = jax.jit(drawn, static_argnums=2)
    distances, rewards, shown = [], [], {}
    for count in counts:
        samples = [program(one, TEMPERATURE, count) for one in for_draws]
        pairs = [figures(x) for x in samples]
        distances.append([float(distance) for distance, _ in pairs])
        rewards.append([float(value) for _, value in pairs])
        shown[f"{count}"] = np.asarray(samples[0][:400])
    most = counts[-1]
    greedy = [program(one, 0.0, most) for one in for_draws]
    guide = Guided(model, PosteriorMean(model, reward), TEMPERATURE)
    guided = jax.jit(lambda key: sample(key, guide, chains))(for_draws[0])
    proposed = jax.jit(lambda key: drawn(key, TEMPERATURE, most, guide))(for_draws[0])
    shown |= {"exact": np.asarray(exact[:400]), "greedy": np.asarray(greedy[0][:400])}
    log_weights = jnp.log(data.weights) + data.means @ c + 0.5 * data.variances @ c**2
    pair = lambda x: tuple(float(one) for one in figures(x))
    return Plane(
        counts=counts,
        chains=chains,
        distances=distances,
        rewards=rewards,
        greedy=[float(jnp.mean(reward(x))) for x in greedy],
        guided=pair(guided),
        proposed=pair(proposed),
        floor=float(figures(again)[0]),
        tilted=float(reward(tilted.mean())),
        log_mean=float(TEMPERATURE * jax.nn.logsumexp(log_weights)),
        points=shown,
    )
